//! The address ranges of the cluster, read periodically. Probes of tenants must not dial them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio_util::sync::CancellationToken;

use super::call::{CALL_TIMEOUT, CallError, within};

/// The interval between reads. A node that joins is protected by its range after the next one; until then, its pods are
/// protected as those of other owners.
const INTERVAL: Duration = Duration::from_secs(60);
/// The wait after a failed read.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The number of objects of one page. Only their addresses are kept.
const PAGE: u32 = 500;

/// The ranges of one read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRanges {
    /// Addresses of Nodes and of the API server, `podCIDRs`, ServiceCIDRs; where the cluster does not tell its ranges, the
    /// address of each pod and Service.
    pub ranges: BTreeSet<IpNet>,
    /// The resources that RBAC does not allow to read: addresses of the cluster stay unknown without them.
    pub forbidden: Vec<&'static str>,
}

/// Reads the ranges.
///
/// # Errors
/// When a read fails for another reason than RBAC.
pub async fn read(client: &Client) -> Result<AddressRanges, CallError> {
    let mut found = AddressRanges::default();
    let all = ListParams::default();
    let nodes: Api<Node> = Api::all(client.clone());
    match within("listing Nodes", CALL_TIMEOUT, nodes.list(&all)).await {
        Ok(nodes) => {
            nodes.items.iter().for_each(|node| found.ranges.extend(of_node(node)));
            // Some network plugins assign the addresses of pods themselves.
            let has_range = |node: &Node| {
                node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some() || spec.pod_cidrs.is_some())
            };
            if !nodes.items.iter().any(has_range) {
                add_each(client, &mut found, "pods", of_pod).await?;
            }
        }
        Err(CallError::Forbidden(_)) => {
            found.forbidden.push("nodes");
            add_each(client, &mut found, "pods", of_pod).await?;
        }
        Err(error) => return Err(error),
    }
    let services: Api<ServiceCIDR> = Api::all(client.clone());
    match within("listing ServiceCIDRs", CALL_TIMEOUT, services.list(&all)).await {
        Ok(cidrs) => {
            if cidrs.items.is_empty() {
                add_each(client, &mut found, "services", of_service).await?;
            }
            let specs = cidrs.items.into_iter().filter_map(|cidr| cidr.spec);
            found.ranges.extend(specs.flat_map(|spec| spec.cidrs.unwrap_or_default()).filter_map(|cidr| net(&cidr)));
        }
        // Kubernetes before 1.33 has no ServiceCIDRs.
        Err(CallError::NotFound | CallError::Forbidden(_)) => {
            add_each(client, &mut found, "services", of_service).await?;
        }
        Err(error) => return Err(error),
    }
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let of_api_server = all.labels("kubernetes.io/service-name=kubernetes");
    match within("listing the API server's EndpointSlices", CALL_TIMEOUT, slices.list(&of_api_server)).await {
        Ok(slices) => {
            let endpoints = slices.items.into_iter().flat_map(|slice| slice.endpoints);
            found.ranges.extend(endpoints.flat_map(|endpoint| endpoint.addresses).filter_map(|one| net(&one)));
        }
        Err(CallError::Forbidden(_)) => found.forbidden.push("endpointslices.discovery.k8s.io in namespace default"),
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// Adds the addresses of each object of this kind, page by page: the cluster does not tell the range that they are from.
async fn add_each<K>(
    client: &Client,
    found: &mut AddressRanges,
    kind: &'static str,
    addresses: fn(&K) -> Vec<IpNet>,
) -> Result<(), CallError>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        match within(&format!("listing {kind}"), CALL_TIMEOUT, api.list(&page)).await {
            Ok(listed) => {
                found.ranges.extend(listed.items.iter().flat_map(addresses));
                match listed.metadata.continue_.filter(|next| !next.is_empty()) {
                    Some(next) => page = page.continue_token(&next),
                    None => return Ok(()),
                }
            }
            Err(CallError::Forbidden(_)) => {
                found.forbidden.push(kind);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

/// The addresses of a pod that still holds them. Those of its host are a Node's.
fn of_pod(pod: &Pod) -> Vec<IpNet> {
    let Some(status) = &pod.status else { return Vec::new() };
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let all = status.pod_ips.iter().flatten().map(|one| one.ip.as_str()).chain(status.pod_ip.as_deref());
    all.filter(|_| !has_ended).filter_map(net).collect()
}

fn of_service(service: &Service) -> Vec<IpNet> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    all.filter_map(|one| net(one)).collect()
}

fn of_node(node: &Node) -> Vec<IpNet> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let addresses = addresses.filter_map(|address| net(&address.address));
    let spec = node.spec.as_ref();
    let pods = spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
    addresses.chain(pods.filter_map(|cidr| net(cidr))).collect()
}

/// Parses a range, or a single address as a range of one; `None` for a hostname.
fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Reports the ranges to `report` until `stop`. Logs once which resources RBAC forbids, because the administrator must then
/// name those ranges.
pub async fn follow(client: Client, report: impl Fn(AddressRanges), stop: CancellationToken) {
    let mut known: Option<AddressRanges> = None;
    loop {
        let wait = match stop.run_until_cancelled(read(&client)).await {
            None => return,
            Some(Ok(found)) => {
                let logged = known.as_ref().map(|known| &known.forbidden);
                if !found.forbidden.is_empty() && logged != Some(&found.forbidden) {
                    tracing::warn!(
                        unread = found.forbidden.join(", "),
                        "not all addresses of the cluster can be read: name its ranges with --cluster-network, or probes may be aimed at them"
                    );
                }
                if known.as_ref() != Some(&found) {
                    report(found.clone());
                    known = Some(found);
                }
                INTERVAL
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "reading the cluster's ranges");
                RETRY_AFTER
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fake::{Fake, Mode};
    use super::*;

    fn fake() -> Fake {
        let fake = Fake::new();
        let addresses = json!([
            { "type": "InternalIP", "address": "192.0.2.10" }, { "type": "Hostname", "address": "node-1" },
        ]);
        let spec = json!({ "podCIDR": "10.88.0.0/24", "podCIDRs": ["10.88.0.0/24", "fd00:88::/64"] });
        fake.put(
            "/api/v1/nodes/node-1",
            json!({ "metadata": { "name": "node-1" }, "spec": spec, "status": { "addresses": addresses } }),
        );
        fake.put(
            "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
            json!({ "metadata": { "name": "kubernetes" }, "spec": { "cidrs": ["10.96.0.0/12"] } }),
        );
        let slice = json!({
            "metadata": { "name": "kubernetes", "labels": { "kubernetes.io/service-name": "kubernetes" } },
            "addressType": "IPv4", "endpoints": [{ "addresses": ["192.0.2.1"] }],
        });
        fake.put("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes", slice);
        fake
    }

    fn texts(found: &AddressRanges) -> Vec<String> {
        found.ranges.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn nodes_pods_services_and_the_api_server_are_the_clusters_own() {
        let found = read(&fake().client()).await.unwrap();
        let expected = ["10.88.0.0/24", "10.96.0.0/12", "192.0.2.1/32", "192.0.2.10/32", "fd00:88::/64"];
        assert_eq!(texts(&found), expected);
        assert!(found.forbidden.is_empty());
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_tell_its_ranges_is_not_taken_for_one_that_has_none() {
        let fake = fake();
        fake.put("/api/v1/nodes/node-1", json!({ "metadata": { "name": "node-1" }, "spec": {} }));
        fake.put("/apis/networking.k8s.io/v1/servicecidrs/kubernetes", json!(null));
        let found = read(&fake.client()).await.unwrap();
        assert_eq!(
            (texts(&found), &found.forbidden),
            (vec!["192.0.2.1/32".to_owned()], &Vec::new()),
            "it has no objects"
        );
        let pod = |phase: &str, ips: serde_json::Value| {
            json!({ "metadata": { "name": phase.to_lowercase(), "namespace": "bank" },
                "spec": { "containers": [] }, "status": { "phase": phase, "podIPs": ips } })
        };
        let dual = json!([{ "ip": "198.51.100.7" }, { "ip": "2001:db8::7" }]);
        fake.put("/api/v1/pods/running", pod("Running", dual));
        fake.put("/api/v1/pods/succeeded", pod("Succeeded", json!([{ "ip": "198.51.100.8" }])));
        for (name, ip) in [("ledger", "203.0.113.5"), ("headless", "None")] {
            fake.put(
                &format!("/api/v1/services/{name}"),
                json!({ "metadata": { "name": name, "namespace": "bank" }, "spec": { "clusterIP": ip, "clusterIPs": [ip] } }),
            );
        }
        let found = read(&fake.client()).await.unwrap();
        let each = ["192.0.2.1/32", "198.51.100.7/32", "203.0.113.5/32", "2001:db8::7/128"];
        assert_eq!((texts(&found), found.forbidden), (each.map(str::to_owned).to_vec(), Vec::new()));
        fake.set_mode(Mode::Forbids("/pods"));
        assert_eq!(read(&fake.client()).await.unwrap().forbidden, ["pods"]);
    }

    #[tokio::test]
    async fn what_may_not_be_read_is_named_and_the_rest_is_read() {
        let fake = fake();
        fake.set_mode(Mode::Forbids("/nodes"));
        let found = read(&fake.client()).await.unwrap();
        assert_eq!(
            (texts(&found), found.forbidden),
            (vec!["10.96.0.0/12".to_owned(), "192.0.2.1/32".to_owned()], vec!["nodes"])
        );
    }
}
