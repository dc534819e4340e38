//! The parts of a MonitoredBackend that the rules use.

use axum::http::Uri;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use crate::api::{BackendTarget, MonitoredBackend, TargetScheme, WorkloadRef};
use crate::diagnosis::evidence::{Evidence, Subject};

/// Default startup time in seconds, where neither the spec nor a startup probe sets one (docs/design/api.md,
/// startupSeconds).
const DEFAULT_STARTUP: u64 = 300;

/// The subject of the evidence, from the spec alone. A named port is 0 until the pods or the Service have been read; so
/// is a startup time that the spec does not set.
pub fn subject(backend: &MonitoredBackend) -> Subject {
    let spec = &backend.spec;
    let namespace = backend.namespace().unwrap_or_default();
    let parts = TargetParts::of(&spec.target, &namespace);
    let prometheus = spec.prometheus.as_ref();
    Subject {
        name: backend.name_any(),
        url: url(parts.scheme, url_host(&parts.host, spec.workload_ref.as_ref()), &parts.port, &parts.path),
        scheme: parts.scheme.to_owned(),
        host: parts.host,
        port: parts.port.parse().unwrap_or(0),
        path: parts.path,
        service: spec.target.service.as_ref().map(|service| (service.name.clone(), port_text(&service.port))),
        workload: spec.workload_ref.clone(),
        wants_metrics: spec.probe.metrics.is_some(),
        wants_actuator: spec.probe.actuator.is_some(),
        startup_seconds: spec.startup_seconds.map_or(0, |seconds| u64::try_from(seconds).unwrap_or(0)),
        prometheus_url: None,
        prometheus_source: prometheus.and_then(|prometheus| prometheus.source_cidr.clone()),
        created: backend.metadata.creation_timestamp.as_ref().map(|created| created.0),
        has_agent: spec.agent_ref.is_some(),
        namespace,
    }
}

/// The name or number of the port, for a target of pods.
pub(super) fn pods_port(backend: &MonitoredBackend) -> Option<String> {
    backend.spec.target.pods.as_ref().map(|pods| port_text(&pods.port))
}

/// Fills in the parts that need the cluster: the number of a named port, and the startup time.
pub(super) fn complete(evidence: &mut Evidence, is_startup_given: bool, pods_port: Option<&str>) {
    let pods = evidence.pods.found().map(Vec::as_slice).unwrap_or_default();
    let mut port = evidence.subject.port;
    if port == 0 {
        let of_service = evidence.service.found().and_then(|service| service.port.as_ref()).map(|(number, _)| *number);
        let of_pods = pods_port.and_then(|port| pods.iter().find_map(|pod| super::service::port_of(pod, port)));
        port = of_service.or(of_pods).unwrap_or(0);
    }
    let mut startup = evidence.subject.startup_seconds;
    if !is_startup_given {
        let budgets = pods.iter().flat_map(|pod| &pod.containers).filter_map(|container| container.startup_budget);
        let ready_after = evidence.workload.found().map_or(0, |workload| workload.min_ready_seconds);
        let ready_after = u64::try_from(ready_after).unwrap_or(0);
        startup = budgets.max().unwrap_or_else(|| ready_after.max(DEFAULT_STARTUP));
    }
    let subject = &mut evidence.subject;
    if subject.port == 0 && port > 0 {
        let Subject { scheme, host, path, workload, .. } = subject;
        subject.url = url(scheme, url_host(host, workload.as_ref()), &port.to_string(), path);
    }
    subject.port = port;
    subject.startup_seconds = startup;
}

/// The parts of a target's URL.
struct TargetParts {
    scheme: &'static str,
    host: String,
    port: String,
    path: String,
}

impl TargetParts {
    fn of(target: &BackendTarget, namespace: &str) -> Self {
        let path = |path: &Option<String>| path.clone().unwrap_or_default();
        if let Some(service) = &target.service {
            let host = format!("{}.{namespace}.svc", service.name);
            return Self::new(service.scheme, host, port_text(&service.port), path(&service.path));
        }
        if let Some(pods) = &target.pods {
            return Self::new(pods.scheme, String::new(), port_text(&pods.port), path(&pods.path));
        }
        let uri: Uri = target.url.as_deref().unwrap_or_default().parse().unwrap_or_default();
        let scheme: TargetScheme = uri.scheme_str().unwrap_or_default().parse().unwrap_or_default();
        // An IPv6 address has brackets only in a URL.
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let usual = if scheme == TargetScheme::Https { "443" } else { "80" };
        let port = uri.port_u16().map_or_else(|| usual.to_owned(), |port| port.to_string());
        let path = uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
        Self::new(scheme, host, port, path)
    }

    fn new(scheme: TargetScheme, host: String, port: String, path: String) -> Self {
        // Only HTTP paths begin with a slash; for gRPC the path is the name of a service.
        let is_http = matches!(scheme, TargetScheme::Http | TargetScheme::Https);
        let path = match path.trim_start_matches('/') {
            "" if is_http => "/".to_owned(),
            name if !is_http => name.to_owned(),
            _ => path,
        };
        Self { scheme: scheme.as_str(), host, port, path }
    }
}

/// The host in a URL; for a target of pods the name of their workload.
fn url_host<'a>(host: &'a str, workload: Option<&'a WorkloadRef>) -> &'a str {
    match workload {
        Some(workload) if host.is_empty() => &workload.name,
        _ => host,
    }
}

fn url(scheme: &str, host: &str, port: &str, path: &str) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{host}:{port}{slash}{path}")
}

fn port_text(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}
