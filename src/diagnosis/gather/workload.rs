//! The workload behind a backend as evidence: how far its rollout is, and how old its newest template.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::cluster::revisions::{RevisionHistory, is_observed, owned_by};
use crate::diagnosis::evidence::Workload;

/// A workload that was read.
pub(super) struct WorkloadRead {
    pub(super) workload: Workload,
    /// Selects its pods.
    pub(super) selector: LabelSelector,
    /// UIDs of the owners of its pods: its ReplicaSets, or the workload itself. `None` when the ReplicaSets could not
    /// be read: then the selector alone decides.
    pub(super) owners: Option<Vec<String>>,
    /// Objects other than pods whose events matter: kind and name.
    pub(super) subjects: Vec<(&'static str, String)>,
}

/// A Deployment, and its ReplicaSets where they could be read.
pub(super) fn deployment(deployment: &Deployment, sets: Option<&[ReplicaSet]>) -> WorkloadRead {
    let (spec, status) = (deployment.spec.clone().unwrap_or_default(), deployment.status.clone().unwrap_or_default());
    let history = RevisionHistory::of_deployment(deployment, sets.unwrap_or_default());
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
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        ..of_history(&history, &spec.selector)
    };
    let owned = sets.map(|sets| owned_by(&deployment.metadata, sets, |set| &set.metadata));
    let owners = owned.map(|sets| sets.iter().filter_map(|set| set.metadata.uid.clone()).collect());
    WorkloadRead { workload, selector: spec.selector, owners, subjects }
}

/// A StatefulSet, and its ControllerRevisions where they could be read.
pub(super) fn stateful_set(set: &StatefulSet, revisions: Option<&[ControllerRevision]>) -> WorkloadRead {
    let (spec, status) = (set.spec.clone().unwrap_or_default(), set.status.clone().unwrap_or_default());
    let history =
        RevisionHistory::of_revisions(&set.metadata, revisions.unwrap_or_default(), status.update_revision.as_deref());
    let workload = Workload {
        wanted: spec.replicas.unwrap_or(1),
        updated: status.updated_replicas.unwrap_or(0),
        ready: status.ready_replicas.unwrap_or(0),
        current: status.replicas,
        observed: is_observed(&set.metadata, status.observed_generation),
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        on_delete: spec.update_strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete")),
        ..of_history(&history, &spec.selector)
    };
    own_pods("StatefulSet", &set.metadata, spec.selector, workload)
}

/// A DaemonSet, and its ControllerRevisions where they could be read.
pub(super) fn daemon_set(set: &DaemonSet, revisions: Option<&[ControllerRevision]>) -> WorkloadRead {
    let (spec, status) = (set.spec.clone().unwrap_or_default(), set.status.clone().unwrap_or_default());
    let history = RevisionHistory::of_revisions(&set.metadata, revisions.unwrap_or_default(), None);
    let workload = Workload {
        wanted: status.desired_number_scheduled,
        updated: status.updated_number_scheduled.unwrap_or(0),
        ready: status.number_ready,
        current: status.current_number_scheduled,
        observed: is_observed(&set.metadata, status.observed_generation),
        min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
        on_delete: spec.update_strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete")),
        ..of_history(&history, &spec.selector)
    };
    own_pods("DaemonSet", &set.metadata, spec.selector, workload)
}

/// The part of a workload that comes from its templates and its selector.
fn of_history(history: &RevisionHistory, selector: &LabelSelector) -> Workload {
    Workload {
        template_since: history.since,
        // The number of the newest template, and whether there is an earlier one.
        revision: history.number.map(|number| (number, history.before().is_some())),
        selector: selector.match_labels.clone().unwrap_or_default(),
        only_restarted: history.is_restart_alone(),
        ..Workload::default()
    }
}

/// A workload that owns its pods itself.
fn own_pods(kind: &'static str, metadata: &ObjectMeta, selector: LabelSelector, workload: Workload) -> WorkloadRead {
    let owners = metadata.uid.clone().map(|uid| vec![uid]);
    WorkloadRead { workload, selector, owners, subjects: vec![(kind, name(metadata))] }
}

fn name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}
