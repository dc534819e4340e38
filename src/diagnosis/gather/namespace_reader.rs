//! Reads of the cluster: which ones, in which order, and how many of each.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::core::Selector;

use super::reader::Reader;
use super::variables::ConfigMaps;
use super::{environment, events, pods, workload};
use crate::api::{WorkloadKind, WorkloadRef};
use crate::diagnosis::evidence::{Container, Lookup, Pod, Warning};

/// How many pods are looked at: what is wrong with more of them is wrong with these.
pub(super) const MAX_PODS: usize = 50;
/// How many ReplicaSets or ControllerRevisions: ten old ones are kept by default.
const MAX_REVISIONS: u32 = 100;
/// How many EndpointSlices: 100 endpoints each.
const MAX_SLICES: u32 = 20;
/// How many ConfigMaps of the environment.
const MAX_CONFIG_MAPS: usize = 20;
/// How many nodes.
const MAX_NODES: usize = 20;
/// About how many pods events are asked for, those in trouble first.
const MAX_FAILING_PODS: usize = 8;
/// How many events about one object.
const MAX_EVENTS_EACH: u32 = 50;

/// A Service, and its slices where they could be read.
pub(super) type ServiceWithSlices = (v1::Service, Option<Vec<EndpointSlice>>);

/// The cluster, as far as one namespace is concerned.
pub(super) struct NamespaceReader<'a> {
    pub(super) reader: &'a Reader,
    pub(super) namespace: &'a str,
}

impl NamespaceReader<'_> {
    /// The workload, with what its rollout is known by.
    pub(super) async fn workload(&self, of: Option<&WorkloadRef>) -> (Lookup<workload::WorkloadRead>, Vec<String>) {
        let Some(reference) = of else { return Default::default() };
        let (ns, name) = (self.namespace, reference.name.as_str());
        match reference.kind {
            WorkloadKind::Deployment => {
                let found: Lookup<Deployment> = self.reader.get(ns, name).await;
                let selector = found.found().and_then(|found| found.spec.as_ref()).map(|spec| &spec.selector);
                let (sets, missing) = self.revisions::<ReplicaSet>(selector).await;
                (found.map(|found| workload::deployment(&found, sets.as_deref())), missing)
            }
            WorkloadKind::StatefulSet => {
                let found: Lookup<StatefulSet> = self.reader.get(ns, name).await;
                let selector = found.found().and_then(|found| found.spec.as_ref()).map(|spec| &spec.selector);
                let (revisions, missing) = self.revisions::<ControllerRevision>(selector).await;
                (found.map(|found| workload::stateful_set(&found, revisions.as_deref())), missing)
            }
            WorkloadKind::DaemonSet => {
                let found: Lookup<DaemonSet> = self.reader.get(ns, name).await;
                let selector = found.found().and_then(|found| found.spec.as_ref()).map(|spec| &spec.selector);
                let (revisions, missing) = self.revisions::<ControllerRevision>(selector).await;
                (found.map(|found| workload::daemon_set(&found, revisions.as_deref())), missing)
            }
        }
    }

    /// What keeps the templates of a workload, where it may be read, and the sentence when it may not.
    async fn revisions<K: super::reader::Namespaced>(
        &self,
        selector: Option<&LabelSelector>,
    ) -> (Option<Vec<K>>, Vec<String>) {
        let Some(selector) = selector.and_then(|selector| Selector::try_from(selector.clone()).ok()) else {
            return (None, Vec::new());
        };
        let params = ListParams::default().labels_from(&selector).limit(MAX_REVISIONS);
        match self.reader.list::<K>(self.namespace, &params).await {
            Lookup::Found(found) => (Some(found), Vec::new()),
            other => (None, other.missing().map(str::to_owned).into_iter().collect()),
        }
    }

    /// The Service of a target, its slices, and the sentences of what could not be read.
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

    /// How many pods the selector of a Service selects, [`MAX_PODS`] at most.
    pub(super) async fn selected(&self, selector: &BTreeMap<String, String>) -> Lookup<Vec<v1::Pod>> {
        if selector.is_empty() {
            return Lookup::NotLooked;
        }
        let selector: Selector = selector.clone().into_iter().collect();
        let params = ListParams::default().labels_from(&selector).limit(MAX_PODS as u32);
        self.reader.list(self.namespace, &params).await
    }

    /// The pods of a workload: those that it selects and owns.
    pub(super) async fn pods_of(&self, of: Option<&workload::WorkloadRead>) -> Lookup<Vec<v1::Pod>> {
        let Some(read) = of else { return Lookup::NotLooked };
        let Ok(selector) = Selector::try_from(read.selector.clone()) else {
            return Lookup::Failed("the selector of the workload cannot be understood".to_owned());
        };
        let params = ListParams::default().labels_from(&selector).limit(MAX_PODS as u32);
        let found: Lookup<Vec<v1::Pod>> = self.reader.list(self.namespace, &params).await;
        found.map(|mut found| {
            if let Some(owners) = &read.owners {
                found.retain(|pod| owners.iter().any(|owner| pods::is_owned_by(pod, owner)));
            }
            found
        })
    }

    /// Pods as evidence: their environment resolved through the ConfigMaps that matter, those in trouble first.
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
                // It was taken out of the cluster with its pods still on it.
                Lookup::Absent => drop(not_ready.insert(name, None)),
                missing => return missing.map(|_| BTreeMap::new()),
            }
        }
        Lookup::Found(not_ready)
    }

    /// Warnings of the last hour about the pods in trouble and about `subjects`.
    pub(super) async fn events(
        &self,
        pods: &[Pod],
        subjects: &[(&'static str, String)],
        now: Timestamp,
    ) -> Lookup<Vec<Warning>> {
        let pods = pods.iter().take(MAX_FAILING_PODS).map(|pod| ("Pod", pod.name.clone()));
        let read = pods.chain(subjects.iter().cloned()).map(async |(kind, name)| {
            let fields = format!("involvedObject.kind={kind},involvedObject.name={name},type=Warning");
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

    /// The ends of the logs of containers that ended, of the pods in trouble.
    pub(super) async fn logs(&self, pods: &mut [Pod], lines: u32) -> Vec<String> {
        let mut missing = BTreeSet::new();
        for pod in pods.iter_mut().take(MAX_FAILING_PODS) {
            let name = pod.name.clone();
            let has_ended = |one: &&mut Container| one.last.is_some() || one.terminated.is_some();
            for container in pod.init.iter_mut().chain(&mut pod.containers).filter(has_ended) {
                // What has ended and is not started again yet is no previous one.
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
