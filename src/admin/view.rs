//! What the operator knows this instant: one struct for the HTTP API, the metrics and `vigie get`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BackendView;
use crate::api::words::words;
use crate::api::{AttemptOutcome, Cause, CheckOutcome, ConnectorState, Denial, Truth};

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

/// One connector, as the operator knows it this instant.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorView {
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The identifier that it beats with.
    #[serde(rename = "connectorID")]
    pub connector_id: String,
    /// Its site as the spec says it; empty means that the namespace is the failure domain.
    pub site: String,
    /// Its state.
    pub state: ConnectorState,
    /// The status of the condition `Ready`.
    pub ready: Truth,
    /// The named reason for a bad state.
    pub cause: Option<Cause>,
    /// The cause in a sentence.
    pub message: Option<String>,
    /// What to do about it.
    pub advice: Option<String>,
    /// When the last authenticated beat was received; exact to the beat when the operator says it.
    pub last_heartbeat_time: Option<Timestamp>,
    /// Since when it is in this state.
    pub state_since: Option<Timestamp>,
    /// The reason of the condition `Healthy`.
    pub health: Option<String>,
    /// The version that the agent reports.
    pub version: Option<String>,
    /// The hostname that the agent reports.
    pub hostname: Option<String>,
    /// The address from which it was last heard.
    pub address: Option<String>,
    /// When its current token was issued.
    pub token_issued_time: Option<Timestamp>,
    /// Since when a new token waits for its first use; none while no rotation is pending. In memory only.
    #[serde(skip)]
    pub rotation_pending_since: Option<Timestamp>,
    /// Until when the token before it is still good. In memory only.
    #[serde(skip)]
    pub token_grace_until: Option<Timestamp>,
    /// How often vigie restarted it.
    pub restarts: i64,
    /// What is remembered of its remedies. In memory only.
    #[serde(skip)]
    pub remedy: RemedyView,
    /// When the object was created.
    pub created_time: Option<Timestamp>,
    /// What the agent last reported of itself.
    pub checks: Vec<CheckView>,
    /// Whether remedies are paused.
    pub paused: bool,
    /// Whether the API server knows this state; false while a transition waits to be written.
    pub written: bool,
}

/// What is remembered of the remedies of one object, of either kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemedyView {
    /// Why a wanted remedy is not taken; none while none is wanted.
    pub denial: Option<Denial>,
    /// How its last attempt ended; none before the first.
    pub last_outcome: Option<AttemptOutcome>,
}

/// One check as last reported.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    /// The type, as the agent wrote it: it may be one that this version does not know.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its outcome.
    pub status: CheckOutcome,
}

/// What is true of the operator itself this instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
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
    fn facts(&self) -> Facts;
}
