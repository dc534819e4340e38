//! The addresses of vigie itself in the cluster, read periodically. Probes must not dial them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio_util::sync::CancellationToken;

use super::call::{CALL_TIMEOUT, CallError, within};

/// The interval between reads. A new replica or Service is known after the next one.
const INTERVAL: Duration = Duration::from_secs(60);
/// The wait after a failed read.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The operator's own pod and its heartbeat Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddresses {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub pod: String,
    /// `--heartbeat-service`. Its endpoints include only the leader, so a follower does not find it by its own pod.
    pub heartbeat_service: Option<String>,
}

impl OwnAddresses {
    /// The sockets of the Services that select the pod, and of all their endpoints: the other replicas.
    ///
    /// # Errors
    /// When a read fails; RBAC may forbid it.
    pub async fn sockets(&self, client: &Client) -> Result<BTreeSet<SocketAddr>, CallError> {
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &self.namespace);
        let what = format!("listing the EndpointSlices in namespace {}", self.namespace);
        let slices = within(&what, CALL_TIMEOUT, slices.list(&ListParams::default())).await?.items;
        let is_ours = |slice: &EndpointSlice| self.leads_here(slice) || self.is_heartbeats(slice);
        let ours: Vec<EndpointSlice> = slices.into_iter().filter(is_ours).collect();
        let mut found: BTreeSet<SocketAddr> = ours.iter().flat_map(of_slice).collect();
        let names: BTreeSet<&str> =
            ours.iter().filter_map(service_of).chain(self.heartbeat_service.as_deref()).collect();
        let services: Api<Service> = Api::namespaced(client.clone(), &self.namespace);
        for name in names {
            let what = format!("reading the Service {}/{name}", self.namespace);
            match within(&what, CALL_TIMEOUT, services.get(name)).await {
                Ok(service) => found.extend(service.spec.iter().flat_map(of_service)),
                Err(CallError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn leads_here(&self, slice: &EndpointSlice) -> bool {
        let mut targets = slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref());
        targets.any(|target| target.name.as_deref() == Some(&self.pod))
    }

    fn is_heartbeats(&self, slice: &EndpointSlice) -> bool {
        self.heartbeat_service.is_some() && service_of(slice) == self.heartbeat_service.as_deref()
    }
}

fn service_of(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name").map(String::as_str)
}

fn of_slice(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
    let addresses =
        || slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).filter_map(|one| one.parse().ok());
    ports.flat_map(|port| addresses().map(move |address: IpAddr| SocketAddr::new(address, port))).collect()
}

/// Without NodePorts: the addresses of Nodes are forbidden as ranges of the cluster, whatever the port.
fn of_service(spec: &ServiceSpec) -> Vec<SocketAddr> {
    let addresses = || {
        let inside = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        inside.chain(spec.external_ips.iter().flatten()).filter_map(|one| one.parse::<IpAddr>().ok())
    };
    let ports = spec.ports.iter().flatten().filter_map(|port| u16::try_from(port.port).ok());
    ports.flat_map(|port| addresses().map(move |address| SocketAddr::new(address, port))).collect()
}

/// Reports the sockets to `report` until `stop`. Logs once when RBAC forbids the read, and reports no sockets then.
pub async fn follow(client: Client, own: OwnAddresses, report: impl Fn(BTreeSet<SocketAddr>), stop: CancellationToken) {
    let mut known = None;
    let mut is_logged = false;
    loop {
        let (found, wait) = match stop.run_until_cancelled(own.sockets(&client)).await {
            None => return,
            Some(Ok(found)) => (Some(found), INTERVAL),
            Some(Err(error @ CallError::Forbidden(_))) => {
                if !std::mem::replace(&mut is_logged, true) {
                    tracing::warn!(%error, "where vigie itself is reached cannot be read: probes may be aimed at its Services");
                }
                (Some(BTreeSet::new()), INTERVAL)
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "reading where vigie itself is reached");
                (None, RETRY_AFTER)
            }
        };
        if found.is_some() && found != known {
            report(found.clone().unwrap_or_default());
            known = found;
        }
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

    fn own() -> OwnAddresses {
        OwnAddresses {
            namespace: "vigie".to_owned(),
            pod: "vigie-0".to_owned(),
            heartbeat_service: Some("vigie-heartbeat".to_owned()),
        }
    }

    fn slice(fake: &Fake, service: &str, pods: &[(&str, &str)], port: u16) {
        let endpoint = |(pod, address): &(&str, &str)| json!({ "addresses": [address], "targetRef": { "kind": "Pod", "name": pod } });
        let endpoints: Vec<_> = pods.iter().map(endpoint).collect();
        fake.put(
            &format!("/apis/discovery.k8s.io/v1/namespaces/vigie/endpointslices/{service}"),
            json!({
                "metadata": { "name": service, "labels": { "kubernetes.io/service-name": service } },
                "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "port": port }],
            }),
        );
    }

    fn service(fake: &Fake, name: &str, address: &str, port: u16) {
        fake.put(
            &format!("/api/v1/namespaces/vigie/services/{name}"),
            json!({
                "metadata": { "name": name },
                "spec": { "clusterIP": address, "clusterIPs": [address], "ports": [{ "port": port }] },
            }),
        );
    }

    fn fake() -> Fake {
        let fake = Fake::new();
        slice(&fake, "vigie", &[("vigie-0", "192.0.2.10"), ("vigie-1", "192.0.2.11")], 9090);
        slice(&fake, "vigie-heartbeat", &[("vigie-1", "192.0.2.11")], 8080);
        slice(&fake, "shop", &[("shop-0", "192.0.2.30")], 8080);
        service(&fake, "vigie", "198.51.100.1", 9090);
        service(&fake, "vigie-heartbeat", "198.51.100.2", 80);
        service(&fake, "shop", "198.51.100.3", 80);
        fake
    }

    #[tokio::test]
    async fn our_services_and_the_replicas_behind_them_are_ours_and_no_others() {
        let found = own().sockets(&fake().client()).await.unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        let expected =
            ["192.0.2.10:9090", "192.0.2.11:8080", "192.0.2.11:9090", "198.51.100.1:9090", "198.51.100.2:80"];
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_heartbeat_service_that_leads_nowhere_yet_is_ours_all_the_same() {
        let fake = Fake::new();
        service(&fake, "vigie-heartbeat", "198.51.100.2", 80);
        slice(&fake, "shop", &[("shop-0", "192.0.2.30")], 8080);
        let found = own().sockets(&fake.client()).await.unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["198.51.100.2:80".parse().unwrap()]);
    }

    #[tokio::test]
    async fn what_rbac_forbids_is_no_reason_to_wait_for_ever() {
        let fake = fake();
        fake.set_mode(Mode::Forbids("/services"));
        let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let report = move |found: BTreeSet<SocketAddr>| drop(sender.send(found));
        let stop = CancellationToken::new();
        let following = tokio::spawn(follow(fake.client(), own(), report, stop.clone()));
        assert_eq!(reports.recv().await, Some(BTreeSet::new()));
        stop.cancel();
        following.await.unwrap();
    }
}
