//! What the cluster says of the pods behind a backend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A Deployment, StatefulSet or DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Replicas that are wanted (for a DaemonSet: nodes).
    pub wanted: i32,
    /// Of them with the newest template.
    pub updated: i32,
    /// Of them ready.
    pub ready: i32,
    /// All that exist, old ones included.
    pub current: i32,
    /// The controller has seen the newest spec.
    pub observed: bool,
    /// It is paused (Deployments).
    pub paused: bool,
    /// Its `Progressing` condition is False with `ProgressDeadlineExceeded`.
    pub deadline_exceeded: bool,
    /// Since when the newest template exists.
    pub template_since: Option<Timestamp>,
    /// The revision of the newest template, and whether there is one before it.
    pub revision: Option<(i64, bool)>,
    /// `minReadySeconds`.
    pub min_ready_seconds: i32,
    /// Labels that its pods are selected by.
    pub selector: BTreeMap<String, String>,
    /// Its newest template differs from the one before by a restart's annotations alone: going back changes nothing.
    #[serde(default)]
    pub only_restarted: bool,
    /// Its update strategy is OnDelete: an old template is no rollout then.
    #[serde(default)]
    pub on_delete: bool,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: String,
    /// `status.reason`: Evicted, NodeLost, …
    pub reason: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// It is being deleted.
    pub deleting: bool,
    /// Its node.
    pub node: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `Ready` is True.
    pub ready: bool,
    /// `PodScheduled` is False: reason and message of the scheduler.
    pub unscheduled: Option<(String, String)>,
    /// The template's hash or the revision it was made from.
    pub revision: Option<String>,
    /// Uses the host's network.
    pub host_network: bool,
    /// Its init containers, in their order.
    pub init: Vec<Container>,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image, as the spec names it.
    pub image: String,
    /// It is ready.
    pub ready: bool,
    /// Its startup probe has passed, or it has none; `None` when unknown.
    pub started: Option<bool>,
    /// It runs, since.
    pub running_since: Option<Timestamp>,
    /// It waits: reason and the kubelet's message.
    pub waiting: Option<(String, String)>,
    /// It has ended.
    pub terminated: Option<Ended>,
    /// How it ended last.
    pub last: Option<Ended>,
    /// How many times it was restarted.
    pub restarts: i32,
    /// Ports that it declares: name and number.
    pub ports: Vec<(Option<String>, u16)>,
    /// Names of its environment variables, as far as they are known.
    pub environment: BTreeSet<String>,
    /// Values of those that the rules ask for.
    pub values: BTreeMap<String, EnvValue>,
    /// Where those values stand when it is not the pod's template, as a person would name it:
    /// `ConfigMap web-env, key exposure`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub value_sources: BTreeMap<String, String>,
    /// Part of the environment could not be resolved (a Secret by `envFrom`, a forbidden ConfigMap): absence of a
    /// variable proves nothing then.
    pub environment_incomplete: Option<String>,
    /// Its memory limit, as the spec says it.
    pub memory_limit: Option<String>,
    /// It has a startup probe, a liveness probe, a readiness probe.
    pub probes: (bool, bool, bool),
    /// The budget of its startup probe in seconds: initialDelay + period × failureThreshold.
    pub startup_budget: Option<u64>,
    /// The tail of its previous log, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

/// The end of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// OOMKilled, Error, Completed, ContainerStatusUnknown, StartError, …
    pub reason: String,
    /// Its exit code.
    pub exit_code: i32,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Its termination message: the backend's own words, up to 4 KiB. Never shown but through the extractor.
    pub message: Option<String>,
}

/// The value of an environment variable that the rules ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvValue {
    /// The value.
    Plain(String),
    /// It comes from a Secret, which is not read.
    FromSecret,
    /// It could not be resolved; why.
    Unresolved(String),
}

/// The Service of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its name.
    pub name: String,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName.
    pub kind: String,
    /// It has no cluster address.
    pub headless: bool,
    /// Its selector; empty when it has none.
    pub selector: BTreeMap<String, String>,
    /// The port that the target names: number and targetPort; `None` when the Service has no such port.
    pub port: Option<(u16, String)>,
    /// All its ports, as a person would name them: `http/80`.
    pub ports: Vec<String>,
    /// How many pods of the namespace its selector selects; `None` when pods may not be listed.
    pub selected: Option<usize>,
    /// Endpoints that are ready, and those that are not.
    pub endpoints: (usize, usize),
    /// The number of the target port in its EndpointSlices; `None` when none resolves it.
    pub endpoint_port: Option<u16>,
}

/// The Secret that holds the certificate which the backend shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSecret {
    /// Its name.
    pub name: String,
    /// When it was changed last.
    pub changed: Option<Timestamp>,
}

/// A NetworkPolicy that selects the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// It restricts ingress.
    pub ingress: bool,
    /// It admits Prometheus to the port; `None` when that cannot be known.
    pub admits_prometheus: Option<bool>,
    /// It admits us to the port; `None` when that cannot be known.
    pub admits_us: Option<bool>,
}

/// A warning event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// Its reason: Unhealthy, FailedScheduling, FailedMount, …
    pub reason: String,
    /// `Pod/NAME` or the workload.
    pub about: String,
    /// The note; it may hold the backend's own words (an `Unhealthy` note holds a body).
    pub note: String,
    /// When it was seen last.
    pub at: Option<Timestamp>,
    /// How many times.
    pub count: i32,
}

/// Names of the environment variables whose values may be kept; all others are names only.
pub const WANTED_ENVIRONMENT: &[&str] = &[
    "SERVER_PORT",
    "SERVER_ADDRESS",
    "SERVER_SERVLET_CONTEXT_PATH",
    "SERVER_SSL_ENABLED",
    "SPRING_WEBFLUX_BASE_PATH",
    "MANAGEMENT_SERVER_PORT",
    "MANAGEMENT_SERVER_ADDRESS",
    "MANAGEMENT_SERVER_BASE_PATH",
    "MANAGEMENT_SERVER_SSL_ENABLED",
    "MANAGEMENT_ENDPOINTS_WEB_BASE_PATH",
    "MANAGEMENT_ENDPOINTS_WEB_PATH_MAPPING_PROMETHEUS",
    "MANAGEMENT_ENDPOINTS_WEB_PATH_MAPPING_HEALTH",
    "MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_INCLUDE",
    "MANAGEMENT_ENDPOINTS_WEB_EXPOSURE_EXCLUDE",
    "MANAGEMENT_ENDPOINT_PROMETHEUS_ENABLED",
    "MANAGEMENT_ENDPOINT_PROMETHEUS_ACCESS",
    "MANAGEMENT_ENDPOINTS_ENABLED_BY_DEFAULT",
    "MANAGEMENT_ENDPOINTS_ACCESS_DEFAULT",
    "MANAGEMENT_ENDPOINTS_ACCESS_MAX_PERMITTED",
    "MANAGEMENT_PROMETHEUS_METRICS_EXPORT_ENABLED",
    "MANAGEMENT_ENDPOINT_HEALTH_SHOW_COMPONENTS",
    "MANAGEMENT_ENDPOINT_HEALTH_SHOW_DETAILS",
];
