//! The status of a Connector. It holds no secret and no unbounded list.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::shared::{MAX_CHECK_TYPE, MAX_CHECKS, MAX_MESSAGE, MAX_NAME, MAX_TRANSITIONS};
use crate::api::words::words;
use crate::api::{CheckOutcome, ConnectorState, Diagnosis, RemediationStatus, Transition, conditions};

/// How many token hashes a status keeps: current, pending, previous in grace, and one retired.
pub const MAX_HASHES: usize = 4;

const fn never_observed() -> i64 {
    -1
}

/// The state of the connector, written by vigie alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
// The whole block is there from the first read on, so that kstatus never takes a new object for a current one.
#[schemars(extend("default" = { "observedGeneration": -1 }))]
pub struct ConnectorStatus {
    /// The state, for display; derived from the conditions. Pending: never heard. Online: heard in time. Late: silent
    /// past lateAfterSeconds. Degraded: heard, but a critical check fails. Offline: silent past offlineAfterSeconds.
    /// Unknown: we could not have known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Without `with` the derive uses the enum's description for the field.
    #[schemars(with = "ConnectorState")]
    pub state: Option<ConnectorState>,
    /// The connector_id that its heartbeats must carry.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "connectorID")]
    #[schemars(length(max = 128))]
    pub connector_id: Option<String>,
    /// The heartbeat limits in force, the computed ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<EffectiveHeartbeat>,
    /// When the last authenticated heartbeat of the connector itself was received, by our clock; of its agent, where only
    /// that was ever heard. Exact at every change of state, else as old as the last checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<MicroTime>,
    /// When it was last seen heard in time with no critical check failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_healthy_time: Option<Time>,
    /// Since when the state has been what it is. Offline is dated at its deadline, not when it was noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_since: Option<MicroTime>,
    /// The metadata.generation that this status was judged by; -1 before the first time.
    #[serde(default = "never_observed")]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// The facts that the agent reported in its last heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// The checks that the agent reported last, one entry for each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_CHECKS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub checks: Vec<CheckStatus>,
    /// The cause of the bad state, its confidence and the advice; absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// Which tokens are valid, by their hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,
    /// The last ten changes of state, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_TRANSITIONS), extend("x-kubernetes-list-type" = "atomic"))]
    pub transitions: Vec<Transition>,
    /// Past attempts, the attempt under way and the last denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<RemediationStatus>,
    /// Ready, Accepted, Provisioned, Online, Healthy and Remediating; Stalled while Accepted is False.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::list_schema")]
    pub conditions: Vec<Condition>,
}

// By hand: a derived one would claim that generation 0 was observed.
impl Default for ConnectorStatus {
    fn default() -> Self {
        Self {
            state: None,
            connector_id: None,
            heartbeat: None,
            last_heartbeat_time: None,
            last_healthy_time: None,
            state_since: None,
            observed_generation: never_observed(),
            agent: None,
            checks: Vec::new(),
            diagnosis: None,
            token: None,
            transitions: Vec::new(),
            remediation: None,
            conditions: Vec::new(),
        }
    }
}

/// The heartbeat limits in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveHeartbeat {
    /// Seconds between two heartbeats.
    pub interval_seconds: i32,
    /// Seconds of silence after which the state is Late.
    pub late_after_seconds: i32,
    /// Seconds of silence after which the state is Offline.
    pub offline_after_seconds: i32,
}

/// The facts that the agent reported. Only the address is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The version that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub version: Option<String>,
    /// The name of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub hostname: Option<String>,
    /// Identity of its current run; two that alternate are two hosts with one token.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "bootID")]
    #[schemars(length(max = MAX_NAME))]
    pub boot_id: Option<String>,
    /// The address that its last heartbeat came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub address: Option<String>,
    /// UID of the pod that it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "podUID")]
    #[schemars(length(max = MAX_NAME))]
    pub pod_uid: Option<String>,
    /// How many seconds its clock is ahead of ours; negative when it is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_seconds: Option<i64>,
    /// When the last heartbeat was received that vigie's agent sent for the connector. Absent: the connector has no such
    /// agent, and beats alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_time: Option<MicroTime>,
    /// The connector itself was heard, too. From then on its own silence counts, also while its agent is heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector_heard: Option<bool>,
    /// Restarts are paused on the agent's host, by a person there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<AgentPaused>,
    /// The reason that the agent gave in its last heartbeat for stopping: Shutdown, Stop, Update or Uninstall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub stopping: Option<String>,
    /// Whether a person stopped the connector's unit on its host, by the last heartbeat of the agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped_on_purpose: bool,
}

impl AgentStatus {
    /// Whether the connector itself was heard beside its agent.
    pub fn is_connector_heard(&self) -> bool {
        self.connector_heard == Some(true)
    }
}

/// A pause of restarts on the host of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentPaused {
    /// The person who paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub by: Option<String>,
    /// Why it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MESSAGE))]
    pub reason: Option<String>,
    /// When the pause ends by itself. Without it the pause lasts until the agent says that it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

impl ConnectorStatus {
    /// The last contact, of the connector itself or of its agent.
    pub fn last_contact(&self) -> Option<Timestamp> {
        let seen = self.agent.as_ref().and_then(|agent| agent.last_seen_time.as_ref());
        self.last_heartbeat_time.as_ref().into_iter().chain(seen).map(|time| time.0).max()
    }
}

/// The last result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// Which check; types that a newer agent reports are kept as they come.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = MAX_CHECK_TYPE))]
    pub type_: String,
    /// Pass: as it should be. Warn: not quite, and it does not matter much. Fail: not as it should be. Unknown: the
    /// agent could not tell.
    pub status: CheckOutcome,
    /// The observation, in the agent's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: Option<String>,
    /// When it was first reported with this status.
    pub time: Time,
}

words! {
    /// How far a rotation of the token has come.
    Rotation {
        /// None is under way.
        None,
        /// A new token was made and has not been used yet.
        Pending,
        /// The new token was used; the old one is ending.
        Confirmed,
    }
}

/// Which tokens are valid. Tokens themselves are kept nowhere but in their Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// How many tokens have been delivered; the number of the newest one.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub generation: i64,
    /// The spec.token.rotationGeneration that the newest token was delivered for.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub observed_rotation_generation: i64,
    /// When the newest token was delivered; while it could not be, when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_time: Option<Time>,
    /// Name of the Secret that holds the newest token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub secret_name: Option<String>,
    /// None: no rotation is under way. Pending: a new token was made and has not been used yet. Confirmed: it was used,
    /// and the old one is ending.
    #[serde(default = "no_rotation")]
    pub rotation: Rotation,
    /// Until when the previous token is accepted; absent until the new one stands in its Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_until: Option<Time>,
    /// Which token the Secret holds while the newest one could not be put there; 0 when it holds none of them. Absent
    /// while the Secret holds the newest token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub held_generation: Option<i64>,
    /// When a retired token of this connector was last refused; written at most once a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rejected_time: Option<Time>,
    /// The value of the annotation vigie.dev/revoke-requested that was honoured last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub observed_revoke_request: Option<String>,
    /// Hashes of the tokens that are known: the current one, a pending one, the previous one in its grace, then
    /// retired ones, the oldest forgotten first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_HASHES), extend("x-kubernetes-list-type" = "atomic"))]
    pub hashes: Vec<TokenHash>,
}

const fn no_rotation() -> Rotation {
    Rotation::None
}

impl Default for TokenStatus {
    fn default() -> Self {
        Self {
            generation: 0,
            observed_rotation_generation: 0,
            issued_time: None,
            secret_name: None,
            rotation: no_rotation(),
            grace_until: None,
            held_generation: None,
            last_rejected_time: None,
            observed_revoke_request: None,
            hashes: Vec::new(),
        }
    }
}

/// The hash of one token. The hash of 32 random bytes is no secret, and it is what survives a deleted Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenHash {
    /// Which delivery it was.
    #[schemars(range(min = 0))]
    pub generation: i64,
    /// The hash of the token, in 64 lower-case hexadecimal digits.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// For a token that the user brings: sha256 is its PBKDF2 with HMAC-SHA256, with so many rounds and the UID of this
    /// object as salt. Absent: it is the plain SHA-256 of random bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rounds: Option<i32>,
    /// When the token ended or will end; absent while no end is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_absent_block_means_what_an_empty_one_means() {
        assert_eq!(serde_json::from_value::<ConnectorStatus>(json!({})).unwrap(), ConnectorStatus::default());
        assert_eq!(serde_json::from_value::<TokenStatus>(json!({})).unwrap(), TokenStatus::default());
    }

    #[test]
    fn a_status_is_written_as_it_was_read() {
        let full: serde_json::Value = serde_saphyr::from_str(include_str!("../../../tests/api/status.yaml")).unwrap();
        let status: ConnectorStatus = serde_json::from_value(full.clone()).unwrap();
        assert_eq!(serde_json::to_value(status).unwrap(), full);
    }

    #[test]
    fn a_new_status_claims_to_have_observed_nothing() {
        assert_eq!(serde_json::to_value(ConnectorStatus::default()).unwrap(), json!({"observedGeneration": -1}));
    }
}
