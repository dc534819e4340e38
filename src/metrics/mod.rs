//! The metrics: counters that the rooms move, and a collector that asks the fleet at each scrape.

mod fleet;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use fleet::{FleetCollector, ObjectMetrics};

use crate::admin::Fleet;

/// What `/metrics` is served as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of `transition_lag_seconds`. The promise is one second, so most of them lie below; the last ones tell
/// a slow API server from one that is gone.
const LAG_BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];

/// Defines a closed set of label values, with the place of each in an array of counters.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in its order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value of the label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

labels! {
    /// How a request to the heartbeat route ended.
    HeartbeatResult {
        /// Authenticated and counted as contact.
        Heard = "heard",
        /// Counted as contact, and told to slow down.
        TooOften = "too_often",
        /// Wrong id or token.
        Rejected = "rejected",
        /// Too many failed attempts for this address and id.
        RateLimited = "rate_limited",
        /// Not the JSON that was expected.
        Malformed = "malformed",
        /// Body or headers over the limit.
        TooLarge = "too_large",
        /// The body took too long.
        TooSlow = "too_slow",
        /// This replica does not lead.
        NotLeader = "not_leader",
        /// The stores or this connector's hashes are not loaded yet.
        NotLoaded = "not_loaded",
        /// Authenticated, asked for no effect.
        DryRun = "dry_run",
    }
}

labels! {
    /// Why a status is written.
    WriteReason {
        /// Something that people see has changed.
        Transition = "transition",
        /// Only the last contact has.
        Checkpoint = "checkpoint",
    }
}

labels! {
    /// How a write ended.
    WriteResult {
        /// The API server took it.
        Ok = "ok",
        /// Someone else wrote in between.
        Conflict = "conflict",
        /// The API server refused it.
        Error = "error",
        /// No answer in time.
        Timeout = "timeout",
    }
}

/// The counters of one closed set, resolved once: counting is one atomic add, without lookup or allocation.
#[derive(Clone, Debug)]
pub struct HeartbeatCounters([Counter; HeartbeatResult::ALL.len()]);

impl HeartbeatCounters {
    /// Counts one request to the heartbeat route.
    pub fn inc(&self, result: HeartbeatResult) {
        self.0[result as usize].inc();
    }

    /// How many ended this way.
    pub fn get(&self, result: HeartbeatResult) -> u64 {
        self.0[result as usize].get()
    }
}

/// The counters of status writes by reason and result.
#[derive(Clone, Debug)]
pub struct WriteCounters([[Counter; WriteResult::ALL.len()]; WriteReason::ALL.len()]);

impl WriteCounters {
    /// Counts one request that was sent.
    pub fn inc(&self, reason: WriteReason, result: WriteResult) {
        self.0[reason as usize][result as usize].inc();
    }

    /// How many were sent for this reason and ended this way.
    pub fn get(&self, reason: WriteReason, result: WriteResult) -> u64 {
        self.0[reason as usize][result as usize].get()
    }
}

/// The metrics that the rooms move. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `vigie_heartbeats_total{result}`.
    pub heartbeats: HeartbeatCounters,
    /// `vigie_status_writes_total{reason,result}`: every request sent.
    pub status_writes: WriteCounters,
    transition_lag: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    reason: &'static str,
    result: &'static str,
}

impl Metrics {
    /// Registers them, each label value from the start, so that a rate over the first event is no gap.
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
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("vigie_build", "The version of this operator", build);
        let heartbeat =
            |i: usize| heartbeats.get_or_create_owned(&ResultLabel { result: HeartbeatResult::ALL[i].as_str() });
        let write = |reason: usize, result: usize| {
            let (reason, result) = (WriteReason::ALL[reason].as_str(), WriteResult::ALL[result].as_str());
            writes.get_or_create_owned(&WriteLabels { reason, result })
        };
        Self {
            heartbeats: HeartbeatCounters(std::array::from_fn(heartbeat)),
            status_writes: WriteCounters(std::array::from_fn(|i| std::array::from_fn(|j| write(i, j)))),
            transition_lag,
        }
    }

    /// Records how long after its deadline a transition was written.
    pub fn observe_transition_lag(&self, lag: Duration) {
        self.transition_lag.observe(lag.as_secs_f64());
    }
}

/// Adds what is asked of the fleet at each scrape.
pub fn register_fleet(registry: &mut Registry, fleet: Arc<dyn Fleet>, objects: ObjectMetrics) {
    registry.register_collector(Box::new(FleetCollector::new(fleet, objects)));
}

/// The text of one scrape.
///
/// # Errors
/// Only if a metric cannot be encoded, which is a defect of this program.
pub fn encode(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    text::encode(&mut text, registry)?;
    Ok(text)
}
