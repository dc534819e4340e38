//! The spec of a Connector.

// The derive of KubeSchema repeats each struct inside a function, where nothing public can be reached.
#![allow(unreachable_pub)]

use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CheckSpec, CheckType, ConnectorStatus, EffectiveHeartbeat, Severity};
use crate::api::RemediationSpec;
use crate::api::shared::{AgentRef, MAX_NAME, Paused, SecretKeyRef, WorkloadRef};
use crate::api::words::words;

/// The connector to watch. Every field has a default, so `spec: {}` is complete.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    kind = "Connector",
    group = "vigie.dev",
    version = "v1alpha1",
    namespaced,
    status = "ConnectorStatus",
    derive = "PartialEq",
    shortname = "ztc",
    category = "vigie",
    doc = "A gateway that sends heartbeats: they decide whether it is alive, and the status says so, and why.",
    printcolumn(
        name = "State", type_ = "string", json_path = ".status.state",
        description = "Pending, Online, Late, Degraded, Offline or Unknown."
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
        name = "Last Contact", type_ = "date", json_path = ".status.lastHeartbeatTime",
        description = "How long ago the last authenticated heartbeat was received."
    ),
    printcolumn(
        name = "Version", type_ = "string", json_path = ".status.agent.version",
        description = "The version that the connector reports."
    ),
    printcolumn(
        name = "Restarts", type_ = "integer", json_path = ".status.remediation.restarts",
        description = "How many times vigie restarted its workload."
    ),
    printcolumn(
        name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp",
        description = "How long ago the Connector was created."
    ),
    printcolumn(
        name = "Health", type_ = "string", priority = 1,
        json_path = r#".status.conditions[?(@.type=="Healthy")].reason"#,
        description = "The result of the connector's own checks."
    ),
    printcolumn(
        name = "Site", type_ = "string", priority = 1, json_path = ".spec.site",
        description = "The failure domain within the namespace."
    ),
    printcolumn(
        name = "Address", type_ = "string", priority = 1, json_path = ".status.agent.address",
        description = "The address that the last heartbeat came from."
    ),
    printcolumn(
        name = "Token Age", type_ = "date", priority = 1, json_path = ".status.token.issuedTime",
        description = "How long ago the current token was issued."
    ),
    // The token Secret's name is derived from it, and a label value ends at 63 characters.
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name must have at most 63 characters"),
)]
#[x_kube(
    validation = Rule::new("has(self.connectorID) == has(oldSelf.connectorID) \
        && (!has(self.connectorID) || self.connectorID == oldSelf.connectorID)")
        .message("spec.connectorID is immutable: it can be neither changed, nor added later, nor removed")
        .field_path(".connectorID"),
    validation = Rule::new("!(has(self.workloadRef) && has(self.agentRef))")
        .message("spec.agentRef and spec.workloadRef exclude each other")
        .field_path(".agentRef"),
    validation = Rule::new("!(has(self.agentRef) && has(self.agentRef.name))")
        .message("spec.agentRef.name is for MonitoredBackends: a Connector is restarted by its own agent")
        .field_path(".agentRef.name"),
    validation = Rule::new("!(self.heartbeat.source == 'Lease' && has(self.agentRef))")
        .message("spec.agentRef needs spec.heartbeat.source HTTP: actions ride in the answers to HTTP heartbeats")
        .field_path(".agentRef"),
)]
pub struct ConnectorSpec {
    /// Name shown to people, at most 63 characters. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub display_name: Option<String>,
    /// The connector_id that heartbeats carry; 1 to 128 letters, digits and . _ / : -. Immutable, and unique in the
    /// cluster: of two Connectors with the same one the older wins. Default: the object's namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "connectorID")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._/:-]{1,128}$"))]
    pub connector_id: Option<String>,
    /// Failure domain within the namespace, a label value of at most 63 characters. Brakes on remedies count per
    /// namespace and site. Default: the namespace as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"))]
    pub site: Option<String>,
    /// How often heartbeats are expected, and how long a silence is Late and then Offline.
    #[serde(default)]
    pub heartbeat: HeartbeatSpec,
    /// The token that the connector authenticates with.
    #[serde(default)]
    pub token: TokenSpec,
    /// How the connector's own checks are weighed, and what its agent looks for; at most one entry for each type.
    /// A type that is not listed has its default severity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub checks: Vec<CheckSpec>,
    /// The workload that runs this connector, in the same namespace; it is what remedies restart. Excludes agentRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<WorkloadRef>,
    /// Says that the agent which beats for this connector restarts it locally. Excludes workloadRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ref: Option<AgentRef>,
    /// When and how the workload is restarted. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<RemediationSpec>,
    /// Stops remedies for this connector. Its state is still reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
}

words! {
    /// Where heartbeats come from.
    HeartbeatSource {
        /// The connector posts them to vigie.
        HTTP,
        /// The connector renews a coordination.k8s.io/v1 Lease.
        Lease,
    }
}

/// How often heartbeats are expected, and how long a silence may last.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.lateAfterSeconds) || self.intervalSeconds < self.lateAfterSeconds")
        .message("spec.heartbeat.lateAfterSeconds must be greater than intervalSeconds")
        .field_path(".lateAfterSeconds"),
    validation = Rule::new("!has(self.lateAfterSeconds) || !has(self.offlineAfterSeconds) \
        || self.lateAfterSeconds < self.offlineAfterSeconds")
        .message("spec.heartbeat.lateAfterSeconds must be less than offlineAfterSeconds")
        .field_path(".lateAfterSeconds"),
    // The computed offlineAfterSeconds is twice this, and has the same limit as a given one.
    validation = Rule::new("!has(self.lateAfterSeconds) || has(self.offlineAfterSeconds) \
        || self.lateAfterSeconds <= 43200")
        .message("spec.heartbeat.lateAfterSeconds must be at most 43200 unless offlineAfterSeconds is given")
        .field_path(".lateAfterSeconds"),
    validation = Rule::new("!has(self.offlineAfterSeconds) || self.offlineAfterSeconds >= 3 * self.intervalSeconds")
        .message("spec.heartbeat.offlineAfterSeconds must be at least 3 times intervalSeconds")
        .field_path(".offlineAfterSeconds"),
    validation = Rule::new("(self.source == 'Lease') == has(self.leaseName)")
        .message("spec.heartbeat.leaseName is required when source is Lease, and forbidden otherwise")
        .field_path(".leaseName"),
)]
pub struct HeartbeatSpec {
    /// Seconds between two heartbeats, 5 to 300.
    #[serde(default = "HeartbeatSpec::default_interval")]
    #[schemars(range(min = 5, max = 300))]
    pub interval_seconds: i32,
    /// Seconds of silence after which the state is Late; greater than intervalSeconds, less than offlineAfterSeconds.
    /// Default: 3 times intervalSeconds, at most half of offlineAfterSeconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 6, max = 86399))]
    pub late_after_seconds: Option<i32>,
    /// Seconds of silence after which the state is Offline, 30 to 86400 and at least 3 times intervalSeconds.
    /// Default: 10 times intervalSeconds, at least 300, and at least twice lateAfterSeconds when that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 86400))]
    pub offline_after_seconds: Option<i32>,
    /// Where heartbeats come from. HTTP: the connector posts them to vigie. Lease: it renews the Lease named in
    /// leaseName, and has no token.
    #[serde(default = "HeartbeatSpec::default_source")]
    pub source: HeartbeatSource,
    /// Name of the coordination.k8s.io/v1 Lease in the same namespace; required when source is Lease, else forbidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub lease_name: Option<String>,
}

impl HeartbeatSpec {
    const fn default_interval() -> i32 {
        30
    }

    const fn default_source() -> HeartbeatSource {
        HeartbeatSource::HTTP
    }

    /// The limits that this spec means, the computed ones included.
    ///
    /// For every spec that the schema admits: interval < late < offline ≤ 86400.
    pub fn effective(&self) -> EffectiveHeartbeat {
        let interval = self.interval_seconds;
        let offline = self.offline_after_seconds.unwrap_or_else(|| {
            let twice_late = self.late_after_seconds.unwrap_or(0).saturating_mul(2);
            interval.saturating_mul(10).max(300).max(twice_late)
        });
        let late = self.late_after_seconds.unwrap_or_else(|| interval.saturating_mul(3).min(offline / 2));
        EffectiveHeartbeat { interval_seconds: interval, late_after_seconds: late, offline_after_seconds: offline }
    }
}

// By hand: a derived one would become the schema's default of an absent block, with an interval of 0.
impl Default for HeartbeatSpec {
    fn default() -> Self {
        Self {
            interval_seconds: Self::default_interval(),
            late_after_seconds: None,
            offline_after_seconds: None,
            source: Self::default_source(),
            lease_name: None,
        }
    }
}

/// The token that the connector authenticates with.
///
/// The schema fills in an absent block, so that rules on it hold against dropping it, too.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretName) == has(oldSelf.secretName) \
        && (!has(self.secretName) || self.secretName == oldSelf.secretName)")
        .message("spec.token.secretName is immutable: it can be neither changed, nor added later, nor removed")
        .field_path(".secretName"),
    validation = Rule::new("self.rotationGeneration >= oldSelf.rotationGeneration")
        .message("spec.token.rotationGeneration must not decrease, and leaving it out means 0")
        .field_path(".rotationGeneration"),
    validation = Rule::new("!has(self.existingSecretRef) || self.rotationGeneration == 0")
        .message("spec.token.existingSecretRef excludes rotationGeneration: rotate by changing that Secret")
        .field_path(".existingSecretRef"),
    validation = Rule::new("!has(self.existingSecretRef) || self.graceSeconds == 14400")
        .message("spec.token.existingSecretRef excludes graceSeconds: a changed value replaces the old one at once")
        .field_path(".existingSecretRef"),
)]
pub struct TokenSpec {
    /// Name of the Secret that the token is delivered in. Immutable. Default: the object's name followed by
    /// -connector-token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
    /// A Secret of your own that holds the token, 16 to 256 printable characters. It is read, never written; a changed
    /// value replaces the old one when it is noticed. Excludes rotationGeneration and graceSeconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_secret_ref: Option<SecretKeyRef>,
    /// Raise it to have a new token delivered. It never decreases, also not by dropping the field: rotate in Git, or
    /// leave the field out of Git.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub rotation_generation: i64,
    /// For how many seconds the old token lives on after a new one was delivered, 0 to 604800; 0 ends it at once. A
    /// running grace can be shortened and never lengthened.
    #[serde(default = "TokenSpec::default_grace")]
    #[schemars(range(min = 0, max = 604_800))]
    pub grace_seconds: i64,
}

impl TokenSpec {
    const fn default_grace() -> i64 {
        14_400
    }
}

// By hand: a derived one would become the schema's default of an absent block, with a grace of 0.
impl Default for TokenSpec {
    fn default() -> Self {
        Self {
            secret_name: None,
            existing_secret_ref: None,
            rotation_generation: 0,
            grace_seconds: Self::default_grace(),
        }
    }
}

impl ConnectorSpec {
    /// The token part of this spec, defaults included.
    pub fn token(&self) -> TokenSpec {
        self.token.clone()
    }

    /// How much a failure of the reported check `type_` matters. A type that a newer agent reports and we do not know
    /// is Critical, for its agent would not report a failure that does not matter as one.
    pub fn severity_of(&self, type_: &str) -> Severity {
        match self.checks.iter().find(|check| check.type_.as_str() == type_) {
            Some(check) => check.effective_severity(),
            None => type_.parse().map_or(Severity::Critical, CheckType::default_severity),
        }
    }
}

impl Connector {
    /// The `connector_id` that this Connector's heartbeats carry.
    pub fn effective_id(&self) -> String {
        match &self.spec.connector_id {
            Some(id) => id.clone(),
            None => format!("{}/{}", self.namespace().unwrap_or_default(), self.name_any()),
        }
    }

    /// The failure domain, `<namespace>/<site>`: never another tenant's.
    pub fn domain(&self) -> String {
        format!("{}/{}", self.namespace().unwrap_or_default(), self.spec.site.as_deref().unwrap_or_default())
    }

    /// The name of the Secret that the token is delivered in.
    pub fn token_secret_name(&self) -> String {
        match &self.spec.token.secret_name {
            Some(name) => name.clone(),
            None => format!("{}-connector-token", self.name_any()),
        }
    }

    /// The name of the Secret that the connector's token is in: the one that the user brings, or the one that is
    /// delivered.
    pub fn credential_secret_name(&self) -> String {
        match &self.spec.token.existing_secret_ref {
            Some(brought) => brought.name.clone(),
            None => self.token_secret_name(),
        }
    }

    /// Whether its heartbeats are renewals of a Lease. Then it has no token.
    pub fn is_lease(&self) -> bool {
        self.spec.heartbeat.source == HeartbeatSource::Lease
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
