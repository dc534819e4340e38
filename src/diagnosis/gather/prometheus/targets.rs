//! Prometheus' list of targets, and the matching of its entries to a backend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;

use super::duration::milliseconds;
use super::url::{host_and_port, without_secrets};
use crate::diagnosis::evidence::ScrapeTarget;

/// Maximum number of entries: one for each pod that is examined.
const MAX: usize = 50;

/// Maximum length of a scrape error, in characters.
const MAX_ERROR: usize = 512;

/// Label prefix of every service discovery of Prometheus; a static list sets no such label.
const DISCOVERED: &str = "__meta_";

type Labels = BTreeMap<String, String>;

/// The labels `job` and `instance` of a target.
pub(super) type JobInstance = (String, String);

/// The used part of the answer to `/api/v1/targets`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Targets {
    #[serde(deserialize_with = "or_none")]
    pub(super) active_targets: Vec<Active>,
    #[serde(deserialize_with = "or_none")]
    pub(super) dropped_targets: Vec<Dropped>,
}

/// Go writes a nil slice as `null`.
fn or_none<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// An active target.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Active {
    pub(super) labels: Labels,
    discovered_labels: Labels,
    scrape_url: String,
    last_error: String,
    last_scrape: Option<Timestamp>,
    last_scrape_duration: f64,
    health: String,
    scrape_interval: String,
    scrape_timeout: String,
}

/// A target dropped by relabelling.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Dropped {
    discovered_labels: Labels,
}

/// Matches Prometheus' targets to one backend.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct TargetMatcher {
    /// Namespace and name of the backend.
    pub(super) backend: (String, String),
    /// The names of its host, in lower case.
    pub(super) names: BTreeSet<String>,
    /// The port of the target at that host.
    pub(super) port: u16,
    /// Its own addresses, without those of its pods.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// The addresses of its pods, and the target's port in each pod.
    pub(super) pods: BTreeMap<IpAddr, Option<u16>>,
    /// The addresses are complete: any other address belongs to another host.
    pub(super) is_complete: bool,
    /// The `job` label of its entries, when the spec sets it.
    pub(super) job: Option<String>,
    /// The `instance` label of its entries, when the spec sets it.
    pub(super) instance: Option<String>,
}

/// The entries of a backend, and entries with its labels at another address.
#[derive(Debug, Default)]
pub(super) struct Matched<'a> {
    pub(super) active: Vec<&'a Active>,
    pub(super) stale: Vec<&'a Active>,
}

/// How well the address of an entry matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum AddressMatch {
    /// Another host.
    OtherHost,
    /// A name that could not be resolved.
    Unresolved,
    /// The host, on another port.
    Host,
    /// The host and the port.
    HostAndPort,
}

impl TargetMatcher {
    fn match_address(&self, host: &str, port: Option<u16>, resolved: &BTreeMap<String, Vec<IpAddr>>) -> AddressMatch {
        if self.names.contains(host) {
            return if port == Some(self.port) { AddressMatch::HostAndPort } else { AddressMatch::Host };
        }
        let Ok(address) = host.parse::<IpAddr>() else {
            let related = resolved.get(host).map(Vec::as_slice).unwrap_or_default();
            let fits = related.iter().map(|address| self.match_address(&address.to_string(), port, resolved));
            return fits.max().unwrap_or(AddressMatch::Unresolved);
        };
        match self.pods.get(&address) {
            Some(own) if port == own.or(Some(self.port)) => AddressMatch::HostAndPort,
            Some(_) => AddressMatch::Host,
            None if !self.addresses.contains(&address) => AddressMatch::OtherHost,
            None if port == Some(self.port) => AddressMatch::HostAndPort,
            None => AddressMatch::Host,
        }
    }

    fn is_labelled(&self) -> bool {
        self.job.is_some() || self.instance.is_some()
    }

    fn has_labels(&self, labels: &Labels) -> bool {
        let fits = |wanted: &Option<String>, name: &str| wanted.is_none() || labels.get(name) == wanted.as_ref();
        fits(&self.job, "job") && fits(&self.instance, "instance")
    }

    /// Unknown host names of entries with the wanted labels: the caller resolves them before [`TargetMatcher::select`].
    pub(super) fn unresolved_hosts(&self, targets: &[Active]) -> BTreeSet<String> {
        let is_candidate = |target: &&Active| self.has_labels(&target.labels) && !self.belongs_to_another(target);
        let labelled = targets.iter().filter(|target| self.is_labelled() && is_candidate(target));
        let hosts = labelled.filter_map(|target| host_and_port(&target.scrape_url)).map(|(host, _)| host);
        hosts.filter(|host| !self.names.contains(host) && host.parse::<IpAddr>().is_err()).collect()
    }

    /// The entries of the backend. If the spec sets labels: entries with these labels and the backend's address.
    /// Otherwise entries with its address and port, or, if there are none, entries with the address of a pod.
    pub(super) fn select<'a>(&self, targets: &'a [Active], resolved: &BTreeMap<String, Vec<IpAddr>>) -> Matched<'a> {
        let match_of = |target: &Active| {
            host_and_port(&target.scrape_url)
                .map_or(AddressMatch::OtherHost, |(host, port)| self.match_address(&host, port, resolved))
        };
        let mut matched = Matched::default();
        if self.is_labelled() {
            let is_candidate = |target: &&Active| {
                self.has_labels(&target.labels)
                    && (match_of(target) == AddressMatch::HostAndPort || !self.belongs_to_another(target))
            };
            let labelled: Vec<&Active> = targets.iter().filter(is_candidate).collect();
            let is_sure = labelled.iter().any(|target| match_of(target) == AddressMatch::HostAndPort);
            for target in labelled {
                match match_of(target) {
                    // An unresolved entry counts as the backend because of its labels, unless another entry matches
                    // exactly: then these are other targets of the same job.
                    AddressMatch::Unresolved if is_sure => {}
                    AddressMatch::OtherHost if self.is_complete => matched.stale.push(target),
                    _ => matched.active.push(target),
                }
            }
        } else {
            let (exact, rest): (Vec<_>, Vec<_>) =
                targets.iter().partition(|target| match_of(target) == AddressMatch::HostAndPort);
            let of_pod = |target: &&Active| {
                let host = host_and_port(&target.scrape_url).and_then(|(host, _)| host.parse().ok());
                host.is_some_and(|address| self.pods.contains_key(&address))
            };
            matched.active = if exact.is_empty() { rest.into_iter().filter(of_pod).collect() } else { exact };
        }
        matched.active.truncate(MAX);
        matched.stale.truncate(MAX);
        matched
    }

    /// Whether vigie's own list (`/sd/prometheus`) gave it to Prometheus for another backend.
    fn belongs_to_another(&self, target: &Active) -> bool {
        let (namespace, name) = &self.backend;
        target.listed_for().is_some_and(|of| of != (namespace, name))
    }

    /// Whether relabelling dropped a target with the backend's address.
    pub(super) fn is_dropped(&self, dropped: &[Dropped]) -> bool {
        dropped.iter().any(|target| {
            let address = target.discovered_labels.get("__address__").map(String::as_str).unwrap_or_default();
            let (host, port) = host_and_port(&format!("http://{address}/")).unwrap_or_default();
            self.match_address(&host, port, &BTreeMap::new()) == AddressMatch::HostAndPort
        })
    }
}

impl Active {
    /// Whether its last scrape succeeded.
    pub(super) fn is_up(&self) -> bool {
        self.health == "up"
    }

    /// Namespace and name of the backend for which vigie's own list (`/sd/prometheus`) gave it.
    fn listed_for(&self) -> Option<(&str, &str)> {
        let label = |name: &str| self.discovered_labels.get(name).map(String::as_str);
        let from = label("__meta_url")?.split('?').next()?;
        from.ends_with("/sd/prometheus").then_some((label("namespace")?, label("name")?))
    }

    /// Its labels `job` and `instance`.
    pub(super) fn entry(&self) -> JobInstance {
        let label = |name: &str| self.labels.get(name).cloned().unwrap_or_default();
        (label("job"), label("instance"))
    }

    /// The entry as evidence. An interval or a timeout that Prometheus does not report is 0. The number of samples is
    /// known only when it is 0.
    pub(super) fn to_evidence(&self, is_empty: bool) -> ScrapeTarget {
        let label = |name: &str| self.labels.get(name).cloned().unwrap_or_default();
        ScrapeTarget {
            url: without_secrets(&self.scrape_url),
            job: label("job"),
            health: self.health.clone(),
            last_error: crate::api::clip(without_secrets(&self.last_error), MAX_ERROR),
            // Year 1 means that it was never scraped.
            last_scrape: self.last_scrape.filter(|at| *at > Timestamp::UNIX_EPOCH),
            last_milliseconds: (self.last_scrape_duration.max(0.0) * 1000.0).round() as u64,
            interval_milliseconds: milliseconds(&self.scrape_interval).unwrap_or(0),
            timeout_milliseconds: milliseconds(&self.scrape_timeout).unwrap_or(0),
            samples: is_empty.then_some(0),
            is_discovered: self.discovered_labels.keys().any(|label| label.starts_with(DISCOVERED)),
        }
    }
}
