//! Reads the spec and the status of a connector into its entry.

use std::sync::Arc;
use std::time::Duration;

use super::agent_config::AgentConfig;
use super::agent_report::{AgentReport, is_skewed};
use super::agent_side::{Contacts, established};
use super::compact::{Checks, Severities};
use super::credentials::{Credential, Digest, rounds};
use super::entry::{Identity, Inner, Key};
use super::payload::ReportedCheck;
use super::stored_report::StoredReport;
use crate::api::{
    AgentPause, AgentStatus, CheckStatus, ConditionType, Connector, ConnectorState, ConnectorStatus, Reason, Rotation,
    StopReason, TokenStatus, conditions,
};
use crate::health::checks::{CheckInput, is_degraded};
use crate::health::liveness::{Presence, PreviousVerdict, Timing};
use crate::time::Now;

/// The unchangeable part of the entry.
pub(super) fn identity(connector: &Connector) -> Identity {
    let meta = &connector.metadata;
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    Identity {
        key: Key { namespace: text(&meta.namespace).into(), name: text(&meta.name).into() },
        uid: text(&meta.uid).as_str().into(),
        id: connector.effective_id().into(),
        domain: Arc::from(connector.domain()),
        created: meta.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second()),
        lease: connector.is_lease().then(|| {
            let name = connector.spec.heartbeat.lease_name.clone().unwrap_or_default();
            Box::new(name.into())
        }),
    }
}

/// Whether a connector was served before, by its status.
pub(super) fn was_served(connector: &Connector) -> bool {
    connector.status.as_ref().is_some_and(|status| {
        status.last_heartbeat_time.is_some() || status.token.as_ref().is_some_and(|token| !token.hashes.is_empty())
    })
}

/// The settings that its deadlines follow, from the spec.
pub fn timing(connector: &Connector) -> Timing {
    let effective = connector.spec.heartbeat.effective();
    let seconds = |value: i32| Duration::from_secs(u64::try_from(value).unwrap_or(0));
    Timing {
        interval: seconds(effective.interval_seconds),
        late: seconds(effective.late_after_seconds),
        offline: seconds(effective.offline_after_seconds),
    }
}

/// Loads the hashes unless the loaded ones are younger: the watch may be behind the operator's own writes, and a token
/// that was revoked must stay revoked until the watch has caught up.
pub(super) fn credentials(inner: &mut Inner, connector: &Connector, now: Now) {
    let Some(token) = connector.status.as_ref().and_then(|status| status.token.as_ref()) else { return };
    let version = connector.metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    let tokens = &mut inner.tokens;
    if let (Some(loaded), Some(offered)) = (tokens.as_of, version)
        && offered < loaded
    {
        return;
    }
    let is_brought = connector.spec.token.existing_secret_ref.is_some();
    if is_brought || token.hashes.iter().any(|hash| hash.rounds.is_some()) {
        tokens.brought.get_or_insert_default();
    } else {
        tokens.brought = None;
    }
    let plain = |stored| tokens.brought.as_ref().and_then(|brought| brought.plain(stored));
    tokens.credentials = token
        .hashes
        .iter()
        .filter_map(|hash| {
            let stored = Digest::from_hex(&hash.sha256)?;
            let plain = hash.rounds.and_then(|_| plain(stored));
            Some(Credential {
                digest: plain.unwrap_or(stored),
                rounds: rounds(hash.rounds.filter(|_| plain.is_none())),
                generation: hash.generation,
                until: hash.not_after.as_ref().map(|end| now.place(end.0)),
            })
        })
        .collect();
    // A counter that began anew, after a lost status, says nothing by the numbers of before.
    let is_new_count = token.generation < tokens.used_generation;
    let known = if is_new_count { 0 } else { tokens.used_generation };
    tokens.used_generation = known.max(confirmed(token));
    tokens.as_of = Some(version.unwrap_or(0));
}

/// The youngest delivery whose token counts as used, by the status alone.
fn confirmed(token: &TokenStatus) -> i64 {
    match (token.rotation, &token.grace_until) {
        (Rotation::Pending, None) => token.generation.saturating_sub(1),
        // The grace belongs to tokens in use; a token without an end is pending, or not delivered yet.
        (Rotation::Pending, Some(_)) => {
            let ending = token.hashes.iter().filter(|hash| hash.not_after.is_some());
            ending.map(|hash| hash.generation).max().unwrap_or(0)
        }
        _ if token.held_generation.is_some() => token.generation.saturating_sub(1),
        _ => token.generation,
    }
}

/// Takes over the last contact and the presence from the status.
pub(super) fn adopt(inner: &mut Inner, connector: &Connector, now: Now) {
    // Reports that this process received when it led before are older than the status that another leader wrote since.
    inner.agent.forget_reports();
    let contact = &mut inner.contact;
    let Some(status) = &connector.status else {
        contact.set_previous(PreviousVerdict { presence: Presence::NeverSeen, since: now.moment });
        return;
    };
    let written = status.last_contact().map(|at| now.moment_of(at));
    contact.written = written;
    contact.last = contact.last.max(written);
    contact.set_previous(previous_verdict(status, now));
    contact.written_at = written.unwrap_or(now.moment);
    contact.was_mass_silent = conditions::get(&status.conditions, ConditionType::Online)
        .is_some_and(|online| online.reason == Reason::MassSilence.as_str());
    adopt_agent(inner, status, now);
}

/// Takes over the contact and the reports of an agent that was heard beside the connector.
fn adopt_agent(inner: &mut Inner, status: &ConnectorStatus, now: Now) {
    let Some(agent) = &status.agent else { return };
    let Some(seen) = &agent.last_seen_time else { return };
    let seen = now.moment_of(seen.0);
    let own = status.last_heartbeat_time.as_ref().filter(|_| agent.is_connector_heard()).map(|at| now.moment_of(at.0));
    let silent = conditions::get(&status.conditions, ConditionType::Healthy)
        .filter(|healthy| healthy.reason == Reason::ConnectorSilent.as_str());
    let own_before = match silent {
        Some(healthy) => {
            PreviousVerdict { presence: Presence::Offline, since: now.moment_of(healthy.last_transition_time.0) }
        }
        None => established(own),
    };
    let side = inner.side();
    side.contacts = Contacts { own, own_before, agent: Some(seen), agent_before: established(Some(seen)) };
    side.sender.report = Some(Box::new(StoredReport::of(&report(agent))));
    side.sender.checks = Some(Checks::of(&status.checks.iter().map(reported).collect::<Vec<_>>()));
    side.said.stopping = agent.stopping.as_deref().map(StopReason::of);
    side.said.is_stopped_on_purpose = agent.stopped_on_purpose;
    side.said.paused = agent.paused.as_ref().map(|paused| AgentPause {
        by: paused.by.clone(),
        reason: paused.reason.clone(),
        seconds: None,
    });
    side.said.paused_until =
        agent.paused.as_ref().and_then(|paused| paused.until.as_ref()).map(|until| now.place(until.0));
}

fn report(agent: &AgentStatus) -> AgentReport {
    let text = |of: &Option<String>| of.as_deref().map(Into::into);
    AgentReport {
        version: text(&agent.version),
        hostname: text(&agent.hostname),
        boot_id: text(&agent.boot_id),
        pod_uid: text(&agent.pod_uid),
        address: agent.address.as_ref().and_then(|address| address.parse().ok()),
        clock_skew_seconds: agent.clock_skew_seconds,
        is_unnamed: agent.boot_id.is_none(),
    }
}

fn reported(check: &CheckStatus) -> ReportedCheck {
    ReportedCheck { type_: check.type_.clone(), status: check.status, message: check.message.clone() }
}

fn previous_verdict(status: &ConnectorStatus, now: Now) -> PreviousVerdict {
    let presence = match status.state {
        None | Some(ConnectorState::Pending) => Presence::NeverSeen,
        Some(ConnectorState::Online | ConnectorState::Degraded) => Presence::Online,
        Some(ConnectorState::Late) => Presence::Late,
        Some(ConnectorState::Offline) => Presence::Offline,
        Some(ConnectorState::Unknown) => Presence::Unknown,
    };
    PreviousVerdict { presence, since: status.state_since.as_ref().map_or(now.moment, |since| now.moment_of(since.0)) }
}

/// Takes over the severities of checks from the spec, and judges the stored reports by them: the status does the same
/// until this process has accepted a heartbeat. The parameters of the checks are kept for the agent.
pub(super) fn severities(inner: &mut Inner, connector: &Connector) {
    inner.agent.severities = Severities::of(|type_| connector.spec.severity_of(type_));
    let status = connector.status.as_ref();
    let checks = status.map(|status| status.checks.as_slice()).unwrap_or_default();
    let reports = checks.iter().map(|check| CheckInput { type_: &check.type_, outcome: check.status, message: None });
    let skew = status.and_then(|status| status.agent.as_ref()?.clock_skew_seconds);
    inner.agent.is_stored_degraded = is_degraded(|type_| inner.agent.severities.get(type_), reports, false);
    inner.agent.is_stored_skewed = is_skewed(skew);
    let config = AgentConfig::of(&connector.spec.checks);
    if config.is_some() || inner.agent.side.is_some() {
        inner.side().config = config;
    }
}
