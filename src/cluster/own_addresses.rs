//! Where vigie itself is reached inside the cluster, read again and again: nobody may aim a probe at it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio_util::sync::CancellationToken;

use super::call::{CALL_TIMEOUT, CallError, within};

/// How often it is read: a replica or a Service that joins is known from then on.
const EVERY: Duration = Duration::from_secs(60);
/// How soon after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Our own pod, and the Service that beats come by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddresses {
    /// The namespace of our pod.
    pub namespace: String,
    /// The name of our pod.
    pub pod: String,
    /// `--heartbeat-service`, which does not lead to a replica that does not lead.
    pub heartbeat_service: Option<String>,
}

impl OwnAddresses {
    /// The sockets of the Services that lead to our pod, and of every pod behind them: the other replicas.
    ///
    /// # Errors
    /// When something cannot be read; RBAC may forbid it.
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

/// NodePorts are not among them: a Node's addresses are the cluster's own, whatever the port.
fn of_service(spec: &ServiceSpec) -> Vec<SocketAddr> {
    let addresses = || {
        let inside = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        inside.chain(spec.external_ips.iter().flatten()).filter_map(|one| one.parse::<IpAddr>().ok())
    };
    let ports = spec.ports.iter().flatten().filter_map(|port| u16::try_from(port.port).ok());
    ports.flat_map(|port| addresses().map(move |address| SocketAddr::new(address, port))).collect()
}

/// Keeps `tell` up to date until `stop`. What RBAC forbids is said once, and counts as nothing.
pub async fn follow(
    client: Client,
    ourselves: OwnAddresses,
    tell: impl Fn(BTreeSet<SocketAddr>),
    stop: CancellationToken,
) {
    let mut known = None;
    let mut is_told = false;
    loop {
        let (found, wait) = match stop.run_until_cancelled(ourselves.sockets(&client)).await {
            None => return,
            Some(Ok(found)) => (Some(found), EVERY),
            Some(Err(error @ CallError::Forbidden(_))) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(%error, "where vigie itself is reached cannot be read: probes may be aimed at its Services");
                }
                (Some(BTreeSet::new()), EVERY)
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "reading where vigie itself is reached");
                (None, AGAIN)
            }
        };
        if found.is_some() && found != known {
            tell(found.clone().unwrap_or_default());
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

    fn ourselves() -> OwnAddresses {
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
        let found = ourselves().sockets(&fake().client()).await.unwrap();
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
        let found = ourselves().sockets(&fake.client()).await.unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["198.51.100.2:80".parse().unwrap()]);
    }

    #[tokio::test]
    async fn what_rbac_forbids_is_no_reason_to_wait_for_ever() {
        let fake = fake();
        fake.set_mode(Mode::Forbids("/services"));
        let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let tell = move |found: BTreeSet<SocketAddr>| drop(told.send(found));
        let stop = CancellationToken::new();
        let following = tokio::spawn(follow(fake.client(), ourselves(), tell, stop.clone()));
        assert_eq!(hear.recv().await, Some(BTreeSet::new()));
        stop.cancel();
        following.await.unwrap();
    }
}
