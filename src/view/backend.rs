//! What is known of one backend, for the HTTP API and `vigie get`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RemedyView;
use crate::api::{BackendState, Cause, Phase, Truth};

/// One backend, as it is known this instant.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// The namespace of the object.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// Its site as the spec says it; empty means that the namespace is the failure domain.
    pub site: String,
    /// What is probed, as a URL without credentials; none before it was looked at.
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
    /// What to do about it.
    pub advice: Option<String>,
    /// Whether the last probe passed; none before the first.
    pub passed: Option<bool>,
    /// When the last probe ended.
    pub last_probe_time: Option<Timestamp>,
    /// How many milliseconds the last probe that passed took.
    pub latency_milliseconds: Option<i64>,
    /// Since when it is in this state.
    pub state_since: Option<Timestamp>,
    /// What Prometheus is to scrape; none before it is known, and for what speaks no HTTP. In memory only.
    #[serde(skip)]
    pub scrape: Option<Scrape>,
    /// How long each phase of the last probe took, in seconds; in memory only.
    #[serde(skip)]
    pub phases: Vec<(Phase, f64)>,
    /// The status of the condition `Scraped`; none where no Prometheus is known.
    pub scraped: Option<Truth>,
    /// The reason of the condition `Scraped`.
    pub prometheus: Option<String>,
    /// When the certificate that it showed last expires.
    pub certificate_expiry_time: Option<Timestamp>,
    /// How often vigie restarted it.
    pub restarts: i64,
    /// What is remembered of its remedies. In memory only.
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
pub struct Scrape {
    /// `host:port`, one for each pod where pods are dialled.
    pub addresses: Vec<String>,
    /// https.
    pub is_tls: bool,
    /// The path of the page, without a query.
    pub path: String,
}
