//! Evidence from the Kubernetes API: workload, pods, Service, policies, events.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A Deployment, StatefulSet or DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Desired replicas (for a DaemonSet: nodes).
    pub wanted: i32,
    /// Replicas with the newest template.
    pub updated: i32,
    /// Ready replicas.
    pub ready: i32,
    /// Existing replicas, including old ones.
    pub current: i32,
    /// The controller has seen the newest spec.
    pub observed: bool,
    /// It is paused (Deployments).
    pub paused: bool,
    /// Its `Progressing` condition is False with `ProgressDeadlineExceeded`.
    pub deadline_exceeded: bool,
    /// When the newest template was created.
    pub template_since: Option<Timestamp>,
    /// The revision of the newest template, and whether there is an earlier one.
    pub revision: Option<(i64, bool)>,
    /// `minReadySeconds` of the spec.
    pub min_ready_seconds: i32,
    /// `matchLabels` of its selector.
    pub selector: BTreeMap<String, String>,
    /// Its newest template differs from the previous one only by the annotations of a restart: going back changes
    /// nothing.
    #[serde(default)]
    pub only_restarted: bool,
    /// Its update strategy is OnDelete: then pods with an old template are not a rollout.
    #[serde(default)]
    pub on_delete: bool,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: String,
    /// `status.reason`: Evicted, NodeLost, …
    pub reason: Option<String>,
    /// `status.message`: the kubelet's words for that reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The name of its node.
    pub node: Option<String>,
    /// IP addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `Ready` is True.
    pub ready: bool,
    /// When `Ready` changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_changed: Option<Timestamp>,
    /// `PodScheduled` is False: reason and message of the scheduler.
    pub unscheduled: Option<(String, String)>,
    /// The hash or the revision of its template.
    pub revision: Option<String>,
    /// It uses the host's network.
    pub host_network: bool,
    /// Init containers in the order of the spec.
    pub init: Vec<Container>,
    /// Containers in the order of the spec.
    pub containers: Vec<Container>,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// `metadata.name`.
    pub name: String,
    /// The image in the spec.
    pub image: String,
    /// `ready` in its status.
    pub ready: bool,
    /// Its startup probe has passed, or it has none; `None` when unknown.
    pub started: Option<bool>,
    /// Since when it runs; `None` when it does not run.
    pub running_since: Option<Timestamp>,
    /// Reason and message of the kubelet while it waits.
    pub waiting: Option<(String, String)>,
    /// Its termination, if its present state is terminated.
    pub terminated: Option<Ended>,
    /// Its previous termination.
    pub last: Option<Ended>,
    /// Number of restarts.
    pub restarts: i32,
    /// Ports that it declares: name and number.
    pub ports: Vec<(Option<String>, u16)>,
    /// Known names of its environment variables.
    pub environment: BTreeSet<String>,
    /// Values of the settings in [`WANTED_ENVIRONMENT`].
    pub values: BTreeMap<String, EnvValue>,
    /// Sources of values that are not in the pod's template: `ConfigMap web-env, key exposure`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub value_sources: BTreeMap<String, String>,
    /// Why part of the environment could not be resolved (a Secret by `envFrom`, a forbidden ConfigMap): then an absent
    /// variable proves nothing.
    pub environment_incomplete: Option<String>,
    /// The memory limit in the spec.
    pub memory_limit: Option<String>,
    /// Whether it has a startup probe, a liveness probe, a readiness probe.
    pub probes: (bool, bool, bool),
    /// The budget of its startup probe in seconds: initialDelay + period × failureThreshold.
    pub startup_budget: Option<u64>,
    /// It is an init container with `restartPolicy: Always`, which runs beside the others (a native sidecar).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_sidecar: bool,
    /// The tail of its previous log, where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

/// The termination of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// OOMKilled, Error, Completed, ContainerStatusUnknown, StartError, …
    pub reason: String,
    /// The exit code.
    pub exit_code: i32,
    /// When the container started.
    pub began: Option<Timestamp>,
    /// When the container ended.
    pub ended: Option<Timestamp>,
    /// Its termination message: text of the backend, up to 4 KiB. Shown only through the extractor.
    pub message: Option<String>,
}

/// The value of a wanted environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvValue {
    /// The resolved value.
    Plain(String),
    /// It comes from a Secret, which is not read.
    FromSecret,
    /// It could not be resolved; the reason.
    Unresolved(String),
}

/// The Service of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `metadata.name`.
    pub name: String,
    /// ClusterIP, NodePort, LoadBalancer or ExternalName.
    pub kind: String,
    /// It is headless: it has no cluster address.
    pub headless: bool,
    /// Its selector; empty when it has none.
    pub selector: BTreeMap<String, String>,
    /// Number and targetPort of the port that the target names; `None` when the Service has no such port.
    pub port: Option<(u16, String)>,
    /// All its ports as `name/number`: `http/80`.
    pub ports: Vec<String>,
    /// Number of pods that its selector selects; `None` when pods may not be listed.
    pub selected: Option<usize>,
    /// Numbers of ready endpoints, and of others.
    pub endpoints: (usize, usize),
    /// The number of the target port in its EndpointSlices; `None` when none resolves it.
    pub endpoint_port: Option<u16>,
}

/// The Secret with the certificate that the backend presents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSecret {
    /// `metadata.name`.
    pub name: String,
    /// When it was last changed.
    pub changed: Option<Timestamp>,
}

/// A NetworkPolicy that selects the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodNetworkPolicy {
    /// `metadata.name`.
    pub name: String,
    /// Whether it restricts ingress.
    pub ingress: bool,
    /// Whether it admits Prometheus to the port; `None` when unknown.
    pub admits_prometheus: Option<bool>,
    /// Whether it admits vigie to the port; `None` when unknown.
    pub admits_us: Option<bool>,
}

impl Pod {
    /// Whether it has ended for good: it serves nothing, and no container of it starts again.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }
}

/// A warning event, or the event that a container is killed (`Killing`, which is no warning).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// Its reason: Unhealthy, FailedScheduling, FailedMount, …
    pub reason: String,
    /// `Pod/NAME` or the workload.
    pub about: String,
    /// The container that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The note; it may hold text of the backend (an `Unhealthy` note holds a body).
    pub note: String,
    /// When it was last seen.
    pub at: Option<Timestamp>,
    /// Number of occurrences.
    pub count: i32,
}

/// Environment variables whose values are kept; of all others only the names.
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
    "MANAGEMENT_ENDPOINT_HEALTH_PROBES_ENABLED",
];
