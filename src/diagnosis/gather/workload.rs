//! The workload related a backend as evidence: how far its rollout is, and how old its newest template.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::cluster::revisions::{History, is_observed, owned_by};
use crate::diagnosis::evidence::Workload;

/// What the parts of an answer share.
pub(super) struct WorkloadRead {
    pub(super) workload: Workload,
    /// Selects its pods.
    pub(super) selector: LabelSelector,
    /// Who owns the pods: its ReplicaSets, or itself. `None` when the ReplicaSets could not be read: then the selector
    /// alone decides.
    pub(super) owners: Option<Vec<String>>,
    /// What events can be about, beside the pods: kind and name.
    pub(super) subjects: Vec<(&'static str, String)>,
}

/// A Deployment, and its ReplicaSets where they could be read.
pub(super) fn deployment(deployment: &Deployment, sets: Option<&[ReplicaSet]>) -> WorkloadRead {
    let (spec, status) = (deployment.spec.clone().unwrap_or_default(), deployment.status.clone().unwrap_or_default());
    let history = History::of_deployment(deployment, sets.unwrap_or_default());
    let progressing = status.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing");
    let mut subjects = vec![("Deployment", name(&deployment.metadata))];
    subjects.extend(history.newest.iter().map(|set| ("ReplicaSet", set.name.clone())));
    let workload = Workload {
        wanted: spec.replicas.unwrap_or(1),
        updated: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        current: status.replicas.unwrap_or(0),
        observed: is_observed(&deployment.metadata, status.observed_generation),
        paused: spec.paused.unwrap_or(false),
        deadline_exceeded: progressing.is_some_and(|condition| {
            condition.status == "False" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
        }),
        template_since: history.since,
        revision: revision(&history),
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        selector: spec.selector.match_labels.clone().unwrap_or_default(),
        on_delete: false,
        only_restarted: history.is_restart_alone(),
    };
    let owned = sets.map(|sets| owned_by(&deployment.metadata, sets, |set| &set.metadata));
    let owners = owned.map(|sets| sets.iter().filter_map(|set| set.metadata.uid.clone()).collect());
    WorkloadRead { workload, selector: spec.selector, owners, subjects }
}

/// A StatefulSet, and its ControllerRevisions where they could be read.
pub(super) fn stateful_set(set: &StatefulSet, revisions: Option<&[ControllerRevision]>) -> WorkloadRead {
    let (spec, status) = (set.spec.clone().unwrap_or_default(), set.status.clone().unwrap_or_default());
    let history =
        History::of_revisions(&set.metadata, revisions.unwrap_or_default(), status.update_revision.as_deref());
    let workload = Workload {
        wanted: spec.replicas.unwrap_or(1),
        updated: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        current: status.replicas,
        observed: is_observed(&set.metadata, status.observed_generation),
        paused: false,
        deadline_exceeded: false,
        template_since: history.since,
        revision: revision(&history),
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        selector: spec.selector.match_labels.clone().unwrap_or_default(),
        on_delete: spec.update_strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete")),
        only_restarted: history.is_restart_alone(),
    };
    let subjects = vec![("StatefulSet", name(&set.metadata))];
    WorkloadRead { workload, selector: spec.selector, owners: set.metadata.uid.clone().map(|uid| vec![uid]), subjects }
}

/// A DaemonSet, and its ControllerRevisions where they could be read.
pub(super) fn daemon_set(set: &DaemonSet, revisions: Option<&[ControllerRevision]>) -> WorkloadRead {
    let (spec, status) = (set.spec.clone().unwrap_or_default(), set.status.clone().unwrap_or_default());
    let history = History::of_revisions(&set.metadata, revisions.unwrap_or_default(), None);
    let workload = Workload {
        wanted: status.desired_number_scheduled,
        updated: status.updated_number_scheduled.unwrap_or(0),
        ready: status.number_ready,
        current: status.current_number_scheduled,
        observed: is_observed(&set.metadata, status.observed_generation),
        paused: false,
        deadline_exceeded: false,
        template_since: history.since,
        revision: revision(&history),
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        selector: spec.selector.match_labels.clone().unwrap_or_default(),
        on_delete: spec.update_strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete")),
        only_restarted: history.is_restart_alone(),
    };
    let subjects = vec![("DaemonSet", name(&set.metadata))];
    WorkloadRead { workload, selector: spec.selector, owners: set.metadata.uid.clone().map(|uid| vec![uid]), subjects }
}

/// The number of the newest template, and whether there is one before it.
fn revision(history: &History) -> Option<(i64, bool)> {
    history.number.map(|number| (number, history.before().is_some()))
}

fn name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}
