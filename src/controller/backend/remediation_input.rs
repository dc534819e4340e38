//! A backend as remedies see it.

use jiff::SignedDuration;

use super::assess::{Assessment, Input};
use crate::api::{AttemptPhase, BackendState, ConditionType, Truth, conditions};
use crate::controller::remediation::{Remediable as _, health_of_backend, with_present};
use crate::diagnosis::evidence::{Evidence, Lookup};
use crate::monitor::registry::Backend;
use crate::remediation::attempt::StepResult;
use crate::remediation::{InsideView, Scrape, Verdict};
use crate::time::Moment;

/// What is said of it, in the words of remedies.
pub fn verdict(case: &Input<'_>, assessment: &Assessment) -> Verdict {
    let Assessment { state, since, conditions, diagnosis } = assessment;
    let spells = with_present(case.backend.stored_spells(), health_of_backend(*state), *since);
    let is_up = matches!(state, BackendState::Up | BackendState::Degraded);
    let pods = |ok: bool| {
        let seen = case.live.vantages.iter().filter(move |vantage| vantage.ok == ok);
        seen.filter_map(|vantage| vantage.name.strip_prefix("pod/")).map(str::to_owned).collect()
    };
    let kubelet = conditions::get(conditions, ConditionType::WorkloadHealthy);
    Verdict {
        was_healthy: case.backend.was_healthy() || is_up,
        spells,
        diagnosis: diagnosis.clone(),
        mass_silence: None,
        blind: case.live.blind.clone(),
        inside: InsideView::Seen {
            failing: pods(false),
            passing: pods(true),
            unready: kubelet.is_some_and(|said| said.status == Truth::False.as_str()),
        },
        healthy_at: case.live.passed_at.filter(|_| is_up).map(|at| case.now.stamp(at)),
        scrape: case.live.findings.as_ref().and_then(|found| found.scrape.clone()),
    }
}

/// What Prometheus says, for whoever waits for its next scrape. What it does not know is not waited for.
pub fn scrape(evidence: &Evidence) -> Option<Scrape> {
    match &evidence.prometheus {
        Lookup::NotLooked => None,
        Lookup::Forbidden(_) | Lookup::Failed(_) | Lookup::Absent => {
            Some(Scrape { passed: None, at: None, interval: SignedDuration::ZERO })
        }
        Lookup::Found(seen) => {
            let interval = seen.targets.iter().map(|target| target.interval_milliseconds).max()?;
            Some(Scrape {
                passed: Some(seen.targets.iter().all(|target| target.health == "up")),
                at: seen.targets.iter().map(|target| target.last_scrape).min().flatten(),
                interval: SignedDuration::from_millis(i64::try_from(interval).unwrap_or(i64::MAX)),
            })
        }
    }
}

/// While the next scrape of Prometheus is awaited, it is asked with every round and not once a minute.
pub fn hurry(entry: &Backend, course: &StepResult, now: Moment) {
    let verifies = course.status.current.as_ref().is_some_and(|current| current.phase == AttemptPhase::Verifying);
    if verifies {
        entry.with(|live| {
            let is_asked = live.findings.as_ref().is_some_and(|(found, _)| found.scrape.is_some());
            if is_asked && live.look_at.is_none_or(|at| at > now) {
                live.look_at = Some(now);
            }
        });
    }
}
