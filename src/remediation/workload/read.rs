//! Reads a workload, its templates and its pods.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::Selector;

use super::kinds::{Namespaced, RestartableKind, pod};
use crate::api::{WorkloadKind, WorkloadRef};
use crate::cluster::{CALL_TIMEOUT, CallError, LIVING_PODS, Permission, within};
use crate::remediation::WorkloadLookup;

/// Most pods that are read. Pods that have ended are not among them.
const MOST_PODS: u32 = 50;
/// Most ReplicaSets or ControllerRevisions that are read: ten old ones are kept by default.
const MOST_REVISIONS: u32 = 100;

/// The pod that this process runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPod {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
}

/// Reads a workload: one read of it, and one list each of its revisions and of its pods. `own_pod` is `None` outside of a
/// cluster.
pub async fn read(
    client: &Client,
    namespace: &str,
    reference: &WorkloadRef,
    own_pod: Option<&OwnPod>,
) -> WorkloadLookup {
    let reader = WorkloadReader { client, namespace };
    let seen = match reference.kind {
        WorkloadKind::Deployment => reader.read_workload::<Deployment>(&reference.name).await,
        WorkloadKind::StatefulSet => reader.read_workload::<StatefulSet>(&reference.name).await,
        WorkloadKind::DaemonSet => reader.read_workload::<DaemonSet>(&reference.name).await,
    };
    let mut lookup = seen.unwrap_or_else(|failed_lookup| failed_lookup);
    if let WorkloadLookup::Found(workload) = &mut lookup {
        workload.is_vigie = is_own_workload(own_pod, namespace, &reference.name);
    }
    lookup
}

/// Whether this process runs in a pod of the workload `name`: names of pods begin with it, for all three kinds.
fn is_own_workload(own_pod: Option<&OwnPod>, namespace: &str, name: &str) -> bool {
    own_pod.is_some_and(|own_pod| {
        let rest = own_pod.pod.strip_prefix(name);
        own_pod.namespace == namespace && rest.is_some_and(|rest| rest.starts_with('-'))
    })
}

/// Reads objects of one namespace. Each read gives the object, or the lookup that reports why there is none.
pub(super) struct WorkloadReader<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
}

impl WorkloadReader<'_> {
    async fn read_workload<K: RestartableKind>(&self, name: &str) -> Result<WorkloadLookup, WorkloadLookup> {
        let found: K = self.get(name).await?;
        let selector = Selector::try_from(found.selector()).map_err(|error| {
            WorkloadLookup::Failed(format!("the selector of {} {}/{name}: {error}", K::kind(&()), self.namespace))
        })?;
        let selected = ListParams::default().labels_from(&selector);
        let of_pods = selected.clone().fields(LIVING_PODS).limit(MOST_PODS);
        let of_revisions = selected.limit(MOST_REVISIONS);
        let (revisions, pods) = tokio::join!(self.list::<K::Revision>(&of_revisions), self.list::<Pod>(&of_pods));
        let (revisions, unread) = match revisions {
            Ok(revisions) => (revisions, None),
            // A missing permission lasts, so the revisions are done without. Other errors may be gone at the next read.
            Err(WorkloadLookup::Forbidden(why)) => (Vec::new(), Some(why)),
            Err(failed_lookup) => return Err(failed_lookup),
        };
        let mut workload = found.workload(&revisions);
        let owners = found.owners(&revisions);
        let is_owned = |pod: &Pod| {
            let owner = |uid: &String| owners.contains(uid);
            // Without the revisions the owners of the pods are unknown: the selector alone decides.
            unread.is_some() && owners.is_empty()
                || pod.metadata.owner_references.iter().flatten().any(|reference| owner(&reference.uid))
        };
        workload.pods = pods?.iter().filter(|pod| is_owned(pod)).map(pod).collect();
        workload.template.revisions_unread = unread;
        Ok(WorkloadLookup::Found(Box::new(workload)))
    }

    async fn get<K: Namespaced>(&self, name: &str) -> Result<K, WorkloadLookup> {
        let doing = format!("reading {} {}/{name}", K::kind(&()), self.namespace);
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let answer = within(&doing, CALL_TIMEOUT, api.get(name)).await;
        answer.map_err(|error| self.failed_lookup::<K>("get", &doing, error))
    }

    pub(super) async fn list<K: Namespaced>(&self, params: &ListParams) -> Result<Vec<K>, WorkloadLookup> {
        let doing = format!("listing {} in namespace {}", K::plural(&()), self.namespace);
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let answer = within(&doing, CALL_TIMEOUT, api.list(params)).await;
        answer.map(|list| list.items).map_err(|error| self.failed_lookup::<K>("list", &doing, error))
    }

    fn failed_lookup<K: Namespaced>(&self, verb: &'static str, doing: &str, error: CallError) -> WorkloadLookup {
        match error {
            CallError::NotFound => WorkloadLookup::Absent,
            CallError::Forbidden(_) => {
                WorkloadLookup::Forbidden(Permission::new::<K>(verb, Some(self.namespace)).refused())
            }
            // Their messages name the object already.
            error @ (CallError::Timeout { .. } | CallError::Other { .. }) => WorkloadLookup::Failed(error.to_string()),
            error => WorkloadLookup::Failed(format!("{doing}: {error}")),
        }
    }
}
