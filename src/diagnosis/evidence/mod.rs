//! The evidence about a backend: plain data. The same evidence gives the same diagnosis, in the operator and offline.
//!
//! It holds no credentials, and of environment variables only the values in [`WANTED_ENVIRONMENT`]. Texts from the
//! backend are in fields whose documentation says so; only `vigie diagnose` shows them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{AgentView, ErrorClass, Phase, Reason, WorkloadRef};

mod cluster;

pub use cluster::{
    CertificateSecret, Container, Ended, EnvValue, Pod, PodNetworkPolicy, Service, WANTED_ENVIRONMENT, Warning,
    Workload,
};

/// The version of the format that `vigie diagnose --evidence` writes.
pub const FORMAT: u32 = 1;

/// The result of looking up a piece of evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Lookup<T> {
    /// Not looked up: it was not needed, or there is nothing to look up.
    #[default]
    NotLooked,
    /// RBAC does not allow it; a sentence that names the missing permission.
    Forbidden(String),
    /// It could not be read; the reason.
    Failed(String),
    /// It does not exist.
    Absent,
    /// The value that was found.
    Found(T),
}

impl<T> Lookup<T> {
    /// The value, if it was found.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(found) => Some(found),
            _ => None,
        }
    }

    /// Why it could not be read, as a sentence.
    pub fn missing(&self) -> Option<&str> {
        match self {
            Self::Forbidden(why) | Self::Failed(why) => Some(why),
            _ => None,
        }
    }
}

/// All evidence about one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The version of the format: [`FORMAT`].
    pub format: u32,
    /// Time of gathering.
    pub gathered_at: Timestamp,
    /// The backend, as the spec describes it.
    pub subject: Subject,
    /// Reason and message when the `Accepted` condition is False: InvalidTarget, TargetDenied, SecretNotFound or
    /// WorkloadNotFound.
    #[serde(default)]
    pub refused: Option<(Reason, String)>,
    /// Why vigie's own probes may be unreliable.
    #[serde(default)]
    pub blind: Option<String>,
    /// Results of probes: `target` first, then `health` and `metrics` where the spec asks for them, then `pod/NAME` for
    /// each pod.
    #[serde(default)]
    pub vantages: Vec<Vantage>,
    /// The course of the failure.
    #[serde(default)]
    pub history: History,
    /// The workload behind it.
    #[serde(default)]
    pub workload: Lookup<Workload>,
    /// Its pods, or those that the Service selects.
    #[serde(default)]
    pub pods: Lookup<Vec<Pod>>,
    /// The newest of its pods that have ended for good (Failed, Succeeded). Evidence that was saved before this field
    /// existed has them among `pods`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended_pods: Vec<Pod>,
    /// The nodes of its pods that are not Ready: name and since when.
    #[serde(default)]
    pub nodes_not_ready: Lookup<BTreeMap<String, Option<Timestamp>>>,
    /// The Service of the target.
    #[serde(default)]
    pub service: Lookup<Service>,
    /// The Secret of the certificate that the backend presents; looked up when TLS fails.
    #[serde(default)]
    pub certificate_secret: Lookup<CertificateSecret>,
    /// NetworkPolicies that select the pods.
    #[serde(default)]
    pub policies: Lookup<Vec<PodNetworkPolicy>>,
    /// Warnings about the pods and the workload, and why the kubelet killed containers, the newest first.
    #[serde(default)]
    pub events: Lookup<Vec<Warning>>,
    /// Prometheus' view of the target.
    #[serde(default)]
    pub prometheus: Lookup<Prometheus>,
    /// Answers of the actuator.
    #[serde(default)]
    pub actuator: Lookup<Actuator>,
    /// Report of the local agent.
    #[serde(default)]
    pub agent: Option<Agent>,
    /// Parts of the above that could not be read: a sentence each, with the missing permission.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Evidence {
    /// The pods that have not ended for good: only these are witnesses of the present.
    pub fn living_pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.found().into_iter().flatten().filter(|pod| !pod.has_ended())
    }

    /// The pods that have ended for good, the newest first.
    pub fn newest_ended_pods(&self) -> Vec<&Pod> {
        let among_pods = self.pods.found().into_iter().flatten().filter(|pod| pod.has_ended());
        let mut ended: Vec<&Pod> = self.ended_pods.iter().chain(among_pods).collect();
        ended.sort_by_key(|pod| std::cmp::Reverse(pod.created));
        ended
    }

    /// The pod to look at first: a living one that is not ready before one that is, else the newest that has ended.
    pub fn first_pod(&self) -> Option<&Pod> {
        self.living_pods().next().or_else(|| self.newest_ended_pods().first().copied())
    }
}

/// The parts of the spec that the rules use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Namespace of the MonitoredBackend.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The probed URL, without credentials.
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
    /// Whether `probe.metrics` is set.
    pub wants_metrics: bool,
    /// Whether `probe.actuator` is set.
    pub wants_actuator: bool,
    /// Seconds during which "still starting" is an explanation.
    pub startup_seconds: u64,
    /// URL of the queried Prometheus, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus_url: Option<String>,
    /// The source CIDR of Prometheus, when the spec sets it.
    pub prometheus_source: Option<String>,
    /// When the MonitoredBackend was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Whether an agent restarts it.
    pub has_agent: bool,
}

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vantage {
    /// `target`, `health`, `metrics`, `main` (the main port beside a management port), `pod/NAME`, `dependency` (the
    /// endpoint in the last message of a crashing container, where it was probed).
    pub name: String,
    /// Whether it passed.
    pub ok: bool,
    /// The class of the failure.
    pub error_class: Option<ErrorClass>,
    /// The phase that failed.
    pub phase: Option<Phase>,
    /// Total duration, in milliseconds.
    pub milliseconds: u64,
    /// Time of the probe.
    pub at: Timestamp,
    /// The result as a sentence that every reader may see.
    pub message: String,
    /// The result with text of the backend; only `vigie diagnose` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The address that answered, or the last one that was tried.
    pub address: Option<IpAddr>,
    /// The port that was dialled.
    pub port: Option<u16>,
    /// The local address from which it was dialled; known where the connection failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The status of the HTTP answer.
    pub http_status: Option<u16>,
    /// The answer redirects, probably to a login page.
    #[serde(default)]
    pub redirects_to_login: bool,
    /// The gRPC health service says that it does not serve.
    #[serde(default)]
    pub not_serving: bool,
    /// The gRPC status that the far side sent, unless it is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<i32>,
    /// At least one byte was received.
    #[serde(default)]
    pub any_byte: bool,
    /// When its certificate expires.
    pub certificate_expires: Option<Timestamp>,
    /// Required metrics that the page lacks.
    #[serde(default)]
    pub missing_metrics: Vec<String>,
    /// Where the page is broken: line and byte offset.
    pub broken_at: Option<(u64, u64)>,
    /// Number of samples on the page.
    pub samples: Option<u64>,
    /// Of a pod that fails: whether it failed often enough in a row to be called bad. `None` where that was not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// Of a pod: the last probe of it that passed, where that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_passed: Option<Timestamp>,
}

/// The course of the failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// When the verdict became bad.
    pub bad_since: Option<Timestamp>,
    /// When it was last healthy.
    pub last_healthy: Option<Timestamp>,
    /// Number of changes between healthy and unhealthy, and the seconds in which they happened, if it alternates.
    pub flapping: Option<(u32, u64)>,
    /// Measured and allowed milliseconds, if the probe passes too slowly.
    pub slow: Option<(u64, u64)>,
}

/// Prometheus' view of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Its active entries for this backend; several when it scrapes each pod.
    pub targets: Vec<ScrapeTarget>,
    /// Whether relabelling dropped a target with the same address.
    pub dropped: bool,
    /// Entries with the same labels at another address.
    pub stale: Vec<ScrapeTarget>,
    /// Addresses of Prometheus' own pods, when it runs in the cluster.
    pub addresses: Vec<IpAddr>,
    /// Time of the answer.
    pub asked_at: Option<Timestamp>,
}

/// One entry of Prometheus' `/api/v1/targets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrapeTarget {
    /// The scrape URL, without credentials.
    pub url: String,
    /// The `job` label.
    pub job: String,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// Prometheus' last scrape error.
    pub last_error: String,
    /// Time of the last scrape; `None` when never scraped.
    pub last_scrape: Option<Timestamp>,
    /// Duration of the last scrape, in milliseconds.
    pub last_milliseconds: u64,
    /// The scrape interval, in milliseconds.
    pub interval_milliseconds: u64,
    /// The scrape timeout, in milliseconds.
    pub timeout_milliseconds: u64,
    /// Samples of the last scrape: 0, or unknown.
    pub samples: Option<u64>,
    /// The target comes from a service discovery, which will update it, not from a static list.
    #[serde(default)]
    pub is_discovered: bool,
}

/// Answers of the actuator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actuator {
    /// Its base URL: `http://host:port/actuator`.
    pub base: String,
    /// HTTP status of the base path; `None` without an answer.
    pub base_status: Option<u16>,
    /// Why the base path gave no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_error: Option<ErrorClass>,
    /// The link list: rel to path, same origin only. `None` when there is none.
    pub links: Option<BTreeMap<String, String>>,
    /// HTTP status of its health page.
    pub health_status: Option<u16>,
    /// Why the health page gave no answer.
    pub health_error: Option<ErrorClass>,
    /// The overall status: UP, DOWN, OUT_OF_SERVICE or UNKNOWN.
    pub health: Option<String>,
    /// The overall status is a word of the application's own, which is not kept: `health` is `None` then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub custom_health: bool,
    /// Components and their status, nested ones as `a/b`; `None` when the page shows none.
    pub components: Option<BTreeMap<String, String>>,
    /// Other paths that were tried after a 404 of the base path, and their HTTP statuses.
    #[serde(default)]
    pub tried: BTreeMap<String, u16>,
    /// HTTP status of its liveness group, or why it gave no answer.
    #[serde(default)]
    pub liveness: Option<Result<u16, ErrorClass>>,
}

/// Report of the local agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// It reports that the container is stopped; only in evidence that was saved before `view` existed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub container_stopped: bool,
    /// It reports that the process is stopped; only in evidence that was saved before `view` existed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub process_stopped: bool,
    /// The unit as it sees it; `None` when it said nothing about this backend, or too long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<AgentView>,
    /// When a heartbeat said so for the last time. The agent had looked at most 5 s before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_at: Option<Timestamp>,
    /// Why there is no view, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}
