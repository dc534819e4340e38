//! The registry of backends: the results of their probes and the findings of their investigations, in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, RwLock};

use super::target::Resolved;
use crate::api::{BackendState, ConditionValue, Diagnosis, Key, MonitoredBackend, Phase, Reason};
use crate::diagnosis::evidence::Vantage;
use crate::health::availability::{Availability, Limits, ProbeHistory, Sample};
use crate::schedule::checkpoints::{Checkpointed, PendingWrite};
use crate::schedule::phase_of;
use crate::time::{Moment, Now};
use crate::view::MetricsEndpoint;

/// The conclusions of one investigation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// The diagnosis; `None` when nothing is wrong.
    pub diagnosis: Option<Diagnosis>,
    /// `MetricsExposed`; `None` when the spec asks for no metrics page.
    pub metrics_exposed: Option<ConditionValue>,
    /// `Scraped`; `None` when no Prometheus is configured.
    pub scraped: Option<ConditionValue>,
    /// `WorkloadHealthy`; `None` when the spec names no workload.
    pub workload_healthy: Option<ConditionValue>,
    /// The last scrape of Prometheus, for the verification of a restart.
    pub last_scrape: Option<LastScrape>,
}

/// The last scrape of a backend by Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastScrape {
    /// Whether it passed; `None` when Prometheus could not be asked or does not know the backend.
    pub passed: Option<bool>,
    /// When it was made.
    pub at: Option<Timestamp>,
    /// The time between two scrapes; zero when it is not known.
    pub interval: SignedDuration,
}

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

/// The mutable part of an entry.
#[derive(Debug)]
pub(super) struct Live {
    /// The object as it was applied last, without its status.
    pub(super) object: Arc<MonitoredBackend>,
    /// The record of its probes, which gives the verdict.
    pub(super) record: ProbeHistory,
    /// The resolved target, and when it was looked up.
    pub(super) resolved: Option<(Arc<Resolved>, Moment)>,
    /// `Accepted` is False for this reason: the target cannot be probed.
    pub(super) refused: Option<(Reason, String)>,
    /// The results of the last round.
    pub(super) vantages: Vec<Vantage>,
    /// The time of each phase of the slowest probe of the last round.
    pub(super) phases: Vec<(Phase, Duration)>,
    /// The results of the probes that the last investigation made: each pod at its own address, and the actuator.
    pub(super) investigated: Vec<Vantage>,
    /// The duration of the last round that passed.
    pub(super) latency: Option<Duration>,
    /// The expiry of the certificate that was presented last.
    pub(super) certificate_expires: Option<Timestamp>,
    /// The end of the last round.
    pub(super) probed_at: Option<Moment>,
    /// The end of the last round that passed.
    pub(super) passed_at: Option<Moment>,
    /// The findings of the last investigation, and when it began.
    pub(super) findings: Option<(Arc<Findings>, Moment)>,
    /// When the next investigation is due; `None` when none is planned.
    pub(super) investigate_at: Option<Moment>,
    /// The number of investigations since the verdict changed.
    pub(super) investigations: u32,
    /// The last write of the stored status.
    written_at: Moment,
    /// The end of the last round that the stored status contains.
    written_probe: Option<Moment>,
}

/// A copy of an entry at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The record of its probes, which gives the verdict.
    pub record: ProbeHistory,
    /// `Accepted` is False for this reason.
    pub refused: Option<(Reason, String)>,
    /// The probed target, as a URL without credentials.
    pub target: Option<String>,
    /// The page that Prometheus is to scrape.
    pub scrape: Option<MetricsEndpoint>,
    /// The results of the last round and of the last investigation.
    pub vantages: Vec<Vantage>,
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
    /// Why the operator cannot judge this backend (`ProbeBlind`), if so.
    pub blind: Option<String>,
}

/// The limits of the verdict, from the spec.
pub fn limits(object: &MonitoredBackend) -> Limits {
    let probe = &object.spec.probe;
    let slow = probe.degraded_latency_milliseconds.and_then(|millis| u64::try_from(millis).ok());
    Limits {
        interval: probe.interval(),
        failure_threshold: u32::try_from(probe.failure_threshold).unwrap_or(1),
        success_threshold: u32::try_from(probe.success_threshold).unwrap_or(1),
        slow_above: slow.map(Duration::from_millis),
    }
}

impl Backend {
    fn new(number: u64, object: &MonitoredBackend, now: Now) -> Self {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        Self {
            number,
            key: Key::of(&object.metadata),
            phase: phase_of(&uid),
            uid,
            live: Mutex::new(Live {
                object: Arc::new(without_status(object)),
                record: resumed(object, now),
                resolved: None,
                refused: None,
                vantages: Vec::new(),
                phases: Vec::new(),
                investigated: Vec::new(),
                latency: None,
                certificate_expires: None,
                probed_at: None,
                passed_at: None,
                findings: None,
                investigate_at: Some(now.moment),
                investigations: 0,
                written_at: now.moment,
                written_probe: None,
            }),
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

    /// A copy of the entry; `blind` says why the operator cannot judge it.
    pub fn snapshot(&self, blind: Option<String>) -> Snapshot {
        let live = self.live.lock();
        Snapshot {
            record: live.record.clone(),
            refused: live.refused.clone(),
            target: live.resolved.as_ref().map(|(resolved, _)| resolved.url.clone()),
            scrape: live.resolved.as_ref().and_then(|(resolved, _)| resolved.scrape.clone()),
            vantages: live.vantages.iter().chain(&live.investigated).cloned().collect(),
            latency: live.latency,
            certificate_expires: live.certificate_expires,
            probed_at: live.probed_at,
            passed_at: live.passed_at,
            findings: live.findings.as_ref().map(|(findings, _)| findings.clone()),
            blind,
        }
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
            took: Duration::from_millis(20),
            vantages: vec![serde_json::from_value(target).expect("a vantage")],
            phases: Vec::new(),
            certificate_expires: None,
        };
        self.with(|live| live.record_round(round, now.moment));
    }
}

impl Live {
    /// Records the result of a round. Returns whether the reconcile has something new to write: the verdict changed, or
    /// the failures of a backend that is not Up differ from those of the previous round.
    pub(super) fn record_round(&mut self, round: Round, ended_at: Moment) -> bool {
        let limits = limits(&self.object);
        let sample = Sample { at: round.started_at, passed: round.passed, took: round.took };
        let kind = |vantages: &[Vantage]| {
            vantages.iter().map(|one| (one.name.clone(), one.ok, one.error_class)).collect::<Vec<_>>()
        };
        let differs = kind(&self.vantages) != kind(&round.vantages);
        let changed = self.record.record(sample, &limits);
        (self.vantages, self.phases) = (round.vantages, round.phases);
        self.probed_at = Some(ended_at);
        if round.passed {
            (self.latency, self.passed_at) = (Some(round.took), Some(ended_at));
        }
        if round.certificate_expires.is_some() {
            self.certificate_expires = round.certificate_expires;
        }
        if changed || differs {
            self.investigate_from(ended_at);
        }
        changed || (differs && self.record.availability() != Availability::Up)
    }

    /// Makes an investigation due at `at`, the first of a new series.
    pub(super) fn investigate_from(&mut self, at: Moment) {
        (self.investigate_at, self.investigations) = (Some(at), 0);
    }
}

/// The result of one round: a probe of each target of a backend.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// The start of its first probe.
    pub(super) started_at: Moment,
    /// Whether the round as a whole passed.
    pub(super) passed: bool,
    /// The duration of the slowest probe that the verdict depends on.
    pub(super) took: Duration,
    /// The result of each probe.
    pub(super) vantages: Vec<Vantage>,
    /// The time of each phase of the slowest probe.
    pub(super) phases: Vec<(Phase, Duration)>,
    /// The earliest expiry of the presented certificates.
    pub(super) certificate_expires: Option<Timestamp>,
}

fn without_status(object: &MonitoredBackend) -> MonitoredBackend {
    let mut object = object.clone();
    object.status = None;
    object
}

/// The record that the stored status gives: a former leader's verdict stands until probes of this process overturn it.
fn resumed(object: &MonitoredBackend, now: Now) -> ProbeHistory {
    let status = object.status.as_ref();
    let known = status.and_then(|status| Some((status.state?, status.state_since.as_ref()?.0)));
    let Some((state, since)) = known else { return ProbeHistory::new(now.moment) };
    let since = now.moment_of(since);
    let slow = status
        .and_then(|status| status.diagnosis.as_ref())
        .is_some_and(|diagnosis| diagnosis.cause == crate::api::Cause::Slow);
    match state {
        BackendState::Up | BackendState::Degraded => ProbeHistory::resumed(Availability::Up, since, slow),
        BackendState::Down => ProbeHistory::resumed(Availability::Down, since, false),
        BackendState::Pending | BackendState::Unknown => ProbeHistory::new(now.moment),
    }
}

impl Checkpointed for Backend {
    fn number(&self) -> u64 {
        self.number
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

/// The registry of all backends.
#[derive(Debug, Default)]
pub struct Backends {
    map: RwLock<HashMap<Key, Arc<Backend>>>,
    count: AtomicU64,
}

/// The result of applying an object.
#[derive(Debug)]
pub struct Upserted {
    /// The entry of the object.
    pub backend: Arc<Backend>,
    /// The entry was created.
    pub is_new: bool,
    /// The spec changed, or the entry is new.
    pub changed: bool,
    /// The entry of a deleted object of the same name, which this one replaces.
    pub removed: Option<Arc<Backend>>,
}

impl Backends {
    /// Creates or updates the entry of an object that was applied.
    pub fn upsert(&self, object: &MonitoredBackend, now: Now) -> Upserted {
        let key = Key::of(&object.metadata);
        let known = self.get(&key);
        if let Some(backend) = known.clone().filter(|known| Some(&known.uid) == object.metadata.uid.as_ref()) {
            let changed = backend.with(|live| {
                let changed = live.object.spec != object.spec;
                if changed {
                    (live.resolved, live.refused) = (None, None);
                    live.investigate_from(now.moment);
                }
                live.object = Arc::new(without_status(object));
                changed
            });
            return Upserted { backend, is_new: false, changed, removed: None };
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let backend = Arc::new(Backend::new(number, object, now));
        self.map.write().insert(key, backend.clone());
        Upserted { backend, is_new: true, changed: true, removed: known }
    }

    /// Removes an entry, unless another one has replaced it.
    pub fn remove(&self, backend: &Backend) {
        let mut map = self.map.write();
        if map.get(&backend.key).is_some_and(|known| known.number == backend.number) {
            map.remove(&backend.key);
        }
    }

    /// The entry of one object.
    pub fn get(&self, key: &Key) -> Option<Arc<Backend>> {
        self.map.read().get(key).cloned()
    }

    /// Whether this very entry is still in the registry.
    pub fn has(&self, backend: &Backend) -> bool {
        self.get(&backend.key).is_some_and(|known| known.number == backend.number)
    }

    /// All entries, in no particular order.
    pub fn all(&self) -> Vec<Arc<Backend>> {
        self.map.read().values().cloned().collect()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.map.read().len()
    }

    /// Whether the registry is empty.
    pub fn is_empty(&self) -> bool {
        self.map.read().is_empty()
    }
}
