//! Prometheus' own view of a backend: asked by HTTP, dialled as probes are, under the same address policy.

mod cache;
#[cfg(test)]
mod cache_tests;
mod client;
mod duration;
mod targets;
#[cfg(test)]
mod tests;
mod url;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::time::timeout;

use crate::diagnosis::evidence::{Evidence, Lookup, Prometheus};
use crate::probe::Prober;
pub use cache::ServerCache;
use client::PrometheusClient;
use targets::Active;
pub(super) use targets::TargetMatcher;
pub(super) use url::{host_and_port, without_secrets};

/// How long one answer may take: a list of thousands of targets is megabytes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long all of it may take. One look at a backend waits for this and for the API server, and a Prometheus that
/// answers nothing must not cost the rest of the evidence.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a name of somebody else's may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer that is read: some 20,000 targets.
const MAX_ANSWER: usize = 32 << 20;
/// How many names of scraped hosts are resolved.
const MAX_NAMES: usize = 8;

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
    /// What it said last, and others: shared by those who ask at about the same time.
    pub cache: Arc<ServerCache>,
}

// By hand: the token is nobody's to read.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, job, instance, bearer_token: _, is_administrators: _, cache: _ } = self;
        f.debug_struct("Source").field("url", url).field("job", job).field("instance", instance).finish_non_exhaustive()
    }
}

/// Prometheus' entries about the backend.
pub(super) async fn ask(
    prober: &Prober,
    source: &Source,
    matcher: &TargetMatcher,
    now: Timestamp,
) -> Lookup<Prometheus> {
    let Ok(seen) = timeout(TOTAL_TIMEOUT, look(prober, source, matcher.clone(), now)).await else {
        let url = without_secrets(&source.url);
        return Lookup::Failed(format!("asking Prometheus at {url}: no answer within {} s", TOTAL_TIMEOUT.as_secs()));
    };
    seen
}

async fn look(prober: &Prober, source: &Source, mut matcher: TargetMatcher, now: Timestamp) -> Lookup<Prometheus> {
    let (of, cache) = (PrometheusClient { prober, source, now }, &source.cache);
    // Our probe met one of the addresses of a name; Prometheus may scrape each of them.
    let (active, own) = tokio::join!(cache.active(&of), resolve(prober, matcher.names.clone()));
    let (active, asked_at) = match active {
        Ok(said) => said,
        Err(why) => return Lookup::Failed(why),
    };
    matcher.addresses.extend(own.into_values().flatten());
    let resolved = resolve(prober, matcher.unresolved_hosts(&active.active_targets)).await;
    let matched = matcher.select(&active.active_targets, &resolved);
    let mut dropped = false;
    if matched.active.is_empty() && matched.stale.is_empty() {
        // The list of dropped ones can be far longer than the other: it is asked for only when it can explain something.
        dropped = cache.dropped(&of).await.is_ok_and(|(all, _)| matcher.is_dropped(&all.dropped_targets));
    }
    let mut empty = None;
    if matched.active.iter().any(|target| target.is_up()) {
        empty = cache.empty(&of).await.ok();
    }
    let is_empty = |target: &Active| empty.as_ref().is_some_and(|(empty, _)| empty.contains(&target.entry()));
    Lookup::Found(Prometheus {
        targets: matched.active.iter().map(|target| target.to_evidence(is_empty(target))).collect(),
        dropped,
        stale: matched.stale.iter().map(|target| target.to_evidence(false)).collect(),
        addresses: Vec::new(),
        asked_at: Some(asked_at),
    })
}

/// The addresses of names; what cannot be resolved is left away.
async fn resolve(prober: &Prober, names: BTreeSet<String>) -> BTreeMap<String, Vec<IpAddr>> {
    let found = names.into_iter().take(MAX_NAMES).map(async |name| {
        let found = timeout(RESOLVE_TIMEOUT, prober.addresses(&name)).await.ok()?.ok()?;
        let addresses: Vec<IpAddr> = found.iter().map(IpAddr::to_canonical).collect();
        Some((name, addresses))
    });
    join_all(found).await.into_iter().flatten().collect()
}

/// Where the backend's entries lead, as the evidence so far tells; `service` are the addresses of its Service, and
/// `pods_port` is the port's name or number in its pods, where the target names one.
pub(super) fn matcher(
    evidence: &Evidence,
    source: &Source,
    service: &[IpAddr],
    pods_port: Option<&str>,
) -> TargetMatcher {
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
    TargetMatcher {
        backend: (subject.namespace.clone(), subject.name.clone()),
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
    let (host, _) = host_and_port(url)?;
    let parts: Vec<&str> = host.split('.').collect();
    match parts.as_slice() {
        [name, namespace, "svc"] | [name, namespace, "svc", ..] => Some(((*name).to_owned(), (*namespace).to_owned())),
        _ => None,
    }
}
