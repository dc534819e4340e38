//! Looks at the pods behind a connector that is Offline: they may say why.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;

use super::reconcile::Context;
use crate::api::{Connector, ConnectorState};
use crate::diagnosis::evidence::Subject;
use crate::diagnosis::gather::{Question, gather};
use crate::diagnosis::rules::diagnose_pods;
use crate::health::liveness::Presence;
use crate::heartbeat::entry::{Entry, Snapshot};
use crate::heartbeat::pod_diagnosis::PodDiagnosis;
use crate::leadership::Permit;
use crate::time::Now;

/// Between two looks: what pods go through at their worst (back-off after a crash) takes longer.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How long one look may take. Silence is told in time whatever the pods are like.
const PATIENCE: Duration = Duration::from_secs(5);

impl Context {
    /// Looks at the pods of a connector that is Offline, when that is due; what they say is kept with it. Gives when the
    /// next look is due.
    pub(super) async fn look_behind(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        live: &mut Snapshot,
        now: Now,
    ) -> Option<Duration> {
        // First it is told that it is Offline: that must not wait for a look.
        let is_told = connector.status.as_ref().is_some_and(|status| status.state == Some(ConnectorState::Offline));
        let is_silent = live.verdict.presence == Presence::Offline && is_told;
        let is_alone = self.sites.mass_silence(&entry.identity.domain).is_none();
        let Some(workload) = connector.spec.workload_ref.clone().filter(|_| is_silent && is_alone) else {
            if live.verdict.presence != Presence::Offline && !matches!(live.pods, PodDiagnosis::Unseen) {
                live.pods = PodDiagnosis::Unseen;
                entry.explain(PodDiagnosis::Unseen);
                // What was seen in this silence says nothing about the next one.
                self.desks.at(entry.number, permit.epoch(), |desk| desk.looked_behind = None);
            }
            return None;
        };
        let due_at = self.desks.at(entry.number, permit.epoch(), |desk| desk.looked_behind).map(|at| at + LOOK_EVERY);
        if let Some(due_at) = due_at.filter(|due_at| *due_at > now.moment) {
            return Some(due_at.since(now.moment));
        }
        let subject = Subject {
            namespace: connector.namespace().unwrap_or_default(),
            name: connector.name_any(),
            workload: Some(workload),
            ..Subject::default()
        };
        let seen = {
            let _slot = self.slot().await;
            let question = Question::about_workload(subject, now.wall);
            tokio::time::timeout(PATIENCE, gather(self.client.clone(), &self.prober, question, now.wall)).await
        };
        self.desks.at(entry.number, permit.epoch(), |desk| desk.looked_behind = Some(now.moment));
        // Pods that may not be listed, or that the API server does not tell of now, are not pods that are well.
        let seen = seen.ok().filter(|evidence| evidence.pods.missing().is_none());
        live.pods =
            seen.map_or(PodDiagnosis::Unseen, |evidence| PodDiagnosis::Seen(diagnose_pods(&evidence).map(Arc::new)));
        entry.explain(live.pods.clone());
        Some(LOOK_EVERY)
    }
}
