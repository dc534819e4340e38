//! Prometheus' own view of a backend. Requests use the prober and its address policy.

mod cache;
#[cfg(test)]
mod cache_tests;
mod client;
mod duration;
#[cfg(test)]
mod hostile_tests;
mod list;
mod splitter;
mod targets;
#[cfg(test)]
mod tests;
mod url;

use std::collections::{BTreeMap, BTreeSet, HashSet};
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
use list::Fit;
pub(super) use targets::TargetMatcher;
use targets::{Active, JobInstance, VectorSample};
pub(super) use url::{host_and_port, without_secrets};

/// Time limit of one request: a list of thousands of targets has megabytes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of all requests together. The examination of a backend waits for Prometheus and for the API server; a
/// Prometheus that does not answer must not delay the rest of the evidence.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(6);
/// Time limit to resolve the host name of another target.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of an answer in bytes: about 20,000 targets. It bounds time, not memory: an answer is read entry by
/// entry while it arrives.
const MAX_ANSWER: u64 = 32 << 20;
/// Maximum number of host names that are resolved.
const MAX_NAMES: usize = 8;

/// The Prometheus to query, and the labels of the backend's entries.
#[derive(Clone, Default)]
pub struct PrometheusSource {
    /// Its base URL.
    pub url: String,
    /// The `job` label of the backend's entries, where the spec gives it.
    pub job: Option<String>,
    /// The `instance` label.
    pub instance: Option<String>,
    /// Bearer token for it.
    pub bearer_token: Option<String>,
    /// The administrator configured it, not the object: its address may be anywhere in the cluster.
    pub is_administrators: bool,
    /// The Service in its URL may be looked up in any namespace: the administrator named it, or the caller's own rights are
    /// used. Otherwise only in the namespace of the object, which could else learn by vigie's rights of pods elsewhere.
    pub is_looked_up_anywhere: bool,
    /// Its recent answers, shared between concurrent queries.
    pub cache: Arc<ServerCache>,
}

// By hand: the token must not be printed.
impl std::fmt::Debug for PrometheusSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, job, instance, .. } = self;
        f.debug_struct("Source").field("url", url).field("job", job).field("instance", instance).finish_non_exhaustive()
    }
}

/// Queries Prometheus for its entries about the backend.
pub(super) async fn ask(
    prober: &Prober,
    source: &PrometheusSource,
    matcher: &TargetMatcher,
    now: Timestamp,
) -> Lookup<Prometheus> {
    let Ok(result) = timeout(TOTAL_TIMEOUT, query(prober, source, matcher.clone(), now)).await else {
        let url = without_secrets(&source.url);
        return Lookup::Failed(format!("asking Prometheus at {url}: no answer within {} s", TOTAL_TIMEOUT.as_secs()));
    };
    result
}

async fn query(
    prober: &Prober,
    source: &PrometheusSource,
    mut matcher: TargetMatcher,
    now: Timestamp,
) -> Lookup<Prometheus> {
    let (client, cache) = (PrometheusClient { prober, source, now }, &source.cache);
    // The probe used one address of a name; Prometheus may scrape any of them.
    matcher.addresses.extend(resolve(prober, matcher.names.clone()).await.into_values().flatten());
    let matcher = Arc::new(matcher);
    let fits = matcher.clone();
    let (candidates, asked_at, oversized) = match cache.active(&client, move |target| fits.fit(target)).await {
        // Copied, so that the whole list is not held during the requests that follow.
        Ok((list, asked_at)) => (list.own(&|target| matcher.fit(target)), asked_at, list.oversized),
        Err(why) => return Lookup::Failed(why),
    };
    let resolved = resolve(prober, matcher.unresolved_hosts(&candidates)).await;
    let matched = matcher.select(&candidates, &resolved);
    let is_unknown = matched.active.is_empty() && matched.stale.is_empty();
    if is_unknown && oversized > 0 {
        let url = without_secrets(&source.url);
        return Lookup::Failed(format!(
            "asking Prometheus at {url}: {oversized} entries of its list are too large to be read, and no other entry is this backend"
        ));
    }
    // The list of dropped targets can be far longer than the active one: it is requested only when it can explain
    // something.
    let dropped = is_unknown && is_dropped(&client, &matcher).await;
    let empty = without_samples(&client, &matched.active).await;
    Lookup::Found(Prometheus {
        targets: matched.active.iter().map(|target| target.to_evidence(empty.contains(&target.labels))).collect(),
        dropped,
        stale: matched.stale.iter().map(|target| target.to_evidence(false)).collect(),
        addresses: Vec::new(),
        asked_at: Some(asked_at),
    })
}

/// Whether relabelling dropped a target with the backend's address.
async fn is_dropped(client: &PrometheusClient<'_>, matcher: &Arc<TargetMatcher>) -> bool {
    let fits = matcher.clone();
    let list = client.source.cache.dropped(client, move |target| fits.fit_dropped(target)).await;
    list.is_ok_and(|(list, _)| !list.own(&|target| matcher.fit_dropped(target)).is_empty())
}

/// Those of these targets whose last scrape had no samples.
async fn without_samples(client: &PrometheusClient<'_>, targets: &[&Active]) -> HashSet<JobInstance> {
    let own: HashSet<JobInstance> =
        targets.iter().filter(|target| target.is_up()).map(|target| target.labels.clone()).collect();
    if own.is_empty() {
        return HashSet::new();
    }
    let fits = move |sample: &VectorSample| if own.contains(&sample.metric) { Fit::Sure } else { Fit::No };
    let list = client.source.cache.empty(client, fits.clone()).await;
    list.map(|(list, _)| list.own(&fits).into_iter().map(|sample| sample.metric).collect()).unwrap_or_default()
}

/// The addresses of names; names that cannot be resolved are left out.
async fn resolve(prober: &Prober, names: BTreeSet<String>) -> BTreeMap<String, Vec<IpAddr>> {
    let found = names.into_iter().take(MAX_NAMES).map(async |name| {
        let found = timeout(RESOLVE_TIMEOUT, prober.addresses(&name)).await.ok()?.ok()?;
        let addresses: Vec<IpAddr> = found.iter().map(IpAddr::to_canonical).collect();
        Some((name, addresses))
    });
    join_all(found).await.into_iter().flatten().collect()
}

/// A matcher for the backend's entries, from the evidence so far. `service` are the addresses of its Service;
/// `pods_port` is the port's name or number in its pods, where the target names one.
pub(super) fn matcher(
    evidence: &Evidence,
    source: &PrometheusSource,
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
    // A URL has the addresses that its probes used; other targets have those of their pods.
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

/// Name and namespace of the Service that a URL names, if it is in the cluster.
pub(super) fn service_of(url: &str) -> Option<(String, String)> {
    let (host, _) = host_and_port(url)?;
    let parts: Vec<&str> = host.split('.').collect();
    match parts.as_slice() {
        [name, namespace, "svc"] | [name, namespace, "svc", ..] => Some(((*name).to_owned(), (*namespace).to_owned())),
        _ => None,
    }
}
