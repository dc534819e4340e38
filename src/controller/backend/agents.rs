//! The agents on the hosts of backends, as the heartbeats of their Connectors show them.
//!
//! A backend asks the agent of the Connector that it names, in its own namespace, and takes only the report about itself:
//! the holder of another Connector's token cannot say anything about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use kube::ResourceExt as _;

use crate::api::{
    AgentProbe, AgentRef, AgentVariable, AgentView, BackendReport, Key, LocalProbe, MonitoredBackend, Reason, Time,
    clip,
};
use crate::controller::remediation::Remediable as _;
use crate::diagnosis::evidence::{Agent, WANTED_ENVIRONMENT};
use crate::health::liveness::Presence;
use crate::heartbeat::actions::{Acknowledged, Offer};
use crate::heartbeat::entry::{Entry, Snapshot};
use crate::heartbeat::registry::Registry;
use crate::monitor::agent::AgentReading;
use crate::time::Now;

/// The prefixes of the variables that configure a Spring application: others are not kept.
const SETTINGS: [&str; 3] = ["SERVER_", "MANAGEMENT_", "SPRING_"];

/// The entry of the Connector whose agent looks after `backend`.
pub(super) fn connector(registry: &Registry, backend: &MonitoredBackend) -> Option<Arc<Entry>> {
    registry.get(&connector_key(backend)?)
}

/// The Connector that `spec.agentRef` names.
pub(super) fn connector_key(backend: &MonitoredBackend) -> Option<Key> {
    let name = backend.spec.agent_ref.as_ref()?.name.as_deref()?;
    Some(Key { namespace: backend.namespace().unwrap_or_default().into(), name: name.into() })
}

/// What the reconciles of a backend remember about its agent.
#[derive(Debug, Default)]
pub struct Notes {
    /// The Connector whose agent has the offer of this backend.
    pub(super) offered_to: Option<Key>,
}

/// The progress of the attempt of a backend, as its agent's heartbeats show it.
#[derive(Debug, Default)]
pub struct AgentSignals {
    /// The agent's answer about the attempt.
    pub(super) answer: Option<Acknowledged>,
    /// The attempt whose action the agent was given.
    pub(super) handed_out: Option<Box<str>>,
}

impl AgentSignals {
    /// The progress of the attempt that is under way.
    pub(super) fn read(registry: &Registry, backend: &MonitoredBackend) -> Self {
        let current = backend.remediation_status().and_then(|status| status.current.as_ref());
        let Some((current, entry)) = current.zip(connector(registry, backend)) else { return Self::default() };
        let (offered, answer) = entry.restart_of(&backend.name_any(), &current.id);
        let handed_out = offered.filter(|offered| offered.handed_at.is_some()).map(|offered| offered.action.id.clone());
        Self { answer, handed_out }
    }
}

/// Withdraws the offer of a backend that is gone.
pub(super) fn withdraw(registry: &Registry, backend: &MonitoredBackend) {
    if let Some(key) = connector_key(backend) {
        withdraw_from(registry, &key, &backend.name_any());
    }
}

/// Withdraws the offer of a backend from the agent of this Connector.
pub(super) fn withdraw_from(registry: &Registry, connector: &Key, backend: &str) {
    if let Some(entry) = registry.get(connector) {
        registry.offer(&entry, Some(backend), Offer::default());
    }
}

/// Reads the agent of `backend`; `None` where the spec names none.
pub fn read(registry: &Registry, backend: &MonitoredBackend, now: Now) -> Option<AgentReading> {
    let agent = backend.spec.agent_ref.as_ref()?;
    let namespace = backend.namespace().unwrap_or_default();
    let Some(name) = agent.name.as_deref() else {
        let message = "spec.agentRef.name is missing: it names the Connector whose agent looks after this backend";
        return Some(unresolved(Reason::InvalidSpec, message.to_owned()));
    };
    let Some(entry) = connector(registry, backend) else {
        if !registry.listening.inputs().synced {
            // The Connectors are still being read.
            let missing = format!("its agent ({name}) has not been heard yet");
            return Some(without_view(false, missing));
        }
        let message = format!(
            "spec.agentRef names Connector {name}, which does not exist in namespace {namespace}: nothing is known of its host, and nothing could be restarted"
        );
        return Some(unresolved(Reason::AgentNotFound, message));
    };
    let live = entry.snapshot(registry.listening.listening_to(&entry, now.moment), now.moment);
    Some(reading(&backend.name_any(), agent, &live, now))
}

fn unresolved(reason: Reason, message: String) -> AgentReading {
    let evidence = Agent { missing: Some(message.clone()), ..Agent::default() };
    AgentReading { unresolved: Some((reason, message)), evidence, ..AgentReading::default() }
}

fn without_view(is_heard: bool, missing: String) -> AgentReading {
    let evidence = Agent { missing: Some(missing), ..Agent::default() };
    AgentReading { is_heard, evidence, ..AgentReading::default() }
}

/// What the agent of a Connector says about the backend `name`.
fn reading(name: &str, agent: &AgentRef, live: &Snapshot, now: Now) -> AgentReading {
    let connector = agent.name.as_deref().unwrap_or_default();
    let host = live.agent.as_ref().and_then(|agent| agent.hostname.as_deref());
    let who = match host {
        Some(host) => format!("its agent on {host} (Connector {connector})"),
        None => format!("its agent (Connector {connector})"),
    };
    let Some(contacts) = live.contacts.filter(|contacts| contacts.agent_contact.is_some()) else {
        return without_view(false, format!("{who} has never been heard"));
    };
    // Late, it still counts as a witness, and is asked for nothing.
    let is_heard = contacts.agent.presence == Presence::Online;
    if !contacts.is_agent_heard() {
        let last = contacts.agent_contact.map(|at| now.stamp(at)).unwrap_or(now.wall);
        let last = last.round(jiff::Unit::Second).unwrap_or(last);
        return without_view(false, format!("{who} has been silent since {last}"));
    }
    let Some((reports, at)) = &live.said.backends else {
        return without_view(is_heard, format!("{who} has said nothing about it yet"));
    };
    let Some(report) = reports.iter().find(|report| report.name == name) else {
        let missing = format!("{who} does not look after it: name it in `backends:` of the agent's configuration");
        return AgentReading { has_spoken: true, ..without_view(is_heard, missing) };
    };
    if let (Some(named), Some(seen)) = (&agent.unit, &report.unit)
        && named != seen
    {
        let missing = format!("{who} looks after {seen} for it, and spec.agentRef.unit names {named}");
        return AgentReading { has_spoken: true, ..without_view(is_heard, missing) };
    }
    let view =
        AgentView { connector: connector.to_owned(), host: host.map(str::to_owned), ..view(report, now.stamp(*at)) };
    let evidence = Agent { view: Some(view), ..Agent::default() };
    AgentReading { unresolved: None, is_heard, has_spoken: true, evidence }
}

fn view(report: &BackendReport, at: jiff::Timestamp) -> AgentView {
    let number = |of: Option<u64>| of.and_then(|of| i64::try_from(of).ok());
    let ago = |seconds: u64| at.checked_sub(SignedDuration::from_secs(i64::try_from(seconds).ok()?)).ok();
    let since = report.since_seconds.and_then(ago).map(|since| since.round(jiff::Unit::Second).unwrap_or(since));
    AgentView {
        connector: String::new(),
        host: None,
        unit: report.unit.clone(),
        state: report.state,
        since: since.map(Time),
        exit_code: number(report.exit_code),
        oom_killed: report.oom_killed == Some(true),
        restarts: number(report.restarts),
        stopped_on_purpose: report.stopped_on_purpose == Some(true),
        policy: report.policy.clone(),
        health: report.health.clone(),
        listens: report.listens.clone(),
        published: report.published.clone(),
        probe: report.probe.as_ref().map(probe),
        environment: environment(&report.environment),
        words: report.words.as_ref().map(|words| clip(words.as_str(), crate::diagnosis::extract::MAX_SUMMARY)),
        message: report.message.clone(),
    }
}

/// The variables that configure the application, with the values of the wanted ones. `None` when the agent named no
/// variable at all: it could not read the environment.
fn environment(all: &BTreeMap<String, Option<String>>) -> Option<Vec<AgentVariable>> {
    let is_setting = |name: &str| SETTINGS.iter().any(|begin| name.starts_with(begin));
    let settings = all.iter().filter(|(name, _)| is_setting(name)).map(|(name, value)| AgentVariable {
        name: name.clone(),
        value: value.clone().filter(|_| WANTED_ENVIRONMENT.contains(&name.as_str())),
    });
    (!all.is_empty()).then(|| settings.collect())
}

fn probe(report: &LocalProbe) -> AgentProbe {
    AgentProbe {
        ok: report.ok,
        error_class: report.error_class.as_deref().and_then(|class| class.parse().ok()).filter(|_| !report.ok),
        phase: report.phase.as_deref().and_then(|phase| phase.parse().ok()).filter(|_| !report.ok),
        status: report.status.and_then(|status| i64::try_from(status).ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ErrorClass, TargetState};

    #[test]
    fn a_report_becomes_a_view_with_times_instead_of_durations() {
        let report: BackendReport = serde_json::from_value(json!({
            "name": "orders", "unit": "compose:shop:orders", "state": "Exited", "since_seconds": 90, "exit_code": 137,
            "oom_killed": true, "restarts": 2, "stopped_on_purpose": false, "listens": ["127.0.0.1:8081"],
            "probe": {"ok": false, "error_class": "Refused", "phase": "connect", "milliseconds": 1},
            "environment": {"SERVER_PORT": "8081", "SPRING_DATASOURCE_PASSWORD": "secret", "SERVER_NAME": null,
                "HOME": "/root"},
        }))
        .unwrap();
        let view = view(&report, "2026-11-05T10:00:00.7Z".parse().unwrap());
        assert_eq!((view.state, view.exit_code, view.restarts), (TargetState::Exited, Some(137), Some(2)));
        assert_eq!(view.since.unwrap().0, "2026-11-05T09:58:31Z".parse().unwrap());
        assert!(view.oom_killed && !view.stopped_on_purpose);
        let probe = view.probe.unwrap();
        assert_eq!((probe.ok, probe.error_class, probe.phase), (false, Some(ErrorClass::Refused), None));
        let known: Vec<(&str, Option<&str>)> =
            view.environment.iter().flatten().map(|set| (set.name.as_str(), set.value.as_deref())).collect();
        let expected = [("SERVER_NAME", None), ("SERVER_PORT", Some("8081")), ("SPRING_DATASOURCE_PASSWORD", None)];
        assert_eq!(known, expected, "an agent that sends a value that nobody asked for does not get it shown");
    }

    #[test]
    fn absurd_durations_break_nothing() {
        let report = |more: serde_json::Value| -> BackendReport {
            let mut report = json!({"name": "orders", "state": "Running"});
            report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(report).unwrap()
        };
        let now = "2026-11-05T10:00:00Z".parse().unwrap();
        let view = view(&report(json!({"since_seconds": u64::MAX, "exit_code": u64::MAX, "restarts": u64::MAX})), now);
        assert_eq!((view.since, view.exit_code, view.restarts), (None, None, None));
        assert_eq!(view.environment, None);
    }
}
