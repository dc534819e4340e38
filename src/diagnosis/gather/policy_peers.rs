//! Reads NetworkPolicies and the peers that they are evaluated for: Prometheus and vigie.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::future::join_all;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;

use super::namespace_reader::NamespaceReader;
use super::network_policies::{self, Peer};
use super::reader::ClusterReader;
use super::{PrometheusSource, prometheus, service};
use crate::diagnosis::evidence::{Evidence, Lookup, Pod, PodNetworkPolicy, Prometheus};

/// Maximum number of NetworkPolicies of a namespace.
const MAX_POLICIES: u32 = 200;

/// Maximum number of Prometheus' pods: replicas have the same labels.
const MAX_PEERS: usize = 4;

/// The sources of Prometheus' connections, as far as the cluster shows them.
#[derive(Debug, Default)]
pub(super) struct PrometheusPods {
    pub(super) addresses: Vec<IpAddr>,
    pods: Vec<Peer>,
    pub(super) missing: Vec<String>,
}

impl NamespaceReader<'_> {
    /// The NetworkPolicies of the namespace; not read without pods.
    pub(super) async fn network_policies(&self, pods: &[Pod]) -> Lookup<Vec<NetworkPolicy>> {
        if pods.is_empty() {
            return Lookup::NotLooked;
        }
        self.reader.list(self.namespace, &ListParams::default().limit(MAX_POLICIES)).await
    }

    /// The pods behind the Service in Prometheus' URL, if it names one. Their labels, and those of their namespace, are
    /// read only if policies in `all` need them.
    pub(super) async fn prometheus_pods(
        &self,
        source: Option<&PrometheusSource>,
        all: &[NetworkPolicy],
    ) -> PrometheusPods {
        let service = source.and_then(|source| Some((source, prometheus::service_of(&source.url)?)));
        let Some((source, (name, namespace))) = service else { return PrometheusPods::default() };
        if !source.is_looked_up_anywhere && namespace != self.namespace {
            // Named only where it matters: policies that may bar Prometheus.
            let why = format!(
                "the pods of Service {name} in namespace {namespace}: spec.prometheus.url names a Service of another namespace, which is looked up for the operator's --prometheus-url alone; spec.prometheus.sourceCIDR names their addresses"
            );
            let missing = if all.is_empty() { Vec::new() } else { vec![why] };
            return PrometheusPods { missing, ..PrometheusPods::default() };
        }
        let params = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
        let slices: Lookup<Vec<EndpointSlice>> = self.reader.list(&namespace, &params).await;
        let mut missing: Vec<String> = slices.missing().map(str::to_owned).into_iter().collect();
        let (addresses, names) = service::endpoints(slices.found().map(Vec::as_slice).unwrap_or_default());
        if all.is_empty() {
            return PrometheusPods { addresses: addresses.into_iter().collect(), pods: Vec::new(), missing };
        }
        let labels = namespace_labels(self.reader, &namespace, all).await;
        let read = names.iter().take(MAX_PEERS).map(async |name| {
            let pod: Lookup<v1::Pod> = self.reader.get(&namespace, name).await;
            let missing = pod.missing().map(str::to_owned);
            (pod.found().map(|pod| peer(pod, &namespace, labels.clone())), missing)
        });
        let mut pods = Vec::new();
        for (pod, why) in join_all(read).await {
            pods.extend(pod);
            missing.extend(why.filter(|why| !missing.contains(why)));
        }
        if pods.is_empty() && !addresses.is_empty() {
            // Namespace and addresses are known from the EndpointSlices.
            let addresses = addresses.iter().copied().collect();
            pods.push(Peer::Pod { namespace, namespace_labels: labels, labels: None, addresses });
        }
        PrometheusPods { addresses: addresses.into_iter().collect(), pods, missing }
    }
}

/// The labels of a namespace; read only if a policy selects by more than its name.
async fn namespace_labels(
    reader: &ClusterReader,
    name: &str,
    all: &[NetworkPolicy],
) -> Option<BTreeMap<String, String>> {
    if !network_policies::need_namespace_labels(all) {
        return None;
    }
    let found: Lookup<v1::Namespace> = reader.get_global(name).await;
    found.found().map(|namespace| namespace.metadata.labels.clone().unwrap_or_default())
}

fn peer(pod: &v1::Pod, namespace: &str, namespace_labels: Option<BTreeMap<String, String>>) -> Peer {
    let addresses = pod.status.as_ref().map(super::pods::addresses).unwrap_or_default();
    let labels = Some(pod.metadata.labels.clone().unwrap_or_default());
    Peer::Pod { namespace: namespace.to_owned(), namespace_labels, labels, addresses }
}

/// vigie's own pod as a peer for NetworkPolicies; `None` when it cannot be read.
pub async fn own_pod(client: kube::Client, namespace: &str, name: &str) -> Option<Peer> {
    let reader = ClusterReader::new(client);
    // A list with a field selector: the leader may list pods in its namespace, but may lack permission to get them.
    let of_us = ListParams::default().fields(&format!("metadata.name={name}"));
    let (pods, labels) =
        tokio::join!(reader.list::<v1::Pod>(namespace, &of_us), reader.get_global::<v1::Namespace>(namespace));
    let labels = labels.found().map(|namespace| namespace.metadata.labels.clone().unwrap_or_default());
    let pod = pods.found()?.iter().find(|pod| pod.metadata.name.as_deref() == Some(name))?;
    Some(peer(pod, namespace, labels))
}

/// Evaluates the policies that select the pods, for Prometheus and for vigie.
pub(super) fn evaluate(
    all: Lookup<Vec<NetworkPolicy>>,
    evidence: &Evidence,
    pods_port: Option<&str>,
    prometheus_pods: &PrometheusPods,
    us: &[Peer],
) -> Lookup<Vec<PodNetworkPolicy>> {
    let pods = evidence.pods.found().map(Vec::as_slice).unwrap_or_default();
    let declared = evidence.subject.prometheus_source.as_deref().and_then(|cidr| cidr.parse().ok());
    let outside: Vec<Peer> = declared.map(Peer::Network).into_iter().collect();
    let scraped = evidence.prometheus.found();
    let prometheus = if prometheus_pods.pods.is_empty() { &outside } else { &prometheus_pods.pods };
    let our_port = |pod: &Pod| service::pod_port(evidence, pods_port, pod);
    let their_port = |pod: &Pod| scraped.and_then(|scraped| scraped_port(scraped, pod)).or_else(|| our_port(pod));
    all.map(|all| network_policies::policies(&all, pods, (prometheus, &their_port), (us, &our_port)))
}

/// The port at which Prometheus scrapes this pod.
fn scraped_port(prometheus: &Prometheus, pod: &Pod) -> Option<u16> {
    let places = prometheus.targets.iter().filter_map(|target| prometheus::host_and_port(&target.url));
    places.filter(|(host, _)| host.parse().is_ok_and(|host| pod.addresses.contains(&host))).find_map(|(_, port)| port)
}
