//! The parts of an agent's heartbeat that both sides share: the agent writes them, the operator reads them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::words::words;

/// Longest heartbeat, in bytes (`docs/design/api.md`).
pub const MAX_BEAT: usize = 16 * 1024;
/// Longest message of a check in a heartbeat, in characters.
pub const MAX_CHECK_MESSAGE: usize = 256;
/// Most results of restarts in one heartbeat: one for each target.
pub const MAX_RESTARTS: usize = 8;
/// Most gaps in one heartbeat.
pub const MAX_GAPS: usize = 8;
/// Most backends in one heartbeat.
pub const MAX_BACKENDS: usize = 8;
/// Most addresses, and most published ports, of one backend.
pub const MAX_ADDRESSES: usize = 16;
/// Most environment variables of one backend.
pub const MAX_ENVIRONMENT: usize = 32;
/// Longest name of a unit, in bytes, as in `agentRef.unit`.
pub const MAX_UNIT: usize = 255;
/// Most bytes of text about one backend in a heartbeat.
pub const MAX_BACKEND_TEXT: usize = 1024;

words! {
    /// The state of a unit, as the agent on its host sees it.
    TargetState {
        /// It runs.
        Running,
        /// A container that has ended.
        Exited,
        /// It ended, and its host starts it again.
        Restarting,
        /// A container that was never started.
        Created,
        /// A container that is suspended.
        Paused,
        /// There is no such unit or container.
        Absent,
        /// A unit that has failed.
        Failed,
        /// A unit that is stopped.
        Inactive,
        /// A unit that is starting.
        Activating,
        /// The agent could not tell, or this version does not know the word.
        Unknown,
    }
}

words! {
    /// Why an agent was not heard for a while.
    GapKind {
        /// It ran and could not reach the operator.
        Unreachable,
        /// It did not run, while its host was up.
        NotRunning,
        /// Its host was down.
        HostDown,
        /// A kind that this version does not know.
        Unknown,
    }
}

words! {
    /// Why an agent stops.
    StopReason {
        /// Its host shuts down.
        Shutdown,
        /// A person or the service manager stopped it.
        Stop,
        /// It makes place for another version.
        Update,
        /// It is removed from its host.
        Uninstall,
        /// A reason that this version does not know.
        Unknown,
    }
}

impl TargetState {
    /// The state of this name; `Unknown` for one of a newer agent.
    pub fn of(word: &str) -> Self {
        word.parse().unwrap_or(Self::Unknown)
    }
}

impl GapKind {
    /// The kind of this name; `Unknown` for one of a newer agent.
    pub fn of(word: &str) -> Self {
        word.parse().unwrap_or(Self::Unknown)
    }
}

impl StopReason {
    /// The reason of this name; `Unknown` for one of a newer agent.
    pub fn of(word: &str) -> Self {
        word.parse().unwrap_or(Self::Unknown)
    }
}

/// A time in which an agent was not heard: `gaps[]` of a heartbeat. Durations, because the clock of the host may be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentGap {
    /// Why it was not heard.
    pub kind: GapKind,
    /// How many seconds ago the gap ended.
    pub ended_seconds_ago: u64,
    /// How many seconds it lasted.
    pub lasted_seconds: u64,
    /// The class of the last error, as of a probe: `ConnectTimeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<String>,
    /// The phase of the last attempt that failed: `connect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// How many attempts failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// The types of the checks that failed during the gap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<String>,
}

/// A pause of restarts on the host of an agent: `paused` of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPause {
    /// The person who paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many seconds it lasts from now on; absent = until it is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// One backend as the agent on its host sees it: one of `backends[]` of a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendReport {
    /// The name of the MonitoredBackend.
    pub name: String,
    /// The unit behind it: `NAME.service`, `container:NAME` or `compose:PROJECT:SERVICE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The state of that unit.
    pub state: TargetState,
    /// For how many seconds it has been in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u64>,
    /// The exit code of its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u64>,
    /// Whether the kernel ended its last run because of a memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_killed: Option<bool>,
    /// How often its host has started it again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
    /// How many of these were in the last 15 minutes, as far as the agent saw them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent_restarts: Option<u64>,
    /// Whether a person stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_on_purpose: Option<bool>,
    /// The restart policy of its host: `always`, `unless-stopped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The result of its own health check: `healthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// The addresses that it listens on: `127.0.0.1:8081`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listens: Vec<String>,
    /// The ports that are published on the host: `0.0.0.0:8081->8080/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<String>,
    /// The result of a probe from its own host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<LocalProbe>,
    /// The names of its environment variables, with the values of the few that configure management endpoints.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Option<String>>,
    /// The lines of its log that say why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
    /// The agent's own sentence about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The result of a probe from the host of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalProbe {
    /// Whether it answered as expected.
    pub ok: bool,
    /// The class of the failure: `ConnectionRefused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<String>,
    /// The phase that failed: `connect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The status code of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u64>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<u64>,
}

impl BackendReport {
    /// The number of bytes of its texts.
    pub fn text_len(&self) -> usize {
        let Self { name, unit, policy, health, listens, published, probe, environment, words, message, .. } = self;
        let probe = probe.iter().flat_map(|probe| [&probe.error_class, &probe.phase]);
        let optional = [unit, policy, health, words, message].into_iter().chain(probe).flatten();
        let environment = environment.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len));
        let lists = listens.iter().chain(published);
        name.len() + optional.chain(lists).map(String::len).sum::<usize>() + environment.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_newer_agent_is_unknown() {
        assert_eq!(TargetState::of("Exited"), TargetState::Exited);
        assert_eq!(TargetState::of("Hibernating"), TargetState::Unknown);
        assert_eq!(GapKind::of("HostDown"), GapKind::HostDown);
        assert_eq!(GapKind::of("hostdown"), GapKind::Unknown);
        assert_eq!(StopReason::of("Update"), StopReason::Update);
        assert_eq!(StopReason::of(""), StopReason::Unknown);
    }

    #[test]
    fn every_text_of_a_report_counts() {
        let report: BackendReport = serde_json::from_value(serde_json::json!({
            "name": "a", "unit": "b", "state": "Running", "policy": "c", "health": "d", "listens": ["e", "f"],
            "published": ["g"], "probe": {"ok": false, "error_class": "h", "phase": "i"},
            "environment": {"j": "k", "l": null}, "words": "m", "message": "n", "since_seconds": 1,
        }))
        .unwrap();
        assert_eq!(report.text_len(), 14);
    }
}
