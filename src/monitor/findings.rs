//! The findings of an investigation.

use jiff::{SignedDuration, Timestamp};

use crate::api::{ConditionValue, Diagnosis};

/// The conclusions of one investigation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// The diagnosis; `None` when nothing is wrong.
    pub diagnosis: Option<Diagnosis>,
    /// `MetricsExposed`; `None` when the spec asks for no metrics page.
    pub metrics_exposed: Option<ConditionValue>,
    /// `Scraped`; `None` when no Prometheus is configured.
    pub scraped: Option<ConditionValue>,
    /// `WorkloadHealthy`; `None` when the spec names no workload.
    pub workload_healthy: Option<ConditionValue>,
    /// The last scrape of Prometheus, for the verification of a restart.
    pub last_scrape: Option<LastScrape>,
}

/// The last scrape of a backend by Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastScrape {
    /// Whether it passed; `None` when Prometheus could not be asked or does not know the backend.
    pub passed: Option<bool>,
    /// When it was made.
    pub at: Option<Timestamp>,
    /// The time between two scrapes; zero when it is not known.
    pub interval: SignedDuration,
}
