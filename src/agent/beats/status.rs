//! `status.json`: how the agent does, for `vigie agent status`. It has no secret.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::agent::Agent;
use super::body::{Check, RestartReport, checks};
use super::gaps::Stamp;
use crate::agent::file::replace_unsynced;
use crate::api::{AgentGap, AgentPause, BackendReport};

/// The name of the file in the folder that systemd gives.
const FILE: &str = "status.json";

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
    /// The checks.
    pub checks: Vec<Check>,
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
    /// The restarts whose outcome the operator was not told yet.
    pub restarts: Vec<RestartReport>,
    /// Restarts are paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<AgentPause>,
}

impl Status {
    /// Reads the status of the agent whose folder is `folder`.
    ///
    /// # Errors
    /// There is none, or it is that of another version.
    pub fn read(folder: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(folder.join(FILE))?)?)
    }

    /// The status of `agent` now.
    pub(super) fn of(agent: &Agent, last: &LastBeat, now: &Stamp) -> Self {
        let interval = agent.schedule.interval().as_secs();
        let report = agent.report.as_ref();
        Self {
            written_at: now.wall,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            url: agent.config.url.to_string(),
            connector: agent.config.connector.to_string(),
            last_beat: last.clone(),
            interval_seconds: interval,
            checks: report.map(checks).unwrap_or_default(),
            backends: report.map(|report| report.backends.clone()).unwrap_or_default(),
            helper_fault: agent.helper_fault.clone(),
            config_generation: agent.parameters.generation,
            clock_ahead_seconds: agent.clock_ahead.map(|ahead| ahead.as_secs()),
            gaps: agent.journal.gaps(now, interval),
            restarts: agent.outcomes.values().cloned().collect(),
            paused: agent.paused.clone(),
        }
    }

    /// Writes it into `folder`, in one step and without waiting for the disk.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        replace_unsynced(&folder.join(FILE), &serde_json::to_vec(self)?)
    }
}
