//! Probes the actuator, under its configured or probable path, and the main port of an application whose management
//! port is the target. Uses the target's host, and its credentials at its own address and port.

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::Timestamp;

use super::vantages::vantage;
use super::{actuator, service};
use crate::api::ActuatorProbe;
use crate::diagnosis::evidence::{Actuator, EnvValue, Evidence, Lookup, Pod, Vantage};
use crate::probe::actuator::{Links, Reading, read};
use crate::probe::{HttpOptions, Outcome, Prober, Request, Scheme};

/// Spring Boot's default base path (management.endpoints.web.base-path).
const DEFAULT_BASE: &str = "/actuator";
/// Spring Boot's default main port (server.port).
const DEFAULT_MAIN_PORT: u16 = 8080;
/// Maximum number of other paths that are tried after a 404.
const MAX_OTHER_PATHS: usize = 6;
/// Settings that prefix every path.
const CONTEXTS: [&str; 3] = ["MANAGEMENT_SERVER_BASE_PATH", "SERVER_SERVLET_CONTEXT_PATH", "SPRING_WEBFLUX_BASE_PATH"];
/// The setting for the actuator's base path.
const BASE: &str = "MANAGEMENT_ENDPOINTS_WEB_BASE_PATH";

/// Result of the additional probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActuatorResult {
    /// `health`, where `probe.actuator` asks for it, and `main`.
    pub vantages: Vec<Vantage>,
    /// Answers of the actuator.
    pub actuator: Lookup<Actuator>,
}

/// Whether to probe the actuator: a probe or a scrape fails, or `probe.actuator` asks for its health.
pub fn needs_actuator(evidence: &Evidence) -> bool {
    let scraped = evidence.prometheus.found();
    evidence.subject.wants_actuator
        || evidence.vantages.iter().any(|vantage| !vantage.ok)
        || scraped.is_some_and(|scraped| scraped.targets.iter().any(|target| target.health == "down"))
}

/// Probes the actuator and the main port with the settings of `like`: the target's request, and the one for other ports and
/// addresses, which may lack its credentials. `spec` is `probe.actuator`. Takes at most two timeouts. Does nothing for a
/// target that does not speak HTTP.
pub async fn probe_actuator(
    prober: &Prober,
    spec: Option<&ActuatorProbe>,
    evidence: &Evidence,
    (like, elsewhere): (&Request, &Request),
    now: Timestamp,
) -> ActuatorResult {
    let Some(request) = of_actuator(spec, evidence, like).map(|request| credentials_of(request, like, elsewhere))
    else {
        return ActuatorResult::default();
    };
    let is_bad = evidence.vantages.iter().any(|vantage| !vantage.ok);
    let base = base_path(spec, evidence);
    let main = main_port(evidence, elsewhere);
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

/// The request for the actuator. If the spec or the settings name a separate port, it goes to a pod: the Service may
/// lack that port.
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
    // Behind a Service the port of the target may have another number in the pods.
    let own = serving(evidence).next().and_then(|pod| Some((pod, service::pod_port(evidence, None, pod)?)));
    if let Some(port) = port.filter(|port| *port != like.target.port && own.is_none_or(|(_, own)| own != *port)) {
        request.target.port = port;
        // At the address of a pod on its host's network, a port that it does not declare is the node's.
        match serving(evidence).find(|pod| service::owns_port(pod, port)).and_then(|pod| pod.addresses.first()) {
            Some(address) => (request.target.address, request.target.is_own) = (Some(*address), true),
            None => request.target.is_own &= serving(evidence).next().is_none(),
        }
    } else if let Some((pod, port)) =
        own.filter(|(pod, port)| leads_nowhere(evidence) && service::owns_port(pod, *port))
        && let Some(address) = pod.addresses.first()
    {
        request.target.port = port;
        request.target.address = Some(*address);
        request.target.is_own = true;
    }
    Some(request)
}

/// `request` with the credentials of `like` only where it goes to the same address and port.
fn credentials_of(mut request: Request, like: &Request, elsewhere: &Request) -> Request {
    if (request.target.address, request.target.port) != (like.target.address, like.target.port) {
        request.http.headers.clone_from(&elsewhere.http.headers);
        request.tls.client.clone_from(&elsewhere.tls.client);
    }
    request
}

/// Whether the target is a Service without ready pods: then the actuator is probed at a pod's own address.
fn leads_nowhere(evidence: &Evidence) -> bool {
    evidence.subject.service.is_some() && serving(evidence).all(|pod| !pod.ready)
}

/// The actuator's base path: from the spec, else from the target's path, else Spring Boot's default.
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

/// Other base paths that the settings suggest, and the root; never `known`, which was probed already.
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

/// The status of the actuator's link list under other paths. A 200 counts only with a link list: a home page also
/// answers 200.
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
            // A protected path exists; the root may be protected without an actuator.
            401 | 403 => path != "/",
            _ => true,
        };
        tells.then_some((path, status))
    });
    join_all(tried).await.into_iter().flatten().collect()
}

/// A TCP probe of the main port, for an application whose management port is the target. A port that the pods do not
/// declare is not probed.
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

/// The setting's value in the first container that has it.
fn setting<'a>(evidence: &'a Evidence, name: &str) -> Option<&'a str> {
    let containers = evidence.pods.found().into_iter().flatten().flat_map(|pod| &pod.containers);
    containers.into_iter().find_map(|container| match container.values.get(name) {
        Some(EnvValue::Plain(value)) => Some(value.as_str()),
        _ => None,
    })
}
