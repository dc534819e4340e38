//! The three kinds of workloads, reduced to the plain data that a restart depends on.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{self, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::{Metadata, NamespaceResourceScope};
use kube::Resource;
use serde::de::DeserializeOwned;

use super::rollout::{self, is_on_delete_daemon, is_on_delete_set};
use crate::cluster::revisions::{ATTEMPT, RevisionHistory, is_observed, owned_by};
use crate::remediation::{Pod, Rollout, Template, Workload};

/// A namespaced object that can be read.
pub(super) trait Namespaced:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Metadata<Ty = ObjectMeta>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
{
}

impl<K> Namespaced for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Metadata<Ty = ObjectMeta>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
{
}

/// A kind of workload.
pub(super) trait RestartableKind: Namespaced {
    /// The objects that keep its past templates.
    type Revision: Namespaced;

    /// Selects its pods and revisions.
    fn selector(&self) -> LabelSelector;

    /// The workload, without its pods.
    fn workload(&self, revisions: &[Self::Revision]) -> Workload;

    /// UIDs of the owners of its pods.
    fn owners(&self, revisions: &[Self::Revision]) -> Vec<String>;
}

impl RestartableKind for Deployment {
    type Revision = ReplicaSet;

    fn selector(&self) -> LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }

    fn workload(&self, sets: &[ReplicaSet]) -> Workload {
        let spec = self.spec.clone().unwrap_or_default();
        let observed = self.status.as_ref().and_then(|status| status.observed_generation);
        let history = RevisionHistory::of_deployment(self, sets);
        Workload {
            is_paused: spec.paused.unwrap_or(false),
            replicas: spec.replicas.unwrap_or(1),
            rollout: rollout::of_deployment(self),
            // The API server writes this number for "none".
            progress_deadline: spec.progress_deadline_seconds.filter(|seconds| *seconds < i32::MAX),
            template: template(&spec.template, &history, is_observed(&self.metadata, observed)),
            ..outline(self)
        }
    }

    fn owners(&self, sets: &[ReplicaSet]) -> Vec<String> {
        let owned = owned_by(&self.metadata, sets, |set| &set.metadata);
        owned.into_iter().filter_map(|set| set.metadata.uid.clone()).collect()
    }
}

impl RestartableKind for StatefulSet {
    type Revision = ControllerRevision;

    fn selector(&self) -> LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }

    fn workload(&self, revisions: &[ControllerRevision]) -> Workload {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let history = RevisionHistory::of_revisions(&self.metadata, revisions, status.update_revision.as_deref());
        Workload {
            replicas: spec.replicas.unwrap_or(1),
            is_on_delete: is_on_delete_set(self),
            rollout: rollout::of_stateful_set(self),
            template: template(&spec.template, &history, is_observed(&self.metadata, status.observed_generation)),
            ..outline(self)
        }
    }

    fn owners(&self, _: &[ControllerRevision]) -> Vec<String> {
        self.metadata.uid.clone().into_iter().collect()
    }
}

impl RestartableKind for DaemonSet {
    type Revision = ControllerRevision;

    fn selector(&self) -> LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }

    fn workload(&self, revisions: &[ControllerRevision]) -> Workload {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let history = RevisionHistory::of_revisions(&self.metadata, revisions, None);
        Workload {
            replicas: status.desired_number_scheduled,
            is_on_delete: is_on_delete_daemon(self),
            is_daemon_set: true,
            rollout: rollout::of_daemon_set(self),
            template: template(&spec.template, &history, is_observed(&self.metadata, status.observed_generation)),
            ..outline(self)
        }
    }

    fn owners(&self, _: &[ControllerRevision]) -> Vec<String> {
        self.metadata.uid.clone().into_iter().collect()
    }
}

/// The fields that the kinds have in common; the others with the values of a healthy workload.
fn outline<K: Namespaced>(object: &K) -> Workload {
    let metadata = Metadata::metadata(object);
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    Workload {
        display_name: format!("{} {}/{}", K::kind(&()), namespace.unwrap_or_default(), name.unwrap_or_default()),
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or(0),
        is_terminating: metadata.deletion_timestamp.is_some(),
        controller: owner.map(|owner| format!("{} {}", owner.kind, owner.name)),
        is_vigie: false,
        is_paused: false,
        replicas: 0,
        is_on_delete: false,
        is_daemon_set: false,
        rollout: Rollout::Complete,
        progress_deadline: None,
        template: Template::default(),
        pods: Vec::new(),
    }
}

/// The present template, which is `spec`, among the kept revisions. Before the controller has observed it, the newest
/// revision is of an older template.
fn template(spec: &PodTemplateSpec, history: &RevisionHistory, is_observed: bool) -> Template {
    let annotations = spec.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    let attempt = annotations.and_then(|annotations| annotations.get(ATTEMPT)).cloned();
    let mut attempts: Vec<String> = attempt.iter().cloned().collect();
    for past in history.newest.iter().chain(&history.others).filter_map(|revision| revision.attempt()) {
        if !attempts.iter().any(|known| known == past) {
            attempts.push(past.to_owned());
        }
    }
    let was_ours = history.before().is_some_and(|before| before.attempt().is_some());
    Template {
        is_stripped: is_observed && attempt.is_none() && was_ours && history.is_restart_alone(),
        since: history.since.filter(|_| is_observed),
        attempt,
        attempts,
        revisions_unread: None,
    }
}

/// The fields of a pod that a restart depends on.
pub(super) fn pod(pod: &v1::Pod) -> Pod {
    let status = pod.status.clone().unwrap_or_default();
    let is_ready = |condition: &v1::PodCondition| condition.type_ == "Ready" && condition.status == "True";
    let has_ended = status.phase.as_deref().is_some_and(|phase| ["Succeeded", "Failed"].contains(&phase));
    Pod {
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        is_ready: status.conditions.iter().flatten().any(is_ready),
        is_terminating: pod.metadata.deletion_timestamp.is_some() || has_ended,
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        protected_by: None,
    }
}
