//! The input of the remediation of a MonitoredBackend.

use super::agents::AgentSignals;
use super::assess::{Assessment, Input};
use crate::api::{BackendState, ConditionType, MonitoredBackend, TargetState, Truth, conditions};
use crate::controller::remediation::{
    Acknowledgement, Remediable as _, RemediationInput, health_of_backend, with_current,
};
use crate::monitor::findings::LastScrape;
use crate::remediation::{AgentPresence, InsideView, ObjectHealth, Scrape, Verdict};

/// The verdict about the backend, in the terms of the remediation.
pub fn verdict(input: &Input<'_>, assessment: &Assessment) -> Verdict {
    let Assessment { state, since, conditions, diagnosis } = assessment;
    let health = health_of_backend(*state, diagnosis.as_ref().map(|found| found.cause));
    // Within Degraded the cause may change without a transition: then the present health is as old as the cause.
    let since = match diagnosis.as_ref().and_then(|found| found.since.as_ref()) {
        Some(since) if *state == BackendState::Degraded => since.0,
        _ => *since,
    };
    let intervals = with_current(input.backend.stored_intervals(), health, since);
    let is_up = matches!(state, BackendState::Up | BackendState::Degraded);
    let pods = |ok: bool| {
        let current = input.live.vantages.iter().filter(|_| !input.is_out_of_date());
        // A failure that is not confirmed yet makes no pod the one to restart.
        let seen = current.filter(move |vantage| vantage.ok == ok && vantage.confirmed != Some(false));
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
        healthy_at: input.live.passed_at.filter(|_| health == ObjectHealth::Healthy).map(|at| input.now.stamp(at)),
        is_stopped_on_purpose: is_stopped_on_purpose(input),
        scrape: input.live.findings.as_ref().and_then(|found| found.last_scrape.as_ref()).map(scrape),
    }
}

/// The request for the remediation step.
pub fn remediation_input<'a>(
    input: &Input<'a>,
    verdict: &'a Verdict,
    signals: &'a AgentSignals,
) -> RemediationInput<'a, MonitoredBackend> {
    let is_heard = input.live.agent.as_ref().is_some_and(|agent| agent.is_heard);
    let by_agent = input.backend.spec.workload_ref.is_none();
    RemediationInput {
        agent: input.backend.spec.agent_ref.is_some().then_some(AgentPresence { is_heard }),
        acknowledged: signals.answer.as_ref().map(|answer| Acknowledgement {
            attempt: &answer.id,
            succeeded: answer.succeeded,
            message: answer.message.as_deref().unwrap_or_default(),
        }),
        paused: input.live.agent.as_ref().filter(|_| by_agent).and_then(|agent| agent.paused.clone()),
        handed_out: signals.handed_out.as_deref(),
        ..RemediationInput::about(input.backend, verdict)
    }
}

/// Whether the agent says that the unit was stopped on purpose and does not run.
fn is_stopped_on_purpose(input: &Input<'_>) -> bool {
    // Until this process has heard the agent, its word to the former leader stands, as in the status.
    let view = match &input.live.agent {
        Some(reading) if reading.has_spoken || !reading.is_heard => reading.evidence.view.as_ref(),
        Some(_) | None => input.backend.status.as_ref().and_then(|status| status.agent.as_ref()),
    };
    view.is_some_and(|view| view.stopped_on_purpose && view.state != TargetState::Running)
}

fn scrape(last: &LastScrape) -> Scrape {
    Scrape { passed: last.passed, at: last.at, interval: last.interval }
}
