//! What is asked beside the target: the actuator, under whatever path it may be, and the main port of an application
//! whose management port is the target. Same host, same credentials.

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::Timestamp;

use super::vantages::vantage;
use super::{actuator, service};
use crate::api::ActuatorProbe;
use crate::diagnosis::evidence::{Actuator, EnvValue, Evidence, Lookup, Pod, Vantage};
use crate::probe::actuator::{Links, Reading, read};
use crate::probe::{HttpOptions, Outcome, Prober, Request, Scheme};

/// Where Spring Boot puts it (management.endpoints.web.base-path).
const DEFAULT_BASE: &str = "/actuator";
/// The port of Spring Boot's main server (server.port).
const DEFAULT_MAIN_PORT: u16 = 8080;
/// How many other paths are tried when there is none.
const MAX_OTHER_PATHS: usize = 6;
/// Settings that put something before every path.
const CONTEXTS: [&str; 3] = ["MANAGEMENT_SERVER_BASE_PATH", "SERVER_SERVLET_CONTEXT_PATH", "SPRING_WEBFLUX_BASE_PATH"];
/// The setting that moves the actuator.
const BASE: &str = "MANAGEMENT_ENDPOINTS_WEB_BASE_PATH";

/// What was seen beside the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActuatorResult {
    /// `health`, where `probe.actuator` asks for it, and `main`.
    pub vantages: Vec<Vantage>,
    /// What the actuator said.
    pub actuator: Lookup<Actuator>,
}

/// Whether something is wrong that an actuator could explain; where `probe.actuator` asks for its health, it is read in
/// any case.
pub fn needs_actuator(evidence: &Evidence) -> bool {
    let scraped = evidence.prometheus.found();
    evidence.subject.wants_actuator
        || evidence.vantages.iter().any(|vantage| !vantage.ok)
        || scraped.is_some_and(|scraped| scraped.targets.iter().any(|target| target.health == "down"))
}

/// Asks beside the target what `like` asks of it; `spec` is `probe.actuator`. Takes two timeouts at most. Nothing is
/// asked of what does not speak HTTP.
pub async fn probe_actuator(
    prober: &Prober,
    spec: Option<&ActuatorProbe>,
    evidence: &Evidence,
    like: &Request,
    now: Timestamp,
) -> ActuatorResult {
    let Some(request) = of_actuator(spec, evidence, like) else { return ActuatorResult::default() };
    let is_bad = evidence.vantages.iter().any(|vantage| !vantage.ok);
    let base = base_path(spec, evidence);
    let main = main_port(evidence, like);
    let (reading, main) = tokio::join!(read(prober, &request, &base, is_bad), async {
        match &main {
            Some(main) => Some(vantage("main", main, &prober.probe(main).await, now)),
            None => None,
        }
    });
    let health = evidence.subject.wants_actuator.then(|| health(&reading, &request, now));
    let tried = match reading.links.status() {
        Some(404) => try_others(prober, &request, candidates(evidence, &base)).await,
        _ => BTreeMap::new(),
    };
    let seen = Actuator { tried, ..actuator(reading) };
    ActuatorResult { vantages: health.into_iter().chain(main).collect(), actuator: Lookup::Found(seen) }
}

fn health(reading: &Reading, request: &Request, now: Timestamp) -> Vantage {
    let outcome = Outcome { result: reading.verdict(), ..reading.health.outcome.clone() };
    vantage("health", request, &outcome, now)
}

/// The request for the actuator: at its own port where the spec or the settings name one, which a Service need not
/// have, so that a pod is asked there.
fn of_actuator(spec: Option<&ActuatorProbe>, evidence: &Evidence, like: &Request) -> Option<Request> {
    let given = spec.and_then(|spec| spec.port).and_then(|port| u16::try_from(port).ok());
    let is_http = matches!(like.target.scheme, Scheme::Http | Scheme::Https);
    if !is_http && given.is_none() {
        return None;
    }
    let mut request = like.clone();
    if !is_http {
        request.target.scheme = if like.target.scheme.is_tls() { Scheme::Https } else { Scheme::Http };
    }
    let set = setting(evidence, "MANAGEMENT_SERVER_PORT").and_then(|port| port.trim().parse().ok());
    let port = given.or(set).filter(|port| *port > 0);
    // RelatedObjects a Service the port of the target has another number in the pods.
    let own = serving(evidence).next().and_then(|pod| Some((pod, service::pod_port(evidence, None, pod)?)));
    if let Some(port) = port.filter(|port| *port != like.target.port && own.is_none_or(|(_, own)| own != *port)) {
        request.target.port = port;
        if let Some(address) = serving(evidence).find_map(|pod| pod.addresses.first()) {
            request.target.address = Some(*address);
            request.target.is_own = true;
        }
    } else if let Some((pod, port)) = own.filter(|_| leads_nowhere(evidence))
        && let Some(address) = pod.addresses.first()
    {
        request.target.port = port;
        request.target.address = Some(*address);
        request.target.is_own = true;
    }
    Some(request)
}

/// A Service leads to pods that are ready, and none is: whoever wants to know why has to ask them.
fn leads_nowhere(evidence: &Evidence) -> bool {
    evidence.subject.service.is_some() && serving(evidence).all(|pod| !pod.ready)
}

/// Where the actuator is, by the spec, else by the path of the target, else where Spring Boot puts it.
fn base_path(spec: Option<&ActuatorProbe>, evidence: &Evidence) -> String {
    if let Some(spec) = spec {
        return spec.base_path().to_owned();
    }
    let path = evidence.subject.path.split('?').next().unwrap_or_default();
    let endpoint = ["/prometheus", "/health"].iter().find_map(|end| path.find(end));
    match endpoint.map(|at| &path[..at]) {
        Some(base) if !base.is_empty() => base.to_owned(),
        _ => DEFAULT_BASE.to_owned(),
    }
}

/// Other base paths that the settings speak for, and the root; never `known`, which was asked.
fn candidates(evidence: &Evidence, known: &str) -> Vec<String> {
    let part = |text: &str| {
        let text = text.trim().trim_matches('/');
        if text.is_empty() { String::new() } else { format!("/{text}") }
    };
    let contexts = CONTEXTS.iter().filter_map(|name| setting(evidence, name)).map(part).chain([String::new()]);
    let bases: Vec<String> = setting(evidence, BASE).map(part).into_iter().chain([DEFAULT_BASE.to_owned()]).collect();
    let mut paths: Vec<String> = Vec::new();
    for context in contexts {
        for base in bases.iter().map(|base| format!("{context}{base}")).chain([context.clone()]) {
            let path = if base.is_empty() { "/".to_owned() } else { base };
            if path != known && !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    paths.truncate(MAX_OTHER_PATHS);
    paths
}

/// What the actuator's list answers under other paths. Only a list is a list: a home page also answers 200.
async fn try_others(prober: &Prober, like: &Request, paths: Vec<String>) -> BTreeMap<String, u16> {
    let tried = paths.into_iter().map(async |path| {
        let mut request = like.clone();
        request.target.path.clone_from(&path);
        request.metrics = None;
        let headers = like.http.headers.clone();
        request.http = HttpOptions { headers, keep_body: true, ..HttpOptions::default() };
        let seen = prober.probe(&request).await.seen;
        let is_list = seen.body.is_some_and(|body| Links::read(&body, &request.target).is_some());
        let status = seen.http_status?;
        let tells = match status {
            200..=299 => is_list,
            // Somebody guards it, so that it exists; the root is guarded for its own sake.
            401 | 403 => path != "/",
            _ => true,
        };
        tells.then_some((path, status))
    });
    join_all(tried).await.into_iter().flatten().collect()
}

/// The main port of an application whose management port is the target: whether anything accepts a connection there.
/// Nobody guesses one that the pods do not declare.
fn main_port(evidence: &Evidence, like: &Request) -> Option<Request> {
    let pod = serving(evidence).next()?;
    let own = service::pod_port(evidence, None, pod).unwrap_or(like.target.port);
    let managed: u16 = setting(evidence, "MANAGEMENT_SERVER_PORT")?.trim().parse().ok()?;
    let main = setting(evidence, "SERVER_PORT").and_then(|port| port.trim().parse().ok()).unwrap_or(DEFAULT_MAIN_PORT);
    let declared = pod.containers.iter().flat_map(|container| &container.ports).any(|(_, port)| *port == main);
    if managed != own || main == own || !declared {
        return None;
    }
    let mut request = like.clone();
    request.target.scheme = Scheme::Tcp;
    request.target.port = main;
    request.target.address = pod.addresses.first().copied();
    request.target.is_own = true;
    request.target.path.clear();
    request.metrics = None;
    request.target.address.map(|_| request)
}

fn serving(evidence: &Evidence) -> impl Iterator<Item = &Pod> {
    let serves = |pod: &&Pod| !pod.deleting && pod.phase == "Running" && !pod.addresses.is_empty();
    evidence.pods.found().into_iter().flatten().filter(serves)
}

/// A setting's value in the first container that has it.
fn setting<'a>(evidence: &'a Evidence, name: &str) -> Option<&'a str> {
    let containers = evidence.pods.found().into_iter().flatten().flat_map(|pod| &pod.containers);
    containers.into_iter().find_map(|container| match container.values.get(name) {
        Some(EnvValue::Plain(value)) => Some(value.as_str()),
        _ => None,
    })
}
