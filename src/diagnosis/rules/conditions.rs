//! The conditions of a backend that follow from its evidence (docs/design/api.md).

use super::prometheus::is_up;
use super::queries::{pods, target};
use super::response::page_passes;
use super::scrape_error::is_stale;
use super::text::workload_name;
use super::{Finding, findings};
use crate::api::{Cause, ConditionValue, Reason, Truth};
use crate::diagnosis::evidence::{Evidence, Lookup};

/// The conditions of a backend; `None` where the spec does not ask for that part, and the condition is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendConditions {
    /// `MetricsExposed`: the metrics page can be scraped.
    pub metrics_exposed: Option<ConditionValue>,
    /// `Scraped`: Prometheus scrapes it, and gets samples.
    pub scraped: Option<ConditionValue>,
    /// `WorkloadHealthy`: the pods behind it are healthy.
    pub workload_healthy: Option<ConditionValue>,
}

/// The three conditions, from the same evidence as the diagnosis.
pub fn conclude(evidence: &Evidence) -> BackendConditions {
    let findings = findings(evidence);
    BackendConditions {
        metrics_exposed: metrics_exposed(evidence, &findings),
        scraped: scraped(evidence, &findings),
        workload_healthy: workload_healthy(evidence, &findings),
    }
}

/// Causes of a bad metrics page; they are contiguous in the order of causes.
fn is_about_metrics(cause: Cause) -> bool {
    (Cause::SlowMetrics..=Cause::MetricMissing).contains(&cause)
}

fn is_about_prometheus(cause: Cause) -> bool {
    (Cause::StaleTarget..=Cause::PrometheusDown).contains(&cause)
}

fn is_about_workload(cause: Cause) -> bool {
    (Cause::ScaledToZero..=Cause::OneReplicaBad).contains(&cause) || cause == Cause::StillStarting
}

/// The first finding about this part, else the first finding of all.
fn because(findings: &[Finding], is_about: fn(Cause) -> bool, otherwise: &str) -> ConditionValue {
    let found = findings.iter().find(|finding| is_about(finding.cause)).or_else(|| findings.first());
    match found {
        Some(finding) => ConditionValue::new(Truth::False, finding.cause.into(), finding.message.clone()),
        None => ConditionValue::new(Truth::False, Reason::Unexplained, otherwise),
    }
}

fn metrics_exposed(e: &Evidence, findings: &[Finding]) -> Option<ConditionValue> {
    // Probes are blind, or there was none yet: the state of the page is unknown.
    let passes = page_passes(e).filter(|_| e.subject.wants_metrics && e.blind.is_none())?;
    Some(if passes {
        ConditionValue::new(Truth::True, Reason::Exposed, "the metrics page can be scraped")
    } else {
        because(findings, is_about_metrics, "the metrics page cannot be scraped")
    })
}

fn scraped(e: &Evidence, findings: &[Finding]) -> Option<ConditionValue> {
    let prometheus = match &e.prometheus {
        Lookup::NotLooked => return None,
        Lookup::Forbidden(why) | Lookup::Failed(why) => {
            return Some(ConditionValue::new(Truth::Unknown, Reason::PrometheusUnreachable, why));
        }
        Lookup::Absent => return Some(because(findings, is_about_prometheus, "Prometheus does not scrape it")),
        Lookup::Found(prometheus) => prometheus,
    };
    let targets = &prometheus.targets;
    if targets.iter().any(|target| is_stale(e, target)) {
        let message = "its last scrape is older than two of its intervals";
        return Some(ConditionValue::new(Truth::Unknown, Reason::PrometheusUnreachable, message));
    }
    let well = |target| is_up(target) && target.samples != Some(0);
    if !targets.is_empty() && targets.iter().all(well) {
        return Some(ConditionValue::new(Truth::True, Reason::TargetUp, "Prometheus scrapes it and gets samples"));
    }
    let fails = targets.iter().any(|target| target.health == "down" || target.samples == Some(0));
    if !targets.is_empty() && !fails {
        return Some(ConditionValue::new(Truth::Unknown, Reason::NotYetScraped, "Prometheus has not scraped it yet"));
    }
    if let Some(waits) = findings.iter().find(|finding| finding.cause == Cause::NotYetScraped && targets.is_empty()) {
        return Some(ConditionValue::new(Truth::Unknown, Reason::NotYetScraped, waits.message.clone()));
    }
    if targets.is_empty() && prometheus.stale.is_empty() {
        let message = "Prometheus has no active target for it";
        return Some(ConditionValue::new(Truth::False, Reason::NotScraped, message));
    }
    Some(because(findings, is_about_prometheus, "Prometheus cannot scrape it"))
}

fn workload_healthy(e: &Evidence, findings: &[Finding]) -> Option<ConditionValue> {
    let workload = e.workload.found();
    let forbidden = e.workload.missing().or_else(|| e.pods.missing());
    let looked = workload.is_some() || e.pods.found().is_some();
    // The probes of its pods show a bad replica, also where the cluster may not be read.
    if !looked && findings.iter().all(|finding| finding.cause != Cause::OneReplicaBad) {
        return forbidden.map(|why| ConditionValue::new(Truth::Unknown, Reason::EvidenceForbidden, why));
    }
    if findings.iter().any(|finding| is_about_workload(finding.cause)) {
        return Some(because(findings, is_about_workload, ""));
    }
    let (ready, wanted) = match workload {
        Some(workload) => (workload.ready, workload.wanted),
        None => {
            let pods = pods(e);
            let count = |pods: usize| i32::try_from(pods).unwrap_or(i32::MAX);
            (count(pods.iter().filter(|pod| pod.ready).count()), count(pods.len()))
        }
    };
    let told = format!("{ready} of {wanted} pods of {} are ready", workload_name(e));
    if ready >= wanted {
        return Some(ConditionValue::new(Truth::True, Reason::PodsReady, told));
    }
    match (forbidden, target(e)) {
        (Some(why), _) => Some(ConditionValue::new(Truth::Unknown, Reason::EvidenceForbidden, why)),
        (None, _) => Some(because(findings, is_about_workload, &told)),
    }
}
