//! Gathers the evidence of one backend: the only part of the diagnosis that asks anybody anything.
//!
//! Every question may be refused, fail or hang without harm to the others: what could not be seen is said to be missing,
//! with the permission that would show it. What is read is bounded in number and in size, and every call in time.

mod containers;
mod environment;
#[cfg(test)]
mod environment_tests;
mod events;
mod look;
#[cfg(test)]
mod mapping_tests;
mod pods;
mod read;
mod service;
mod settings;
mod subject;
#[cfg(test)]
mod tests;
mod workload;

use jiff::Timestamp;
use kube::Client;

use super::evidence::{Evidence, FORMAT, History, Lookup, Pod, Service, Subject, Workload};
use look::Place;
use read::Reader;
pub use subject::{pods_port, subject};

/// What is known before anybody is asked, and how far to ask.
#[derive(Clone, Debug)]
pub struct Question {
    /// What the caller knows: the subject, what probes saw, how it came to this, what the actuator said. The rest is
    /// filled in.
    pub known: Evidence,
    /// The spec says how long a start may take; otherwise the pods' startup probes do.
    pub is_startup_given: bool,
    /// The name or number of the port that a target of pods asks for.
    pub pods_port: Option<String>,
    /// How many lines of the previous logs of restarted containers are wanted; `None` leaves logs alone.
    pub log_lines: Option<u32>,
}

impl Question {
    /// About `subject`, with nothing known yet.
    pub fn new(subject: Subject, now: Timestamp) -> Self {
        let is_startup_given = subject.startup_seconds > 0;
        Self { known: blank(subject, now), is_startup_given, pods_port: None, log_lines: None }
    }
}

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
        nodes_not_ready: Lookup::NotLooked,
        service: Lookup::NotLooked,
        policies: Lookup::NotLooked,
        events: Lookup::NotLooked,
        prometheus: Lookup::NotLooked,
        actuator: Lookup::NotLooked,
        agent: None,
        missing: Vec::new(),
    }
}

/// What can be seen of a backend now.
pub async fn gather(client: Client, question: Question, now: Timestamp) -> Evidence {
    let reader = Reader::new(client);
    let namespace = question.known.subject.namespace.clone();
    let place = Place { reader: &reader, namespace: &namespace };
    let found = find(&place, &question.known.subject).await;
    let mut seen = found.pods.found().cloned().unwrap_or_default();
    let (nodes, events) = tokio::join!(place.nodes_not_ready(&seen), place.events(&seen, &found.subjects, now));
    let mut evidence = question.known;
    evidence.missing.extend(found.missing);
    if let Some(lines) = question.log_lines {
        evidence.missing.extend(place.logs(&mut seen, lines).await);
    }
    let workload = found.workload.found();
    let port = question.pods_port.as_deref();
    subject::settle(&mut evidence.subject, question.is_startup_given, port, (workload, &seen, found.service.found()));
    evidence.gathered_at = now;
    evidence.workload = found.workload;
    evidence.service = found.service;
    evidence.pods = found.pods.map(|_| seen);
    evidence.nodes_not_ready = nodes;
    evidence.events = events;
    evidence
}

/// What is behind a backend in the cluster.
struct Found {
    workload: Lookup<Workload>,
    /// What events can be about, beside the pods.
    subjects: Vec<(&'static str, String)>,
    service: Lookup<Service>,
    /// Those in trouble first.
    pods: Lookup<Vec<Pod>>,
    missing: Vec<String>,
}

async fn find(place: &Place<'_>, subject: &Subject) -> Found {
    let ((workload, mut missing), (service, of_service)) =
        tokio::join!(place.workload(subject.workload.as_ref()), place.service(subject.service.as_ref()));
    missing.extend(of_service);
    let spec = service.found().and_then(|(service, _)| service.spec.as_ref());
    let selector = spec.and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let (owned, selected) = tokio::join!(place.pods_of(workload.found()), place.selected(&selector));
    let count = selected.found().map(Vec::len);
    // Without a workload, the pods behind a target are those that its Service selects.
    let pods = if subject.workload.is_some() { owned } else { selected };
    let port = subject.service.as_ref().map_or("", |(_, port)| port);
    Found {
        subjects: workload.found().map(|read| read.subjects.clone()).unwrap_or_default(),
        workload: workload.map(|read| read.workload),
        service: service.map(|(service, slices)| service::service(&service, slices.as_deref(), port, count)),
        pods: place.pods(pods).await,
        missing,
    }
}
