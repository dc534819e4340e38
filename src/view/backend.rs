//! One backend at this instant, for the HTTP API, the metrics and `vigie get`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RemedyView;
use crate::api::{BackendState, Cause, Phase, Truth};

/// One backend at this instant.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// `spec.site`; empty means that the namespace is the failure domain.
    pub site: String,
    /// The probed URL, without credentials; none before the first probe.
    pub target: Option<String>,
    /// Its state.
    pub state: BackendState,
    /// The status of the condition `Ready`.
    pub ready: Truth,
    /// Whether its spec can be acted upon.
    pub accepted: bool,
    /// The named reason for a bad state.
    pub cause: Option<Cause>,
    /// The cause in a sentence.
    pub message: Option<String>,
    /// The advice of the diagnosis.
    pub advice: Option<String>,
    /// Whether the last probe passed; none before the first.
    pub passed: Option<bool>,
    /// When the last probe ended.
    pub last_probe_time: Option<Timestamp>,
    /// How many milliseconds the last probe that passed took.
    pub latency_milliseconds: Option<i64>,
    /// Since when it is in this state.
    pub state_since: Option<Timestamp>,
    /// The addresses that Prometheus scrapes; none before they are known, and for targets without HTTP. In memory only.
    #[serde(skip)]
    pub scrape: Option<MetricsEndpoint>,
    /// The duration of each phase of the last probe, in seconds. In memory only.
    #[serde(skip)]
    pub phases: Vec<(Phase, f64)>,
    /// The status of the condition `Scraped`; none where no Prometheus is known.
    pub scraped: Option<Truth>,
    /// The reason of the condition `Scraped`.
    pub prometheus: Option<String>,
    /// The expiry time of the certificate that it last presented.
    pub certificate_expiry_time: Option<Timestamp>,
    /// How often vigie restarted its workload.
    pub restarts: i64,
    /// Its last denial and outcome. In memory only.
    #[serde(skip)]
    pub remedy: RemedyView,
    /// When the object was created.
    pub created_time: Option<Timestamp>,
    /// Whether remedies are paused.
    pub paused: bool,
    /// Whether the API server knows this state; false while a transition waits to be written.
    pub written: bool,
}

/// Where Prometheus finds the metrics of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsEndpoint {
    /// `host:port`; one for each pod if the target is `pods`.
    pub addresses: Vec<String>,
    /// Whether the scheme is https.
    pub is_tls: bool,
    /// The path of the metrics page, without a query.
    pub path: String,
}
