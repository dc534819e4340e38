//! Prometheus' list of targets, and the matching of its entries to a backend.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::duration::milliseconds;
use super::list::{Entry, Fit};
use super::url::{host_and_port, without_secrets};
use crate::diagnosis::evidence::ScrapeTarget;

/// Maximum number of entries: one for each pod that is examined.
const MAX: usize = 50;

/// Maximum length of a scrape error, in characters.
const MAX_ERROR: usize = 512;

/// Label prefix of every service discovery of Prometheus; a static list sets no such label.
const DISCOVERED: &str = "__meta_";

/// The labels `job` and `instance` of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub(super) struct JobInstance {
    pub(super) job: String,
    pub(super) instance: String,
}

/// A sample of the answer to an instant query.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct VectorSample {
    pub(super) metric: JobInstance,
}

/// The used part of an active target. A target has up to hundreds of labels, which are read and dropped.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Active {
    pub(super) labels: JobInstance,
    #[serde(rename = "discoveredLabels")]
    discovered: Discovered,
    scrape_url: String,
    last_error: String,
    last_scrape: Option<Timestamp>,
    last_scrape_duration: f64,
    health: String,
    scrape_interval: String,
    scrape_timeout: String,
}

/// A target dropped by relabelling.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Dropped {
    #[serde(rename = "discoveredLabels")]
    discovered: Discovered,
}

/// The used part of the labels before relabelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Discovered {
    address: String,
    /// A service discovery gave the target.
    is_discovered: bool,
    /// Namespace and name of the backend for which vigie's own list (`/sd/prometheus`) gave it.
    listed_for: Option<(String, String)>,
}

impl<'de> Deserialize<'de> for Discovered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DiscoveredVisitor)
    }
}

struct DiscoveredVisitor;

impl<'de> Visitor<'de> for DiscoveredVisitor {
    type Value = Discovered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels")
    }

    /// Go writes a nil map as `null`.
    fn visit_unit<E>(self) -> Result<Discovered, E> {
        Ok(Discovered::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut labels: A) -> Result<Discovered, A::Error> {
        let mut found = Discovered::default();
        let (mut from, mut namespace, mut name) = (String::new(), None, None);
        while let Some(label) = labels.next_key::<String>()? {
            found.is_discovered |= label.starts_with(DISCOVERED);
            match label.as_str() {
                "__address__" => found.address = labels.next_value()?,
                "__meta_url" => from = labels.next_value()?,
                "namespace" => namespace = Some(labels.next_value()?),
                "name" => name = Some(labels.next_value()?),
                _ => drop(labels.next_value::<IgnoredAny>()?),
            }
        }
        let is_ours = from.split('?').next().is_some_and(|from| from.ends_with("/sd/prometheus"));
        found.listed_for = namespace.zip(name).filter(|_| is_ours);
        Ok(found)
    }
}

impl Entry for Active {
    fn text_bytes(&self) -> usize {
        let Self { labels, discovered, scrape_url, last_error, health, scrape_interval, scrape_timeout, .. } = self;
        let texts = [scrape_url, last_error, health, scrape_interval, scrape_timeout];
        texts.iter().map(|text| text.len()).sum::<usize>() + labels.text_bytes() + discovered.text_bytes()
    }

    fn shortened(self) -> Self {
        Self { last_error: crate::api::clip(without_secrets(&self.last_error), MAX_ERROR), ..self }
    }
}

impl Entry for Dropped {
    fn text_bytes(&self) -> usize {
        self.discovered.text_bytes()
    }
}

impl Entry for VectorSample {
    fn text_bytes(&self) -> usize {
        self.metric.text_bytes()
    }
}

impl JobInstance {
    fn text_bytes(&self) -> usize {
        self.job.len() + self.instance.len()
    }
}

impl Discovered {
    fn text_bytes(&self) -> usize {
        let listed = self.listed_for.as_ref().map_or(0, |(namespace, name)| namespace.len() + name.len());
        self.address.len() + listed
    }
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

    fn has_labels(&self, labels: &JobInstance) -> bool {
        let fits = |wanted: &Option<String>, label: &str| wanted.as_ref().is_none_or(|wanted| wanted == label);
        fits(&self.job, &labels.job) && fits(&self.instance, &labels.instance)
    }

    /// Whether [`TargetMatcher::select`] may choose the entry, before names of other hosts are resolved.
    pub(super) fn fit(&self, target: &Active) -> Fit {
        let matched = host_and_port(&target.scrape_url)
            .map_or(AddressMatch::OtherHost, |(host, port)| self.match_address(&host, port, &BTreeMap::new()));
        match matched {
            _ if self.is_labelled() && !self.has_labels(&target.labels) => Fit::No,
            AddressMatch::HostAndPort => Fit::Sure,
            AddressMatch::Host => Fit::Maybe,
            AddressMatch::OtherHost | AddressMatch::Unresolved if self.is_labelled() => Fit::Maybe,
            AddressMatch::OtherHost | AddressMatch::Unresolved => Fit::No,
        }
    }

    /// Whether relabelling dropped this target with the backend's address.
    pub(super) fn fit_dropped(&self, target: &Dropped) -> Fit {
        let (host, port) = host_and_port(&format!("http://{}/", target.discovered.address)).unwrap_or_default();
        let is_own = self.match_address(&host, port, &BTreeMap::new()) == AddressMatch::HostAndPort;
        if is_own { Fit::Sure } else { Fit::No }
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
        target.discovered.listed_for.as_ref().is_some_and(|(of, called)| (of, called) != (namespace, name))
    }
}

impl Active {
    /// Whether its last scrape succeeded.
    pub(super) fn is_up(&self) -> bool {
        self.health == "up"
    }

    /// The entry as evidence. An interval or a timeout that Prometheus does not report is 0. The number of samples is
    /// known only when it is 0.
    pub(super) fn to_evidence(&self, is_empty: bool) -> ScrapeTarget {
        ScrapeTarget {
            url: without_secrets(&self.scrape_url),
            job: self.labels.job.clone(),
            health: self.health.clone(),
            last_error: crate::api::clip(without_secrets(&self.last_error), MAX_ERROR),
            // Year 1 means that it was never scraped.
            last_scrape: self.last_scrape.filter(|at| *at > Timestamp::UNIX_EPOCH),
            last_milliseconds: (self.last_scrape_duration.max(0.0) * 1000.0).round() as u64,
            interval_milliseconds: milliseconds(&self.scrape_interval).unwrap_or(0),
            timeout_milliseconds: milliseconds(&self.scrape_timeout).unwrap_or(0),
            samples: is_empty.then_some(0),
            is_discovered: self.discovered.is_discovered,
        }
    }
}
