//! The input of the remediation of a MonitoredBackend.

use super::assess::{Assessment, Input};
use crate::api::{BackendState, ConditionType, Truth, conditions};
use crate::controller::remediation::{Remediable as _, health_of_backend, with_current};
use crate::monitor::registry::LastScrape;
use crate::remediation::{InsideView, Scrape, Verdict};

/// The verdict about the backend, in the terms of the remediation.
pub fn verdict(input: &Input<'_>, assessment: &Assessment) -> Verdict {
    let Assessment { state, since, conditions, diagnosis } = assessment;
    let intervals = with_current(input.backend.stored_intervals(), health_of_backend(*state), *since);
    let is_up = matches!(state, BackendState::Up | BackendState::Degraded);
    let pods = |ok: bool| {
        let seen = input.live.vantages.iter().filter(move |vantage| vantage.ok == ok);
        seen.filter_map(|vantage| vantage.name.strip_prefix("pod/")).map(str::to_owned).collect()
    };
    let kubelet = conditions::get(conditions, ConditionType::WorkloadHealthy);
    Verdict {
        was_healthy: input.backend.was_healthy() || is_up,
        intervals,
        diagnosis: diagnosis.clone(),
        mass_silence: None,
        blind: input.live.blind.clone(),
        inside: InsideView::Pods {
            failing: pods(false),
            passing: pods(true),
            unready: kubelet.is_some_and(|said| said.status == Truth::False.as_str()),
        },
        healthy_at: input.live.passed_at.filter(|_| is_up).map(|at| input.now.stamp(at)),
        scrape: input.live.findings.as_ref().and_then(|found| found.last_scrape.as_ref()).map(scrape),
    }
}

fn scrape(last: &LastScrape) -> Scrape {
    Scrape { passed: last.passed, at: last.at, interval: last.interval }
}
