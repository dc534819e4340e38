//! What the operator knows this instant: one struct for the HTTP API, the metrics and `vigie get`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackendView, ConnectorView};
use crate::api::words::words;

words! {
    /// What this replica is to the others.
    Standing {
        /// It holds the lease: it hears beats and writes.
        Leader,
        /// Its renewal is overdue and nobody else is seen holding: it hears beats and writes nothing.
        Uncertain,
        /// Another replica leads, or nobody does yet.
        Follower,
    }
}

/// What is true of the operator itself this instant.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorFacts {
    /// What this replica is to the others.
    pub leader: Standing,
    /// Whether every store has been filled from the API server.
    pub synced: bool,
    /// Since when silence counts; none while nobody can be heard.
    pub listening_since: Option<Timestamp>,
    /// What the canary says: whether our public URL leads to us. None when it is not asked.
    pub reachable: Option<bool>,
    /// Transitions that the API server does not know yet.
    pub status_write_pending: u64,
    /// The age of the oldest last contact that is not yet written, in seconds.
    pub checkpoint_staleness: f64,
    /// How many connectors there are.
    pub connectors: usize,
    /// How many backends there are.
    pub backends: usize,
    /// Attempts under way, of both kinds.
    pub remedies_in_flight: usize,
    /// Whether the breaker is open.
    pub breaker_open: bool,
    /// The sites whose brake is on: namespace and site.
    pub brakes: Vec<(String, String)>,
    /// The sites that fell silent as a whole: namespace and site.
    pub mass_silences: Vec<(String, String)>,
    /// Whether our probes are blind.
    pub probe_blind: bool,
}

/// Whoever knows the fleet. Asked at each request; nothing here is a copy that could be stale.
pub trait Fleet: Send + Sync + 'static {
    /// Calls `each` for every connector, of one namespace when it is given, in no particular order.
    fn connectors(&self, namespace: Option<&str>, each: &mut dyn FnMut(ConnectorView));

    /// Calls `each` for every backend, of one namespace when it is given, in no particular order.
    fn backends(&self, namespace: Option<&str>, each: &mut dyn FnMut(BackendView));

    /// What this replica is to the others, and whether every store has been filled from the API server. Costs the same
    /// however large the fleet is: the kubelet asks every few seconds, and anybody may.
    fn standing(&self) -> (Standing, bool);

    /// What is true of the operator itself. Walks the whole fleet.
    fn facts(&self) -> OperatorFacts;
}
