//! Decides what to write about a Connector. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::assess::{Assessment, Input};
use super::token::{TokenEvent, TokenPlan};
use crate::api::{
    AgentStatus, CheckStatus, Connector, ConnectorState, ConnectorStatus, MAX_CHECKS, Transition, set_condition,
};
use crate::cluster::events::{Event, EventType};
use crate::controller::runtime::Plan;
use crate::controller::transitions::{self, Entered, ended, enter, event, set_remediating};
use crate::diagnosis::connector::DUPLICATE_INSTANCE;
use crate::heartbeat::entry::Snapshot;
use crate::remediation::attempt::StepResult;

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
        events.extend(state_event(input.connector, &next));
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
    let contact = input.last_contact().map(MicroTime);
    let well = matches!(assessment.state, ConnectorState::Online);
    let mut next = ConnectorStatus {
        state: Some(assessment.state),
        connector_id: Some(connector.effective_id()),
        heartbeat: Some(connector.spec.heartbeat.effective()),
        last_heartbeat_time: contact.clone().or_else(|| old.last_heartbeat_time.clone()),
        last_healthy_time: if well { contact.map(|at| Time(at.0)) } else { old.last_healthy_time.clone() },
        state_since: old.state_since.clone(),
        observed_generation: connector.metadata.generation.unwrap_or(0),
        agent: agent(input.live).or_else(|| old.agent.clone()),
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

fn agent(live: &Snapshot) -> Option<AgentStatus> {
    let agent = live.agent.as_ref()?;
    let text = |of: &Option<Box<str>>| of.as_deref().map(str::to_owned);
    Some(AgentStatus {
        version: text(&agent.version),
        hostname: text(&agent.hostname),
        boot_id: text(&agent.boot_id),
        address: agent.address.map(|address| address.to_string()),
        pod_uid: text(&agent.pod_uid),
        clock_skew_seconds: agent.clock_skew_seconds,
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
mod tests;
