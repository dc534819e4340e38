//! Decides what to write about a Connector. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::assess::{Assessment, Input};
use super::token::{TokenEvent, TokenPlan};
use crate::api::{
    AgentGap, AgentPaused, AgentStatus, CheckStatus, Connector, ConnectorState, ConnectorStatus, GapKind, MAX_CHECKS,
    Transition, set_condition,
};
use crate::cluster::events::{Event, EventType};
use crate::controller::runtime::Plan;
use crate::controller::transitions::{self, Entered, ended, enter, event, set_remediating};
use crate::diagnosis::connector::DUPLICATE_INSTANCE;
use crate::remediation::attempt::StepResult;
use crate::time::{Moment, Now};

/// Decides what to write. `remedy` is the result of the remediation step. `token` is `None` for a Lease source, and while the Secret is not due.
pub fn decide(
    input: &Input<'_>,
    mut assessment: Assessment,
    remedy: &StepResult,
    token: Option<&TokenPlan>,
) -> Plan<ConnectorStatus> {
    let old = input.connector.status.clone().unwrap_or_default();
    set_remediating(&mut assessment.conditions, remedy);
    let mut next = compose(input, &assessment, &old, token);
    // Present from the start, so that RESTARTS prints 0.
    next.remediation = Some(remedy.status.clone());
    let due_at = transition(&old, &mut next, &assessment, input.now.wall);
    let mut events = token.map(|token| token_events(input, token)).unwrap_or_default();
    if due_at.is_some() {
        events.extend(state_event(input.connector, &next).map(|event| with_gap(event, input, &next)));
    }
    events.extend(duplicate_event(input, &old, &next));
    let is_same = same_but_for_times(&old, &next);
    let is_words_only = !is_same && due_at.is_none() && same_but_for_times(&wordless(&old), &wordless(&next));
    Plan { status: (!is_same).then(|| next.clone()), current: next, events, due_at, is_words_only }
}

fn compose(
    input: &Input<'_>,
    assessment: &Assessment,
    old: &ConnectorStatus,
    token: Option<&TokenPlan>,
) -> ConnectorStatus {
    let connector = input.connector;
    let contact = connector_contact(input).map(MicroTime);
    let well = matches!(assessment.state, ConnectorState::Online);
    let mut next = ConnectorStatus {
        state: Some(assessment.state),
        connector_id: Some(connector.effective_id()),
        heartbeat: Some(connector.spec.heartbeat.effective()),
        last_heartbeat_time: contact.clone().or_else(|| old.last_heartbeat_time.clone()),
        last_healthy_time: if well { input.last_contact().map(Time) } else { old.last_healthy_time.clone() },
        state_since: old.state_since.clone(),
        observed_generation: connector.metadata.generation.unwrap_or(0),
        agent: agent(input, old.agent.as_ref()),
        checks: checks(input, old),
        diagnosis: assessment.diagnosis.clone(),
        token: token.map(|plan| plan.status.clone()).or_else(|| old.token.clone()),
        transitions: old.transitions.clone(),
        remediation: old.remediation.clone(),
        conditions: old.conditions.clone(),
    };
    // A condition that changes because of silence changed at the deadline; any other changes now.
    let turned = if next.state == old.state { input.now.wall } else { assessment.since.min(input.now.wall) };
    next.conditions.retain(|known| assessment.conditions.iter().any(|new| new.type_ == known.type_));
    for condition in &assessment.conditions {
        set_condition(&mut next.conditions, condition.clone(), Time(turned));
    }
    next
}

/// Enters the new state; returns when the change became due.
fn transition(
    old: &ConnectorStatus,
    next: &mut ConnectorStatus,
    assessment: &Assessment,
    now: Timestamp,
) -> Option<Timestamp> {
    let Assessment { state, since, diagnosis, .. } = assessment;
    let from = old.state.map(|state| state.as_str());
    let entered = Entered { from, to: state.as_str(), since: *since, diagnosis: diagnosis.as_ref() };
    enter(&mut next.state_since, &mut next.transitions, &entered, now)
}

/// The time at which the wall clock will show a moment that is still to come.
fn ahead(now: Now, at: Moment) -> Timestamp {
    now.wall.saturating_add(at.since(now.moment)).unwrap_or(now.wall)
}

/// The last heartbeat of the connector itself; of its agent, where only that was ever heard.
fn connector_contact(input: &Input<'_>) -> Option<Timestamp> {
    match input.live.contacts.and_then(|contacts| contacts.own_contact) {
        Some(own) => Some(input.now.stamp(own)),
        None => input.last_contact(),
    }
}

/// The facts that were reported. What was not reported since this process started stands as it is stored.
fn agent(input: &Input<'_>, stored: Option<&AgentStatus>) -> Option<AgentStatus> {
    let Some(agent) = &input.live.agent else { return stored.cloned() };
    let known = stored.cloned().unwrap_or_default();
    let text = |of: &Option<Box<str>>| of.as_deref().map(str::to_owned);
    let facts = AgentStatus {
        version: text(&agent.version).or(known.version),
        hostname: text(&agent.hostname).or(known.hostname),
        boot_id: text(&agent.boot_id).or(known.boot_id),
        address: agent.address.map(|address| address.to_string()).or(known.address),
        pod_uid: text(&agent.pod_uid).or(known.pod_uid),
        clock_skew_seconds: agent.clock_skew_seconds.or(known.clock_skew_seconds),
        ..AgentStatus::default()
    };
    let Some(contacts) = &input.live.contacts else { return Some(facts) };
    let said = &input.live.said;
    let pause = said.pause(input.now.moment);
    Some(AgentStatus {
        last_seen_time: contacts.agent_contact.map(|at| MicroTime(input.now.stamp(at))),
        connector_heard: contacts.own_contact.map(|_| true),
        paused: pause.map(|pause| AgentPaused {
            by: pause.by.clone(),
            reason: pause.reason.clone(),
            until: said.paused_until.map(|until| Time(ahead(input.now, until))),
        }),
        stopping: said.stopping.map(|reason| reason.as_str().to_owned()),
        stopped_on_purpose: said.is_stopped_on_purpose,
        ..facts
    })
}

fn checks(input: &Input<'_>, old: &ConnectorStatus) -> Vec<CheckStatus> {
    let Some(reported) = &input.live.checks else { return old.checks.clone() };
    let said = |check: &crate::heartbeat::payload::ReportedCheck| {
        let known = old.checks.iter().find(|known| known.type_ == check.type_ && known.status == check.status);
        CheckStatus {
            type_: check.type_.clone(),
            status: check.status,
            message: check.message.clone(),
            // Since when it has this outcome.
            time: known.map_or(Time(input.now.wall), |known| known.time.clone()),
        }
    };
    reported.iter().take(MAX_CHECKS).map(said).collect()
}

/// Whether two statuses differ only in fields that change with every heartbeat; those wait for the next checkpoint.
fn same_but_for_times(old: &ConnectorStatus, next: &ConnectorStatus) -> bool {
    let steady = |status: &ConnectorStatus| {
        let mut steady = status.clone();
        steady.last_heartbeat_time = None;
        steady.last_healthy_time = None;
        if let Some(agent) = &mut steady.agent {
            agent.address = None;
            agent.clock_skew_seconds = None;
            agent.last_seen_time = None;
            if let Some(paused) = &mut agent.paused {
                paused.until = None;
            }
        }
        for check in &mut steady.checks {
            check.message = None;
            check.time = Time(Timestamp::UNIX_EPOCH);
        }
        if let Some(diagnosis) = &mut steady.diagnosis {
            diagnosis.since = None;
        }
        steady
    };
    steady(old) == steady(next)
}

/// The status without its sentences for people, in which the text of an error may vary with each try.
fn wordless(status: &ConnectorStatus) -> ConnectorStatus {
    let mut wordless = status.clone();
    transitions::clear_words(&mut wordless.conditions, wordless.diagnosis.as_mut(), wordless.remediation.as_mut());
    wordless
}

fn token_events(input: &Input<'_>, token: &TokenPlan) -> Vec<Event> {
    token.events.iter().map(|event| token_event(input, token, *event)).collect()
}

fn token_event(input: &Input<'_>, plan: &TokenPlan, event: TokenEvent) -> Event {
    let token = &plan.status;
    let generation = token.generation;
    let secret = input.connector.credential_secret_name();
    let (kind, reason, note, of) = match event {
        TokenEvent::Rotated(used) => (
            EventType::Normal,
            "TokenRotated",
            format!("token {used} was used for the first time; the one before it has ended"),
            used.to_string(),
        ),
        TokenEvent::Revoked => {
            let next = match input.connector.spec.token.existing_secret_ref {
                Some(_) => format!("put another value into Secret {secret}"),
                None => format!("the new one comes in Secret {secret}"),
            };
            let requested_at = token.observed_revoke_request.clone().unwrap_or_default();
            (EventType::Warning, "TokenRevoked", format!("every token was ended on request; {next}"), requested_at)
        }
        TokenEvent::Recreated => (
            EventType::Warning,
            "TokenSecretRecreated",
            format!(
                "Secret {secret} was gone or unusable; it is delivered anew, and the old token lives on through its grace"
            ),
            generation.to_string(),
        ),
        TokenEvent::Adopted => (
            EventType::Warning,
            "TokenAdopted",
            format!(
                "the status did not know the token in Secret {secret}: after a restored backup or a lost status it is \
                 accepted again, as token {generation}"
            ),
            format!("{generation}/{}", input.connector.metadata.uid.as_deref().unwrap_or_default()),
        ),
        TokenEvent::DeliveryFailed => (
            EventType::Warning,
            "TokenDeliveryFailed",
            format!(
                "{}; no token ends because of this, and it is tried again until it works",
                plan.provisioned.message
            ),
            generation.to_string(),
        ),
    };
    Event { kind, reason, action: "Deliver", note, at: input.now.wall, occurrence: format!("{reason}/{of}") }
}

/// The event of the newest transition; none for Late, and none for coming back from it.
pub fn state_event(connector: &Connector, next: &ConnectorStatus) -> Option<Event> {
    let latest = next.transitions.first()?;
    let to: ConnectorState = latest.to.parse().ok()?;
    let last_published_state = next
        .transitions
        .iter()
        .skip(1)
        .map(|before| before.to.as_str())
        .find(|to| *to != ConnectorState::Late.as_str());
    let last_published_state = last_published_state.or(latest.from.as_deref().filter(|_| next.transitions.len() == 1));
    if matches!(to, ConnectorState::Late | ConnectorState::Pending) || last_published_state == Some(latest.to.as_str())
    {
        return None;
    }
    let bad = next.diagnosis.as_ref().filter(|_| to != ConnectorState::Online);
    Some(event(latest, to.as_str(), bad, || recovery(connector, next, latest)))
}

fn recovery(connector: &Connector, next: &ConnectorStatus, latest: &Transition) -> String {
    let id = connector.effective_id();
    let [online, offline] = [ConnectorState::Online, ConnectorState::Offline].map(|state| state.as_str());
    let mild = [ConnectorState::Late, ConnectorState::Pending].map(|state| state.as_str());
    match ended(&next.transitions, online, offline, &mild) {
        Some(what) => format!("{id} is Online again after {what}"),
        None if latest.from.as_deref().is_none_or(|from| from == ConnectorState::Pending.as_str()) => {
            format!("{id} was heard for the first time")
        }
        None => format!("{id} is heard"),
    }
}

/// The event of a recovery, with what the agent says about the time in which it was not heard. The gap explains the silence
/// and changes nothing about it.
fn with_gap(event: Event, input: &Input<'_>, next: &ConnectorStatus) -> Event {
    let offline = next.transitions.get(1).filter(|before| before.to == ConnectorState::Offline.as_str());
    let is_recovery = next.transitions.first().is_some_and(|latest| latest.to == ConnectorState::Online.as_str());
    let (Some(offline), Some((gaps, heard_at)), true) = (offline, &input.live.said.gaps, is_recovery) else {
        return event;
    };
    let ended = |gap: &&AgentGap| {
        let ago = std::time::Duration::from_secs(gap.ended_seconds_ago.min(MOST_SECONDS_AGO));
        input.now.stamp(*heard_at - ago)
    };
    // One that ended before it turned Offline explains another silence.
    let gap = gaps.iter().filter(|gap| ended(gap) >= offline.time.0).max_by_key(|gap| gap.lasted_seconds);
    match gap {
        Some(gap) => Event { note: format!("{}: {}", event.note, gap_text(gap)), ..event },
        None => event,
    }
}

/// A gap that ended longer ago than a year is not of this silence.
const MOST_SECONDS_AGO: u64 = 366 * 86_400;

/// A gap in a sentence: `back after 412 s: it ran and could not reach us (ConnectTimeout)`.
fn gap_text(gap: &AgentGap) -> String {
    let seconds = gap.lasted_seconds;
    let why = match gap.kind {
        GapKind::Unreachable => {
            let error = gap.error_class.as_ref().map(|class| format!(" ({class})")).unwrap_or_default();
            format!("it ran and could not reach us{error}")
        }
        GapKind::NotRunning => "its agent did not run while its host was up".to_owned(),
        GapKind::HostDown => "its host was down".to_owned(),
        GapKind::Unknown => return format!("back after {seconds} s"),
    };
    let failing = match gap.failing.as_slice() {
        [] => String::new(),
        failing => format!("; meanwhile failed: {}", failing.join(", ")),
    };
    format!("back after {seconds} s: {why}{failing}")
}

fn duplicate_event(input: &Input<'_>, old: &ConnectorStatus, next: &ConnectorStatus) -> Option<Event> {
    let (since, _) = input.live.duplicate?;
    let is_reported = |status: &ConnectorStatus| {
        crate::api::conditions::get(&status.conditions, crate::api::ConditionType::Healthy)
            .is_some_and(|healthy| healthy.message.contains(DUPLICATE_INSTANCE))
    };
    if is_reported(old) || !is_reported(next) {
        return None;
    }
    let at = input.now.stamp(since);
    Some(Event {
        kind: EventType::Warning,
        reason: "DuplicateInstance",
        action: "Judge",
        note: format!("{DUPLICATE_INSTANCE}: stop one, or revoke the token if you do not know it"),
        at,
        occurrence: format!("DuplicateInstance/{at}"),
    })
}

#[cfg(test)]
mod agent_tests;
#[cfg(test)]
mod tests;
