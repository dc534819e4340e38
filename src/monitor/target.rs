//! Resolves the target of one backend: looks up the objects that its spec names, and makes a request for each address.

use std::sync::Arc;

use kube::{Client, ResourceExt as _};

use super::credentials::secrets;
use super::request::{Patterns, RequestSecrets, request};
pub use super::resolve_error::ResolveError;
use crate::api::MonitoredBackend;
use crate::probe::{Request, Scheme};
use crate::view::MetricsEndpoint;

mod lookup;
mod own_service;
#[cfg(test)]
mod tests;
mod url;

use lookup::{ServiceTargets, TargetLookup};
pub use url::{as_url, of_url};

/// The vantage of a target that is a single address.
const TARGET: &str = "target";

/// The most pods or endpoints that are probed for one backend.
const MAX_TARGETS: usize = 20;

/// One address to probe.
#[derive(Clone, Debug)]
pub struct ProbeTarget {
    /// The name of its vantage: `target`, or `pod/NAME` where several are probed.
    pub name: String,
    /// The request of each probe.
    pub request: Request,
    /// The same for other ports and for the addresses of the pods behind the target: without its credentials, unless the
    /// Secrets that hold them name the target's host for all ports or for that of the actuator.
    pub elsewhere: Request,
    /// The address or name that is dialled. All probes of one host share its concurrency limit.
    pub host: Arc<str>,
}

/// Everything that is probed for one backend.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The target as a URL without credentials.
    pub url: String,
    /// The page that Prometheus is to scrape; `None` unless the target speaks HTTP.
    pub scrape: Option<MetricsEndpoint>,
    /// At least one, unless `nothing` says why there is none.
    pub targets: Vec<ProbeTarget>,
    /// Why there is nothing to dial now.
    pub nothing: Option<String>,
    /// The addresses belong to pods (or to endpoints of a headless Service) and change with them.
    pub is_fleeting: bool,
}

/// Resolves the target of `backend`.
///
/// # Errors
/// The spec is refused, or the lookup failed.
pub async fn resolve(client: &Client, backend: &MonitoredBackend) -> Result<Resolved, ResolveError> {
    let namespace = backend.namespace().unwrap_or_default();
    let actuator_port = backend.spec.probe.actuator.as_ref().and_then(|actuator| u16::try_from(actuator.port?).ok());
    let lookup = TargetLookup { client, namespace: &namespace, actuator_port };
    let secrets = secrets(client, &namespace, &backend.spec.probe.http).await?;
    let target = &backend.spec.target;
    let found = if let Some(url) = &target.url {
        let target = of_url(url).map_err(ResolveError::target)?;
        ServiceTargets::one(as_url(&target), target)
    } else if let Some(service) = &target.service {
        lookup.service(service).await?
    } else if let Some(pods) = &target.pods {
        lookup.pods(backend.spec.workload_ref.as_ref(), pods).await?
    } else {
        return Err(ResolveError::target("spec.target names nothing to dial"));
    };
    let patterns = Patterns::compile(&backend.spec.probe.http).await.map_err(ResolveError::target)?;
    let mut targets = Vec::with_capacity(found.targets.len().min(MAX_TARGETS));
    for (name, target) in found.targets.into_iter().take(MAX_TARGETS) {
        secrets.check_host(&target.host, target.port)?;
        let host: Arc<str> = target.address.map_or_else(|| target.host.clone(), |address| address.to_string()).into();
        let make = |secrets: &RequestSecrets| request(&backend.spec.probe, target.clone(), secrets, &patterns);
        let elsewhere = match secrets.are_for(&target.host, actuator_port) {
            true => make(&secrets.content),
            false => make(&secrets.content.without_credentials()),
        };
        targets.push(ProbeTarget { name, request: make(&secrets.content), elsewhere, host });
    }
    let scrape = scrape(backend, &targets);
    Ok(Resolved { url: found.url, scrape, targets, nothing: found.nothing, is_fleeting: found.is_fleeting })
}

/// The page that Prometheus is to scrape: the target itself, or the actuator's page when the spec has `actuator` and no
/// `metrics`.
fn scrape(backend: &MonitoredBackend, targets: &[ProbeTarget]) -> Option<MetricsEndpoint> {
    let probe = &backend.spec.probe;
    let first = &targets.first()?.request.target;
    if !matches!(first.scheme, Scheme::Http | Scheme::Https) {
        return None;
    }
    let actuator = probe.actuator.as_ref().filter(|_| probe.metrics.is_none());
    let path = match actuator {
        Some(actuator) => format!("{}/prometheus", actuator.base_path().trim_end_matches('/')),
        None => first.path.split('?').next().unwrap_or("/").to_owned(),
    };
    let own_port = actuator.and_then(|actuator| u16::try_from(actuator.port?).ok());
    let address = |of: &ProbeTarget| {
        let target = &of.request.target;
        // A Service is scraped by its name, whatever its address is now; a pod has no name and is scraped by its address.
        let host = match target.address.filter(|_| of.name != TARGET) {
            Some(address) => address.to_string(),
            None => target.host.clone(),
        };
        let port = own_port.unwrap_or(target.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    Some(MetricsEndpoint {
        addresses: targets.iter().map(address).collect(),
        is_tls: first.scheme == Scheme::Https,
        path,
    })
}
