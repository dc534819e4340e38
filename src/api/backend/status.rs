//! The status of a MonitoredBackend. It holds no content of a response, no secret and no unbounded list.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AgentView, MAX_URL};
use crate::api::shared::{MAX_MESSAGE, MAX_TRANSITIONS, open_word};
use crate::api::{BackendState, Diagnosis, ErrorClass, Phase, RemediationStatus, Transition, conditions};

/// How many vantages a status keeps: those of the target, and its first pods.
pub const MAX_VANTAGES: usize = 32;
/// The longest name of a vantage, in characters: `pod/` and the name of a pod.
pub const MAX_VANTAGE_NAME: usize = 257;

const fn never_observed() -> i64 {
    -1
}

/// The state of the backend, written by vigie alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
// The whole block is there from the first read on, so that kstatus never takes a new object for a current one.
#[schemars(extend("default" = { "observedGeneration": -1 }))]
pub struct MonitoredBackendStatus {
    /// The state, for display; derived from the conditions. Pending: never probed. Up: our probe passes, and so does
    /// all else that was asked for. Degraded: our probe passes, but slowly, or something else is not well. Down: our
    /// probe fails. Unknown: we could not have known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Without `with` the derive uses the enum's description for the field.
    #[schemars(with = "BackendState")]
    pub state: Option<BackendState>,
    /// The probed URL, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_URL))]
    pub target: Option<String>,
    /// The cause of the bad state, its confidence and the advice; absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// The last result of each probe: target; health and metrics where they are asked for; when the verdict is bad, pod/NAME
    /// for each pod; agent, the word of the agent on its host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_VANTAGES))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub vantages: Vec<VantageStatus>,
    /// The unit behind the backend, as the agent on its host reported it last; absent while that agent is not heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentView>,
    /// When the last probe ended, by our clock. Exact at every change of state, else as old as the last checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<MicroTime>,
    /// When it was last seen Up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_healthy_time: Option<Time>,
    /// How many milliseconds the last probe that passed took. As old as lastProbeTime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub latency_milliseconds: Option<i64>,
    /// Since when the state has been what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_since: Option<MicroTime>,
    /// When the certificate that the target showed last expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expiry_time: Option<Time>,
    /// The metadata.generation that this status was judged by; -1 before the first time.
    #[serde(default = "never_observed")]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// The last ten changes of state, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_TRANSITIONS), extend("x-kubernetes-list-type" = "atomic"))]
    pub transitions: Vec<Transition>,
    /// Past attempts, the attempt under way and the last denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<RemediationStatus>,
    /// Ready, Accepted, Available and Remediating; MetricsExposed, Scraped and WorkloadHealthy where they are asked
    /// for; Stalled while Accepted is False.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::list_schema")]
    pub conditions: Vec<Condition>,
}

// By hand: a derived one would claim that generation 0 was observed.
impl Default for MonitoredBackendStatus {
    fn default() -> Self {
        Self {
            state: None,
            target: None,
            diagnosis: None,
            vantages: Vec::new(),
            agent: None,
            last_probe_time: None,
            last_healthy_time: None,
            latency_milliseconds: None,
            state_since: None,
            certificate_expiry_time: None,
            observed_generation: never_observed(),
            transitions: Vec::new(),
            remediation: None,
            conditions: Vec::new(),
        }
    }
}

/// The last result of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VantageStatus {
    /// Which probe: target, health, metrics, main (the target's port where health is asked for at another one), pod/NAME
    /// for a pod by its own address, or agent for the unit as the agent on its host sees it.
    #[schemars(length(min = 1, max = MAX_VANTAGE_NAME))]
    pub name: String,
    /// Whether it passed.
    pub ok: bool,
    /// How it failed, for example Refused or FirstByteTimeout; absent when it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_word")]
    pub error_class: Option<ErrorClass>,
    /// How far it got: Resolve, Policy, Connect, TLS, FirstByte or Body; absent when it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_word")]
    pub phase: Option<Phase>,
    /// How many milliseconds it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub milliseconds: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// The observation, in a sentence.
    #[serde(default)]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_absent_block_means_what_an_empty_one_means() {
        let empty = serde_json::from_value::<MonitoredBackendStatus>(json!({})).unwrap();
        assert_eq!(empty, MonitoredBackendStatus::default());
    }

    #[test]
    fn a_status_is_written_as_it_was_read() {
        let full: serde_json::Value =
            serde_saphyr::from_str(include_str!("../../../tests/api/backend-status.yaml")).unwrap();
        let status: MonitoredBackendStatus = serde_json::from_value(full.clone()).unwrap();
        assert_eq!(serde_json::to_value(status).unwrap(), full);
    }

    #[test]
    fn a_new_status_claims_to_have_observed_nothing() {
        let new = serde_json::to_value(MonitoredBackendStatus::default()).unwrap();
        assert_eq!(new, json!({"observedGeneration": -1}));
    }
}
