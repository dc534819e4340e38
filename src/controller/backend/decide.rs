//! Decides what to write about a MonitoredBackend. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::assess::{Assessment, Input};
use crate::api::{
    AgentView, BackendState, MAX_MESSAGE, MAX_URL, MAX_VANTAGE_NAME, MAX_VANTAGES, MicroTime, MonitoredBackend,
    MonitoredBackendStatus, TargetState, Time, VantageStatus, clip, set_condition,
};
use crate::cluster::events::Event;
use crate::controller::runtime::Plan;
use crate::controller::transitions::{self, Entered, ended, enter, event, set_remediating};
use crate::diagnosis::evidence::{Agent, Vantage};
use crate::diagnosis::rules::agent_in_words;
use crate::monitor::agent::AgentReading;
use crate::monitor::entry::Snapshot;
use crate::remediation::attempt::StepResult;

/// The vantage of the agent on the host of the backend.
const AGENT: &str = "agent";

/// The wait while the verdict is held back: it may be the operator that cannot see. `suspected` is the wait of the
/// self-check. A state that is written already stands.
pub fn hold_verdict_for(input: &Input<'_>, suspected: Option<Duration>) -> Option<Duration> {
    let state = input.backend.status.as_ref().and_then(|status| status.state);
    let stands = state == Some(BackendState::Down) || input.live.blind.is_some() || input.live.refused.is_some();
    suspected.filter(|_| !stands)
}

/// Decides what to write. `remedy` is the result of the remediation step.
pub fn decide(input: &Input<'_>, mut assessment: Assessment, remedy: &StepResult) -> Plan<MonitoredBackendStatus> {
    let old = input.backend.status.clone().unwrap_or_default();
    set_remediating(&mut assessment.conditions, remedy);
    let mut next = compose(input, &assessment, &old);
    // Present from the start, so that RESTARTS prints 0.
    next.remediation = Some(remedy.status.clone());
    let due_at = transition(&old, &mut next, &assessment, input.now.wall);
    let events = due_at.and_then(|_| state_event(input.backend, &next)).into_iter().collect();
    let is_same = same_but_for_figures(&old, &next);
    let is_words_only = !is_same && due_at.is_none() && same_but_for_figures(&wordless(&old), &wordless(&next));
    Plan { status: (!is_same).then(|| next.clone()), current: next, events, due_at, is_words_only }
}

fn compose(input: &Input<'_>, assessment: &Assessment, old: &MonitoredBackendStatus) -> MonitoredBackendStatus {
    let live = input.live;
    let stamp = |at| input.now.stamp(at);
    let healthy = live.passed_at.filter(|_| assessment.state == BackendState::Up).map(|at| Time(stamp(at)));
    let mut next = MonitoredBackendStatus {
        state: Some(assessment.state),
        target: live.target.clone().map(|url| clip(url, MAX_URL)).or_else(|| old.target.clone()),
        diagnosis: assessment.diagnosis.clone(),
        vantages: match live.probed_at {
            Some(_) => vantages(live),
            None => old.vantages.clone(),
        },
        agent: agent(input, old),
        last_probe_time: live.probed_at.map(|at| MicroTime(stamp(at))).or_else(|| old.last_probe_time.clone()),
        last_healthy_time: healthy.or_else(|| old.last_healthy_time.clone()),
        latency_milliseconds: live.latency.map(|took| millis(took.as_millis())).or(old.latency_milliseconds),
        state_since: old.state_since.clone(),
        certificate_expiry_time: match live.passed_at {
            // A target that passes without TLS presents none any more.
            Some(_) => live.certificate_expires.map(Time),
            None => live.certificate_expires.map(Time).or_else(|| old.certificate_expiry_time.clone()),
        },
        observed_generation: input.backend.metadata.generation.unwrap_or(0),
        transitions: old.transitions.clone(),
        remediation: old.remediation.clone(),
        conditions: old.conditions.clone(),
    };
    let turned = if next.state == old.state { input.now.wall } else { assessment.since.min(input.now.wall) };
    next.conditions.retain(|known| assessment.conditions.iter().any(|new| new.type_ == known.type_));
    for condition in &assessment.conditions {
        set_condition(&mut next.conditions, condition.clone(), Time(turned));
    }
    next
}

/// The agent's view. Until this process has heard it, that of the former leader stands.
fn agent(input: &Input<'_>, old: &MonitoredBackendStatus) -> Option<AgentView> {
    input.backend.spec.agent_ref.as_ref()?;
    match &input.live.agent {
        Some(reading) if reading.has_spoken || !reading.is_heard => reading.evidence.view.clone(),
        Some(_) | None => old.agent.clone(),
    }
}

/// The probes, and the word of the agent.
fn vantages(live: &Snapshot) -> Vec<VantageStatus> {
    let of_agent = live.agent.as_ref().and_then(of_agent);
    let room = MAX_VANTAGES - usize::from(of_agent.is_some());
    live.vantages.iter().take(room).map(vantage).chain(of_agent).collect()
}

/// The word of the agent as a vantage: whether the unit runs, and answers where the agent probes it.
fn of_agent(reading: &AgentReading) -> Option<VantageStatus> {
    let (ok, probe, message) = match &reading.evidence {
        Agent { view: Some(view), .. } => {
            let answers = view.probe.as_ref().is_none_or(|probe| probe.ok);
            (view.state == TargetState::Running && answers, view.probe.as_ref(), agent_in_words(view))
        }
        Agent { missing: Some(why), .. } => (false, None, why.clone()),
        Agent { .. } => return None,
    };
    Some(VantageStatus {
        name: AGENT.to_owned(),
        ok,
        error_class: probe.filter(|probe| !probe.ok).and_then(|probe| probe.error_class),
        phase: probe.filter(|probe| !probe.ok).and_then(|probe| probe.phase),
        milliseconds: None,
        time: None,
        message: clip(message, MAX_MESSAGE),
    })
}

fn millis(of: u128) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

fn vantage(seen: &Vantage) -> VantageStatus {
    VantageStatus {
        name: clip(seen.name.as_str(), MAX_VANTAGE_NAME),
        ok: seen.ok,
        error_class: seen.error_class,
        phase: seen.phase,
        milliseconds: i64::try_from(seen.milliseconds).ok(),
        time: Some(Time(seen.at)),
        message: clip(seen.message.as_str(), MAX_MESSAGE),
    }
}

/// Enters the new state; returns when the change became due.
fn transition(
    old: &MonitoredBackendStatus,
    next: &mut MonitoredBackendStatus,
    assessment: &Assessment,
    now: Timestamp,
) -> Option<Timestamp> {
    let Assessment { state, since, diagnosis, .. } = assessment;
    let from = old.state.map(|state| state.as_str());
    let entered = Entered { from, to: state.as_str(), since: *since, diagnosis: diagnosis.as_ref() };
    enter(&mut next.state_since, &mut next.transitions, &entered, now)
}

/// Whether two statuses differ only in fields that change with every probe; those wait for the next checkpoint.
fn same_but_for_figures(old: &MonitoredBackendStatus, next: &MonitoredBackendStatus) -> bool {
    let steady = |status: &MonitoredBackendStatus| {
        let mut steady = status.clone();
        (steady.last_probe_time, steady.last_healthy_time, steady.latency_milliseconds) = (None, None, None);
        // An agent reports each step of a crash loop; the cause that follows from it is what is written.
        steady.agent = None;
        steady.vantages.retain(|vantage| vantage.name != AGENT);
        for vantage in &mut steady.vantages {
            (vantage.milliseconds, vantage.time) = (None, None);
            vantage.message.clear();
        }
        if let Some(diagnosis) = &mut steady.diagnosis {
            diagnosis.since = None;
            // Its figures grow (restarts, ages): only a change of the cause or of the advice is written.
            diagnosis.message.clear();
            diagnosis.evidence.clear();
            for other in &mut diagnosis.alternatives {
                other.message.clear();
            }
        }
        for condition in &mut steady.conditions {
            condition.message.clear();
        }
        steady
    };
    steady(old) == steady(next)
}

/// The status without its sentences for people, in which the text of an error may vary with each look.
fn wordless(status: &MonitoredBackendStatus) -> MonitoredBackendStatus {
    let mut wordless = status.clone();
    transitions::clear_words(&mut wordless.conditions, wordless.diagnosis.as_mut(), wordless.remediation.as_mut());
    wordless
}

/// The event of the newest transition.
pub fn state_event(backend: &MonitoredBackend, next: &MonitoredBackendStatus) -> Option<Event> {
    let latest = next.transitions.first()?;
    let to: BackendState = latest.to.parse().ok()?;
    if to == BackendState::Pending {
        return None;
    }
    let bad = next.diagnosis.as_ref().filter(|_| to != BackendState::Up);
    Some(event(latest, to.as_str(), bad, || recovery(backend, next)))
}

fn recovery(backend: &MonitoredBackend, next: &MonitoredBackendStatus) -> String {
    let name = backend.metadata.name.as_deref().unwrap_or_default();
    let [up, down, pending] = [BackendState::Up, BackendState::Down, BackendState::Pending].map(|state| state.as_str());
    match ended(&next.transitions, up, down, &[pending]) {
        Some(what) => format!("{name} is Up again after {what}"),
        None => format!("{name} is Up"),
    }
}

#[cfg(test)]
mod tests;
