//! A backend as remedies see it.

use super::assess::{Assessment, Input};
use crate::api::{BackendState, ConditionType, Truth, conditions};
use crate::controller::remediation::{Remediable as _, health_of_backend, with_current};
use crate::remediation::{InsideView, Verdict};

/// What is said of it, in the words of remedies.
pub fn verdict(case: &Input<'_>, assessment: &Assessment) -> Verdict {
    let Assessment { state, since, conditions, diagnosis } = assessment;
    let intervals = with_current(case.backend.stored_intervals(), health_of_backend(*state), *since);
    let is_up = matches!(state, BackendState::Up | BackendState::Degraded);
    let pods = |ok: bool| {
        let seen = case.live.vantages.iter().filter(move |vantage| vantage.ok == ok);
        seen.filter_map(|vantage| vantage.name.strip_prefix("pod/")).map(str::to_owned).collect()
    };
    let kubelet = conditions::get(conditions, ConditionType::WorkloadHealthy);
    Verdict {
        was_healthy: case.backend.was_healthy() || is_up,
        intervals,
        diagnosis: diagnosis.clone(),
        mass_silence: None,
        blind: case.live.blind.clone(),
        inside: InsideView::Pods {
            failing: pods(false),
            passing: pods(true),
            unready: kubelet.is_some_and(|said| said.status == Truth::False.as_str()),
        },
        healthy_at: case.live.passed_at.filter(|_| is_up).map(|at| case.now.stamp(at)),
        scrape: case.live.findings.as_ref().and_then(|found| found.scrape.clone()),
    }
}
