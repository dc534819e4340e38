//! Reads the objects of one namespace, and limits how many of each kind.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::ListParams;
use kube::core::Selector;

use super::reader::ClusterReader;
use super::variables::ConfigMaps;
use super::workload::WorkloadRead;
use super::{environment, events, pods, workload};
use crate::api::{WorkloadKind, WorkloadRef};
use crate::cluster::{LIVING_PODS, NamespacedObject, WorkloadObject};
use crate::diagnosis::evidence::{Container, Lookup, Pod, Warning};

/// Maximum number of pods: a problem of more pods shows in these too.
pub(super) const MAX_PODS: usize = 50;
/// Pods that have ended for good. A selector cannot say "or".
const ENDED: &str = "status.phase!=Pending,status.phase!=Running,status.phase!=Unknown";
/// Maximum number of ended pods among which the newest are looked for: their metadata alone is listed.
const MAX_ENDED_LISTED: u32 = 500;
/// Maximum number of ended pods that are read, the newest ones.
const MAX_ENDED: usize = 3;
/// Maximum number of ReplicaSets or ControllerRevisions: Kubernetes keeps ten old ones by default.
const MAX_REVISIONS: u32 = 100;
/// Maximum number of EndpointSlices, with 100 endpoints each.
const MAX_SLICES: u32 = 20;
/// Maximum number of ConfigMaps for the environment.
const MAX_CONFIG_MAPS: usize = 20;
/// Maximum number of nodes.
const MAX_NODES: usize = 20;
/// Maximum number of pods whose events and logs are read, those that are not ready first.
const MAX_FAILING_PODS: usize = 8;
/// Maximum number of events for each object.
const MAX_EVENTS_EACH: u32 = 50;

/// A Service, and its EndpointSlices where they could be read.
pub(super) type ServiceWithSlices = (v1::Service, Option<Vec<EndpointSlice>>);

/// Pods that were listed.
#[derive(Default)]
pub(super) struct ListedPods {
    /// Those that may serve.
    pub(super) living: Lookup<Vec<v1::Pod>>,
    /// The newest of those that have ended for good, where fewer live than are wanted.
    pub(super) ended: Vec<v1::Pod>,
    /// How many have ended, where that was looked up.
    ended_count: usize,
}

impl ListedPods {
    /// How many there are, dead or alive; `None` when they could not be listed.
    pub(super) fn count(&self) -> Option<usize> {
        self.living.found().map(|living| living.len() + self.ended_count)
    }
}

/// Reads objects of one namespace.
pub(super) struct NamespaceReader<'a> {
    pub(super) reader: &'a ClusterReader,
    pub(super) namespace: &'a str,
}

impl NamespaceReader<'_> {
    /// The workload with its rollout, and the permissions that were missing for its revisions.
    pub(super) async fn workload(&self, of: Option<&WorkloadRef>) -> (Lookup<WorkloadRead>, Vec<String>) {
        let Some(WorkloadRef { kind, name }) = of else { return Default::default() };
        match kind {
            WorkloadKind::Deployment => self.read_workload(name, workload::deployment).await,
            WorkloadKind::StatefulSet => self.read_workload(name, workload::stateful_set).await,
            WorkloadKind::DaemonSet => self.read_workload(name, workload::daemon_set).await,
        }
    }

    async fn read_workload<K: WorkloadObject>(
        &self,
        name: &str,
        to_read: fn(&K, Option<&[K::Revision]>) -> WorkloadRead,
    ) -> (Lookup<WorkloadRead>, Vec<String>) {
        let found: Lookup<K> = self.reader.get(self.namespace, name).await;
        let (revisions, missing) = self.revisions(found.found().and_then(K::pod_selector)).await;
        (found.map(|found| to_read(&found, revisions.as_deref())), missing)
    }

    /// The objects that store a workload's templates; otherwise the sentence that names the missing permission.
    async fn revisions<K: NamespacedObject>(&self, selector: Option<&LabelSelector>) -> (Option<Vec<K>>, Vec<String>) {
        let Some(selector) = selector.and_then(|selector| Selector::try_from(selector.clone()).ok()) else {
            return (None, Vec::new());
        };
        let params = ListParams::default().labels_from(&selector).limit(MAX_REVISIONS);
        match self.reader.list::<K>(self.namespace, &params).await {
            Lookup::Found(found) => (Some(found), Vec::new()),
            other => (None, other.missing().map(str::to_owned).into_iter().collect()),
        }
    }

    /// The Service of a target with its slices, and a sentence for each failed read.
    pub(super) async fn service(&self, of: Option<&(String, String)>) -> (Lookup<ServiceWithSlices>, Vec<String>) {
        let Some((name, _)) = of else { return Default::default() };
        let params = ListParams::default().labels(&format!("kubernetes.io/service-name={name}")).limit(MAX_SLICES);
        let (found, slices) = tokio::join!(
            self.reader.get::<v1::Service>(self.namespace, name),
            self.reader.list::<EndpointSlice>(self.namespace, &params),
        );
        let missing = slices.missing().map(str::to_owned).into_iter().collect();
        (found.map(|found| (found, slices.found().cloned())), missing)
    }

    /// The pods that the selector of a Service selects.
    pub(super) async fn selected(&self, selector: &BTreeMap<String, String>) -> ListedPods {
        if selector.is_empty() {
            return ListedPods::default();
        }
        self.list_pods(&selector.clone().into_iter().collect(), None, 1).await
    }

    /// The pods that a workload selects and owns.
    pub(super) async fn pods_of(&self, of: Option<&WorkloadRead>) -> ListedPods {
        let Some(read) = of else { return ListedPods::default() };
        let Ok(selector) = Selector::try_from(read.selector.clone()) else {
            let living = Lookup::Failed("the selector of the workload cannot be understood".to_owned());
            return ListedPods { living, ..ListedPods::default() };
        };
        let wanted = usize::try_from(read.workload.wanted).unwrap_or(0);
        self.list_pods(&selector, read.owners.as_deref(), wanted).await
    }

    /// The selected pods that live, at most [`MAX_PODS`]; and, when they are fewer than `wanted`, the newest that have
    /// ended.
    async fn list_pods(&self, selector: &Selector, owners: Option<&[String]>, wanted: usize) -> ListedPods {
        let is_owned = |metadata: &ObjectMeta| {
            owners.is_none_or(|owners| owners.iter().any(|owner| pods::is_owned_by(metadata, owner)))
        };
        let of_phase = |phase| ListParams::default().labels_from(selector).fields(phase);
        let living = of_phase(LIVING_PODS).limit(MAX_PODS as u32);
        let living: Lookup<Vec<v1::Pod>> = self.reader.list(self.namespace, &living).await;
        let living = living.map(|mut found| {
            found.retain(|pod| is_owned(&pod.metadata));
            found
        });
        if living.found().is_none_or(|living| living.len() >= wanted) {
            return ListedPods { living, ..ListedPods::default() };
        }
        let ended = of_phase(ENDED).limit(MAX_ENDED_LISTED);
        let ended = self.reader.list_metadata::<v1::Pod>(self.namespace, &ended).await;
        let mut ended = ended.found().cloned().unwrap_or_default();
        ended.retain(is_owned);
        let newest = pods::newest(&ended, MAX_ENDED).into_iter().map(async |name| {
            let named = ListParams::default().fields(&format!("metadata.name={name}"));
            let found: Lookup<Vec<v1::Pod>> = self.reader.list(self.namespace, &named).await;
            found.found().cloned().unwrap_or_default()
        });
        let newest = join_all(newest).await.into_iter().flatten().collect();
        ListedPods { living, ended: newest, ended_count: ended.len() }
    }

    /// Ended pods as evidence. Their environment is that of no process any more, and is not resolved.
    pub(super) fn ended_pods(&self, found: &[v1::Pod]) -> Vec<Pod> {
        found.iter().map(|pod| pods::pod(pod, &ConfigMaps::new())).collect()
    }

    /// Pods as evidence: environment resolved through ConfigMaps, pods that are not ready first.
    pub(super) async fn pods(&self, found: Lookup<Vec<v1::Pod>>) -> Lookup<Vec<Pod>> {
        let Lookup::Found(found) = found else { return found.map(|_| Vec::new()) };
        let specs = found.iter().filter_map(|pod| pod.spec.as_ref());
        let containers = specs.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        let containers: Vec<v1::Container> = containers.cloned().collect();
        let maps = self.config_maps(environment::needed(&containers)).await;
        let mut pods: Vec<Pod> = found.iter().map(|pod| pods::pod(pod, &maps)).collect();
        pods::sort_failing_first(&mut pods);
        Lookup::Found(pods)
    }

    async fn config_maps(&self, names: BTreeSet<String>) -> ConfigMaps {
        let read = names.into_iter().take(MAX_CONFIG_MAPS).map(async |name| {
            let found: Lookup<v1::ConfigMap> = self.reader.get(self.namespace, &name).await;
            (name, found.map(|map| map.data.unwrap_or_default()))
        });
        join_all(read).await.into_iter().collect()
    }

    /// The nodes of these pods that are not Ready, and since when.
    pub(super) async fn nodes_not_ready(&self, pods: &[Pod]) -> Lookup<BTreeMap<String, Option<Timestamp>>> {
        let names: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.node.as_deref()).collect();
        if names.is_empty() {
            return Lookup::NotLooked;
        }
        let read = names.into_iter().take(MAX_NODES);
        let read = read.map(async |name| (name.to_owned(), self.reader.get_global::<v1::Node>(name).await));
        let mut not_ready = BTreeMap::new();
        for (name, node) in join_all(read).await {
            match node {
                Lookup::Found(node) => {
                    if let Some(since) = pods::not_ready_since(&node) {
                        not_ready.insert(name, since);
                    }
                }
                // The node was removed while its pods still exist.
                Lookup::Absent => drop(not_ready.insert(name, None)),
                missing => return missing.map(|_| BTreeMap::new()),
            }
        }
        Lookup::Found(not_ready)
    }

    /// Warnings of the last hour about the first [`MAX_FAILING_PODS`] pods and about `subjects`, and why containers of
    /// these pods were killed.
    pub(super) async fn events(
        &self,
        pods: &[Pod],
        subjects: &[(&'static str, String)],
        now: Timestamp,
    ) -> Lookup<Vec<Warning>> {
        let pods = pods.iter().take(MAX_FAILING_PODS).map(|pod| ("Pod", pod.name.clone()));
        let killed = pods.clone().map(|pod| (pod, format!("reason={}", events::KILLING)));
        let warned = pods.chain(subjects.iter().cloned()).map(|subject| (subject, "type=Warning".to_owned()));
        let read = warned.chain(killed).map(async |((kind, name), which)| {
            let fields = format!("involvedObject.kind={kind},involvedObject.name={name},{which}");
            let params = ListParams::default().fields(&fields).limit(MAX_EVENTS_EACH);
            self.reader.list::<v1::Event>(self.namespace, &params).await
        });
        let mut all = Vec::new();
        for found in join_all(read).await {
            match found {
                Lookup::Found(found) => all.extend(found),
                missing => return missing.map(|_| Vec::new()),
            }
        }
        Lookup::Found(events::warnings(&all, now))
    }

    /// Reads the last log lines of containers that ended, for the first [`MAX_FAILING_PODS`] pods.
    pub(super) async fn logs(&self, pods: &mut [Pod], lines: u32) -> Vec<String> {
        let mut missing = BTreeSet::new();
        for pod in pods.iter_mut().take(MAX_FAILING_PODS) {
            let name = pod.name.clone();
            let has_ended = |one: &&mut Container| one.last.is_some() || one.terminated.is_some();
            for container in pod.init.iter_mut().chain(&mut pod.containers).filter(has_ended) {
                // A container that ended and was not started again is not a previous one.
                let is_previous = container.terminated.is_none();
                match self.reader.log(self.namespace, &name, &container.name, is_previous, lines).await {
                    Lookup::Found(text) => container.log_tail = Some(text),
                    other => missing.extend(other.missing().map(str::to_owned)),
                }
            }
        }
        missing.into_iter().collect()
    }
}
