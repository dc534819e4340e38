//! 5,000 Connectors on a real API server: the operator from a standing start to a steady fleet, and through restarts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use vigie::api::{Connector, ConnectorSpec, ConnectorState};

use crate::figures::say;
use crate::fleet;
use crate::kubernetes::Cluster;
use crate::load::Wire;
use crate::process::cpu;
use crate::running::{Ports, Running, seconds_since, until};

const CONNECTORS: usize = 5_000;
/// All of them every 30 s.
const RATE: f64 = CONNECTORS as f64 / 30.0;
const CONNECTIONS: usize = 50;
/// A fleet counts as steady after this long with no writes but checkpoints and the lease.
const SETTLED: Duration = Duration::from_secs(15);
const STEADY: Duration = Duration::from_secs(120);

pub(crate) async fn measure() -> anyhow::Result<()> {
    println!("cluster: {CONNECTORS} Connectors on an API server and etcd of the same machine");
    let cluster = Cluster::up()?;
    let client = cluster.client().await?;
    let begin = Instant::now();
    create(&client).await?;
    say("created by this program, s", format!("{:.1}", begin.elapsed().as_secs_f64()));
    let ports = Ports::free()?;

    let mut operator = Running::start(&cluster, ports, &[])?;
    operator.report_start(ports).await?;
    provisioned(&cluster, &client, &operator).await?;
    operator.report_memory("when all are provisioned")?;

    let beats = Beats::start(ports.beats, tokens(&client).await?);
    let begin = Timestamp::now();
    all_online(ports).await?;
    let writes = cluster.writes(begin, Timestamp::now())?;
    println!("all beat, every 30 s");
    say("from the first beat to all Online, s", format!("{:.1}", seconds_since(begin)));
    say("writes meanwhile", &writes);
    settled(&cluster).await?;
    say(
        "from the first beat to all of it written and published, s",
        format!("{:.1}", seconds_since(begin) - SETTLED.as_secs_f64()),
    );
    steady(&cluster, &operator).await?;

    println!("killed (SIGKILL) and started again, beats going on");
    drop(operator);
    operator = Running::start(&cluster, ports, &[])?;
    report_restart(&operator, ports, &beats, &client).await?;
    println!("stopped (SIGTERM) and started again, beats going on");
    let begin = Instant::now();
    operator.terminate()?;
    say("from SIGTERM to its end, s", format!("{:.1}", begin.elapsed().as_secs_f64()));
    operator = Running::start(&cluster, ports, &[])?;
    report_restart(&operator, ports, &beats, &client).await?;
    say("beats answered 200 in all", beats.heard.load(Ordering::Relaxed));
    say("beats refused or lost while none was listening", beats.lost.load(Ordering::Relaxed));
    operator.terminate()
}

async fn create(client: &kube::Client) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": fleet::NAMESPACE } }))?;
    namespaces.create(&PostParams::default(), &namespace).await?;
    let api: Api<Connector> = Api::namespaced(client.clone(), fleet::NAMESPACE);
    futures::stream::iter(0..CONNECTORS)
        .map(|i| {
            let api = api.clone();
            async move {
                let spec = ConnectorSpec { site: Some(format!("site-{:02}", i % 50)), ..ConnectorSpec::default() };
                let connector = Connector::new(&format!("edge-{i:06}"), spec);
                api.create(&PostParams::default(), &connector).await.map(drop)
            }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
        .context("creating the Connectors")
}

/// Waits until each Connector has its token, and reads from the audit log when that was.
async fn provisioned(cluster: &Cluster, client: &kube::Client, operator: &Running) -> anyhow::Result<()> {
    let api: Api<Connector> = Api::namespaced(client.clone(), fleet::NAMESPACE);
    until(Duration::from_secs(3), "every Connector to be provisioned", async || {
        // From the API server's memory: the request is cheap and delays no other.
        let list = api.list(&ListParams::default().match_any()).await?;
        let provisioned = |connector: &&Connector| {
            let conditions = connector.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == "Provisioned" && condition.status == "True")
        };
        Ok(list.items.iter().filter(provisioned).count() == CONNECTORS)
    })
    .await?;
    let writes = cluster.writes(operator.started, Timestamp::now())?;
    let since_start = |(count, at): (u64, Option<Timestamp>)| match at {
        Some(at) => format!(
            "{count}, the last after {:.1} s",
            (at - operator.started).total(jiff::Unit::Second).unwrap_or(f64::NAN)
        ),
        None => "none".to_owned(),
    };
    println!("provisioning of all {CONNECTORS} from nothing");
    say("Secrets created", since_start(writes.of("create secrets")));
    say("statuses written", since_start(writes.of("update connectors/status")));
    say("all writes", &writes);
    Ok(())
}

async fn tokens(client: &kube::Client) -> anyhow::Result<Vec<Vec<u8>>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), fleet::NAMESPACE);
    let secrets = api.list(&ListParams::default()).await?;
    let text = |secret: &Secret, key: &str| {
        let value = secret.data.as_ref()?.get(key)?;
        String::from_utf8(value.0.clone()).ok()
    };
    let request = |secret: &Secret| {
        let (id, token) =
            text(secret, "connector_id").zip(text(secret, "token")).context("a Secret without a token")?;
        Ok(fleet::request(&fleet::beat(&id, &token)))
    };
    let requests: Vec<_> = secrets.items.iter().map(request).collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(requests.len() == CONNECTORS, "{} tokens instead of {CONNECTORS}", requests.len());
    Ok(requests)
}

/// Waits until transitions are written and events are published.
async fn settled(cluster: &Cluster) -> anyhow::Result<()> {
    until(Duration::from_secs(3), "the fleet to be steady", async || {
        let now = Timestamp::now();
        let writes = cluster.writes(now - SETTLED, now)?;
        Ok(writes.of("update connectors/status").0 + writes.of("create events").0 == 0)
    })
    .await
}

async fn steady(cluster: &Cluster, operator: &Running) -> anyhow::Result<()> {
    let (begin, before) = (Timestamp::now(), cpu(operator.part.pid())?);
    tokio::time::sleep(STEADY).await;
    let (end, after) = (Timestamp::now(), cpu(operator.part.pid())?);
    let writes = cluster.writes(begin, end)?;
    let minutes = STEADY.as_secs_f64() / 60.0;
    println!("steady, {} s", STEADY.as_secs());
    say("API writes per minute", format!("{:.0}", writes.all() as f64 / minutes));
    say("of these", &writes);
    say("cores", format!("{:.3}", (after - before).as_secs_f64() / STEADY.as_secs_f64()));
    operator.report_memory("when steady")
}

/// After a restart: when it hears, when all are Online, and a check that it reported no false state meanwhile.
async fn report_restart(operator: &Running, ports: Ports, beats: &Beats, client: &kube::Client) -> anyhow::Result<()> {
    let heard = beats.heard.load(Ordering::Relaxed);
    operator.ready(ports).await?;
    say("from start to ready (/readyz), s", format!("{:.2}", seconds_since(operator.started)));
    let first = ports.states("connectors").await?;
    let first: Vec<_> = first.iter().map(|(state, count)| format!("{count} {state}")).collect();
    say("states as first reported", first.join(", "));
    until(Duration::from_millis(5), "a beat to be heard", async || Ok(beats.heard.load(Ordering::Relaxed) > heard))
        .await?;
    say("from start to the first beat heard, s", format!("{:.2}", seconds_since(operator.started)));
    all_online(ports).await?;
    say("from start to all Online, s", format!("{:.1}", seconds_since(operator.started)));
    // One more round of beats, until its effects are written.
    tokio::time::sleep(Duration::from_secs(40)).await;
    let api: Api<Connector> = Api::namespaced(client.clone(), fleet::NAMESPACE);
    let list = api.list(&ListParams::default()).await?;
    let (mut offline, mut unknown) = (0, 0);
    for transition in list.items.iter().filter_map(|item| item.status.as_ref()).flat_map(|status| &status.transitions) {
        offline += usize::from(transition.to == ConnectorState::Offline.as_str());
        unknown += usize::from(transition.to == ConnectorState::Unknown.as_str());
    }
    say("transitions to Offline, to Unknown, ever", format!("{offline}, {unknown}"));
    operator.report_memory("then")
}

async fn all_online(ports: Ports) -> anyhow::Result<()> {
    until(Duration::from_millis(500), "every connector to be Online", async || {
        let states = ports.states("connectors").await?;
        Ok(states.get("Online") == Some(&CONNECTORS))
    })
    .await
}

/// The fleet's beats, which continue whatever happens to the operator.
struct Beats {
    heard: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Beats {
    fn start(address: SocketAddr, requests: Vec<Vec<u8>>) -> Self {
        let beats = Self { heard: Arc::default(), lost: Arc::default(), over: Arc::default() };
        let requests = Arc::new(requests);
        for number in 0..CONNECTIONS {
            let (heard, lost, over) = (beats.heard.clone(), beats.lost.clone(), beats.over.clone());
            let requests = requests.clone();
            tokio::spawn(async move {
                let pause = Duration::from_secs_f64(CONNECTIONS as f64 / RATE);
                let mut tick = tokio::time::interval(pause);
                tokio::time::sleep(pause.mul_f64(number as f64 / CONNECTIONS as f64)).await;
                tick.reset();
                let mut wire = None;
                for request in requests.iter().skip(number).step_by(CONNECTIONS).cycle() {
                    tick.tick().await;
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let answered = ask(&mut wire, address, request).await;
                    let counter = if answered.is_ok_and(|status| status == 200) { &heard } else { &lost };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        beats
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// One try, on the open connection or on a new one.
async fn ask(wire: &mut Option<Wire>, address: SocketAddr, request: &[u8]) -> anyhow::Result<u16> {
    let mut open = match wire.take() {
        Some(open) => open,
        None => Wire::open(address).await?,
    };
    let status = open.ask(request).await?;
    *wire = Some(open);
    Ok(status)
}
