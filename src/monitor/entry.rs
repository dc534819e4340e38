//! The entry of one backend: the results of its probes and the findings of its investigations, in memory.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::agent::AgentReading;
use super::findings::Findings;
use super::live::Live;
#[cfg(test)]
use super::live::Round;
use crate::api::{Key, MonitoredBackend, Phase, Reason};
use crate::diagnosis::evidence::Vantage;
use crate::health::availability::ProbeHistory;
use crate::schedule::checkpoints::{Checkpointed, PendingWrite};
use crate::schedule::phase_of;
use crate::time::{Moment, Now};
use crate::view::MetricsEndpoint;

/// The entry of one backend.
#[derive(Debug)]
pub struct Backend {
    /// A number unique within this process.
    pub number: u64,
    /// The namespace and name of its object.
    pub key: Key,
    /// The UID of its object: an object that is deleted and created again gets a new entry.
    pub uid: String,
    /// The stable phase of its turns within any interval, as a fraction of 2^64.
    pub phase: u64,
    live: Mutex<Live>,
}

/// A copy of an entry at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The record of its probes, which gives the verdict.
    pub record: ProbeHistory,
    /// Until when the verdict stands without another probe; `None` when there is none.
    pub stands_until: Option<Moment>,
    /// `Accepted` is False for this reason.
    pub refused: Option<(Reason, String)>,
    /// Why the last lookup of the target failed, if it did.
    pub unresolved: Option<String>,
    /// The probed target, as a URL without credentials.
    pub target: Option<String>,
    /// The page that Prometheus is to scrape.
    pub scrape: Option<MetricsEndpoint>,
    /// The results of the last round and of the last investigation.
    pub vantages: Vec<Vantage>,
    /// The agent on its host.
    pub agent: Option<AgentReading>,
    /// The duration of the last round that passed.
    pub latency: Option<Duration>,
    /// The expiry of the certificate that was presented last.
    pub certificate_expires: Option<Timestamp>,
    /// The end of the last round.
    pub probed_at: Option<Moment>,
    /// The end of the last round that passed.
    pub passed_at: Option<Moment>,
    /// The findings of the last investigation.
    pub findings: Option<Arc<Findings>>,
    /// Until when the findings stand without another investigation; `None` when none is needed.
    pub findings_until: Option<Moment>,
    /// Why the operator cannot judge this backend (`ProbeBlind`), if so.
    pub blind: Option<String>,
}

impl Backend {
    pub(super) fn new(number: u64, object: &MonitoredBackend, now: Now) -> Self {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        Self {
            number,
            key: Key::of(&object.metadata),
            phase: phase_of(&uid),
            uid,
            live: Mutex::new(Live::resumed(object, now)),
        }
    }

    /// Runs `work` on the entry under its lock. `work` must not block.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Live) -> T) -> T {
        work(&mut self.live.lock())
    }

    /// The object as it was applied last.
    pub fn object(&self) -> Arc<MonitoredBackend> {
        self.live.lock().object.clone()
    }

    /// A copy of the entry; `blind` says why the operator cannot judge it. This replica has led since `leads_since`.
    pub(super) fn snapshot(&self, blind: Option<String>, leads_since: Moment) -> Snapshot {
        let live = self.live.lock();
        Snapshot {
            stands_until: live.stands_until(leads_since),
            findings_until: live.findings_until(leads_since),
            record: live.record.clone(),
            refused: live.refused.clone(),
            unresolved: live.unresolved.clone(),
            target: live.resolved.as_ref().map(|(resolved, _)| resolved.url.clone()),
            scrape: live.resolved.as_ref().and_then(|(resolved, _)| resolved.scrape.clone()),
            vantages: live.vantages.iter().chain(&live.investigated).cloned().collect(),
            agent: live.agent.clone(),
            latency: live.latency,
            certificate_expires: live.certificate_expires,
            probed_at: live.probed_at,
            passed_at: live.passed_at,
            findings: live.findings.as_ref().map(|(findings, _)| findings.clone()),
            blind,
        }
    }

    /// Whether the verdict or the findings went out of date, or came to date again, since the last call.
    pub(super) fn turned_out_of_date(&self, now: Moment, leads_since: Moment) -> bool {
        let mut live = self.live.lock();
        let until = [live.stands_until(leads_since), live.findings_until(leads_since)];
        let out_of_date = until.map(|until| until.is_some_and(|until| until <= now));
        std::mem::replace(&mut live.out_of_date, out_of_date) != out_of_date
    }

    /// Forgets all that this process saw and continues from the stored status: another replica has judged since.
    pub(super) fn resume(&self, object: &MonitoredBackend, now: Now) {
        *self.live.lock() = Live::resumed(object, now);
    }

    /// The time of each phase of the slowest probe of the last round.
    pub fn phases(&self) -> Vec<(Phase, Duration)> {
        self.live.lock().phases.clone()
    }

    /// Makes the next round ask Prometheus again, if the last investigation asked one. The verification of a restart
    /// awaits its next scrape, and a minute between two investigations is too long for that.
    pub fn ask_prometheus_again(&self, now: Moment) {
        let mut live = self.live.lock();
        let is_asked = live.findings.as_ref().is_some_and(|(found, _)| found.last_scrape.is_some());
        if is_asked && live.investigate_at.is_none_or(|at| at > now) {
            live.investigate_at = Some(now);
        }
    }

    /// The stored status was written `now` and contains the round that ended at `probe`.
    pub fn note_written(&self, probe: Option<Moment>, now: Moment) {
        let mut live = self.live.lock();
        (live.written_at, live.written_probe) = (now, probe);
    }
}

#[cfg(test)]
impl Backend {
    /// Records one probe of the target that ended now.
    pub(crate) fn record_probe(&self, class: Option<crate::api::ErrorClass>, now: Now) {
        let target = serde_json::json!({ "name": "target", "ok": class.is_none(), "errorClass": class,
            "milliseconds": 20, "at": now.wall, "message": "" });
        let round = Round {
            started_at: now.moment,
            passed: class.is_none(),
            is_certain: false,
            took: Duration::from_millis(20),
            vantages: vec![serde_json::from_value(target).expect("a vantage")],
            phases: Vec::new(),
            certificate_expires: None,
        };
        self.with(|live| live.record_round(round, now));
    }
}

impl Checkpointed for Backend {
    fn number(&self) -> u64 {
        self.number
    }

    fn namespace(&self) -> &Arc<str> {
        &self.key.namespace
    }

    fn unwritten(&self) -> PendingWrite {
        let live = self.live.lock();
        PendingWrite {
            contact: live.probed_at.filter(|at| live.written_probe != Some(*at)),
            written_at: live.written_at,
            is_checkpointed: true,
            late: live.object.spec.probe.interval() * 10,
        }
    }
}
