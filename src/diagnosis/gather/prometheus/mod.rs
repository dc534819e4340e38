//! Prometheus' own view of a backend: asked by HTTP, dialled as probes are, under the same address policy.

mod duration;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use axum::http::Uri;
use futures::future::join_all;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::diagnosis::evidence::{Evidence, Lookup, Prometheus};
use crate::probe::{HttpOptions, Prober, Request, Scheme, Target};
use targets::{Active, Targets};
pub(super) use targets::{Aim, place, without_secrets};

/// How long one answer may take: a list of thousands of targets is megabytes.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long all of it may take. One look at a backend waits for this and for the API server, and a Prometheus that
/// answers nothing must not cost the rest of the evidence.
const WHOLE: Duration = Duration::from_secs(6);
/// How long a name of somebody else's may take to resolve.
const RESOLVE: Duration = Duration::from_secs(2);
/// The largest answer that is read: some 20,000 targets.
const LARGEST: usize = 32 << 20;
/// How many names of scraped hosts are resolved.
const MOST_NAMES: usize = 8;
/// For how many entries the samples are asked for.
const MOST_SAMPLES: usize = 8;

/// Which Prometheus to ask, and how its entries are known.
#[derive(Clone, Default)]
pub struct Source {
    /// Its base URL.
    pub url: String,
    /// The `job` label of the backend's entries, where the spec gives it.
    pub job: Option<String>,
    /// The `instance` label.
    pub instance: Option<String>,
    /// A token for it.
    pub bearer_token: Option<String>,
    /// The administrator named it, not the object: it may be anywhere in the cluster.
    pub is_administrators: bool,
}

// By hand: the token is nobody's to read.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, job, instance, bearer_token: _, is_administrators: _ } = self;
        f.debug_struct("Source").field("url", url).field("job", job).field("instance", instance).finish_non_exhaustive()
    }
}

/// What every answer of Prometheus' API is wrapped in.
#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

/// The answer to an instant query: the second element of each value is the number, as text.
#[derive(Deserialize)]
struct Vector {
    result: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    value: (serde_json::Value, String),
}

/// Prometheus' entries about the backend.
pub(super) async fn ask(prober: &Prober, source: &Source, aim: &Aim, now: Timestamp) -> Lookup<Prometheus> {
    let Ok(seen) = timeout(WHOLE, look(prober, source, aim.clone(), now)).await else {
        let url = without_secrets(&source.url);
        return Lookup::Failed(format!("asking Prometheus at {url}: no answer within {} s", WHOLE.as_secs()));
    };
    seen
}

async fn look(prober: &Prober, source: &Source, mut aim: Aim, now: Timestamp) -> Lookup<Prometheus> {
    let api = Api { prober, source };
    // Our probe met one of the addresses of a name; Prometheus may scrape each of them.
    let (active, own) = tokio::join!(api.get::<Targets>("/api/v1/targets?state=active"), resolve(aim.names.clone()));
    let active = match active {
        Ok(targets) => targets,
        Err(why) => return Lookup::Failed(why),
    };
    aim.addresses.extend(own.into_values().flatten());
    let resolved = resolve(aim.strangers(&active.active_targets)).await;
    let matched = aim.choose(active.active_targets, &resolved);
    let mut dropped = false;
    if matched.active.is_empty() && matched.stale.is_empty() {
        // The list of dropped ones can be far longer than the other: it is asked for only when it can explain something.
        let all: Result<Targets, String> = api.get("/api/v1/targets?state=dropped").await;
        dropped = all.is_ok_and(|all| aim.is_dropped(&all.dropped_targets));
    }
    let samples = join_all(matched.active.iter().take(MOST_SAMPLES).map(|target| api.samples(target))).await;
    let samples = samples.into_iter().chain(std::iter::repeat(None));
    Lookup::Found(Prometheus {
        targets: matched.active.iter().zip(samples).map(|(target, samples)| target.seen(samples)).collect(),
        dropped,
        stale: matched.stale.iter().map(|target| target.seen(None)).collect(),
        addresses: Vec::new(),
        asked_at: Some(now),
    })
}

struct Api<'a> {
    prober: &'a Prober,
    source: &'a Source,
}

impl Api<'_> {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let base = without_secrets(&self.source.url);
        let failed = |why: String| format!("asking Prometheus at {base}: {why}");
        let request =
            self.request(path).ok_or_else(|| failed("this is no http or https URL with a host".to_owned()))?;
        let outcome = self.prober.probe(&request).await;
        outcome.result.map_err(|failure| failed(failure.message))?;
        let body = outcome.seen.body.unwrap_or_default();
        let answer: Answer<T> = serde_json::from_slice(&body)
            .map_err(|_| failed("its answer is not what Prometheus' API answers".to_owned()))?;
        Ok(answer.data)
    }

    fn request(&self, path: &str) -> Option<Request> {
        let source = self.source;
        let uri: Uri = source.url.parse().ok()?;
        let (host, port) = place(&source.url)?;
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let token = source.bearer_token.iter().map(|token| ("Authorization".to_owned(), format!("Bearer {token}")));
        let target = Target {
            scheme,
            host,
            port: port?,
            path: format!("{}{path}", uri.path().trim_end_matches('/')),
            address: None,
            is_own: source.is_administrators,
        };
        let http = HttpOptions {
            headers: token.collect(),
            keep_body: true,
            most_kept: LARGEST,
            most_body: LARGEST as u64,
            ..Default::default()
        };
        Some(Request { target, timeout: PATIENCE, http, tls: Default::default(), metrics: None })
    }

    /// How many samples the last scrape of this entry brought.
    async fn samples(&self, target: &Active) -> Option<u64> {
        let matcher = |name: &str| {
            // PromQL's strings are escaped as JSON's are.
            let value = serde_json::to_string(target.labels.get(name)?).ok()?;
            Some(format!("{name}={value}"))
        };
        let matchers: Vec<String> = ["job", "instance"].into_iter().filter_map(matcher).collect();
        let query = encode(&format!("scrape_samples_scraped{{{}}}", matchers.join(",")));
        let vector: Vector = self.get(&format!("/api/v1/query?query={query}")).await.ok()?;
        match vector.result.as_slice() {
            [Sample { value: (_, number) }] => number.parse().ok(),
            _ => None,
        }
    }
}

/// Text as the value of a query parameter.
fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The addresses of names that only Prometheus' list knows; what cannot be resolved is left away.
async fn resolve(names: BTreeSet<String>) -> BTreeMap<String, Vec<IpAddr>> {
    let found = names.into_iter().take(MOST_NAMES).map(async |name| {
        let found = timeout(RESOLVE, tokio::net::lookup_host((name.as_str(), 0))).await.ok()?.ok()?;
        let addresses: Vec<IpAddr> = found.map(|address| address.ip().to_canonical()).collect();
        Some((name, addresses))
    });
    join_all(found).await.into_iter().flatten().collect()
}

/// Where the backend's entries lead, as the evidence so far tells; `service` are the addresses of its Service, and
/// `pods_port` is the port's name or number in its pods, where the target names one.
pub(super) fn aim(evidence: &Evidence, source: &Source, service: &[IpAddr], pods_port: Option<&str>) -> Aim {
    let subject = &evidence.subject;
    let own = evidence.vantages.iter().filter(|vantage| !vantage.name.starts_with("pod/"));
    let mut addresses: BTreeSet<IpAddr> = own.filter_map(|vantage| vantage.address).collect();
    addresses.extend(subject.host.parse::<IpAddr>().ok());
    let mut names: BTreeSet<String> =
        Some(subject.host.to_lowercase()).into_iter().filter(|host| !host.is_empty()).collect();
    if let Some((name, _)) = &subject.service {
        let namespace = &subject.namespace;
        addresses.extend(service);
        names.extend([format!("{name}.{namespace}"), format!("{name}.{namespace}.svc.cluster.local")]);
    }
    let target_port = evidence.service.found().and_then(|service| service.port.as_ref()).map(|(_, port)| port.as_str());
    let port = |pod| target_port.or(pods_port).and_then(|port| super::service::port_of(pod, port));
    let seen = evidence.pods.found().into_iter().flatten();
    let pods = seen.flat_map(|pod| pod.addresses.iter().map(move |address| (*address, port(pod)))).collect();
    // A URL has the addresses that it was seen at, and all else those of its pods.
    let is_url = subject.service.is_none() && !subject.host.is_empty();
    let has_pods = subject.service.is_some() || subject.workload.is_some();
    let is_complete = (!is_url || !addresses.is_empty()) && (!has_pods || evidence.pods.found().is_some());
    Aim {
        names,
        port: subject.port,
        addresses,
        pods,
        is_complete,
        job: source.job.clone(),
        instance: source.instance.clone(),
    }
}

/// The Service that a URL names, when it is one of the cluster's: name and namespace.
pub(super) fn service_of(url: &str) -> Option<(String, String)> {
    let (host, _) = place(url)?;
    let parts: Vec<&str> = host.split('.').collect();
    match parts.as_slice() {
        [name, namespace, "svc"] | [name, namespace, "svc", ..] => Some(((*name).to_owned(), (*namespace).to_owned())),
        _ => None,
    }
}
