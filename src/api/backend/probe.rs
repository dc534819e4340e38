//! How a backend is probed.

// The derive of KubeSchema repeats each struct inside a function, where nothing public can be reached.
#![allow(unreachable_pub)]

use std::time::Duration;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{HttpProbe, MAX_PATH};

/// The longest time that a probe takes when the spec names none, in seconds.
const USUAL_TIMEOUT: i32 = 5;
/// The longest time that a probe may take, in seconds: it holds a place that others wait for. Objects that were stored
/// before there was a limit may name a longer one.
pub const MAX_PROBE_TIMEOUT: i32 = 60;

/// How the target is probed, and how many probes make a verdict.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.timeoutSeconds) || self.timeoutSeconds <= self.intervalSeconds")
        .message("spec.probe.timeoutSeconds must be at most intervalSeconds")
        .field_path(".timeoutSeconds"),
    validation = Rule::new("!has(self.metrics) || self.http.method == 'GET'")
        .message("spec.probe.metrics needs spec.probe.http.method GET: the answer to a HEAD has no page")
        .field_path(".metrics"),
)]
pub struct ProbeSpec {
    /// Seconds between two probes, 1 to 3600. After a first failure the next probe comes within a quarter of it.
    #[serde(default = "ProbeSpec::default_interval")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: i32,
    /// Seconds that one probe may take, all its phases together, 1 to 60; at most intervalSeconds. Default: 5, at most
    /// intervalSeconds. A larger value that an older version accepted counts as 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: Option<i32>,
    /// How many probes must fail in a row before the state is Down, 1 to 100.
    #[serde(default = "ProbeSpec::default_failure_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: i32,
    /// How many probes must pass in a row before the state is no longer Down, 1 to 100.
    #[serde(default = "ProbeSpec::default_success_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub success_threshold: i32,
    /// A probe that passes and takes more milliseconds than this makes the state Degraded, 1 to 3600000. Default: no
    /// time is too long but the timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600_000))]
    pub degraded_latency_milliseconds: Option<i32>,
    /// The request and the responses that pass, when the target is http or https; how TLS is spoken, also for grpcs.
    #[serde(default)]
    pub http: HttpProbe,
    /// Asks for a page that Prometheus can scrape: its Accept header, exactly 200, a supported content type, a body
    /// that parses, at most 10 MiB. An empty block asks for it; an absent one does not. For http and https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsProbe>,
    /// Reads the health and the links of a Spring Boot actuator. An empty block asks for it; an absent one does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actuator: Option<ActuatorProbe>,
}

impl ProbeSpec {
    const fn default_interval() -> i32 {
        15
    }

    const fn default_failure_threshold() -> i32 {
        3
    }

    const fn default_success_threshold() -> i32 {
        1
    }

    /// The time between two probes.
    pub fn interval(&self) -> Duration {
        seconds(self.interval_seconds)
    }

    /// The time that one probe may take: the one that is given, at most [`MAX_PROBE_TIMEOUT`], else 5 seconds, at most the
    /// interval.
    pub fn timeout(&self) -> Duration {
        let given = self.timeout_seconds.map(|given| given.min(MAX_PROBE_TIMEOUT));
        seconds(given.unwrap_or_else(|| self.interval_seconds.min(USUAL_TIMEOUT)))
    }
}

/// The schema admits nothing below 1; a probe without any time would only ever fail.
fn seconds(given: i32) -> Duration {
    Duration::from_secs(given.max(1).unsigned_abs().into())
}

// By hand: a derived one would become the schema's default of an absent block, with an interval of 0.
impl Default for ProbeSpec {
    fn default() -> Self {
        Self {
            interval_seconds: Self::default_interval(),
            timeout_seconds: None,
            failure_threshold: Self::default_failure_threshold(),
            success_threshold: Self::default_success_threshold(),
            degraded_latency_milliseconds: None,
            http: HttpProbe::default(),
            metrics: None,
            actuator: None,
        }
    }
}

/// The requirements on a metrics page.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricsProbe {
    /// Names of metrics, as their samples are called, that the page must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[schemars(inner(length(min = 1, max = 256), regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub required: Vec<String>,
}

/// Where a Spring Boot actuator is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActuatorProbe {
    /// Path of the link list, beginning with a slash. Default: /actuator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_PATH))]
    #[x_kube(
        validation = Rule::new("self.matches('^/[!-\"$->@-~]*$')")
            .message("spec.probe.actuator.basePath must begin with a slash, and hold neither spaces nor ? nor #"),
    )]
    pub base_path: Option<String>,
    /// The port that it listens on, 1 to 65535, when it is not the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

impl ActuatorProbe {
    /// The path of the link list.
    pub fn base_path(&self) -> &str {
        self.base_path.as_deref().unwrap_or("/actuator")
    }
}
