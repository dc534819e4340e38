//! The agents on the hosts of backends, as the heartbeats of their Connectors show them.
//!
//! A backend asks the agent of the Connector that it names, in its own namespace, and takes only the report about itself:
//! the holder of another Connector's token cannot say anything about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use crate::api::{
    AgentProbe, AgentRef, AgentVariable, AgentView, BackendReport, Key, LocalProbe, MonitoredBackend, Reason, Time,
    clip,
};
use crate::controller::paused::on_host;
use crate::controller::remediation::Remediable as _;
use crate::diagnosis::connector::stop_text;
use crate::diagnosis::evidence::{Agent, WANTED_ENVIRONMENT};
use crate::health::liveness::{Presence, Timing};
use crate::heartbeat::actions::{Acknowledged, Offer};
use crate::heartbeat::entry::{AgentBackends, Entry, Snapshot};
use crate::heartbeat::registry::Registry;
use crate::monitor::agent::AgentReading;
use crate::monitor::context::Monitor;
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

/// The agent of `connector` said something new: each backend that it reported, and that names this Connector, takes it.
pub fn spoke(monitor: &Arc<Monitor>, connector: &Entry) {
    let key = &connector.identity.key;
    for name in connector.reported_backends() {
        let reported = Key { namespace: key.namespace.clone(), name: name.into() };
        let Some(backend) = monitor.backends.get(&reported) else { continue };
        if connector_key(&backend.object()).as_ref() == Some(key) {
            monitor.read_agent(&backend);
        }
    }
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
    let paused = live.said.pause(now.moment).map(on_host);
    Some(AgentReading { paused, ..reading(&backend.name_any(), agent, &live, now) })
}

fn unresolved(reason: Reason, message: String) -> AgentReading {
    let evidence = Agent { missing: Some(message.clone()), ..Agent::default() };
    AgentReading { unresolved: Some((reason, message)), evidence, ..AgentReading::default() }
}

fn without_view(is_heard: bool, missing: String) -> AgentReading {
    let evidence = Agent { missing: Some(missing), ..Agent::default() };
    AgentReading { is_heard, evidence, ..AgentReading::default() }
}

/// For how long a report counts that no heartbeat has repeated: for three of them, and for as long as a heartbeat is not late.
/// An agent that cannot look any more leaves its reports out.
fn counts_for(timing: &Timing) -> Duration {
    (timing.interval * 3).max(timing.late)
}

fn whole(at: Timestamp) -> Timestamp {
    at.round(jiff::Unit::Second).unwrap_or(at)
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
    // Late, it still counts as a witness, and is asked for nothing; nor is one that said that it stops.
    let is_heard = contacts.agent.presence == Presence::Online && live.said.stopping.is_none();
    if !contacts.is_agent_heard() {
        let last = whole(contacts.agent_contact.map(|at| now.stamp(at)).unwrap_or(now.wall));
        let words = live.said.stopping.map(|reason| format!("; {}", stop_text(reason))).unwrap_or_default();
        return without_view(false, format!("{who} has been silent since {last}{words}"));
    }
    let Some(AgentBackends { reports, at, confirmed_at }) = &live.said.backends else {
        return without_view(is_heard, format!("{who} has said nothing about it yet"));
    };
    if now.moment.since(*confirmed_at) > counts_for(&live.timing) {
        let last = whole(now.stamp(*confirmed_at));
        let missing = format!("{who} has said nothing about its backends since {last}, and is heard");
        return AgentReading { has_spoken: true, ..without_view(is_heard, missing) };
    }
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
    let evidence = Agent { view: Some(view), confirmed_at: Some(now.stamp(*confirmed_at)), ..Agent::default() };
    AgentReading { is_heard, has_spoken: true, evidence, ..AgentReading::default() }
}

fn view(report: &BackendReport, at: Timestamp) -> AgentView {
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
        recent_restarts: number(report.recent_restarts),
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
    use serde_json::{Value, json};

    use super::super::context::Context;
    use super::super::fake::context;
    use super::*;
    use crate::api::{Connector, ErrorClass, TargetState};
    use crate::cluster::fake::Fake;
    use crate::controller::connector::fake::shared;
    use crate::controller::runtime::Kind as _;
    use crate::heartbeat::credentials::Digest;
    use crate::heartbeat::payload::parse;
    use crate::heartbeat::sink::HeartbeatSink as _;
    use crate::leadership::Role;

    /// A Connector of this namespace whose token is its name.
    fn connector(namespace: &str, name: &str) -> Connector {
        let token = json!({ "generation": 1, "hashes": [{ "generation": 1, "sha256": Digest::of(name).to_hex() }] });
        let meta = json!({ "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}") });
        let object = json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": {},
            "status": { "token": token } });
        serde_json::from_value(object).unwrap()
    }

    /// Lets this replica lead, and hear heartbeats.
    fn lead(context: &Context) -> Now {
        let now = context.clock.read();
        context.registry.listening.update(now.moment, |inputs| {
            (inputs.role, inputs.synced, inputs.port_open) = (Role::Leader, true, true);
        });
        now
    }

    #[tokio::test]
    async fn an_agent_is_read_for_the_backends_of_its_namespace_that_name_its_connector_and_for_no_other() {
        let (shared, _leadership) = shared(&Fake::new());
        let context = context(shared);
        let now = lead(&context);
        let backends = [("shop", "orders", "vm-7"), ("shop", "billing", "vm-8"), ("other", "orders", "vm-7")];
        for (namespace, name, agent) in backends {
            let meta = json!({ "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}") });
            let spec = json!({ "target": { "url": "http://192.0.2.1/" }, "agentRef": { "name": agent } });
            let object = json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend", "metadata": meta,
                "spec": spec });
            context.upsert(&serde_json::from_value(object).unwrap());
        }
        for (namespace, name) in [("shop", "vm-7"), ("shop", "vm-8"), ("other", "vm-7")] {
            context.registry.upsert(&connector(namespace, name), now);
        }
        let reports: Value = ["orders", "billing", "nowhere"]
            .map(|name| json!({ "name": name, "state": "Exited" }))
            .into_iter()
            .collect();
        let beat = json!({ "connector_id": "shop/vm-7", "token": "vm-7", "agent": true, "backends": reports });
        let beat = beat.to_string();
        context.registry.receive(&parse(beat.as_bytes(), None).unwrap(), "192.0.2.9".parse().unwrap());
        let entry = context.registry.get(&Key { namespace: "shop".into(), name: "vm-7".into() }).unwrap();
        spoke(&context.monitor, &entry);
        let seen = |namespace: &str, name: &str| {
            let backend = context.entry(&Key { namespace: namespace.into(), name: name.into() }).unwrap();
            let agent = context.monitor.snapshot(&backend).agent;
            agent.and_then(|agent| agent.evidence.view).map(|view| view.state)
        };
        assert_eq!(seen("shop", "orders"), Some(TargetState::Exited));
        assert_eq!((seen("shop", "billing"), seen("other", "orders")), (None, None));
        // Nothing was read for the others, not even that they have not been heard of.
        for (namespace, name, _) in &backends[1..] {
            let key = Key { namespace: (*namespace).into(), name: (*name).into() };
            assert!(context.monitor.snapshot(&context.entry(&key).unwrap()).agent.is_none(), "{key}");
        }
    }

    #[tokio::test]
    async fn a_pause_on_the_host_and_the_last_words_of_an_agent_count_for_its_backends_too() {
        let (shared, _leadership) = shared(&Fake::new());
        let context = context(shared);
        let now = lead(&context);
        context.registry.upsert(&connector("shop", "vm-7"), now);
        let backend: MonitoredBackend = serde_json::from_value(json!({
            "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend",
            "metadata": { "name": "orders", "namespace": "shop", "uid": "u1" },
            "spec": { "target": { "url": "http://192.0.2.1/" }, "agentRef": { "name": "vm-7" } },
        }))
        .unwrap();
        let said = |more: Value| {
            let mut beat = json!({ "connector_id": "shop/vm-7", "token": "vm-7", "agent": true,
                "backends": [{ "name": "orders", "state": "Exited" }] });
            beat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let beat = beat.to_string();
            context.registry.receive(&parse(beat.as_bytes(), None).unwrap(), "192.0.2.9".parse().unwrap());
            read(&context.registry, &backend, context.clock.read()).unwrap()
        };
        let plain = said(json!({}));
        assert_eq!((plain.is_heard, plain.paused), (true, None));
        let paused = said(json!({ "paused": { "by": "ops", "reason": "kernel update" } }));
        assert_eq!(paused.paused.unwrap(), "restarts are paused on the host of its agent by ops: kernel update");
        let stopping = said(json!({ "stopping": { "reason": "Update" } }));
        assert!(
            !stopping.is_heard && stopping.evidence.view.is_some(),
            "it may still explain, and is asked for nothing"
        );
    }

    #[tokio::test]
    async fn a_report_that_no_heartbeat_repeats_counts_for_three_of_them() {
        let (shared, _leadership) = shared(&Fake::new());
        let context = context(shared);
        let start = lead(&context);
        let mut object = connector("shop", "vm-7");
        object.spec = serde_json::from_value(json!({ "heartbeat": { "intervalSeconds": 30, "lateAfterSeconds": 60,
            "offlineAfterSeconds": 3600 } }))
        .unwrap();
        context.registry.upsert(&object, start);
        let beat = json!({ "connector_id": "shop/vm-7", "token": "vm-7", "agent": true,
            "backends": [{ "name": "orders", "state": "Exited" }] })
        .to_string();
        context.registry.receive(&parse(beat.as_bytes(), None).unwrap(), "192.0.2.9".parse().unwrap());
        let entry = context.registry.get(&Key::of(&object.metadata)).unwrap();
        let agent = AgentRef { name: Some("vm-7".to_owned()), ..AgentRef::default() };
        let at = |second: u64| {
            let moment = context.clock.now() + Duration::from_secs(second);
            let live = entry.snapshot(context.registry.listening.listening_to(&entry, moment), moment);
            reading("orders", &agent, &live, Now { moment, wall: start.wall })
        };
        assert!(at(85).evidence.view.is_some());
        let old = at(95);
        assert!(old.evidence.view.is_none() && old.has_spoken);
        let missing = old.evidence.missing.unwrap();
        assert!(missing.contains("has said nothing about its backends since"), "{missing}");
    }

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
