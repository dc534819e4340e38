//! Looks up the Service or the pods that a spec names.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerPort, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use super::own_service::{OwnService, addresses};
use super::url::{as_url, path, scheme};
use super::{ResolveError, TARGET};
use crate::api::{PodsTarget, Reason, ServiceTarget, WorkloadRef};
use crate::cluster::{CALL_TIMEOUT, CallError, LIVING_PODS, NamespacedObject, within};
use crate::monitor::workload;
use crate::probe::Target;

/// The most pods of a workload that are listed. Far fewer are probed; those without an address do not count among them.
const MAX_LISTED: u32 = 200;

/// The addresses behind one spec.
pub(super) struct ServiceTargets {
    /// The target as a URL without credentials.
    pub(super) url: String,
    /// The targets by the name of their vantage.
    pub(super) targets: Vec<(String, Target)>,
    /// The addresses belong to pods and change with them.
    pub(super) is_fleeting: bool,
    /// Why there is nothing to dial, where there are no targets.
    pub(super) nothing: Option<String>,
}

impl ServiceTargets {
    /// A single target, `target`.
    pub(super) fn one(url: String, target: Target) -> Self {
        Self { url, targets: vec![(TARGET.to_owned(), target)], is_fleeting: false, nothing: None }
    }

    fn fleeting(url: String, targets: Vec<(String, Target)>) -> Self {
        Self { url, targets, is_fleeting: true, nothing: None }
    }

    fn nothing(url: String, why: String) -> Self {
        Self { url, targets: Vec::new(), is_fleeting: true, nothing: Some(why) }
    }
}

/// An endpoint of a Service.
struct Endpoint {
    pod: String,
    address: IpAddr,
    port: u16,
    /// The port is the pod's own, and not one of its node.
    is_own: bool,
    /// So is the port of the actuator, if the spec names one.
    owns_actuator: bool,
}

/// Looks up targets in one namespace.
pub(super) struct TargetLookup<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
    /// `spec.probe.actuator.port`, which is dialled at the same addresses.
    pub(super) actuator_port: Option<u16>,
}

impl TargetLookup<'_> {
    pub(super) async fn service(&self, target: &ServiceTarget) -> Result<ServiceTargets, ResolveError> {
        let name = &target.name;
        let what = format!("reading Service {}/{name}", self.namespace);
        let api: Api<Service> = Api::namespaced(self.client.clone(), self.namespace);
        let service = match within(&what, CALL_TIMEOUT, api.get(name)).await {
            Ok(service) => service,
            Err(CallError::NotFound) => {
                return Err(ResolveError::target(format!(
                    "there is no Service {name} in namespace {}",
                    self.namespace
                )));
            }
            Err(error) => return Err(ResolveError::Failed(format!("{what}: {error}"))),
        };
        let owned = OwnService::of(&service)?;
        let spec = service.spec.clone().unwrap_or_default();
        let port = port_of(&spec, target)?;
        let endpoints = self.endpoints(&owned, port.name.as_deref().unwrap_or_default()).await?;
        let whole = Target {
            scheme: scheme(target.scheme),
            host: format!("{name}.{}.svc", self.namespace),
            port: u16::try_from(port.port).unwrap_or(0),
            path: path(target.scheme, target.path.as_deref()),
            address: None,
            is_own: true,
        };
        let url = as_url(&whole);
        match spec.cluster_ip.as_deref() {
            Some("None") if endpoints.is_empty() => Ok(ServiceTargets::nothing(
                url,
                format!("Service {name} has no endpoint: no pod with an address is behind it"),
            )),
            Some("None") => {
                let at = |endpoint: Endpoint| {
                    let is_own = endpoint.is_own && endpoint.owns_actuator;
                    let target =
                        Target { address: Some(endpoint.address), port: endpoint.port, is_own, ..whole.clone() };
                    (format!("pod/{}", endpoint.pod), target)
                };
                Ok(ServiceTargets::fleeting(url, endpoints.into_iter().map(at).collect()))
            }
            address => match address.and_then(|address| address.parse::<IpAddr>().ok()) {
                Some(address) => {
                    let is_own = endpoints.iter().all(|endpoint| endpoint.is_own);
                    Ok(ServiceTargets::one(url, Target { address: Some(address), is_own, ..whole }))
                }
                None => Err(ResolveError::Failed(format!("Service {name} has no cluster address yet"))),
            },
        }
    }

    /// Each endpoint of `service` at the port of this name, ready or not.
    ///
    /// # Errors
    /// An endpoint is none of the Service's own pods: its addresses may lead anywhere, and so may the Service.
    async fn endpoints(&self, service: &OwnService<'_>, port: &str) -> Result<Vec<Endpoint>, ResolveError> {
        let name = service.name;
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={name}")).match_any();
        let slices: Vec<EndpointSlice> = self.list("EndpointSlices", name, of_service).await?;
        slices.iter().try_for_each(|slice| service.check_slice(slice))?;
        if slices.iter().all(|slice| slice.endpoints.is_empty()) {
            return Ok(Vec::new());
        }
        let selected = ListParams::default().labels_from(&service.selector).fields(LIVING_PODS).match_any();
        let pods: Vec<Pod> = self.list("pods", name, selected).await?;
        let mut found = Vec::new();
        for slice in &slices {
            let mut ports = slice.ports.iter().flatten();
            let number = ports.find(|known| known.name.as_deref().unwrap_or_default() == port);
            let number = number.and_then(|port| u16::try_from(port.port?).ok());
            for endpoint in &slice.endpoints {
                let (pod, address) = service.check_endpoint(slice, endpoint, &pods)?;
                found.extend(number.map(|port| Endpoint {
                    pod: pod.name_any(),
                    address,
                    port,
                    is_own: owns_port(pod, port),
                    owns_actuator: self.actuator_port.is_none_or(|port| owns_port(pod, port)),
                }));
            }
        }
        Ok(found)
    }

    async fn list<K: NamespacedObject>(
        &self,
        kind: &str,
        service: &str,
        params: ListParams,
    ) -> Result<Vec<K>, ResolveError> {
        let what = format!("reading the {kind} of Service {}/{service}", self.namespace);
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        match within(&what, CALL_TIMEOUT, api.list(&params)).await {
            Ok(list) => Ok(list.items),
            Err(CallError::Forbidden(_)) => Err(ResolveError::Unverified(format!(
                "Service {service} is not dialled, because {kind} in namespace {} may not be listed and so it is not known where the Service leads: grant list on {kind}",
                self.namespace
            ))),
            Err(error) => Err(ResolveError::Failed(format!("{what}: {error}"))),
        }
    }

    /// Each pod of `workload`, ready or not.
    pub(super) async fn pods(
        &self,
        workload: Option<&WorkloadRef>,
        target: &PodsTarget,
    ) -> Result<ServiceTargets, ResolveError> {
        let Some(reference) = workload else {
            return Err(ResolveError::target("spec.target.pods needs spec.workloadRef"));
        };
        let display_name = format!("{} {}", reference.kind, reference.name);
        let selector = match workload::selector(self.client, self.namespace, reference).await {
            Ok(selector) => selector,
            Err(CallError::NotFound) => {
                let message = format!("there is no {display_name} in namespace {}", self.namespace);
                return Err(ResolveError::Refused(Reason::WorkloadNotFound, message));
            }
            Err(error) => return Err(ResolveError::Failed(error.to_string())),
        };
        let what = format!("listing the pods of {} {}/{}", reference.kind, self.namespace, reference.name);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        let params = ListParams::default().labels_from(&selector).fields(LIVING_PODS).limit(MAX_LISTED);
        let pods = within(&what, CALL_TIMEOUT, api.list(&params)).await;
        let pods = pods.map_err(|error| ResolveError::Failed(format!("{what}: {error}")))?;
        let whole = Target {
            scheme: scheme(target.scheme),
            host: reference.name.clone(),
            port: 0,
            path: path(target.scheme, target.path.as_deref()),
            address: None,
            is_own: true,
        };
        let url = format!("{}://{}:{}{}", whole.scheme.as_str(), whole.host, port_text(&target.port), whole.path);
        let serving: Vec<&Pod> = pods.items.iter().filter(|pod| serves(pod)).collect();
        let addressed: Vec<(&Pod, IpAddr)> =
            serving.iter().filter_map(|pod| Some((*pod, addresses(pod).next()?))).collect();
        if addressed.is_empty() {
            return Ok(ServiceTargets::nothing(url, no_address(&display_name, serving.len())));
        }
        let at = |(pod, address): &(&Pod, IpAddr)| {
            let is_own = self.actuator_port.is_none_or(|port| owns_port(pod, port));
            of_pod(pod, *address, &target.port, &Target { is_own, ..whole.clone() })
        };
        let targets: Vec<_> = addressed.iter().filter_map(at).collect();
        if targets.is_empty() {
            return Err(ResolveError::target(format!(
                "no pod of {display_name} declares a port {}, which spec.target.pods.port names",
                port_text(&target.port)
            )));
        }
        Ok(ServiceTargets::fleeting(url, targets))
    }
}

fn no_address(workload: &str, pods: usize) -> String {
    match pods {
        0 => format!("{workload} has no pod that runs or will run: there is nothing to dial"),
        1 => format!("the pod of {workload} has no address yet: there is nothing to dial"),
        _ => format!("none of the {pods} pods of {workload} has an address yet: there is nothing to dial"),
    }
}

fn port_of<'a>(spec: &'a ServiceSpec, target: &ServiceTarget) -> Result<&'a ServicePort, ResolveError> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let port = ports.iter().find(|port| match &target.port {
        IntOrString::Int(number) => port.port == *number,
        IntOrString::String(name) => port.name.as_deref() == Some(name),
    });
    port.ok_or_else(|| {
        let known = ports.iter().map(|port| format!("{} {}", port.name.as_deref().unwrap_or("-"), port.port));
        let known = known.collect::<Vec<_>>().join(", ");
        let (name, port) = (&target.name, port_text(&target.port));
        ResolveError::target(format!("Service {name} has no port {port}; it has: {known}"))
    })
}

/// Whether the pod serves or will: it has not ended and is not being deleted.
fn serves(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed")) && pod.metadata.deletion_timestamp.is_none()
}

/// The target of one pod; `None` when it has no such port.
fn of_pod(pod: &Pod, address: IpAddr, port: &IntOrString, whole: &Target) -> Option<(String, Target)> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => ports(pod).find(|port| port.name.as_deref() == Some(name))?.container_port,
    };
    let port = u16::try_from(number).ok()?;
    let is_own = whole.is_own && owns_port(pod, port);
    Some((format!("pod/{}", pod.name_any()), Target { address: Some(address), port, is_own, ..whole.clone() }))
}

/// The ports that a pod declares.
fn ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|container| container.ports.iter().flatten())
}

/// Whether a port of the pod's address is its own. The address of a pod on its host's network is the node's: of its ports,
/// those are the pod's own that it declares.
fn owns_port(pod: &Pod, number: u16) -> bool {
    let is_on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    !is_on_host || ports(pod).any(|port| port.container_port == i32::from(number))
}

fn port_text(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}
