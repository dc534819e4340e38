//! Looks up the Service or the pods that a spec names.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use super::url::{as_url, path, scheme};
use super::{ResolveError, TARGET};
use crate::api::{PodsTarget, Reason, ServiceTarget, WorkloadRef};
use crate::cluster::{CALL_TIMEOUT, CallError, within};
use crate::monitor::workload;
use crate::probe::Target;

/// The addresses behind one spec.
pub(super) struct ServiceTargets {
    /// The target as a URL without credentials.
    pub(super) url: String,
    /// The targets by the name of their vantage.
    pub(super) targets: Vec<(String, Target)>,
    /// The addresses belong to pods and change with them.
    pub(super) is_fleeting: bool,
}

impl ServiceTargets {
    /// A single target, `target`.
    pub(super) fn one(url: String, target: Target) -> Self {
        Self { url, targets: vec![(TARGET.to_owned(), target)], is_fleeting: false }
    }
}

/// Looks up targets in one namespace.
pub(super) struct TargetLookup<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
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
        let spec = service.spec.unwrap_or_default();
        let port = port_of(&spec, target)?;
        let whole = self.target_of(&spec, target, port);
        let url = as_url(&whole);
        match spec.cluster_ip.as_deref() {
            Some("None") => {
                let port_name = port.name.clone().unwrap_or_default();
                Ok(ServiceTargets { url, targets: self.endpoints(name, &port_name, &whole).await?, is_fleeting: true })
            }
            Some(address) if !address.is_empty() => {
                let address = address.parse::<IpAddr>().ok();
                Ok(ServiceTargets::one(url, Target { address, ..whole }))
            }
            _ => Ok(ServiceTargets::one(url, whole)),
        }
    }

    /// The Service by its name, without an address.
    fn target_of(&self, spec: &ServiceSpec, target: &ServiceTarget, port: &ServicePort) -> Target {
        let host = match (&spec.type_, &spec.external_name) {
            (Some(kind), Some(external)) if kind == "ExternalName" => external.clone(),
            _ => format!("{}.{}.svc", target.name, self.namespace),
        };
        Target {
            scheme: scheme(target.scheme),
            host,
            port: u16::try_from(port.port).unwrap_or(0),
            path: path(target.scheme, target.path.as_deref()),
            address: None,
            // Endpoints of a Service without a selector are written by hand and may be any address: the policy treats it
            // like a URL.
            is_own: spec.selector.as_ref().is_some_and(|selector| !selector.is_empty()),
        }
    }

    /// Each endpoint of a headless Service, ready or not.
    async fn endpoints(
        &self,
        service: &str,
        port: &str,
        whole: &Target,
    ) -> Result<Vec<(String, Target)>, ResolveError> {
        let what = format!("reading the EndpointSlices of Service {}/{service}", self.namespace);
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), self.namespace);
        let params = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = within(&what, CALL_TIMEOUT, api.list(&params)).await;
        let slices = slices.map_err(|error| ResolveError::Failed(format!("{what}: {error}")))?;
        let mut found = Vec::new();
        for slice in slices.items {
            let ports = slice.ports.unwrap_or_default();
            let number = ports.iter().find(|known| known.name.as_deref().unwrap_or_default() == port);
            let Some(number) = number.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
            for endpoint in slice.endpoints {
                let Some(address) = endpoint.addresses.first().and_then(|address| address.parse().ok()) else {
                    continue;
                };
                let pod = endpoint.target_ref.filter(|of| of.kind.as_deref() == Some("Pod")).and_then(|of| of.name);
                let name = format!("pod/{}", pod.unwrap_or_else(|| format!("{address}")));
                found.push((name, Target { address: Some(address), port: number, ..whole.clone() }));
            }
        }
        if found.is_empty() {
            // Without an endpoint the name is probed: it does not resolve, which is what a client sees.
            found.push((TARGET.to_owned(), whole.clone()));
        }
        Ok(found)
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
        let selector = match workload::selector(self.client, self.namespace, reference).await {
            Ok(selector) => selector,
            Err(CallError::NotFound) => {
                let message =
                    format!("there is no {} {} in namespace {}", reference.kind, reference.name, self.namespace);
                return Err(ResolveError::Refused(Reason::WorkloadNotFound, message));
            }
            Err(error) => return Err(ResolveError::Failed(error.to_string())),
        };
        let what = format!("listing the pods of {} {}/{}", reference.kind, self.namespace, reference.name);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        let params = ListParams::default().labels_from(&selector);
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
        let targets: Vec<_> = pods.items.iter().filter_map(|pod| of_pod(pod, &target.port, &whole)).collect();
        if targets.is_empty() {
            return Err(ResolveError::Failed(format!(
                "{} {} has no pod with an address",
                reference.kind, reference.name
            )));
        }
        Ok(ServiceTargets { url, targets, is_fleeting: true })
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

/// The target of one pod; `None` when the pod has ended, is being deleted, or has no address or no such port.
fn of_pod(pod: &Pod, port: &IntOrString, whole: &Target) -> Option<(String, Target)> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let address = status.pod_ip.as_deref()?.parse().ok()?;
    let containers = &pod.spec.as_ref()?.containers;
    let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => ports.find(|port| port.name.as_deref() == Some(name))?.container_port,
    };
    let name = format!("pod/{}", pod.name_any());
    Some((name, Target { address: Some(address), port: u16::try_from(number).ok()?, ..whole.clone() }))
}

fn port_text(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}
