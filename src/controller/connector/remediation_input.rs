//! Input of remediation for a connector.

use crate::api::{Confidence, Connector, ConnectorState, Diagnosis};
use crate::controller::connector::assess::{Assessment, Input};
use crate::controller::remediation::{Remediable as _, RemediationInput, health_of_connector, with_current};
use crate::health::liveness::Presence;
use crate::heartbeat::pod_diagnosis::PodDiagnosis;
use crate::remediation::{Agent, Health, InsideView, Verdict};

/// What is said of it, in the words of remedies.
pub fn verdict(case: &Input<'_>, assessment: &Assessment) -> Verdict {
    let Assessment { state, since, diagnosis, .. } = assessment;
    let silent = silence(case);
    // Before its pods are looked at it is told that it is Offline, and a moment later it is judged.
    let health = if silent == Silence::Untold { Health::Unknown } else { health_of_connector(*state) };
    let intervals = with_current(case.connector.stored_intervals(), health, *since);
    let stored = case.connector.status.as_ref().and_then(|status| status.agent.as_ref());
    let pod_uid = match &case.live.agent {
        Some(agent) => agent.pod_uid.as_deref(),
        None => stored.and_then(|agent| agent.pod_uid.as_deref()),
    };
    Verdict {
        was_healthy: case.connector.was_healthy() || *state == ConnectorState::Online,
        intervals,
        diagnosis: diagnosis.clone().map(|found| if silent == Silence::Unseen { unsure(found) } else { found }),
        mass_silence: case.mass_silence.map(str::to_owned),
        blind: None,
        inside: InsideView::Heartbeats { pod_uid: pod_uid.map(str::to_owned) },
        healthy_at: case.last_contact().filter(|_| *state == ConnectorState::Online),
        scrape: None,
    }
}

/// How well the silence of a connector is known whose pods might explain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// It is not silent, no workload is known, or its pods were looked at.
    Judged,
    /// Its pods are looked at when it is told.
    Untold,
    /// Its pods could not be seen.
    Unseen,
}

fn silence(case: &Input<'_>) -> Silence {
    let is_silent = case.live.verdict.presence == Presence::Offline && case.mass_silence.is_none();
    let has_pods = case.connector.spec.workload_ref.is_some();
    let is_told = case.connector.status.as_ref().is_some_and(|status| status.state == Some(ConnectorState::Offline));
    match &case.live.pods {
        PodDiagnosis::Unseen if is_silent && has_pods && is_told => Silence::Unseen,
        PodDiagnosis::Unseen if is_silent && has_pods => Silence::Untold,
        PodDiagnosis::Unseen | PodDiagnosis::Seen(_) => Silence::Judged,
    }
}

/// A restart cures a silence unless the pods explain it: that is not known of pods that were not seen.
fn unsure(found: Diagnosis) -> Diagnosis {
    let message = format!("{}; whether its pods explain it could not be seen", found.message);
    Diagnosis { confidence: Confidence::Possible, message, ..found }
}

/// What is asked about its remedies.
pub fn asked<'a>(case: &Input<'a>, verdict: &'a Verdict) -> RemediationInput<'a, Connector> {
    let offered = case.live.offered.as_ref().filter(|offered| offered.handed_at.is_some());
    let is_heard = case.live.verdict.presence == Presence::Online;
    RemediationInput {
        object: case.connector,
        verdict,
        agent: case.connector.spec.agent_ref.is_some().then_some(Agent { is_heard }),
        acknowledged: case
            .live
            .restarted
            .as_ref()
            .map(|word| (&*word.id, word.succeeded, word.message.as_deref().unwrap_or_default())),
        handed_out: offered.map(|offered| &*offered.action.id),
    }
}
