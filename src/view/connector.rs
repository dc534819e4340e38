//! One connector at this instant, for the HTTP API, the metrics and `vigie get`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{AttemptOutcome, Cause, CheckOutcome, ConnectorState, Denial, Truth};

/// One connector at this instant.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorView {
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The `connector_id` of its heartbeats.
    #[serde(rename = "connectorID")]
    pub connector_id: String,
    /// `spec.site`; empty means that the namespace is the failure domain.
    pub site: String,
    /// Its state.
    pub state: ConnectorState,
    /// The status of the condition `Ready`.
    pub ready: Truth,
    /// The named reason for a bad state.
    pub cause: Option<Cause>,
    /// The cause in a sentence.
    pub message: Option<String>,
    /// The advice of the diagnosis.
    pub advice: Option<String>,
    /// When the last authenticated heartbeat was received; exact if the source is the operator, not the status.
    pub last_heartbeat_time: Option<Timestamp>,
    /// When the last heartbeat of its agent was received; none where it has none. In memory only.
    #[serde(skip)]
    pub agent_heartbeat_time: Option<Timestamp>,
    /// Whether its agent, which was heard before, is silent; none where that is not known, and for an agent that was removed
    /// from beside a connector that sends heartbeats itself. In memory only.
    #[serde(skip)]
    pub is_agent_silent: Option<bool>,
    /// Since when it is in this state.
    pub state_since: Option<Timestamp>,
    /// The reason of the condition `Healthy`.
    pub health: Option<String>,
    /// The version that the agent reports.
    pub version: Option<String>,
    /// The hostname that the agent reports.
    pub hostname: Option<String>,
    /// The source address of the last heartbeat.
    pub address: Option<String>,
    /// When its current token was issued.
    pub token_issued_time: Option<Timestamp>,
    /// Since when a new token waits for its first use; none while no rotation is pending. In memory only.
    #[serde(skip)]
    pub rotation_pending_since: Option<Timestamp>,
    /// Until when the token before the new one is valid. In memory only.
    #[serde(skip)]
    pub token_grace_until: Option<Timestamp>,
    /// How often vigie restarted its workload.
    pub restarts: i64,
    /// Its last denial and outcome. In memory only.
    #[serde(skip)]
    pub remedy: RemedyView,
    /// When the object was created.
    pub created_time: Option<Timestamp>,
    /// The checks that the agent reported last.
    pub checks: Vec<CheckView>,
    /// Whether remedies are paused.
    pub paused: bool,
    /// Whether the API server knows this state; false while a transition waits to be written.
    pub written: bool,
}

/// The last denial and outcome of one object, of either kind.
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
    /// The type as the agent wrote it; this version may not know it.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its outcome.
    pub status: CheckOutcome,
}
