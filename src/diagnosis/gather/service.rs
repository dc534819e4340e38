//! Converts the Service of a target and its EndpointSlices to evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::diagnosis::evidence::{Evidence, Pod, Service};

/// A Service and its slices as evidence; `port` is the name or number in the target, `selected` the number of pods that
/// its selector selects.
pub(super) fn service(
    service: &v1::Service,
    slices: Option<&[EndpointSlice]>,
    port: &str,
    selected: Option<usize>,
) -> Service {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let asked = ports.iter().find(|candidate| has_name_or_number(candidate, port));
    let slices = slices.unwrap_or_default();
    Service {
        name: service.metadata.name.clone().unwrap_or_default(),
        kind: spec.type_.clone().unwrap_or_else(|| "ClusterIP".to_owned()),
        headless: spec.cluster_ip.as_deref() == Some("None"),
        selector: spec.selector.clone().unwrap_or_default(),
        port: asked.and_then(|port| Some((number(port.port)?, target_port(port)))),
        ports: ports.iter().map(port_text).collect(),
        selected,
        endpoints: count(slices),
        endpoint_port: asked.and_then(|port| endpoint_port(slices, port)),
    }
}

/// Its cluster addresses.
pub(super) fn addresses(service: &v1::Service) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let all = spec.and_then(|spec| spec.cluster_ips.clone()).unwrap_or_default();
    let one = spec.and_then(|spec| spec.cluster_ip.clone());
    let mut addresses: Vec<IpAddr> = one.into_iter().chain(all).filter_map(|text| text.parse().ok()).collect();
    addresses.dedup();
    addresses
}

fn has_name_or_number(port: &v1::ServicePort, name: &str) -> bool {
    port.name.as_deref() == Some(name) || name.parse() == Ok(port.port)
}

/// The target port as the spec gives it: a number, or the name of a container's port.
fn target_port(port: &v1::ServicePort) -> String {
    match &port.target_port {
        Some(IntOrString::String(name)) if !name.is_empty() => name.clone(),
        Some(IntOrString::Int(number)) if *number != 0 => number.to_string(),
        _ => port.port.to_string(),
    }
}

fn port_text(port: &v1::ServicePort) -> String {
    match &port.name {
        Some(name) if !name.is_empty() => format!("{name}/{}", port.port),
        _ => port.port.to_string(),
    }
}

/// Numbers of ready and of other endpoints. A pod with two address families is in two slices, and counts once.
fn count(slices: &[EndpointSlice]) -> (usize, usize) {
    let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
    for endpoint in slices.iter().flat_map(|slice| &slice.endpoints) {
        let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
        let Some(whose) = pod.or_else(|| endpoint.addresses.first().map(String::as_str)) else { continue };
        // An absent condition means ready (discovery/v1).
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        *seen.entry(whose).or_default() |= is_ready;
    }
    let ready = seen.values().filter(|ready| **ready).count();
    (ready, seen.len() - ready)
}

fn endpoint_port(slices: &[EndpointSlice], asked: &v1::ServicePort) -> Option<u16> {
    // An unnamed port has the empty name in its slices.
    let name = asked.name.as_deref().unwrap_or_default();
    let ports =
        slices.iter().filter(|slice| !slice.endpoints.is_empty()).flat_map(|slice| slice.ports.iter().flatten());
    let mut named = ports.filter(|port| port.name.as_deref().unwrap_or_default() == name);
    named.find_map(|port| port.port.and_then(number))
}

/// The addresses and the names of the pods behind the slices.
pub(super) fn endpoints(slices: &[EndpointSlice]) -> (BTreeSet<IpAddr>, BTreeSet<String>) {
    let endpoints = || slices.iter().flat_map(|slice| &slice.endpoints);
    let addresses = endpoints().flat_map(|endpoint| &endpoint.addresses).filter_map(|text| text.parse().ok());
    let pods = endpoints().filter_map(|endpoint| endpoint.target_ref.as_ref());
    let pods = pods.filter(|target| target.kind.as_deref() == Some("Pod")).filter_map(|target| target.name.clone());
    (addresses.collect(), pods.collect())
}

/// The number of a port in a pod; a name is looked up among its containers' ports.
pub(super) fn port_of(pod: &Pod, port: &str) -> Option<u16> {
    let declared = || pod.containers.iter().chain(&pod.init).flat_map(|container| &container.ports);
    port.parse().ok().or_else(|| declared().find(|(name, _)| name.as_deref() == Some(port)).map(|(_, number)| *number))
}

/// Whether a port of the pod's address is its own. The address of a pod on its host's network is the node's: of its ports,
/// those are the pod's own that it declares.
pub(super) fn owns_port(pod: &Pod, port: u16) -> bool {
    let mut declared = pod.containers.iter().flat_map(|container| &container.ports);
    !pod.host_network || declared.any(|(_, number)| *number == port)
}

/// The port of a pod that the target leads to.
pub(super) fn pod_port(evidence: &Evidence, pods_port: Option<&str>, pod: &Pod) -> Option<u16> {
    let of_service = evidence.service.found().and_then(|service| service.port.as_ref()).map(|(_, port)| port.as_str());
    if let Some(port) = of_service.or(pods_port) {
        return port_of(pod, port);
    }
    // Behind a URL the port may have another number in the pods, unless the pods declare the same one.
    let wanted = evidence.subject.port;
    let declares = pod.containers.iter().flat_map(|container| &container.ports).any(|(_, number)| *number == wanted);
    (evidence.subject.service.is_none() && declares).then_some(wanted)
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok()
}
