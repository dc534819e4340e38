//! Gathers the evidence of one backend: the only part of the diagnosis that does I/O.
//!
//! Each read may be forbidden, fail or time out without affecting the others: the evidence then names the missing
//! permission or the error. Number and size of reads are bounded, and every call has a time limit.

mod actuator;
mod actuator_probe;
#[cfg(test)]
mod actuator_probe_tests;
mod certificate;
mod containers;
mod convert;
mod environment;
#[cfg(test)]
mod environment_tests;
mod events;
#[cfg(test)]
mod mapping_tests;
mod namespace_reader;
mod network_policies;
#[cfg(test)]
mod network_policies_tests;
mod pods;
mod policy_peers;
mod prometheus;
mod reader;
mod service;
mod settings;
mod subject;
#[cfg(test)]
mod tests;
mod vantages;
#[cfg(test)]
mod vantages_tests;
mod variables;
mod workload;

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use kube::Client;

use super::evidence::{Evidence, FORMAT, History, Lookup, Prometheus, Subject};
use crate::api::{MonitoredBackend, Reason};
use crate::cluster::NamespacedObject;
use crate::probe::Prober;
pub use actuator::actuator;
pub use actuator_probe::{ActuatorResult, needs_actuator, probe_actuator};
use namespace_reader::NamespaceReader;
pub use network_policies::Peer;
pub use policy_peers::own_pod;
pub use prometheus::{PrometheusSource, ServerCache};
use reader::ClusterReader;
pub use subject::subject;
pub use vantages::{nothing_to_dial, pod_probes, vantage};

/// Reads one object by its name; a refusal names the missing permission.
pub async fn lookup<K: NamespacedObject>(client: &Client, namespace: &str, name: &str) -> Lookup<K> {
    ClusterReader::new(client.clone()).get(namespace, name).await
}

/// Whether two URLs name the same Service of the cluster.
pub fn is_same_service(one: &str, other: &str) -> bool {
    prometheus::service_of(one).is_some_and(|service| prometheus::service_of(other) == Some(service))
}

/// Whether a URL names a Service of the cluster: such a name resolves only inside the cluster.
pub fn is_in_cluster(url: &str) -> bool {
    prometheus::service_of(url).is_some()
}

/// The known part of the evidence, and what to read in addition.
#[derive(Clone, Debug)]
pub struct Question {
    /// The parts that the caller knows: subject, vantages, history, actuator. `gather` fills in the rest.
    pub known: Evidence,
    /// The spec limits the startup time; otherwise the pods' startup probes do.
    pub is_startup_given: bool,
    /// The port's name or number, for a target of pods.
    pub pods_port: Option<String>,
    /// The Prometheus to query.
    pub prometheus: Option<PrometheusSource>,
    /// The sources of vigie's probes, to evaluate NetworkPolicies; empty outside the cluster.
    pub us: Vec<Peer>,
    /// Number of log lines to read of restarted containers; `None` reads no logs.
    pub log_lines: Option<u32>,
}

impl Question {
    /// A question about the workload of `subject` only.
    pub fn about_workload(subject: Subject, now: Timestamp) -> Self {
        let known = blank(subject, now);
        Self { known, is_startup_given: true, pods_port: None, prometheus: None, us: Vec::new(), log_lines: None }
    }

    /// A question about `backend`, with nothing known but its spec. `prometheus` is the one in its spec, else the
    /// administrator's.
    pub fn about(backend: &MonitoredBackend, prometheus: Option<PrometheusSource>, now: Timestamp) -> Self {
        let mut subject = subject(backend);
        subject.prometheus_url = prometheus.as_ref().map(|source| prometheus::without_secrets(&source.url));
        let is_startup_given = backend.spec.startup_seconds.is_some();
        let pods_port = subject::pods_port(backend);
        let known = blank(subject, now);
        Self { known, is_startup_given, pods_port, prometheus, us: Vec::new(), log_lines: None }
    }
}

/// Evidence without any observation.
fn blank(subject: Subject, now: Timestamp) -> Evidence {
    Evidence {
        format: FORMAT,
        gathered_at: now,
        subject,
        refused: None,
        blind: None,
        vantages: Vec::new(),
        history: History::default(),
        workload: Lookup::NotLooked,
        pods: Lookup::NotLooked,
        ended_pods: Vec::new(),
        nodes_not_ready: Lookup::NotLooked,
        service: Lookup::NotLooked,
        certificate_secret: Lookup::NotLooked,
        policies: Lookup::NotLooked,
        events: Lookup::NotLooked,
        prometheus: Lookup::NotLooked,
        actuator: Lookup::NotLooked,
        agent: None,
        missing: Vec::new(),
    }
}

/// Gathers the evidence of a backend. `prober` queries Prometheus, under its address policy.
pub async fn gather(client: Client, prober: &Prober, question: Question, now: Timestamp) -> Evidence {
    let reader = ClusterReader::new(client);
    let Question { known: mut evidence, is_startup_given, pods_port, prometheus: source, us, log_lines } = question;
    let namespace = evidence.subject.namespace.clone();
    let objects = NamespaceReader { reader: &reader, namespace: &namespace };
    let pods_port = pods_port.as_deref();
    let mut related = find_objects(&objects, &mut evidence).await;
    subject::complete(&mut evidence, is_startup_given, pods_port);
    if let (Some(lines), Lookup::Found(pods)) = (log_lines, &mut evidence.pods) {
        evidence.missing.extend(objects.logs(pods, lines).await);
    }
    let pods = evidence.pods.found().cloned().unwrap_or_default();
    // Ended pods tell something where no other one is left.
    let witnesses = if pods.is_empty() { &evidence.ended_pods } else { &pods };
    if !certificate::is_asked_for(&evidence.vantages) {
        related.secrets.clear();
    }
    let (nodes, events, certificate, policies, prometheus) = tokio::join!(
        objects.nodes_not_ready(witnesses),
        objects.events(witnesses, &related.subjects, now),
        objects.certificate(&related.secrets),
        objects.network_policies(&pods),
        ask_prometheus(prober, source.as_ref(), &evidence, (&related.addresses, pods_port), now),
    );
    let listed = policies.found().map(Vec::as_slice).unwrap_or_default();
    let prometheus_pods = objects.prometheus_pods(source.as_ref(), listed).await;
    evidence.gathered_at = now;
    evidence.nodes_not_ready = nodes;
    evidence.events = events;
    evidence.certificate_secret = certificate;
    evidence.prometheus = prometheus.map(|seen| Prometheus { addresses: prometheus_pods.addresses.clone(), ..seen });
    evidence.policies = policy_peers::evaluate(policies, &evidence, pods_port, &prometheus_pods, &us);
    evidence.missing.extend(prometheus_pods.missing);
    evidence
}

/// Whether to query this Prometheus. A target that was refused has no address, so any entry might match. A target that
/// does not speak HTTP is scraped only where its own spec names a Prometheus.
fn is_known_to(source: &PrometheusSource, evidence: &Evidence) -> bool {
    let nowhere = [Reason::InvalidTarget, Reason::InvalidSpec, Reason::WorkloadNotFound];
    let is_nowhere = evidence.refused.as_ref().is_some_and(|(reason, _)| nowhere.contains(reason));
    !is_nowhere && (!source.is_administrators || evidence.subject.scheme.starts_with("http"))
}

async fn ask_prometheus(
    prober: &Prober,
    source: Option<&PrometheusSource>,
    evidence: &Evidence,
    (service, pods_port): (&[IpAddr], Option<&str>),
    now: Timestamp,
) -> Lookup<Prometheus> {
    let Some(source) = source.filter(|source| is_known_to(source, evidence)) else { return Lookup::NotLooked };
    prometheus::ask(prober, source, &prometheus::matcher(evidence, source, service, pods_port), now).await
}

/// Objects behind a backend that are not evidence themselves.
struct RelatedObjects {
    /// Kind and name of objects other than pods whose events matter.
    subjects: Vec<(&'static str, String)>,
    /// Cluster addresses of its Service.
    addresses: Vec<IpAddr>,
    /// Names of the Secrets that its pods mount.
    secrets: BTreeSet<String>,
}

/// Reads workload, Service and pods.
async fn find_objects(objects: &NamespaceReader<'_>, evidence: &mut Evidence) -> RelatedObjects {
    let subject = &evidence.subject;
    let ((workload, of_workload), (service, of_service)) =
        tokio::join!(objects.workload(subject.workload.as_ref()), objects.service(subject.service.as_ref()));
    let spec = service.found().and_then(|(service, _)| service.spec.as_ref());
    let selector = spec.and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let (owned, selected) = tokio::join!(objects.pods_of(workload.found()), objects.selected(&selector));
    let count = selected.count();
    // Without a workload, the pods behind a target are those that its Service selects.
    let pods = if subject.workload.is_some() { owned } else { selected };
    let port = subject.service.as_ref().map_or("", |(_, port)| port);
    let related = RelatedObjects {
        subjects: workload.found().map(|read| read.subjects.clone()).unwrap_or_default(),
        addresses: service.found().map(|(service, _)| service::addresses(service)).unwrap_or_default(),
        secrets: pods.living.found().map(|pods| certificate::mounted(pods)).unwrap_or_default(),
    };
    evidence.service = service.map(|(service, slices)| service::service(&service, slices.as_deref(), port, count));
    evidence.workload = workload.map(|read| read.workload);
    evidence.ended_pods = objects.ended_pods(&pods.ended);
    evidence.pods = objects.pods(pods.living).await;
    evidence.missing.extend(of_workload.into_iter().chain(of_service));
    related
}
