//! The silence of a connector beside its agent, and the last words of an agent.

use jiff::Timestamp;

use super::{ConnectorEvidence, finding, stamp};
use crate::api::{Cause, CheckOutcome, Confidence, Diagnosis, RestartHelps, StopReason};
use crate::health::liveness::Presence;

/// The silence of a connector whose agent is heard.
#[derive(Clone, Copy, Debug)]
pub struct ConnectorSilence<'a> {
    /// Time of the last heartbeat of the connector itself.
    pub last_heartbeat: Timestamp,
    /// The host name that was reported last.
    pub host: Option<&'a str>,
    /// The unit of the connector.
    pub unit: Option<&'a str>,
    /// The outcome of the check of its process.
    pub process: Option<CheckOutcome>,
}

impl ConnectorSilence<'_> {
    /// The silence in a sentence: for the `Healthy` condition and the diagnosis.
    pub fn message(&self) -> String {
        let host = self.on_host();
        let unit = self.unit.unwrap_or("its process");
        let process = match self.process {
            Some(CheckOutcome::Pass | CheckOutcome::Warn) => format!(" and says {unit} is active"),
            Some(CheckOutcome::Fail) => format!(" and says {unit} does not run"),
            Some(CheckOutcome::Unknown) => format!(" and could not look at {unit}"),
            None => String::new(),
        };
        let since = stamp(Some(self.last_heartbeat));
        format!("its agent{host} beats{process}; the connector itself has been silent since {since}")
    }

    fn on_host(&self) -> String {
        self.host.map(|host| format!(" on {host}")).unwrap_or_default()
    }
}

pub(super) fn connector_silent(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    let silence = evidence.silence.as_ref()?;
    // A process that does not run explains its silence.
    if evidence.faults.first().is_some_and(|worst| worst.critical && worst.cause == Cause::ProcessDown) {
        return None;
    }
    let unit = silence.unit.unwrap_or("the connector's unit");
    let host = silence.on_host();
    finding(
        Cause::ConnectorSilent,
        Confidence::Certain,
        silence.message(),
        format!(
            "restart {unit}{host}, and read what it logged before it fell silent (journalctl -u UNIT): it hangs, or it cannot reach vigie by the way that its agent takes. If only the agent is to beat from now on, delete and create this Connector"
        ),
        RestartHelps::Yes,
    )
}

/// The last words of the agent of a connector.
#[derive(Clone, Copy, Debug)]
pub struct AgentStop {
    /// The reason that it gave.
    pub reason: StopReason,
    /// It alone sent heartbeats: the connector itself was never heard.
    pub is_alone: bool,
}

/// A person or an update stopped the agent, and it alone was heard: its silence says nothing about the connector.
pub(super) fn agent_stopped(evidence: &ConnectorEvidence<'_>) -> Option<Diagnosis> {
    let stop = evidence.stopping.filter(|stop| stop.is_alone && evidence.presence == Presence::Offline)?;
    let host = evidence.host.map(|host| format!(" on {host}")).unwrap_or_default();
    let advice = match stop.reason {
        StopReason::Stop => {
            format!("start the agent{host} again (systemctl start vigie-agent), or delete this Connector if it is not needed")
        }
        StopReason::Update => format!(
            "look why the agent{host} did not start again after its update (systemctl status vigie-agent, vigie agent check)"
        ),
        StopReason::Uninstall => {
            "install the agent again (vigie install-command), have the connector send heartbeats itself, or delete this Connector"
                .to_owned()
        }
        // A host that shuts down takes the connector with it.
        StopReason::Shutdown | StopReason::Unknown => return None,
    };
    let (since, words) = (stamp(evidence.last_contact), stop_text(stop.reason));
    let message = format!(
        "no heartbeat since {since}: {words}. The connector itself has never sent one, so nothing is known of it"
    );
    finding(Cause::AgentStopped, Confidence::Certain, message, advice, RestartHelps::No)
}

/// The last words of an agent.
pub fn stop_text(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Shutdown => "its agent said last that its host shuts down",
        StopReason::Stop => "its agent said last that it is being stopped",
        StopReason::Update => "its agent said last that it makes place for another version",
        StopReason::Uninstall => "its agent said last that it is being removed",
        StopReason::Unknown => "its agent said last that it stops",
    }
}
