//! Decides whether a Service leads to pods of its own namespace and nowhere else. Pure.
//!
//! A tenant who may write Services or EndpointSlices may point them at any address. Only addresses that the kubelet has
//! written into the status of a pod of the namespace are the tenant's own.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt as _;
use kube::core::Selector;

use super::ResolveError;

/// The label that names the writer of an EndpointSlice, and the writer of those of Services with a selector
/// (kube-controller-manager, `endpointslice.controller`).
const MANAGED_BY: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");

/// A Service whose endpoints are pods that it selects.
pub(super) struct OwnService<'a> {
    pub(super) name: &'a str,
    pub(super) selector: Selector,
    namespace: &'a str,
    uid: &'a str,
}

impl<'a> OwnService<'a> {
    /// # Errors
    /// The Service leads to a name, or to endpoints that are written by hand.
    pub(super) fn of(service: &'a Service) -> Result<Self, ResolveError> {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let spec = service.spec.as_ref();
        if spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName") || spec.external_name.is_some()) {
            return Err(ResolveError::denied(format!(
                "Service {name} is an ExternalName and is never dialled, because its name may lead anywhere: aim at that name with spec.target.url"
            )));
        }
        let selector = spec.and_then(|spec| spec.selector.clone()).unwrap_or_default();
        if selector.is_empty() {
            return Err(ResolveError::denied(format!(
                "Service {name} has no selector and is not dialled, because its endpoints are written by hand and may be any address: aim at the address itself with spec.target.url"
            )));
        }
        let metadata = &service.metadata;
        Ok(Self {
            name,
            selector: selector.into_iter().collect(),
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            uid: metadata.uid.as_deref().unwrap_or_default(),
        })
    }

    /// # Errors
    /// The endpointslice controller did not write `slice` for this Service.
    pub(super) fn check_slice(&self, slice: &EndpointSlice) -> Result<(), ResolveError> {
        let (label, controller) = MANAGED_BY;
        let writer = slice.labels().get(label).map(String::as_str);
        let is_of_us = |owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
            owner.kind == "Service" && owner.name == self.name && owner.uid == self.uid
        };
        if writer == Some(controller) && slice.owner_references().iter().any(is_of_us) {
            return Ok(());
        }
        let why = match writer {
            Some(writer) if writer != controller => format!("its label {label} is {writer}"),
            Some(_) => "the Service does not own it".to_owned(),
            None => format!("it has no label {label}"),
        };
        Err(ResolveError::denied(format!(
            "Service {} is not dialled, because EndpointSlice {} behind it was not written by Kubernetes' endpointslice controller ({why}) and may lead anywhere: delete that EndpointSlice",
            self.name,
            slice.name_any()
        )))
    }

    /// The pod among `pods`, and the address, of an endpoint.
    ///
    /// # Errors
    /// The address is not that of the pod which the endpoint names. That may be because one of the two was read before the
    /// other had changed.
    pub(super) fn check_endpoint<'p>(
        &self,
        slice: &EndpointSlice,
        endpoint: &Endpoint,
        pods: &'p [Pod],
    ) -> Result<(&'p Pod, IpAddr), ResolveError> {
        let text = endpoint.addresses.first().map(String::as_str).unwrap_or_default();
        let refuse = |why: String| {
            format!(
                "Service {} is not dialled, because endpoint {text} in EndpointSlice {} {why} and may lead anywhere",
                self.name,
                slice.name_any()
            )
        };
        let target = endpoint.target_ref.as_ref().filter(|target| {
            let is_here = target.namespace.as_deref().is_none_or(|namespace| namespace == self.namespace);
            target.kind.as_deref() == Some("Pod") && is_here
        });
        let Some(name) = target.and_then(|target| target.name.as_deref()) else {
            return Err(ResolveError::denied(refuse(format!("is no pod of namespace {}", self.namespace))));
        };
        let pod = pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(name));
        let listed = endpoint.addresses.iter().map(|text| text.parse::<IpAddr>());
        let mut listed =
            listed.map(|parsed| parsed.ok().filter(|one| pod.is_some_and(|pod| addresses(pod).any(|own| own == *one))));
        match pod.zip(listed.next().flatten().filter(|_| listed.all(|one| one.is_some()))) {
            Some(found) => Ok(found),
            None => Err(ResolveError::Unverified(refuse(format!("is not the address of pod {name}")))),
        }
    }
}

/// The addresses of a pod, the primary one first.
pub(super) fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let status = pod.status.as_ref();
    let first = status.and_then(|status| status.pod_ip.as_deref());
    let all = status.into_iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|one| one.ip.as_str());
    first.into_iter().chain(all).filter_map(|text| text.parse().ok())
}
