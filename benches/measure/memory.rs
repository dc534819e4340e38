//! The memory of a connector, beyond the object in the watch's store.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use jiff::SignedDuration;
use vigie::api::{Connector, ConnectorState};
use vigie::heartbeat::entry::Entry;
use vigie::heartbeat::payload;
use vigie::heartbeat::routes::{HeartbeatSink as _, Reply};
use vigie::time::Now;

use crate::figures::{judge, say};
use crate::fleet::{self, Past};
use crate::operator::Operator;
use crate::process::{Part, own_memory};

const CONNECTORS: usize = 100_000;

/// Upper limit of the memory of a connector, in bytes.
const GOAL: f64 = 1024.0;

/// Three fleets, each in a process of its own: memory that one has freed would hide the use of the other.
pub(crate) fn measure() -> anyhow::Result<()> {
    for (beat, words) in [
        ("founding", "with the founding beat"),
        ("full", "with eight checks, boot id, version, host name"),
        ("agent", "with an agent beside it: the same with texts, and a backend"),
    ] {
        println!("memory of {CONNECTORS} connectors {words}, bytes each");
        let report = Part::start(&["memory", beat, &CONNECTORS.to_string()])?.finish()?;
        for line in report.lines() {
            let (what, bytes) = line.split_once('\t').context("an unexpected report")?;
            let bytes: f64 = bytes.parse().context("an unexpected report")?;
            if what == "all" {
                judge("in all", format!("{bytes:.0}"), "≤ 1024", bytes <= GOAL);
            } else {
                say(what, format!("{bytes:.0}"));
            }
        }
    }
    Ok(())
}

/// Fills an operator step by step and prints the memory of each step.
pub(crate) async fn child(beat: &str, connectors: usize) -> anyhow::Result<()> {
    let operator = Operator::start(Box::new(|_, _| {}));
    let now = operator.registry.clock().read();
    let mut taken = Taken::begin(connectors)?;
    let entries: Vec<Arc<Entry>> =
        (0..connectors).map(|i| operator.upsert(&applied(i, now), now)).collect::<anyhow::Result<_>>()?;
    taken.step("registry")?;
    for some in entries.chunks(1_000) {
        some.iter().for_each(|entry| operator.keep(entry));
        // As from a watch: the deadline scheduler runs between two chunks.
        tokio::task::yield_now().await;
    }
    operator.settled().await;
    taken.step("deadlines and checkpoints")?;
    for (i, entry) in entries.iter().enumerate() {
        operator.note(entry, &applied(i, now), now.moment);
    }
    taken.step("the controller's notes")?;
    for i in 0..connectors {
        let body = match beat {
            "founding" => fleet::beat(&fleet::id(i), &fleet::token(i)),
            "full" => fleet::full_beat(i, 1),
            "agent" => fleet::agent_beat(i, 1),
            other => bail!("no such beat: {other}"),
        };
        let said = payload::parse(body.as_bytes(), None)?;
        let reply = operator.registry.receive(&said, IpAddr::V4(Ipv4Addr::LOCALHOST));
        anyhow::ensure!(matches!(reply, Reply::Accepted { .. }), "a beat was answered {reply:?}");
        if i % 1_000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    operator.settled().await;
    taken.step("what agents said")?;
    taken.all()
}

/// As created by `kubectl apply`, which stores the whole object in an annotation.
fn applied(i: usize, now: Now) -> Connector {
    let past = Past {
        state: ConnectorState::Online,
        heard_ago: SignedDuration::from_secs(5),
        site: format!("site-{:03}", i % 100),
        interval: 30,
    };
    let mut connector = fleet::connector(i, past, now.wall);
    let applied = serde_json::json!({
        "apiVersion": "vigie.dev/v1alpha1",
        "kind": "Connector",
        "metadata": { "annotations": {}, "name": connector.metadata.name, "namespace": fleet::NAMESPACE },
        "spec": { "displayName": format!("Edge {i} of the measured fleet"), "site": connector.spec.site },
    });
    let annotation = ("kubectl.kubernetes.io/last-applied-configuration".to_owned(), applied.to_string());
    connector.metadata.annotations = Some([annotation].into());
    connector
}

/// Resident memory, step by step. The list of entries that this program keeps, 8 bytes each, is included.
struct Taken {
    connectors: usize,
    begin: u64,
    last: u64,
}

impl Taken {
    fn begin(connectors: usize) -> anyhow::Result<Self> {
        let now = own_memory()?;
        Ok(Self { connectors, begin: now, last: now })
    }

    fn step(&mut self, what: &str) -> anyhow::Result<()> {
        let now = own_memory()?;
        println!("{what}\t{}", (now as f64 - self.last as f64) / self.connectors as f64);
        self.last = now;
        Ok(())
    }

    fn all(&self) -> anyhow::Result<()> {
        println!("all\t{}", (self.last - self.begin) as f64 / self.connectors as f64);
        Ok(())
    }
}
