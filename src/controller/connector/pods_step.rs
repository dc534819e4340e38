//! Diagnoses the pods of a Connector that is Offline: they may explain its silence.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;

use super::reconcile::Context;
use crate::api::{Connector, ConnectorState, WorkloadRef};
use crate::controller::runtime::Step;
use crate::diagnosis::evidence::Subject;
use crate::diagnosis::gather::{Question, gather};
use crate::diagnosis::rules::diagnose_pods;
use crate::health::liveness::Presence;
use crate::heartbeat::pod_diagnosis::PodDiagnosis;
use crate::time::Now;

/// The period of the diagnosis: the slowest change of pods, the back-off after a crash, takes longer.
const DIAGNOSE_EVERY: Duration = Duration::from_secs(30);

/// The limit for one diagnosis: silence is written in time, whatever the pods are like.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of the observation of the pods in one step.
pub(super) enum PodsObservation {
    /// The diagnosis in the entry stands; the wait until the next one, while one will be due.
    Unchanged(Option<Duration>),
    /// The silence is over: its diagnosis does not apply to the next one.
    SilenceEnded,
    /// The pods were read, or could not be read.
    Diagnosed(PodDiagnosis),
}

impl PodsObservation {
    /// The diagnosis that replaces the one in the entry; `None` when that one stands.
    pub(super) fn replacement(&self) -> Option<&PodDiagnosis> {
        match self {
            Self::Unchanged(_) => None,
            Self::SilenceEnded => Some(&PodDiagnosis::Unseen),
            Self::Diagnosed(diagnosis) => Some(diagnosis),
        }
    }

    /// The wait until the next diagnosis.
    pub(super) fn due_after(&self) -> Option<Duration> {
        match self {
            Self::Unchanged(wait) => *wait,
            Self::SilenceEnded => None,
            Self::Diagnosed(_) => Some(DIAGNOSE_EVERY),
        }
    }

    /// Keeps the diagnosis in the entry, and notes when the pods were read.
    pub(super) fn store(&self, step: &mut Step<'_, Context>) {
        if let Some(diagnosis) = self.replacement() {
            step.entry.set_pod_diagnosis(diagnosis.clone());
            step.state.notes.pods_diagnosed_at = matches!(self, Self::Diagnosed(_)).then_some(step.now.moment);
        }
    }
}

impl Context {
    /// Diagnoses the pods of a connector that is Offline when that is due.
    pub(super) async fn diagnose_pods_if_due(&self, step: &Step<'_, Self>) -> PodsObservation {
        let connector = step.object;
        // The state Offline is written first: it must not wait for a diagnosis.
        let is_written = connector.status.as_ref().is_some_and(|status| status.state == Some(ConnectorState::Offline));
        let is_silent = step.live.verdict.presence == Presence::Offline && is_written;
        let is_alone = self.sites.mass_silence(&step.entry.identity.domain).is_none();
        let Some(workload) = connector.spec.workload_ref.clone().filter(|_| is_silent && is_alone) else {
            if step.live.verdict.presence != Presence::Offline && !matches!(step.live.pods, PodDiagnosis::Unseen) {
                return PodsObservation::SilenceEnded;
            }
            return PodsObservation::Unchanged(None);
        };
        let due_at = step.state.notes.pods_diagnosed_at.map(|at| at + DIAGNOSE_EVERY);
        if let Some(due_at) = due_at.filter(|due_at| *due_at > step.now.moment) {
            return PodsObservation::Unchanged(Some(due_at.since(step.now.moment)));
        }
        PodsObservation::Diagnosed(self.diagnose_pods(connector, workload, step.now).await)
    }

    async fn diagnose_pods(&self, connector: &Connector, workload: WorkloadRef, now: Now) -> PodDiagnosis {
        let subject = Subject {
            namespace: connector.namespace().unwrap_or_default(),
            name: connector.name_any(),
            workload: Some(workload),
            ..Subject::default()
        };
        let _permit = self.call_permit(&subject.namespace.as_str().into()).await;
        let question = Question::about_workload(subject, now.wall);
        let gathered = gather(self.client.clone(), &self.prober, question, now.wall);
        let evidence = tokio::time::timeout(DIAGNOSIS_TIMEOUT, gathered).await;
        // Pods that may not be listed, or that the API server does not return now, are not healthy pods.
        let evidence = evidence.ok().filter(|evidence| evidence.pods.missing().is_none());
        evidence.map_or(PodDiagnosis::Unseen, |evidence| PodDiagnosis::Seen(diagnose_pods(&evidence).map(Arc::new)))
    }
}
