//! The address ranges of the cluster, read periodically. Probes of tenants must not dial them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
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

/// The ranges of one read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRanges {
    /// Addresses of Nodes and of the API server, `podCIDRs`, ServiceCIDRs.
    pub ranges: BTreeSet<IpNet>,
    /// The resources that RBAC does not allow to read, or that do not tell their ranges.
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
                found.forbidden.push("podCIDRs of Nodes");
            }
        }
        Err(CallError::Forbidden(_)) => found.forbidden.push("nodes"),
        Err(error) => return Err(error),
    }
    let services: Api<ServiceCIDR> = Api::all(client.clone());
    match within("listing ServiceCIDRs", CALL_TIMEOUT, services.list(&all)).await {
        Ok(cidrs) => {
            if cidrs.items.is_empty() {
                found.forbidden.push("servicecidrs.networking.k8s.io");
            }
            let specs = cidrs.items.into_iter().filter_map(|cidr| cidr.spec);
            found.ranges.extend(specs.flat_map(|spec| spec.cidrs.unwrap_or_default()).filter_map(|cidr| net(&cidr)));
        }
        Err(CallError::Forbidden(_)) => found.forbidden.push("servicecidrs.networking.k8s.io"),
        // Kubernetes before 1.33 has no ServiceCIDRs.
        Err(CallError::NotFound) => found.forbidden.push("servicecidrs.networking.k8s.io"),
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
                        "not all of the cluster's ranges can be read: name them with --cluster-network, or probes may be aimed at them"
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
        assert_eq!(found.forbidden, ["podCIDRs of Nodes", "servicecidrs.networking.k8s.io"]);
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
