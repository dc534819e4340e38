//! The silence of a connector whose agent is heard.

use jiff::{SignedDuration, Timestamp};

use super::assess::Input;
use crate::api::{CheckOutcome, CheckType, Connector};
use crate::diagnosis::connector::{AgentStop, ConnectorSilence};
use crate::heartbeat::entry::Snapshot;

impl Input<'_> {
    /// The last words of the agent.
    pub(super) fn agent_stop(&self) -> Option<AgentStop> {
        let reason = self.live.said.stopping?;
        Some(AgentStop { reason, is_alone: self.live.contacts?.own_contact.is_none() })
    }

    /// The silence of the connector itself, while its agent is heard.
    pub(super) fn connector_silence(&self) -> Option<ConnectorSilence<'_>> {
        let (_, contact) = self.live.connector_silence()?;
        let stored = self.connector.status.as_ref().and_then(|status| status.last_heartbeat_time.as_ref());
        let last_heartbeat = self.now.stamp(contact);
        // The same moment gives the same words, while the wall clock is slewed.
        let is_stored = |at: &Timestamp| at.duration_since(last_heartbeat).abs() < SignedDuration::from_secs(1);
        Some(ConnectorSilence {
            last_heartbeat: stored.map(|time| time.0).filter(is_stored).unwrap_or(last_heartbeat),
            host: self.host(),
            unit: target(self.connector),
            process: process(self.connector, self.live),
        })
    }
}

/// The outcome of the check of its process, as its agent reports it.
fn process(connector: &Connector, live: &Snapshot) -> Option<CheckOutcome> {
    let type_ = CheckType::Process.as_str();
    match &live.checks {
        Some(checks) => checks.iter().find(|check| check.type_ == type_).map(|check| check.status),
        None => {
            let stored = connector.status.as_ref().map(|status| status.checks.as_slice()).unwrap_or_default();
            stored.iter().find(|check| check.type_ == type_).map(|check| check.status)
        }
    }
}

/// The unit that an agent restarts for a connector; `None` = the one that it was installed for.
pub(super) fn target(connector: &Connector) -> Option<&str> {
    let of_agent = connector.spec.agent_ref.as_ref().and_then(|agent| agent.unit.as_deref());
    let process = connector.spec.checks.iter().find(|check| check.type_ == CheckType::Process);
    of_agent.or_else(|| process?.unit.as_deref())
}
