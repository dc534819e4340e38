//! The spec of a MonitoredBackend.

// The derive of KubeSchema repeats each struct inside a function, where nothing public can be reached.
#![allow(unreachable_pub)]

use kube::{CustomResource, KubeSchema, ResourceExt};
use serde::{Deserialize, Serialize};

use super::target::{NO_USER, PORT_IN_RANGE};
use super::{BackendTarget, MAX_URL, MonitoredBackendStatus, ProbeSpec};
use crate::api::RemediationSpec;
use crate::api::shared::{AgentRef, MAX_NAME, Paused, SecretKeyRef, WorkloadRef};

/// CEL: the target does not speak HTTP. False for an empty target, which another rule refuses.
macro_rules! other_than_http {
    () => {
        "(has(self.target.url) && !self.target.url.startsWith('http') \
        || has(self.target.service) && !self.target.service.scheme.startsWith('http') \
        || has(self.target.pods) && !self.target.pods.scheme.startsWith('http'))"
    };
}

const METRICS_NEED_HTTP: &str = concat!("!has(self.probe.metrics) || !", other_than_http!());
const ACTUATOR_NEEDS_HTTP: &str =
    concat!("!has(self.probe.actuator) || has(self.probe.actuator.port) || !", other_than_http!());

/// The backend to probe. Only target is required.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    kind = "MonitoredBackend",
    group = "vigie.dev",
    version = "v1alpha1",
    namespaced,
    status = "MonitoredBackendStatus",
    derive = "PartialEq",
    shortname = "mb",
    category = "vigie",
    doc = "A service that is probed: the status says whether it is up, and if not, why, and what to do.",
    printcolumn(
        name = "State", type_ = "string", json_path = ".status.state",
        description = "Pending, Up, Degraded, Down or Unknown."
    ),
    printcolumn(
        name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether all that matters is well."
    ),
    printcolumn(
        name = "Cause", type_ = "string", json_path = ".status.diagnosis.cause",
        description = "The named reason for a bad state."
    ),
    printcolumn(
        name = "Latency", type_ = "integer", json_path = ".status.latencyMilliseconds",
        description = "How many milliseconds the last probe that passed took."
    ),
    printcolumn(
        name = "Last Probe", type_ = "date", json_path = ".status.lastProbeTime",
        description = "How long ago the last probe ended."
    ),
    printcolumn(
        name = "Restarts", type_ = "integer", json_path = ".status.remediation.restarts",
        description = "How many times vigie restarted its workload."
    ),
    printcolumn(
        name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp",
        description = "How long ago the MonitoredBackend was created."
    ),
    printcolumn(
        name = "Advice", type_ = "string", priority = 1, json_path = ".status.diagnosis.advice",
        description = "The advice of the diagnosis."
    ),
    printcolumn(
        name = "Prometheus", type_ = "string", priority = 1,
        json_path = r#".status.conditions[?(@.type=="Scraped")].reason"#,
        description = "The view of Prometheus: the reason of the condition Scraped."
    ),
    printcolumn(
        name = "Target", type_ = "string", priority = 1, json_path = ".status.target",
        description = "The probed URL."
    ),
    printcolumn(
        name = "Site", type_ = "string", priority = 1, json_path = ".spec.site",
        description = "The failure domain within the namespace."
    ),
    // The same as for every kind of ours: names become label values, which end at 63 characters.
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name must have at most 63 characters"),
)]
#[x_kube(
    validation = Rule::new("!has(self.target.pods) || has(self.workloadRef)")
        .message("spec.target.pods needs spec.workloadRef: it is whose pods are probed")
        .field_path(".target.pods"),
    validation = Rule::new("!(has(self.workloadRef) && has(self.agentRef))")
        .message("spec.agentRef and spec.workloadRef exclude each other")
        .field_path(".agentRef"),
    validation = Rule::new(METRICS_NEED_HTTP)
        .message("spec.probe.metrics needs a spec.target that speaks http or https")
        .field_path(".probe.metrics"),
    validation = Rule::new(ACTUATOR_NEEDS_HTTP)
        .message("spec.probe.actuator needs a port of its own, or a spec.target that speaks http or https")
        .field_path(".probe.actuator"),
)]
pub struct MonitoredBackendSpec {
    /// The address to dial: exactly one of url, service and pods.
    pub target: BackendTarget,
    /// How it is probed, and how many probes make a verdict.
    #[serde(default)]
    pub probe: ProbeSpec,
    /// Where Prometheus scrapes the same backend: its own view is reported beside ours. Default: the operator's
    /// --prometheus-url, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSpec>,
    /// For how many seconds after its start a backend that does not answer yet is said to be still starting, 0 to
    /// 86400. Default: what its startup probe allows, else 300, or minReadySeconds of the workload when that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub startup_seconds: Option<i32>,
    /// The workload that runs this backend, in the same namespace; its pods are evidence, and it is what remedies
    /// restart. Excludes agentRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<WorkloadRef>,
    /// Says that the agent of a Connector looks after this backend on its host, and restarts it. Excludes workloadRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ref: Option<AgentRef>,
    /// When and how the workload is restarted. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<RemediationSpec>,
    /// Stops remedies for this backend. Its state is still reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Failure domain within the namespace, a label value of at most 63 characters. Brakes on remedies count per
    /// namespace and site. Default: the namespace as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"))]
    pub site: Option<String>,
}

/// CEL: the address of a Prometheus. A user is admitted here: the rule [`NO_USER`] refuses it with its own message.
const PROMETHEUS_SHAPE: &str = "isURL(self) && self.matches(\
    r'^https?://([^/?#]*@)?([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?(/[!-\"$->@-~]*)?$')";

/// Where Prometheus is, and which of its targets is this backend.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusSpec {
    /// Address of Prometheus, http or https, with the path before /api/v1 if there is one; at most 2048 characters.
    /// No user and no password. Default: the operator's --prometheus-url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_URL))]
    #[x_kube(
        validation = Rule::new(NO_USER)
            .message("spec.prometheus.url must hold no user and no password: name a Secret in bearerTokenSecretRef"),
        validation = Rule::new(PROMETHEUS_SHAPE)
            .message("spec.prometheus.url must be http or https, then ://, a host, a port if there is one, and a path \
                without a query"),
        validation = Rule::new(PORT_IN_RANGE)
            .message("spec.prometheus.url must have a port of 1 to 65535, if it has one"),
    )]
    pub url: Option<String>,
    /// The job label of the target. Without job and instance the target is found by its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub job: Option<String>,
    /// The instance label of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub instance: Option<String>,
    /// A key of a Secret that holds a token for Prometheus, sent as Authorization: Bearer. The Secret must carry the
    /// label vigie.dev/probe-credentials: "true".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_secret_ref: Option<SecretKeyRef>,
    /// Where Prometheus scrapes from, in CIDR notation: advice about firewalls names it.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sourceCIDR")]
    #[schemars(length(min = 1, max = 49))]
    #[x_kube(
        validation = Rule::new("isCIDR(self)")
            .message("spec.prometheus.sourceCIDR must be a network in CIDR notation, for example 192.0.2.0/24"),
    )]
    pub source_cidr: Option<String>,
}

impl MonitoredBackend {
    /// The failure domain, `<namespace>/<site>`: never another tenant's.
    pub fn domain(&self) -> String {
        format!("{}/{}", self.namespace().unwrap_or_default(), self.spec.site.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
