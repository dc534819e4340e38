//! The input of the remediation of a Connector.

use crate::api::{Confidence, Connector, ConnectorState, Diagnosis};
use crate::controller::connector::assess::{Assessment, Input};
use crate::controller::paused::on_host;
use crate::controller::remediation::{
    Acknowledgement, Remediable as _, RemediationInput, health_of_connector, with_current,
};
use crate::health::liveness::Presence;
use crate::heartbeat::pod_diagnosis::PodDiagnosis;
use crate::remediation::{AgentPresence, InsideView, ObjectHealth, Verdict};

/// The verdict about the connector, in the terms of the remediation.
pub fn verdict(input: &Input<'_>, assessment: &Assessment) -> Verdict {
    let Assessment { state, since, diagnosis, .. } = assessment;
    let silent = silence(input);
    // The state Offline is written before the pods are diagnosed; the silence is judged after that.
    let health = if silent == Silence::Unwritten { ObjectHealth::Unknown } else { health_of_connector(*state, None) };
    let intervals = with_current(input.connector.stored_intervals(), health, *since);
    let stored = input.connector.status.as_ref().and_then(|status| status.agent.as_ref());
    let pod_uid = match &input.live.agent {
        Some(agent) => agent.pod_uid.as_deref(),
        None => stored.and_then(|agent| agent.pod_uid.as_deref()),
    };
    Verdict {
        was_healthy: input.connector.was_healthy() || *state == ConnectorState::Online,
        intervals,
        diagnosis: diagnosis.clone().map(|found| if silent == Silence::Unread { unsure(found) } else { found }),
        mass_silence: input.mass_silence.map(str::to_owned),
        blind: None,
        inside: InsideView::Heartbeats { pod_uid: pod_uid.map(str::to_owned) },
        healthy_at: input.last_contact().filter(|_| *state == ConnectorState::Online),
        scrape: None,
        is_stopped_on_purpose: input.live.said.is_stopped_on_purpose,
    }
}

/// Whether the silence of a connector is explained, where its pods might explain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// It is not silent, no workload is known, or its pods were diagnosed.
    Judged,
    /// Its pods are diagnosed after the state Offline is written.
    Unwritten,
    /// Its pods could not be read.
    Unread,
}

fn silence(input: &Input<'_>) -> Silence {
    let is_silent = input.live.verdict.presence == Presence::Offline && input.mass_silence.is_none();
    let has_pods = input.connector.spec.workload_ref.is_some();
    let is_written =
        input.connector.status.as_ref().is_some_and(|status| status.state == Some(ConnectorState::Offline));
    match input.pods {
        PodDiagnosis::Unseen if is_silent && has_pods && is_written => Silence::Unread,
        PodDiagnosis::Unseen if is_silent && has_pods => Silence::Unwritten,
        PodDiagnosis::Unseen | PodDiagnosis::Seen(_) => Silence::Judged,
    }
}

/// A restart cures a silence unless the pods explain it, which is unknown of pods that could not be read.
fn unsure(found: Diagnosis) -> Diagnosis {
    let message = format!("{}; whether its pods explain it could not be seen", found.message);
    Diagnosis { confidence: Confidence::Possible, message, ..found }
}

/// The request for the remediation step.
pub fn remediation_input<'a>(input: &Input<'a>, verdict: &'a Verdict) -> RemediationInput<'a, Connector> {
    let offered = input.live.offered.as_ref().filter(|offered| offered.handed_at.is_some());
    let presence = input.live.contacts.map_or(input.live.verdict, |contacts| contacts.agent).presence;
    // An agent that said that it stops restarts nothing more.
    let is_heard = presence == Presence::Online && input.live.said.stopping.is_none();
    let by_agent = input.connector.spec.workload_ref.is_none();
    let paused = input.live.said.pause(input.now.moment).filter(|_| by_agent);
    let current = input.connector.remediation_status().and_then(|status| status.current.as_ref());
    let answer = |id: &str| input.live.restarted.iter().find(|answer| *answer.id == *id);
    RemediationInput {
        object: input.connector,
        verdict,
        agent: input.connector.spec.agent_ref.is_some().then_some(AgentPresence { is_heard }),
        paused: paused.map(on_host),
        acknowledged: current.and_then(|current| answer(&current.id)).map(|answer| Acknowledgement {
            attempt: &answer.id,
            succeeded: answer.succeeded,
            message: answer.message.as_deref().unwrap_or_default(),
        }),
        handed_out: offered.map(|offered| &*offered.action.id),
    }
}
