//! The unit behind a MonitoredBackend, as the agent on its host sees it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::shared::{MAX_MESSAGE, MAX_NAME, MAX_WORD, open_word};
use crate::api::{ErrorClass, MAX_ADDRESSES, MAX_ENVIRONMENT, MAX_UNIT, Phase, TargetState};

/// The longest address, in characters.
const MAX_ADDRESS: usize = 128;
/// The longest name, and the longest value, of an environment variable, in characters.
const MAX_VARIABLE_NAME: usize = 128;
const MAX_VALUE: usize = 256;
/// The longest last words, in characters.
const MAX_LAST_WORDS: usize = 512;

/// The unit behind the backend, as the agent on its host reported it last. The agent's words are evidence for the cause;
/// only probes make a backend Up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    /// Name of the Connector whose agent it is.
    #[serde(default)]
    #[schemars(length(max = MAX_NAME))]
    pub connector: String,
    /// Name of the agent's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub host: Option<String>,
    /// The unit: NAME.service, container:NAME or compose:PROJECT:SERVICE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_UNIT))]
    pub unit: Option<String>,
    /// State of the unit: Running, Exited, Restarting, Created, Paused, Absent, Failed, Inactive, Activating, or Unknown
    /// when the agent could not look.
    #[serde(deserialize_with = "known_state")]
    #[schemars(schema_with = "open_word")]
    pub state: TargetState,
    /// Since when it has been in that state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Exit code of its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Whether the kernel ended its last run because of a memory limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
    /// How often its host has started it again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i64>,
    /// How many of these were in the last 15 minutes; absent when the agent did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent_restarts: Option<i64>,
    /// Whether it was stopped on purpose: by a person or a deployment on its host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped_on_purpose: bool,
    /// Restart policy on its host, for example always or unless-stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_WORD))]
    pub policy: Option<String>,
    /// Result of its own health check, for example healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_WORD))]
    pub health: Option<String>,
    /// Addresses that it listens on; those of a container are inside the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_ADDRESSES), inner(length(max = MAX_ADDRESS)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub listens: Vec<String>,
    /// Ports of its container that are published on the host, for example 127.0.0.1:8081->8081/tcp.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_ADDRESSES), inner(length(max = MAX_ADDRESS)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub published: Vec<String>,
    /// Result of the agent's own probe of it, on its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<AgentProbe>,
    /// The environment variables that configure its server and its management endpoints, with the values of the few that
    /// the rules name; absent when the agent could not read its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_ENVIRONMENT), extend("x-kubernetes-list-type" = "atomic"))]
    pub environment: Option<Vec<AgentVariable>>,
    /// Why its last run ended, from its log: class of the exception, description, endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_LAST_WORDS))]
    pub words: Option<String>,
    /// The agent's own sentence about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: Option<String>,
}

/// One environment variable of the unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentVariable {
    /// Name of the variable.
    #[schemars(length(max = MAX_VARIABLE_NAME))]
    pub name: String,
    /// Its value; absent when it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_VALUE))]
    pub value: Option<String>,
}

/// The result of a probe that the agent made on the host of the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentProbe {
    /// Whether it passed.
    pub ok: bool,
    /// How it failed, for example Refused; absent when it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_word")]
    pub error_class: Option<ErrorClass>,
    /// How far it got: Resolve, Policy, Connect, TLS, FirstByte or Body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_word")]
    pub phase: Option<Phase>,
    /// Status of the HTTP answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i64>,
}

impl AgentProbe {
    /// Whether it got an answer, good or bad.
    pub fn is_answered(&self) -> bool {
        self.ok || self.status.is_some()
    }
}

#[expect(clippy::derivable_impls, reason = "the macro that defines the words derives no default")]
impl Default for TargetState {
    fn default() -> Self {
        Self::Unknown
    }
}

/// A state of a newer version is one that this version cannot judge.
fn known_state<'de, D: Deserializer<'de>>(from: D) -> Result<TargetState, D::Error> {
    Ok(TargetState::of(&String::deserialize(from)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_a_newer_version_is_unknown_and_breaks_nothing() {
        let read = |state| serde_json::from_value::<AgentView>(serde_json::json!({ "state": state })).unwrap();
        assert_eq!(read("Exited").state, TargetState::Exited);
        assert_eq!(read("Hibernating").state, TargetState::Unknown);
    }

    #[test]
    fn a_bad_answer_is_an_answer() {
        let probe = |ok, status| AgentProbe { ok, status, ..AgentProbe::default() };
        assert!(probe(true, None).is_answered() && probe(false, Some(503)).is_answered());
        assert!(!probe(false, None).is_answered());
    }
}
