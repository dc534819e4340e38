//! What to dial for one backend, and with which credentials: the spec's names looked up in the cluster.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use super::request::{RequestSecrets, request};
use super::workload;
use crate::api::{MonitoredBackend, PodsTarget, Reason, SecretKeyRef, ServiceTarget, TargetScheme};
use crate::cluster::{CALL_TIMEOUT, CallError, within};
use crate::probe::{Request, Scheme, Target};
use crate::view::Scrape;

/// What a Secret must carry to be used by probes (api.md).
const CREDENTIALS: (&str, &str) = ("vigie.dev/probe-credentials", "true");

/// The vantage of a target that is one place.
const TARGET: &str = "target";

/// How many pods or endpoints are dialled for one backend.
const MOST_AIMS: usize = 20;

/// One place to dial.
#[derive(Clone, Debug)]
pub struct ProbeTarget {
    /// The name of its vantage: `target`, or `pod/NAME` where several are dialled.
    pub name: String,
    /// What is asked.
    pub request: Request,
    /// What it shares its places with: the address, or the name, that is dialled.
    pub host: Arc<str>,
}

/// Everything that is dialled for one backend.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The target as a URL without credentials.
    pub url: String,
    /// What Prometheus is to scrape; `None` where no HTTP is spoken.
    pub scrape: Option<Scrape>,
    /// At least one.
    pub aims: Vec<ProbeTarget>,
    /// Addresses come and go: pods, and endpoints of a headless Service.
    pub is_fleeting: bool,
}

/// Why there is nothing to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// The spec names something that is not there, or cannot be understood: `Accepted` is False.
    Refused(Reason, String),
    /// We could not look; what was prepared before stands.
    Failed(String),
}

impl ResolveError {
    fn target(message: impl Into<String>) -> Self {
        Self::Refused(Reason::InvalidTarget, message.into())
    }
}

/// Prepares the probes of `backend`.
///
/// # Errors
/// Why that is not possible.
pub async fn prepare(client: &Client, backend: &MonitoredBackend) -> Result<Resolved, ResolveError> {
    let namespace = backend.namespace().unwrap_or_default();
    let place = Dialled { client, namespace: &namespace };
    let secrets = place.secrets(backend).await?;
    let target = &backend.spec.target;
    let (url, targets, is_fleeting) = if let Some(url) = &target.url {
        let target = of_url(url).map_err(ResolveError::target)?;
        (as_url(&target), vec![(TARGET.to_owned(), target)], false)
    } else if let Some(service) = &target.service {
        place.of_service(service).await?
    } else if let Some(pods) = &target.pods {
        place.of_pods(backend, pods).await?
    } else {
        return Err(ResolveError::target("spec.target names nothing to dial"));
    };
    let mut aims = Vec::with_capacity(targets.len());
    for (name, target) in targets.into_iter().take(MOST_AIMS) {
        let host: Arc<str> = target.address.map_or_else(|| target.host.clone(), |address| address.to_string()).into();
        let request = request(&backend.spec.probe, target, &secrets).map_err(ResolveError::target)?;
        aims.push(ProbeTarget { name, request, host });
    }
    let scrape = scrape(backend, &aims);
    Ok(Resolved { url, scrape, aims, is_fleeting })
}

/// A credential that stands in a labelled Secret.
///
/// # Errors
/// Why there is none.
pub async fn credential(client: &Client, namespace: &str, from: &SecretKeyRef) -> Result<String, ResolveError> {
    Dialled { client, namespace }.text(from).await
}

/// The page of the target itself; where that is not asked to be one and an actuator is read, the actuator's.
fn scrape(backend: &MonitoredBackend, aims: &[ProbeTarget]) -> Option<Scrape> {
    let probe = &backend.spec.probe;
    let first = &aims.first()?.request.target;
    if !matches!(first.scheme, Scheme::Http | Scheme::Https) {
        return None;
    }
    let actuator = probe.actuator.as_ref().filter(|_| probe.metrics.is_none());
    let path = match actuator {
        Some(actuator) => format!("{}/prometheus", actuator.base_path().trim_end_matches('/')),
        None => first.path.split('?').next().unwrap_or("/").to_owned(),
    };
    let own_port = actuator.and_then(|actuator| u16::try_from(actuator.port?).ok());
    let address = |aim: &ProbeTarget| {
        let target = &aim.request.target;
        // A Service by its name, whatever address it has now; a pod by its address, for it has no name.
        let host = match target.address.filter(|_| aim.name != TARGET) {
            Some(address) => address.to_string(),
            None => target.host.clone(),
        };
        let port = own_port.unwrap_or(target.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    Some(Scrape { addresses: aims.iter().map(address).collect(), is_tls: first.scheme == Scheme::Https, path })
}

type Targets = (String, Vec<(String, Target)>, bool);

struct Dialled<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Dialled<'_> {
    async fn of_service(&self, target: &ServiceTarget) -> Result<Targets, ResolveError> {
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
        // A Service without a selector leads wherever somebody wrote; it is no more than a URL.
        let is_own = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
        let ports = spec.ports.unwrap_or_default();
        let port = ports.iter().find(|port| match &target.port {
            IntOrString::Int(number) => port.port == *number,
            IntOrString::String(name) => port.name.as_deref() == Some(name),
        });
        let Some(port) = port else {
            let known = ports.iter().map(|port| format!("{} {}", port.name.as_deref().unwrap_or("-"), port.port));
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(ResolveError::target(format!(
                "Service {name} has no port {}; it has: {known}",
                in_words(&target.port)
            )));
        };
        let number = u16::try_from(port.port).unwrap_or(0);
        let host = match (&spec.type_, &spec.external_name) {
            (Some(kind), Some(external)) if kind == "ExternalName" => external.clone(),
            _ => format!("{name}.{}.svc", self.namespace),
        };
        let path = path(target.scheme, target.path.as_deref());
        let whole = Target { scheme: scheme(target.scheme), host, port: number, path, address: None, is_own };
        let url = as_url(&whole);
        match spec.cluster_ip.as_deref() {
            Some("None") => {
                let port_name = port.name.clone().unwrap_or_default();
                Ok((url, self.endpoints(name, &port_name, &whole).await?, true))
            }
            Some(address) if !address.is_empty() => {
                let address = address.parse::<IpAddr>().ok();
                Ok((url, vec![(TARGET.to_owned(), Target { address, ..whole })], false))
            }
            _ => Ok((url, vec![(TARGET.to_owned(), whole)], false)),
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
            // Nobody is there to be dialled: the name says so itself, which is what a client would see.
            found.push((TARGET.to_owned(), whole.clone()));
        }
        Ok(found)
    }

    /// Each pod of the workload, ready or not.
    async fn of_pods(&self, backend: &MonitoredBackend, target: &PodsTarget) -> Result<Targets, ResolveError> {
        let Some(reference) = &backend.spec.workload_ref else {
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
        let url = format!("{}://{}:{}{}", whole.scheme.as_str(), whole.host, in_words(&target.port), whole.path);
        let aims: Vec<_> = pods.items.iter().filter_map(|pod| of_pod(pod, &target.port, &whole)).collect();
        if aims.is_empty() {
            return Err(ResolveError::Failed(format!(
                "{} {} has no pod with an address",
                reference.kind, reference.name
            )));
        }
        Ok((url, aims, true))
    }

    async fn secrets(&self, backend: &MonitoredBackend) -> Result<RequestSecrets, ResolveError> {
        let http = &backend.spec.probe.http;
        let mut resolved = RequestSecrets::default();
        for header in &http.headers {
            let Some(from) = &header.value_from else { continue };
            resolved.headers.push((header.name.clone(), self.text(&from.secret_ref).await?));
        }
        if let Some(from) = &http.bearer_token_secret_ref {
            resolved.bearer_token = Some(self.text(from).await?);
        }
        if let Some(name) = &http.basic_auth_secret_name {
            let key = |key: &str| SecretKeyRef { name: name.clone(), key: key.to_owned() };
            resolved.basic_auth = Some((self.text(&key("username")).await?, self.text(&key("password")).await?));
        }
        let Some(tls) = &http.tls else { return Ok(resolved) };
        if let Some(from) = &tls.ca_secret_ref {
            // What is public needs no label: an authority's certificate gives nobody access.
            resolved.ca = Some(self.bytes(from, false).await?.into());
        }
        if let Some(name) = &tls.client_certificate_secret_name {
            let key = |key: &str| SecretKeyRef { name: name.clone(), key: key.to_owned() };
            let certificate = self.bytes(&key("tls.crt"), true).await?;
            resolved.client = Some((certificate.into(), self.bytes(&key("tls.key"), true).await?.into()));
        }
        Ok(resolved)
    }

    /// A credential as text, without the line end that editors leave.
    async fn text(&self, from: &SecretKeyRef) -> Result<String, ResolveError> {
        let bytes = self.bytes(from, true).await?;
        let text = std::str::from_utf8(&bytes).map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        let text = text.ok().filter(|text| text.chars().all(|letter| !letter.is_control()));
        text.ok_or_else(|| {
            ResolveError::target(format!("key {} of Secret {} is not one line of UTF-8 text", from.key, from.name))
        })
    }

    async fn bytes(&self, from: &SecretKeyRef, is_credential: bool) -> Result<Vec<u8>, ResolveError> {
        let SecretKeyRef { name, key } = from;
        let missing = |message: String| ResolveError::Refused(Reason::SecretNotFound, message);
        let what = format!("reading Secret {}/{name}", self.namespace);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
        let secret = match within(&what, CALL_TIMEOUT, api.get(name)).await {
            Ok(secret) => secret,
            Err(CallError::NotFound) => {
                return Err(missing(format!("there is no Secret {name} in namespace {}", self.namespace)));
            }
            Err(error) => return Err(ResolveError::Failed(format!("{what}: {error}"))),
        };
        if is_credential && secret.labels().get(CREDENTIALS.0).map(String::as_str) != Some(CREDENTIALS.1) {
            let (label, value) = CREDENTIALS;
            return Err(missing(format!(
                "Secret {name} is not for probes: whoever owns it labels it {label}={value}, or names another"
            )));
        }
        let value = secret.data.and_then(|mut data| data.remove(key)).map(|value| value.0);
        value.ok_or_else(|| missing(format!("Secret {name} has no key {key}")))
    }
}

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

/// The target that a URL names.
///
/// # Errors
/// What of it cannot be understood; the API server has refused most of that before.
pub fn of_url(url: &str) -> Result<Target, String> {
    let (scheme_word, rest) = url.split_once("://").ok_or("spec.target.url has no scheme")?;
    let scheme = scheme(scheme_word.parse()?);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path_query) = rest.split_at(end);
    if authority.contains('@') {
        return Err("spec.target.url must hold no user and no password".to_owned());
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or_default()),
        None => authority.rsplit_once(':').unwrap_or((authority, "")),
    };
    if host.is_empty() {
        return Err("spec.target.url has no host".to_owned());
    }
    let port = match (port, scheme.default_port()) {
        ("", Some(port)) => port,
        ("", None) => return Err(format!("spec.target.url needs a port: {} has none of its own", scheme.as_str())),
        (port, _) => port.parse().map_err(|_| format!("spec.target.url: {port:?} is no port"))?,
    };
    let path_query = path_query.split('#').next().unwrap_or_default();
    let path = match scheme {
        Scheme::Http | Scheme::Https if path_query.starts_with('/') => path_query.to_owned(),
        Scheme::Http | Scheme::Https => format!("/{path_query}"),
        Scheme::Tcp | Scheme::Grpc | Scheme::Grpcs => path_query.trim_start_matches('/').to_owned(),
    };
    Ok(Target { scheme, host: host.to_owned(), port, path, address: None, is_own: false })
}

/// A target as a URL.
pub fn as_url(target: &Target) -> String {
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let slash = if target.path.is_empty() || target.path.starts_with('/') { "" } else { "/" };
    format!("{}://{host}:{}{slash}{}", target.scheme.as_str(), target.port, target.path)
}

/// The scheme of the API as the probes know it.
pub fn scheme(of: TargetScheme) -> Scheme {
    match of {
        TargetScheme::Http => Scheme::Http,
        TargetScheme::Https => Scheme::Https,
        TargetScheme::Tcp => Scheme::Tcp,
        TargetScheme::Grpc => Scheme::Grpc,
        TargetScheme::Grpcs => Scheme::Grpcs,
    }
}

fn path(of: TargetScheme, path: Option<&str>) -> String {
    match of {
        TargetScheme::Http | TargetScheme::Https => path.unwrap_or("/").to_owned(),
        TargetScheme::Tcp => String::new(),
        TargetScheme::Grpc | TargetScheme::Grpcs => path.unwrap_or_default().trim_start_matches('/').to_owned(),
    }
}

fn in_words(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests;
