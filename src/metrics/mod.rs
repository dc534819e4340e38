//! The metrics: counters that other modules increment, and a collector that reads the fleet at each scrape.

mod backends;
#[cfg(test)]
mod contract_tests;
mod encoding;
mod fleet;
mod remedies;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use fleet::{FleetCollector, ObjectMetrics};

use crate::api::{AttemptOutcome, Denial, ErrorClass, Phase};
use crate::cluster::{WriteMetrics, WriteReason};
use crate::heartbeat::routes::{BeatMetrics, BeatResult};
use crate::view::Fleet;

/// The content type of `/metrics`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of `transition_lag_seconds`, in seconds. The target is one second, so most bounds lie below it; the last ones
/// distinguish a slow API server from an outage.
const LAG_BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];

/// All results of a request to write a status: `ok`, the labels of
/// [`crate::cluster::CallError::result_label`], and `abandoned`.
const WRITE_RESULTS: [&str; 11] = [
    "ok",
    "conflict",
    "not_found",
    "already_exists",
    "forbidden",
    "invalid",
    "timeout",
    "throttled",
    "unavailable",
    "error",
    "abandoned",
];

/// One counter for each [`BeatResult`], resolved once: an increment is one atomic add, without lookup or allocation.
#[derive(Clone, Debug)]
pub struct HeartbeatCounters([Counter; BeatResult::ALL.len()]);

impl HeartbeatCounters {
    /// Counts one request to the heartbeat route.
    pub fn inc(&self, result: BeatResult) {
        self.0[result as usize].inc();
    }

    /// The number of requests with this result.
    pub fn get(&self, result: BeatResult) -> u64 {
        self.0[result as usize].get()
    }
}

/// The metrics that other modules update. Cheap to clone; clones share their counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `vigie_heartbeats_total{result}`.
    pub heartbeats: HeartbeatCounters,
    status_writes: Family<WriteLabels, Counter>,
    transition_lag: Histogram,
    probe_failures: Family<FailureLabels, Counter>,
    missed_windows: Counter,
    blocked_tasks: Counter,
    probe_start_lag: Histogram,
    panics: Family<PanicLabels, Counter>,
    remedies: remedies::Remedies,
}

/// The work in which a panic is caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanickedTask {
    /// A step of a reconcile.
    Reconcile,
    /// A round of probes.
    Probe,
}

impl PanickedTask {
    const ALL: [Self; 2] = [Self::Reconcile, Self::Probe];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Reconcile => "reconcile",
            Self::Probe => "probe",
        }
    }
}

/// The message of a panic.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&'static str>().copied()).unwrap_or("without a message")
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PanicLabels {
    task: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    error_class: &'static str,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    reason: &'static str,
    result: &'static str,
}

impl Metrics {
    /// Registers all metrics with all label values, so that a rate over the first event has no gap.
    pub fn register(registry: &mut Registry) -> Self {
        let heartbeats = Family::<ResultLabel, Counter>::default();
        let writes = Family::<WriteLabels, Counter>::default();
        let transition_lag = Histogram::new(LAG_BUCKETS);
        let help = "Requests to the heartbeat route by how they ended; heard and too_often count as contact";
        registry.register("vigie_heartbeats", help, heartbeats.clone());
        let help = "Requests to write a status by reason and result";
        registry.register("vigie_status_writes", help, writes.clone());
        let help = "From the deadline of a transition to its written status";
        registry.register_with_unit("vigie_transition_lag", help, Unit::Seconds, transition_lag.clone());
        let probe_failures = Family::<FailureLabels, Counter>::default();
        let help = "Probes that failed by error class and phase";
        registry.register("vigie_probe_failures", help, probe_failures.clone());
        let missed_windows = Counter::default();
        let help = "Turns at which a backend was not probed, because all places were taken; no failures of the backend";
        registry.register("vigie_probe_missed_windows", help, missed_windows.clone());
        let probe_start_lag = Histogram::new(LAG_BUCKETS);
        let help = "From a backend's turn to the start of its probe";
        registry.register_with_unit("vigie_probe_start_lag", help, Unit::Seconds, probe_start_lag.clone());
        let panics = Family::<PanicLabels, Counter>::default();
        let help = "Panics of the work on one object, a defect of vigie: the object was scheduled again";
        registry.register("vigie_panics", help, panics.clone());
        for task in PanickedTask::ALL {
            drop(panics.get_or_create_owned(&PanicLabels { task: task.as_str() }));
        }
        let blocked_tasks = Counter::default();
        let help = "Times at which a task kept its thread for a second or longer, so that other tasks waited";
        registry.register("vigie_blocked_tasks", help, blocked_tasks.clone());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("vigie_build", "The version of this operator", build);
        let heartbeat = |i: usize| heartbeats.get_or_create_owned(&ResultLabel { result: BeatResult::ALL[i].as_str() });
        for reason in WriteReason::ALL {
            for result in WRITE_RESULTS {
                drop(writes.get_or_create_owned(&WriteLabels { reason: reason.as_str(), result }));
            }
        }
        Self {
            heartbeats: HeartbeatCounters(std::array::from_fn(heartbeat)),
            status_writes: writes,
            transition_lag,
            probe_failures,
            missed_windows,
            blocked_tasks,
            probe_start_lag,
            panics,
            remedies: remedies::Remedies::register(registry),
        }
    }

    /// Counts one attempt that ended with `outcome`.
    pub fn remedied(&self, outcome: AttemptOutcome) {
        self.remedies.ended(outcome);
    }

    /// Counts one denial; the caller calls this when the denial of an object changes.
    pub fn denied(&self, denial: Denial) {
        self.remedies.denied(denial);
    }

    /// Counts one probe that failed.
    pub fn probe_failed(&self, class: ErrorClass, phase: Phase) {
        let labels = FailureLabels { error_class: class.as_str(), phase: phase.as_str() };
        self.probe_failures.get_or_create_owned(&labels).inc();
    }

    /// Counts a turn of a backend that passed without a probe.
    pub fn missed_window(&self) {
        self.missed_windows.inc();
    }

    /// Counts a panic that was caught.
    pub fn panicked(&self, task: PanickedTask) {
        self.panics.get_or_create_owned(&PanicLabels { task: task.as_str() }).inc();
    }

    /// Counts a task that kept its thread for too long.
    pub fn task_blocked(&self) {
        self.blocked_tasks.inc();
    }

    /// The number of panics that were caught.
    #[cfg(test)]
    pub(crate) fn panics(&self, task: PanickedTask) -> u64 {
        self.panics.get_or_create_owned(&PanicLabels { task: task.as_str() }).get()
    }

    /// Records the time between a backend's turn and the start of its probe.
    pub fn probe_started(&self, lag: Duration) {
        self.probe_start_lag.observe(lag.as_secs_f64());
    }

    /// Records the time between the deadline of a transition and its written status.
    pub fn observe_transition_lag(&self, lag: Duration) {
        self.transition_lag.observe(lag.as_secs_f64());
    }
}

impl BeatMetrics for Metrics {
    fn counted(&self, result: BeatResult) {
        self.heartbeats.inc(result);
    }
}

impl WriteMetrics for Metrics {
    fn wrote(&self, reason: WriteReason, result: &'static str) {
        self.status_writes.get_or_create_owned(&WriteLabels { reason: reason.as_str(), result }).inc();
    }
}

/// Registers the collector that reads `fleet` at each scrape.
pub fn register_fleet(registry: &mut Registry, fleet: Arc<dyn Fleet>, objects: ObjectMetrics) {
    registry.register_collector(Box::new(FleetCollector::new(fleet, objects)));
}

/// The text of one scrape.
///
/// # Errors
/// A metric cannot be encoded, which is a defect of this program.
pub fn encode(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    text::encode(&mut text, registry)?;
    Ok(text)
}
