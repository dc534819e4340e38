//! `status.json`: how the agent does, for `vigie agent status`. It has no secret.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::agent::Agent;
use super::body::RestartReport;
use super::gaps::Stamp;
use crate::api::{AgentGap, AgentPause, BackendReport};

/// The name of the file in the folder that systemd gives.
pub const FILE: &str = "status.json";

/// The last heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBeat {
    /// When one was received last.
    pub at: Option<Timestamp>,
    /// The state of the connector in that answer.
    pub state: Option<String>,
    /// Why those since then were not received.
    pub failure: Option<String>,
}

impl LastBeat {
    pub(super) fn received(at: Timestamp, state: &str) -> Self {
        Self { at: Some(at), state: Some(state.to_owned()), failure: None }
    }
}

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// When it was written.
    pub written_at: Timestamp,
    /// The version of the agent.
    pub version: String,
    /// The operator.
    pub url: String,
    /// The connector.
    pub connector: String,
    /// The last heartbeats.
    pub last_beat: LastBeat,
    /// Seconds between two heartbeats.
    pub interval_seconds: u64,
    /// The checks: type, status, message.
    pub checks: Vec<(String, String, String)>,
    /// The backends.
    pub backends: Vec<BackendReport>,
    /// Why the last look failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper_fault: Option<String>,
    /// The parameters of checks that the operator sent: the generation; 0 = none. The file overrides them.
    pub config_generation: u64,
    /// The operator's clock minus that of the host, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_seconds: Option<i64>,
    /// The gaps that the operator was not told yet.
    pub gaps: Vec<AgentGap>,
    /// The restarts whose outcome the operator was not told yet: target, id, result, message.
    pub restarts: Vec<(String, String, String, String)>,
    /// Restarts are paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<AgentPause>,
}

pub(super) fn write(folder: &Path, agent: &Agent, last: &LastBeat, now: &Stamp) -> io::Result<()> {
    let interval = agent.schedule.interval().as_secs();
    let restart = |report: &RestartReport| {
        (report.target.clone(), report.id.clone(), report.result.to_owned(), report.message.clone())
    };
    let report = agent.report.as_ref();
    let check = |check: &crate::agent::assess::CheckReport| {
        (check.type_.to_string(), check.outcome.to_string(), check.message.clone())
    };
    let status = Status {
        written_at: now.wall,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: agent.config.url.to_string(),
        connector: agent.config.connector.to_string(),
        last_beat: last.clone(),
        interval_seconds: interval,
        checks: report.map(|report| report.checks.iter().map(check).collect()).unwrap_or_default(),
        backends: report.map(|report| report.backends.clone()).unwrap_or_default(),
        helper_fault: agent.helper_fault.clone(),
        config_generation: agent.parameters.generation,
        clock_ahead_seconds: agent.clock_ahead.map(|ahead| ahead.as_secs()),
        gaps: agent.journal.gaps(now, interval),
        restarts: agent.outcomes.values().map(restart).collect(),
        paused: agent.paused.clone(),
    };
    super::replace(&folder.join(FILE), &serde_json::to_vec(&status)?)
}
