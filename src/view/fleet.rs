//! The operator and its fleet at this instant, for the HTTP API, the metrics and `vigie get`.

use jiff::Timestamp;

use super::{BackendView, ConnectorView};
pub use crate::leadership::Role;

/// The state of the operator itself at this instant.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorFacts {
    /// The role of this replica.
    pub leader: Role,
    /// Whether every store has been filled from the API server.
    pub synced: bool,
    /// Since when silence counts; none while this replica accepts no heartbeats.
    pub listening_since: Option<Timestamp>,
    /// Whether our public URL leads to us, by the canary; none when there is no canary.
    pub reachable: Option<bool>,
    /// Whether the leader's pod has the label by which the heartbeat Service finds it; none for a follower, and outside of a
    /// pod.
    pub pod_labelled: Option<bool>,
    /// Transitions that the API server does not know yet.
    pub status_write_pending: u64,
    /// The age of the oldest last contact or probe that is not yet written, in seconds.
    pub checkpoint_staleness: f64,
    /// How many connectors there are.
    pub connectors: usize,
    /// How many backends there are.
    pub backends: usize,
    /// Attempts under way, of both kinds.
    pub remedies_in_flight: usize,
    /// Whether the breaker is open.
    pub breaker_open: bool,
    /// The sites whose brake is engaged: namespace and site.
    pub brakes: Vec<(String, String)>,
    /// The sites that fell silent as a whole: namespace and site.
    pub mass_silences: Vec<(String, String)>,
    /// Whether our probes are blind.
    pub probe_blind: bool,
}

/// The source of the fleet's current state. Read at each request; no result is a stored copy.
pub trait Fleet: Send + Sync + 'static {
    /// Calls `each` for every connector, of one namespace when it is given, in no particular order.
    fn connectors(&self, namespace: Option<&str>, each: &mut dyn FnMut(ConnectorView));

    /// Calls `each` for every backend, of one namespace when it is given, in no particular order.
    fn backends(&self, namespace: Option<&str>, each: &mut dyn FnMut(BackendView));

    /// The role of this replica, and whether every store has been filled from the API server. The cost does not depend on the
    /// size of the fleet: the kubelet calls `/readyz` every few seconds, and every client may.
    fn role(&self) -> (Role, bool);

    /// Whether this replica leads and its pod lacks the label by which the heartbeat Service finds it.
    fn lacks_label(&self) -> bool {
        false
    }

    /// The state of the operator itself. Walks the whole fleet.
    fn facts(&self) -> OperatorFacts;
}
