//! Reads a workload, its templates and its pods.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::Selector;

use super::kinds::{Kind, Namespaced, pod};
use crate::api::{WorkloadKind, WorkloadRef};
use crate::cluster::{CALL_TIMEOUT, CallError, Permission, within};
use crate::remediation::Lookup;

/// How many pods are looked at.
const MOST_PODS: u32 = 50;
/// How many ReplicaSets or ControllerRevisions: ten old ones are kept by default.
const MOST_REVISIONS: u32 = 100;

/// The pod that we run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
}

/// Looks at a workload: one read of it, and one list each of what remembers its templates and of its pods. `me` is
/// `None` outside of a cluster.
pub async fn read(client: &Client, namespace: &str, reference: &WorkloadRef, me: Option<&Me>) -> Lookup {
    let place = Place { client, namespace };
    let seen = match reference.kind {
        WorkloadKind::Deployment => place.look::<Deployment>(&reference.name).await,
        WorkloadKind::StatefulSet => place.look::<StatefulSet>(&reference.name).await,
        WorkloadKind::DaemonSet => place.look::<DaemonSet>(&reference.name).await,
    };
    let mut sight = seen.unwrap_or_else(|missed| missed);
    if let Lookup::Found(workload) = &mut sight {
        workload.is_vigie = is_mine(me, namespace, &reference.name);
    }
    sight
}

/// Whether the pod that we run in is of the workload called `name`: the pods of all three kinds begin with its name.
fn is_mine(me: Option<&Me>, namespace: &str, name: &str) -> bool {
    me.is_some_and(|me| {
        let rest = me.pod.strip_prefix(name);
        me.namespace == namespace && rest.is_some_and(|rest| rest.starts_with('-'))
    })
}

/// One namespace. Each read gives what was found, or what comes of it that nothing was.
pub(super) struct Place<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
}

impl Place<'_> {
    async fn look<K: Kind>(&self, name: &str) -> Result<Lookup, Lookup> {
        let found: K = self.get(name).await?;
        let selector = Selector::try_from(found.selector()).map_err(|error| {
            Lookup::Failed(format!("the selector of {} {}/{name}: {error}", K::kind(&()), self.namespace))
        })?;
        let selected = ListParams::default().labels_from(&selector);
        let (of_revisions, of_pods) = (selected.clone().limit(MOST_REVISIONS), selected.limit(MOST_PODS));
        let (kept, pods) = tokio::join!(self.list::<K::Kept>(&of_revisions), self.list::<Pod>(&of_pods));
        let (kept, unread) = match kept {
            Ok(kept) => (kept, None),
            // For ever, so what can be done without is done. Anything else is over at the next look.
            Err(Lookup::Forbidden(why)) => (Vec::new(), Some(why)),
            Err(missed) => return Err(missed),
        };
        let mut workload = found.workload(&kept);
        let owners = found.owners(&kept);
        let is_owned = |pod: &Pod| {
            let owner = |uid: &String| owners.contains(uid);
            // Whose pods they are cannot be seen then: the selector alone decides.
            unread.is_some() && owners.is_empty()
                || pod.metadata.owner_references.iter().flatten().any(|reference| owner(&reference.uid))
        };
        workload.pods = pods?.iter().filter(|pod| is_owned(pod)).map(pod).collect();
        workload.template.unread = unread;
        Ok(Lookup::Found(Box::new(workload)))
    }

    async fn get<K: Namespaced>(&self, name: &str) -> Result<K, Lookup> {
        let doing = format!("reading {} {}/{name}", K::kind(&()), self.namespace);
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let answer = within(&doing, CALL_TIMEOUT, api.get(name)).await;
        answer.map_err(|error| self.missed::<K>("get", &doing, error))
    }

    pub(super) async fn list<K: Namespaced>(&self, params: &ListParams) -> Result<Vec<K>, Lookup> {
        let doing = format!("listing {} in namespace {}", K::plural(&()), self.namespace);
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let answer = within(&doing, CALL_TIMEOUT, api.list(params)).await;
        answer.map(|list| list.items).map_err(|error| self.missed::<K>("list", &doing, error))
    }

    fn missed<K: Namespaced>(&self, verb: &'static str, doing: &str, error: CallError) -> Lookup {
        match error {
            CallError::NotFound => Lookup::Absent,
            CallError::Forbidden(_) => Lookup::Forbidden(Permission::new::<K>(verb, Some(self.namespace)).refused()),
            // These name what was read already.
            error @ (CallError::Timeout { .. } | CallError::Other { .. }) => Lookup::Failed(error.to_string()),
            error => Lookup::Failed(format!("{doing}: {error}")),
        }
    }
}
