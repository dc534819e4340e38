//! What we know of one backend, in memory: how its probes went, what was seen last, what was made of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};

use super::target::Resolved;
use crate::api::{BackendState, ConditionValue, Diagnosis, ErrorClass, Key, MonitoredBackend, Phase, Reason, Truth};
use crate::diagnosis::evidence::Vantage;
use crate::health::availability::{Availability, Limits, Record, Sample};
use crate::schedule::checkpoints::{Checkpointed, PendingWrite};
use crate::schedule::place_of;
use crate::time::{Moment, Now};
use crate::view::Scrape;

/// What a condition says: its status, its reason, its message.
pub type Said = (Truth, Reason, String);

/// What was made of the evidence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Why it is not well; `None` when nothing is wrong.
    pub diagnosis: Option<Diagnosis>,
    /// `MetricsExposed`; `None` when no page is asked for.
    pub metrics_exposed: Option<ConditionValue>,
    /// `Scraped`; `None` when no Prometheus is known.
    pub scraped: Option<ConditionValue>,
    /// `WorkloadHealthy`; `None` when no workload is known.
    pub workload_healthy: Option<ConditionValue>,
    /// What Prometheus says, for whoever waits for its next scrape.
    pub scrape: Option<crate::remediation::Scrape>,
}

/// One backend.
#[derive(Debug)]
pub struct Backend {
    /// Counts backends.
    pub number: u64,
    /// Which object it stands for.
    pub key: Key,
    /// Its UID: deleted and created again is somebody else.
    pub uid: String,
    /// Its stable place within any interval.
    pub place: u64,
    live: Mutex<Live>,
}

/// What changes of a backend.
#[derive(Debug)]
pub struct Live {
    /// The object as the store had it last, without its status.
    pub object: Arc<MonitoredBackend>,
    /// What its probes came to.
    pub record: Record,
    /// What to dial, once that is known, and when it was found out.
    pub prepared: Option<(Arc<Resolved>, Moment)>,
    /// `False` of `Accepted`: the target cannot be probed at all.
    pub refused: Option<(Reason, String)>,
    /// What the last probes saw.
    pub vantages: Vec<Vantage>,
    /// How long each phase of the last probe took.
    pub phases: Vec<(Phase, Duration)>,
    /// What was seen beside them when it was looked into: each pod by its own address.
    pub beside: Vec<Vantage>,
    /// How long the last probe that passed took.
    pub latency: Option<Duration>,
    /// When the certificate that was shown last expires.
    pub certificate_expires: Option<Timestamp>,
    /// When the last probe ended.
    pub probed_at: Option<Moment>,
    /// When the last probe ended that passed.
    pub passed_at: Option<Moment>,
    /// What was made of the evidence, and when it was gathered.
    pub findings: Option<(Arc<Findings>, Moment)>,
    /// When evidence is to be gathered again.
    pub look_at: Option<Moment>,
    /// How many times it was gathered since the verdict turned.
    pub looks: u32,
    /// When the stored status was written last.
    pub written_at: Moment,
    /// The last probe that the stored status knows of.
    pub written_probe: Option<Moment>,
}

/// A copy of what is known at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What its probes came to.
    pub record: Record,
    /// `False` of `Accepted`.
    pub refused: Option<(Reason, String)>,
    /// What is probed, as a URL without credentials.
    pub target: Option<String>,
    /// What Prometheus is to scrape.
    pub scrape: Option<Scrape>,
    /// What the last probes saw.
    pub vantages: Vec<Vantage>,
    /// How long the last probe that passed took.
    pub latency: Option<Duration>,
    /// When the certificate that was shown last expires.
    pub certificate_expires: Option<Timestamp>,
    /// When the last probe ended.
    pub probed_at: Option<Moment>,
    /// When the last probe ended that passed.
    pub passed_at: Option<Moment>,
    /// What was made of the evidence.
    pub findings: Option<Arc<Findings>>,
    /// We are blind for it, and why.
    pub blind: Option<String>,
}

/// The limits that a spec asks for.
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
            place: place_of(&uid),
            uid,
            live: Mutex::new(Live {
                object: Arc::new(without_status(object)),
                record: resumed(object, now),
                prepared: None,
                refused: None,
                vantages: Vec::new(),
                phases: Vec::new(),
                beside: Vec::new(),
                latency: None,
                certificate_expires: None,
                probed_at: None,
                passed_at: None,
                findings: None,
                look_at: Some(now.moment),
                looks: 0,
                written_at: now.moment,
                written_probe: None,
            }),
        }
    }

    /// Works on what changes. Nothing in `work` may wait.
    pub fn with<T>(&self, work: impl FnOnce(&mut Live) -> T) -> T {
        work(&mut self.live.lock())
    }

    /// The object as it was applied last.
    pub fn object(&self) -> Arc<MonitoredBackend> {
        self.live.lock().object.clone()
    }

    /// A copy of what is known; `blind` says why we may not see it.
    pub fn snapshot(&self, blind: Option<String>) -> Snapshot {
        let live = self.live.lock();
        Snapshot {
            record: live.record.clone(),
            refused: live.refused.clone(),
            target: live.prepared.as_ref().map(|(prepared, _)| prepared.url.clone()),
            scrape: live.prepared.as_ref().and_then(|(prepared, _)| prepared.scrape.clone()),
            vantages: live.vantages.iter().chain(&live.beside).cloned().collect(),
            latency: live.latency,
            certificate_expires: live.certificate_expires,
            probed_at: live.probed_at,
            passed_at: live.passed_at,
            findings: live.findings.as_ref().map(|(findings, _)| findings.clone()),
            blind,
        }
    }

    /// The stored status knows of everything until `probe` now.
    pub fn note_written(&self, probe: Option<Moment>, now: Moment) {
        let mut live = self.live.lock();
        (live.written_at, live.written_probe) = (now, probe);
    }
}

impl Live {
    /// Takes in what one round of probes saw; says whether the verdict changed.
    pub fn take(&mut self, seen: Round, ended_at: Moment) -> bool {
        let limits = limits(&self.object);
        let sample = Sample { at: seen.started_at, passed: seen.passed, took: seen.took };
        let kind = |vantages: &[Vantage]| {
            vantages.iter().map(|one| (one.name.clone(), one.ok, one.error_class)).collect::<Vec<_>>()
        };
        let differs = kind(&self.vantages) != kind(&seen.vantages);
        let changed = self.record.take(sample, &limits);
        (self.vantages, self.phases) = (seen.vantages, seen.phases);
        self.probed_at = Some(ended_at);
        if seen.passed {
            (self.latency, self.passed_at) = (Some(seen.took), Some(ended_at));
        }
        if seen.certificate_expires.is_some() {
            self.certificate_expires = seen.certificate_expires;
        }
        if changed || differs {
            self.looks = 0;
            self.look_at = Some(ended_at);
        }
        changed || (differs && self.record.availability() != Availability::Up)
    }

    /// What the target's own probe failed with.
    pub fn error_class(&self) -> Option<ErrorClass> {
        self.vantages.iter().find(|vantage| !vantage.ok).and_then(|vantage| vantage.error_class)
    }
}

/// What one round of probes brought.
#[derive(Clone, Debug)]
pub struct Round {
    /// When it was started.
    pub started_at: Moment,
    /// As a whole.
    pub passed: bool,
    /// The slowest of those that the verdict depends on.
    pub took: Duration,
    /// Each of them.
    pub vantages: Vec<Vantage>,
    /// The time of each phase, of the one that took the longest.
    pub phases: Vec<(Phase, Duration)>,
    /// The first to expire.
    pub certificate_expires: Option<Timestamp>,
}

fn without_status(object: &MonitoredBackend) -> MonitoredBackend {
    let mut object = object.clone();
    object.status = None;
    object
}

/// What a predecessor established stands until our own probes say otherwise.
fn resumed(object: &MonitoredBackend, now: Now) -> Record {
    let status = object.status.as_ref();
    let known = status.and_then(|status| Some((status.state?, status.state_since.as_ref()?.0)));
    let Some((state, since)) = known else { return Record::new(now.moment) };
    let since = now.moment_of(since);
    let slow = status
        .and_then(|status| status.diagnosis.as_ref())
        .is_some_and(|diagnosis| diagnosis.cause == crate::api::Cause::Slow);
    match state {
        BackendState::Up | BackendState::Degraded => Record::resumed(Availability::Up, since, slow),
        BackendState::Down => Record::resumed(Availability::Down, since, false),
        BackendState::Pending | BackendState::Unknown => Record::new(now.moment),
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
            beats: true,
            late: live.object.spec.probe.interval() * 10,
        }
    }
}

/// All backends.
#[derive(Debug, Default)]
pub struct Backends {
    map: RwLock<HashMap<Key, Arc<Backend>>>,
    count: AtomicU64,
}

/// What became of an object that was applied.
#[derive(Debug)]
pub struct Upserted {
    /// Its entry.
    pub backend: Arc<Backend>,
    /// It is new here.
    pub is_new: bool,
    /// Its spec, labels or annotations changed.
    pub changed: bool,
    /// Its predecessor of the same name, which is gone.
    pub removed: Option<Arc<Backend>>,
}

impl Backends {
    /// An object was applied.
    pub fn upsert(&self, object: &MonitoredBackend, now: Now) -> Upserted {
        let key = Key::of(&object.metadata);
        let known = self.get(&key);
        if let Some(backend) = known.clone().filter(|known| Some(&known.uid) == object.metadata.uid.as_ref()) {
            let changed = backend.with(|live| {
                let changed = live.object.spec != object.spec;
                if changed {
                    (live.prepared, live.refused) = (None, None);
                    (live.look_at, live.looks) = (Some(now.moment), 0);
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

    /// An object is gone.
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

    /// Whether this entry is still there.
    pub fn has(&self, backend: &Backend) -> bool {
        self.get(&backend.key).is_some_and(|known| known.number == backend.number)
    }

    /// All entries, in no particular order.
    pub fn all(&self) -> Vec<Arc<Backend>> {
        self.map.read().values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.read().is_empty()
    }
}
