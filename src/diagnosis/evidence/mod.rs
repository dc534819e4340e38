//! What was seen of a backend: plain data. The same evidence gives the same diagnosis, here and offline.
//!
//! It holds no credentials and no values of environment variables but those that the rules ask for
//! ([`WANTED_ENVIRONMENT`]). Texts that came from the backend stand in fields that say so and are shown by
//! `vigie diagnose` alone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{ErrorClass, Phase, Reason, WorkloadRef};

mod cluster;

pub use cluster::{
    CertificateSecret, Container, Ended, EnvValue, Pod, Policy, Service, WANTED_ENVIRONMENT, Warning, Workload,
};

/// The version of the format that `vigie diagnose --evidence` writes.
pub const FORMAT: u32 = 1;

/// A piece of evidence that had to be looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Lookup<T> {
    /// Nobody looked: there was no need, or nothing to look at.
    #[default]
    NotLooked,
    /// RBAC does not allow it; the sentence names the permission.
    Forbidden(String),
    /// It could not be read; why.
    Failed(String),
    /// It does not exist.
    Absent,
    /// What was seen.
    Found(T),
}

impl<T> Lookup<T> {
    /// What was seen, if anything was.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(found) => Some(found),
            _ => None,
        }
    }

    /// Why it is missing, if it is: a sentence.
    pub fn missing(&self) -> Option<&str> {
        match self {
            Self::Forbidden(why) | Self::Failed(why) => Some(why),
            _ => None,
        }
    }
}

/// All that was seen of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was gathered.
    pub gathered_at: Timestamp,
    /// What it is about.
    pub subject: Subject,
    /// `False` of the `Accepted` condition: InvalidTarget, TargetDenied, SecretNotFound or WorkloadNotFound, and why.
    #[serde(default)]
    pub refused: Option<(Reason, String)>,
    /// We may be blind ourselves.
    #[serde(default)]
    pub blind: Option<String>,
    /// What probes saw, ours first: `target`, then `health` and `metrics` where they are asked for beside it, then
    /// `pod/NAME` for each pod.
    #[serde(default)]
    pub vantages: Vec<Vantage>,
    /// How it came to this.
    #[serde(default)]
    pub history: History,
    /// The workload behind it.
    #[serde(default)]
    pub workload: Lookup<Workload>,
    /// Its pods, or those that the Service selects.
    #[serde(default)]
    pub pods: Lookup<Vec<Pod>>,
    /// The nodes of its pods that are not Ready: name and since when.
    #[serde(default)]
    pub nodes_not_ready: Lookup<BTreeMap<String, Option<Timestamp>>>,
    /// The Service of the target.
    #[serde(default)]
    pub service: Lookup<Service>,
    /// The Secret of the certificate that the backend shows; looked for when TLS fails.
    #[serde(default)]
    pub certificate_secret: Lookup<CertificateSecret>,
    /// NetworkPolicies that select the pods.
    #[serde(default)]
    pub policies: Lookup<Vec<Policy>>,
    /// Warnings about the pods and the workload, the newest first.
    #[serde(default)]
    pub events: Lookup<Vec<Warning>>,
    /// Prometheus' own view.
    #[serde(default)]
    pub prometheus: Lookup<Prometheus>,
    /// What the actuator says.
    #[serde(default)]
    pub actuator: Lookup<Actuator>,
    /// What the local agent says.
    #[serde(default)]
    pub agent: Option<Agent>,
    /// What else could not be looked at: parts of the above, a sentence each, naming the permission.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// What the evidence is about: the parts of the spec that the rules ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Namespace of the MonitoredBackend.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is probed, as a URL without credentials.
    pub url: String,
    /// `http`, `https`, `tcp`, `grpc` or `grpcs`.
    pub scheme: String,
    /// Host of the target.
    pub host: String,
    /// Port of the target.
    pub port: u16,
    /// Path of the target.
    pub path: String,
    /// The Service that the target names, with the port's name or number.
    pub service: Option<(String, String)>,
    /// The workload behind it.
    pub workload: Option<WorkloadRef>,
    /// `probe.metrics` is asked for.
    pub wants_metrics: bool,
    /// `probe.actuator` is asked for.
    pub wants_actuator: bool,
    /// Seconds during which "still starting" is an explanation.
    pub startup_seconds: u64,
    /// The Prometheus that is asked, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus_url: Option<String>,
    /// Where Prometheus runs, when the spec says so: a CIDR.
    pub prometheus_source: Option<String>,
    /// When the MonitoredBackend was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// An agent restarts it.
    pub has_agent: bool,
}

/// What one probe saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vantage {
    /// `target`, `health`, `metrics`, `main` (the port that is not the management's), `pod/NAME`, `dependency` (what a
    /// crashing container named in its last words, where somebody dialled it).
    pub name: String,
    /// It passed.
    pub ok: bool,
    /// How it failed.
    pub error_class: Option<ErrorClass>,
    /// How far it got.
    pub phase: Option<Phase>,
    /// The whole time, in milliseconds.
    pub milliseconds: u64,
    /// When.
    pub at: Timestamp,
    /// What was seen, in a sentence that may be shown to everybody.
    pub message: String,
    /// The same with the backend's own words; `vigie diagnose` alone shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The address that answered, or was tried last.
    pub address: Option<IpAddr>,
    /// The port that was dialled.
    pub port: Option<u16>,
    /// The status of the HTTP answer.
    pub http_status: Option<u16>,
    /// A redirect that looks like one to a login page.
    #[serde(default)]
    pub redirects_to_login: bool,
    /// The gRPC health service says that it does not serve.
    #[serde(default)]
    pub not_serving: bool,
    /// Any byte came from the far side.
    #[serde(default)]
    pub any_byte: bool,
    /// When its certificate expires.
    pub certificate_expires: Option<Timestamp>,
    /// Required metrics that the page lacks.
    #[serde(default)]
    pub missing_metrics: Vec<String>,
    /// Where the page is broken: line and byte offset.
    pub broken_at: Option<(u64, u64)>,
    /// Samples on the page.
    pub samples: Option<u64>,
}

/// How it came to this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Since when the verdict is bad.
    pub bad_since: Option<Timestamp>,
    /// When it was healthy last.
    pub last_healthy: Option<Timestamp>,
    /// It alternates: how many changes within how many seconds.
    pub flapping: Option<(u32, u64)>,
    /// Our probe passes, but slowly: measured and allowed, in milliseconds.
    pub slow: Option<(u64, u64)>,
}

/// Prometheus' own view of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Its entries for this backend, active ones; several when it scrapes each pod.
    pub targets: Vec<ScrapeTarget>,
    /// A dropped target (relabelling) has the same address.
    pub dropped: bool,
    /// Entries with the same labels whose address is not the backend's: their scrape URLs.
    pub stale: Vec<ScrapeTarget>,
    /// Addresses of Prometheus' own pods, when it runs in the cluster.
    pub addresses: Vec<IpAddr>,
    /// When the answer was read.
    pub asked_at: Option<Timestamp>,
}

/// One entry of Prometheus' `/api/v1/targets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrapeTarget {
    /// The URL that it scrapes, without credentials.
    pub url: String,
    /// The job.
    pub job: String,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// What went wrong last: Prometheus' words.
    pub last_error: String,
    /// When it was scraped last; `None` when never.
    pub last_scrape: Option<Timestamp>,
    /// How long that took, in milliseconds.
    pub last_milliseconds: u64,
    /// Milliseconds between scrapes, read from Prometheus.
    pub interval_milliseconds: u64,
    /// Its scrape timeout, in milliseconds.
    pub timeout_milliseconds: u64,
    /// Samples scraped last: 0, or not known.
    pub samples: Option<u64>,
    /// Prometheus has it from a service discovery, and will follow it; not from a list that somebody wrote.
    #[serde(default)]
    pub is_discovered: bool,
}

/// What the actuator says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actuator {
    /// Where it was read: `http://host:port/actuator`.
    pub base: String,
    /// Status of the answer to the base path; `None` when there was none.
    pub base_status: Option<u16>,
    /// How reading the base path failed, when there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_error: Option<ErrorClass>,
    /// The link list: rel to path, same origin only. `None` when there is none.
    pub links: Option<BTreeMap<String, String>>,
    /// Status of the answer of its health page.
    pub health_status: Option<u16>,
    /// How the health page's probe failed otherwise.
    pub health_error: Option<ErrorClass>,
    /// The overall status: UP, DOWN, OUT_OF_SERVICE, UNKNOWN or another word.
    pub health: Option<String>,
    /// Components and their status, nested ones as `a/b`; `None` when the page shows none.
    pub components: Option<BTreeMap<String, String>>,
    /// Other paths that were tried when the base path is 404, and the status that each answered.
    #[serde(default)]
    pub tried: BTreeMap<String, u16>,
    /// Whether its liveness group answers: the status, or how it failed.
    #[serde(default)]
    pub liveness: Option<Result<u16, ErrorClass>>,
}

/// What the local agent says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// It says that the container is stopped.
    pub container_stopped: bool,
    /// It says that the process is stopped.
    pub process_stopped: bool,
}
