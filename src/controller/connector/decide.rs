//! What to write about a connector. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::assess::{Assessment, Input};
use super::token::{TokenEvent, TokenPlan, Write};
use crate::api::{
    AgentStatus, CheckStatus, Connector, ConnectorState, ConnectorStatus, MAX_CHECKS, TokenStatus, Transition,
    set_condition,
};
use crate::controller::events::{Event, Kind};
use crate::controller::transitions::{Entered, ended, enter, event};
use crate::heartbeat::entry::Snapshot;

/// What one look at a connector leads to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The status to write; `None` when nothing but timestamps would change.
    pub status: Option<ConnectorStatus>,
    /// The status with every timestamp current: what a checkpoint writes.
    pub current: ConnectorStatus,
    /// What is done to the Secret, after the status has been written.
    pub secret: Write,
    /// What to tell, after the status has been written.
    pub events: Vec<Event>,
    /// When the change that is to be written became due; `None` when the state does not change.
    pub due_at: Option<Timestamp>,
}

/// Decides what is to be written. `token` is `None` for a Lease source, and between two looks at the Secret.
pub fn decide(case: &Input<'_>, token: Option<&TokenPlan>) -> Plan {
    let assessment = case.assess();
    let old = case.connector.status.clone().unwrap_or_default();
    let mut next = compose(case, &assessment, &old, token);
    let due_at = transition(&old, &mut next, &assessment, case.now.wall);
    let mut events = token.map(|token| token_events(case, token)).unwrap_or_default();
    if due_at.is_some() {
        events.extend(state_event(case.connector, &next));
    }
    events.extend(duplicate_event(case, &old, &next));
    Plan {
        status: (!same_but_for_times(&old, &next)).then(|| next.clone()),
        current: next,
        secret: token.map_or(Write::Nothing, |token| token.write),
        events,
        due_at,
    }
}

fn compose(
    case: &Input<'_>,
    assessment: &Assessment,
    old: &ConnectorStatus,
    token: Option<&TokenPlan>,
) -> ConnectorStatus {
    let connector = case.connector;
    let contact = case.last_contact().map(MicroTime);
    let well = matches!(assessment.state, ConnectorState::Online);
    let mut next = ConnectorStatus {
        state: Some(assessment.state),
        connector_id: Some(connector.effective_id()),
        heartbeat: Some(connector.spec.heartbeat.effective()),
        last_heartbeat_time: contact.clone().or_else(|| old.last_heartbeat_time.clone()),
        last_healthy_time: if well { contact.map(|at| Time(at.0)) } else { old.last_healthy_time.clone() },
        state_since: old.state_since.clone(),
        observed_generation: connector.metadata.generation.unwrap_or(0),
        agent: agent(case.live).or_else(|| old.agent.clone()),
        checks: checks(case, old),
        diagnosis: assessment.diagnosis.clone(),
        token: token.map(|plan| plan.status.clone()).or_else(|| old.token.clone()),
        transitions: old.transitions.clone(),
        // Present from the start, so that RESTARTS prints 0.
        remediation: Some(
            case.remedy.map_or_else(|| old.remediation.clone().unwrap_or_default(), |course| course.status.clone()),
        ),
        conditions: old.conditions.clone(),
    };
    // A condition that turns because of silence turned at the deadline; any other turns now.
    let turned = if next.state == old.state { case.now.wall } else { assessment.since.min(case.now.wall) };
    next.conditions.retain(|known| assessment.conditions.iter().any(|new| new.type_ == known.type_));
    for condition in &assessment.conditions {
        set_condition(&mut next.conditions, condition.clone(), Time(turned));
    }
    if connector.is_lease() {
        next.token = None;
    }
    next
}

/// Enters the new state; gives when the change became due.
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

fn checks(case: &Input<'_>, old: &ConnectorStatus) -> Vec<CheckStatus> {
    let Some(reported) = &case.live.checks else { return old.checks.clone() };
    let said = |check: &crate::heartbeat::payload::ReportedCheck| {
        let known = old.checks.iter().find(|known| known.type_ == check.type_ && known.status == check.status);
        CheckStatus {
            type_: check.type_.clone(),
            status: check.status,
            message: check.message.clone(),
            // Since when it has this outcome.
            time: known.map_or(Time(case.now.wall), |known| known.time.clone()),
        }
    };
    reported.iter().take(MAX_CHECKS).map(said).collect()
}

/// Whether two statuses differ in nothing but what changes with every beat; that waits for the next checkpoint.
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

fn token_events(case: &Input<'_>, token: &TokenPlan) -> Vec<Event> {
    token.events.iter().map(|event| token_event(case, &token.status, *event)).collect()
}

fn token_event(case: &Input<'_>, token: &TokenStatus, event: TokenEvent) -> Event {
    let generation = token.generation;
    let secret = case.connector.credential_secret_name();
    let (kind, reason, note, of) = match event {
        TokenEvent::Rotated => (
            Kind::Normal,
            "TokenRotated",
            format!("token {generation} was used for the first time; the one before it has ended"),
            generation.to_string(),
        ),
        TokenEvent::Revoked => {
            let next = match case.connector.spec.token.existing_secret_ref {
                Some(_) => format!("put another value into Secret {secret}"),
                None => format!("the new one comes in Secret {secret}"),
            };
            let asked = token.observed_revoke_request.clone().unwrap_or_default();
            (Kind::Warning, "TokenRevoked", format!("every token was ended on request; {next}"), asked)
        }
        TokenEvent::Recreated => (
            Kind::Warning,
            "TokenSecretRecreated",
            format!(
                "Secret {secret} was gone or unusable; it is delivered anew, and the old token lives on through its grace"
            ),
            generation.to_string(),
        ),
    };
    Event { kind, reason, action: "Deliver", note, at: case.now.wall, occurrence: format!("{reason}/{of}") }
}

/// The event of the newest transition; none for Late, and none for coming back from it.
pub fn state_event(connector: &Connector, next: &ConnectorStatus) -> Option<Event> {
    let latest = next.transitions.first()?;
    let to: ConnectorState = latest.to.parse().ok()?;
    let told_before = next
        .transitions
        .iter()
        .skip(1)
        .map(|before| before.to.as_str())
        .find(|to| *to != ConnectorState::Late.as_str());
    let told_before = told_before.or(latest.from.as_deref().filter(|_| next.transitions.len() == 1));
    if matches!(to, ConnectorState::Late | ConnectorState::Pending) || told_before == Some(latest.to.as_str()) {
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

fn duplicate_event(case: &Input<'_>, old: &ConnectorStatus, next: &ConnectorStatus) -> Option<Event> {
    let (since, _) = case.live.duplicate?;
    let is = |status: &ConnectorStatus| {
        crate::api::conditions::get(&status.conditions, crate::api::ConditionType::Healthy)
            .is_some_and(|healthy| healthy.message.contains("two instances"))
    };
    if is(old) || !is(next) {
        return None;
    }
    let at = case.now.stamp(since);
    Some(Event {
        kind: Kind::Warning,
        reason: "DuplicateInstance",
        action: "Judge",
        note: "two instances beat in turn with this connector's token: stop one, or revoke the token if you do not know it".to_owned(),
        at,
        occurrence: format!("DuplicateInstance/{at}"),
    })
}

#[cfg(test)]
mod tests;
