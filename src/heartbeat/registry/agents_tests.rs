//! A connector and its agent: two senders of one id, and what the agent is told.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::actions::Action;
use super::super::entry::Snapshot;
use super::tests::{DAY, Town, connector, coordinator, tokens};
use super::*;
use crate::health::liveness::{Gap, Listening, Presence};
use crate::heartbeat::payload::parse;

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// One connector on a clock of its own.
struct Edge {
    town: Town,
    entry: Arc<Entry>,
    changes: Vec<(i64, Change)>,
    listening: i64,
}

fn at(second: i64) -> Moment {
    Moment::from_micros(second * 1_000_000)
}

fn edge(spec: Value, mut status: Value) -> Edge {
    status.as_object_mut().unwrap().extend(tokens(&[("right", 1, None)]).as_object().unwrap().clone());
    let town = coordinator(Role::Leader);
    let now = Now { moment: at(0), wall: Timestamp::UNIX_EPOCH };
    town.registry.upsert(&connector("paris", DAY, 1, spec, status), now);
    let entry = town.entry("paris");
    Edge { town, entry, changes: Vec::new(), listening: 0 }
}

impl Edge {
    fn listening(&self) -> Listening {
        Listening { since: Some(at(self.listening)), gap: Gap::Restarted }
    }

    fn say(&mut self, second: i64, more: Value) -> (ConnectorState, Told) {
        let mut body = json!({ "connector_id": "edge/paris", "token": "right" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = body.to_string();
        let beat = parse(body.as_bytes(), None).unwrap();
        let received =
            IncomingBeat { beat: &beat, token: &Digest::of("right"), from: FROM, at: at(second), compared: None };
        let changes = &mut self.changes;
        let listening = Listening { since: Some(at(self.listening)), gap: Gap::Restarted };
        let notify = |change| changes.push((second, change));
        match self.entry.process(received, listening, || Timestamp::UNIX_EPOCH, notify) {
            HeartbeatOutcome::Accepted { state, told, .. } => (state, told),
            other => panic!("{other:?}"),
        }
    }

    /// The connector's own founding beat.
    fn own(&mut self, second: i64) -> ConnectorState {
        self.say(second, json!({})).0
    }

    fn agent(&mut self, second: i64) -> (ConnectorState, Told) {
        self.say(second, agent(json!({})))
    }

    fn evaluate(&mut self, second: i64) {
        let listening = self.listening();
        let changes = &mut self.changes;
        self.entry.evaluate(listening, at(second), |change| changes.push((second, change)));
    }

    fn snapshot(&self, second: i64) -> Snapshot {
        self.entry.snapshot(self.listening(), at(second))
    }

    fn offer(&self, backend: Option<&str>, id: &str, unit: &str) {
        let now = Now { moment: at(0), wall: Timestamp::UNIX_EPOCH };
        let not_after = now.wall + jiff::SignedDuration::from_mins(60);
        let action = Action::new(id, Some(unit), not_after, false, now);
        self.town.registry.offer(&self.entry, backend, Offer { action: Some(action), is_expected: true });
    }
}

/// What an agent says with every beat.
fn agent(more: Value) -> Value {
    let mut beat = json!({
        "agent": true, "boot_id": "agent-1", "version": "0.2.0", "hostname": "edge-1",
        "checks": [{ "type": "Process", "status": "Pass", "message": "active (running)" }, { "type": "NATRules", "status": "Pass" }],
    });
    beat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    beat
}

fn ids(told: &Told) -> Vec<&str> {
    told.actions.iter().map(|action| &*action.id).collect()
}

#[test]
fn a_founding_connector_and_an_agent_with_one_token_change_nothing_after_their_first_beats() {
    let mut edge = edge(json!({}), json!({}));
    for second in 0..3600 {
        if second % 30 == 0 {
            assert_eq!(edge.own(second), ConnectorState::Online);
        }
        if second % 30 == 11 {
            assert_eq!(edge.agent(second).0, ConnectorState::Online);
        }
    }
    let times: Vec<_> = edge.changes.iter().map(|(second, _)| *second).filter(|second| *second > 11).collect();
    assert_eq!(times, [] as [i64; 0]);
    let live = edge.snapshot(3600);
    assert_eq!(live.checks.unwrap().len(), 2);
    let agent = live.agent.unwrap();
    assert_eq!((agent.version.as_deref(), agent.hostname.as_deref()), (Some("0.2.0"), Some("edge-1")));
    assert_eq!(live.duplicate, None);
}

#[test]
fn a_connector_with_facts_of_its_own_and_an_agent_are_no_duplicate_and_do_not_flap() {
    let mut edge = edge(json!({}), json!({}));
    let own = json!({ "boot_id": "gateway-9", "sequence": 1, "version": "9.1", "hostname": "edge-1",
        "checks": [{ "type": "Process", "status": "Warn" }, { "type": "ControlPlane", "status": "Pass" }] });
    for second in 0..1200 {
        let mut own = own.clone();
        own["sequence"] = json!(second);
        if second % 30 == 0 {
            edge.say(second, own);
        }
        if second % 30 == 15 {
            edge.agent(second);
        }
    }
    assert!(edge.changes.iter().all(|(second, _)| *second <= 15), "{:?}", edge.changes);
    let live = edge.snapshot(1200);
    assert_eq!((live.duplicate, live.agent.unwrap().version.as_deref()), (None, Some("9.1")));
    let checks = live.checks.unwrap();
    let process = checks.iter().find(|check| check.type_ == "Process").unwrap();
    assert_eq!((checks.len(), process.status), (3, crate::api::CheckOutcome::Pass), "the agent looks from outside");
}

#[test]
fn two_agents_are_a_duplicate() {
    let mut edge = edge(json!({}), json!({}));
    for i in 0..8 {
        edge.own(i * 15);
        let boot = if i % 2 == 0 { "agent-1" } else { "agent-2" };
        edge.say(i * 15 + 1, agent(json!({ "boot_id": boot })));
    }
    assert!(edge.snapshot(110).duplicate.is_some());
}

#[test]
fn a_beat_leaves_untouched_what_it_does_not_mention() {
    let mut edge = edge(json!({}), json!({}));
    let full = json!({ "boot_id": "b", "version": "1.2", "hostname": "edge-1", "pod_uid": "u",
        "checks": [{ "type": "NATRules", "status": "Fail" }] });
    assert_eq!(edge.say(0, full).0, ConnectorState::Degraded);
    let known = edge.snapshot(0);
    edge.changes.clear();
    assert_eq!(edge.say(30, json!({ "boot_id": "b" })).0, ConnectorState::Degraded);
    assert_eq!(edge.say(60, json!({ "boot_id": "b", "version": "1.2" })).0, ConnectorState::Degraded);
    assert!(edge.changes.is_empty(), "{:?}", edge.changes);
    let now = edge.snapshot(60);
    assert_eq!(now.checks, known.checks);
    let facts =
        |live: &Snapshot| live.agent.clone().map(|agent| (agent.version, agent.hostname, agent.boot_id, agent.pod_uid));
    assert_eq!(facts(&now), facts(&known));
    assert_eq!(
        edge.say(90, json!({ "boot_id": "b", "checks": [] })).0,
        ConnectorState::Online,
        "an empty list is a list"
    );
}

#[test]
fn a_connector_that_hangs_beside_its_agent_is_degraded_at_its_own_deadline() {
    let mut edge = edge(json!({}), json!({}));
    edge.own(0);
    for second in (1..301).step_by(30) {
        assert_eq!(edge.agent(second).0, ConnectorState::Online, "{second}");
    }
    edge.changes.clear();
    edge.evaluate(299);
    assert!(edge.changes.is_empty());
    edge.evaluate(300);
    assert!(matches!(edge.changes[..], [(300, Change::Facts)]), "{:?}", edge.changes);
    let (state, told) = edge.agent(301);
    assert_eq!((state, ids(&told).len()), (ConnectorState::Degraded, 0));
    assert_eq!(edge.snapshot(301).connector_silence(), Some((at(300), at(0))));
    // The operator's verdict opens the door, although no check fails; the agent alone is asked.
    edge.offer(None, "a1", "gateway.service");
    assert_eq!(ids(&edge.agent(306).1), ["a1"]);
    assert_eq!(ids(&edge.agent(311).1), ["a1"]);
    // The beat that ends the incident closes it.
    assert_eq!(edge.own(312), ConnectorState::Online);
    assert_eq!(ids(&edge.agent(316).1), [] as [&str; 0]);
}

#[test]
fn the_connector_itself_is_not_asked_while_its_agent_is_heard() {
    let mut edge = edge(json!({}), json!({}));
    edge.agent(0);
    edge.offer(None, "a1", "gateway.service");
    let sick = json!({ "checks": [{ "type": "WireGuardInterface", "status": "Fail" }] });
    let (state, told) = edge.say(1, sick.clone());
    assert_eq!((state, ids(&told).len()), (ConnectorState::Degraded, 0));
    assert_eq!(ids(&edge.agent(2).1), ["a1"]);
    // An agent of before `agent: true` beats as the connector, and is asked when no other agent is heard.
    let mut old = self::edge(json!({}), json!({}));
    old.offer(None, "a1", "gateway.service");
    assert_eq!(ids(&old.say(1, sick).1), ["a1"]);
}

#[test]
fn restarts_are_asked_for_and_answered_one_by_one() {
    let mut edge = edge(json!({}), json!({}));
    let sick = |more: Value| {
        let mut beat = agent(json!({ "checks": [{ "type": "Process", "status": "Fail" }] }));
        beat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        beat
    };
    edge.say(0, sick(json!({})));
    edge.offer(None, "a1", "gateway.service");
    edge.offer(Some("orders"), "b1", "compose:orders:backend");
    let told = edge.say(5, sick(json!({}))).1;
    assert_eq!(ids(&told), ["a1", "b1"]);
    assert!(told.is_expected);
    let done = json!({ "restarts": [{ "target": "compose:orders:backend", "id": "b1", "result": "Succeeded" }] });
    assert_eq!(ids(&edge.say(10, sick(done)).1), ["a1"]);
    let old = json!({ "restart": { "id": "a1", "result": "Failed", "message": "no such unit" } });
    assert_eq!(ids(&edge.say(15, sick(old)).1), [] as [&str; 0], "an agent of before may answer one");
    let answers = edge.snapshot(15).restarted;
    assert_eq!(
        answers.iter().map(|answer| (&*answer.id, answer.succeeded)).collect::<Vec<_>>(),
        [("b1", true), ("a1", false)]
    );
}

#[test]
fn an_agent_is_sent_the_parameters_of_its_checks_until_it_has_them() {
    let spec = json!({ "checks": [{ "type": "WireGuardHandshake", "maxHandshakeAgeSeconds": 300 }] });
    let mut edge = edge(spec, json!({}));
    assert!(edge.say(0, json!({})).1.config.is_none(), "the connector itself is sent nothing");
    let config = edge.agent(1).1.config.unwrap();
    let known = |generation: u32| agent(json!({ "config_generation": generation }));
    assert!(edge.say(2, known(config.generation)).1.config.is_none());
    assert!(edge.say(3, known(config.generation ^ 1)).1.config.is_some());
    // Parameters that are taken out of the spec are taken from the agent.
    let now = Now { moment: at(4), wall: Timestamp::UNIX_EPOCH };
    edge.town.registry.upsert(&connector("paris", DAY, 2, json!({}), tokens(&[("right", 1, None)])), now);
    let empty = edge.say(5, known(config.generation)).1.config.unwrap();
    assert_ne!(empty.generation, config.generation);
    assert!(edge.say(6, known(empty.generation)).1.config.is_none());
}

#[test]
fn after_a_restart_of_the_operator_the_status_alone_says_who_was_heard() {
    let status = |heard: bool, last: &str, healthy: &str| {
        json!({
            "state": "Online", "stateSince": "1969-12-31T23:00:00.000000Z", "observedGeneration": 1,
            "lastHeartbeatTime": last,
            "agent": { "lastSeenTime": "1969-12-31T23:59:50.000000Z", "connectorHeard": heard, "version": "0.2.0" },
            "checks": [{ "type": "Process", "status": "Pass", "time": "1969-12-31T23:00:00Z" }],
            "conditions": [{ "type": "Healthy", "status": "True", "reason": healthy, "message": "",
                             "lastTransitionTime": "1969-12-31T23:59:00Z" }],
        })
    };
    // It was heard three minutes before the restart: its own silence counts from the restart on.
    let mut both = edge(json!({}), status(true, "1969-12-31T23:57:00.000000Z", "ChecksPassed"));
    for second in (0..300).step_by(10) {
        assert_eq!(both.agent(second).0, ConnectorState::Online, "{second}");
    }
    assert_eq!(both.agent(300).0, ConnectorState::Degraded);
    assert_eq!(both.snapshot(300).connector_contact(), Some(at(-180)));
    // It was silent already.
    let mut silent = edge(json!({}), status(true, "1969-12-31T23:50:00.000000Z", "ConnectorSilent"));
    assert_eq!(silent.agent(1).0, ConnectorState::Degraded);
    assert_eq!(silent.own(2), ConnectorState::Online);
    // It was never heard: its agent beats for it.
    let mut alone = edge(json!({}), status(false, "1969-12-31T23:57:00.000000Z", "ChecksPassed"));
    for second in (0..2000).step_by(30) {
        assert_eq!(alone.agent(second).0, ConnectorState::Online, "{second}");
    }
    // A status of an operator that knew no agents says nothing about which of the two was heard.
    let mut old = edge(json!({}), json!({ "state": "Online", "lastHeartbeatTime": "1969-12-31T23:57:00.000000Z" }));
    for second in (0..2000).step_by(30) {
        assert_eq!(old.agent(second).0, ConnectorState::Online, "{second}");
    }
}

#[test]
fn the_checks_of_an_agent_that_fell_silent_are_no_longer_known() {
    let mut edge = edge(json!({}), json!({}));
    edge.own(0);
    edge.say(1, agent(json!({ "checks": [{ "type": "NATRules", "status": "Fail" }] })));
    for second in (30..330).step_by(30) {
        edge.own(second);
    }
    edge.evaluate(300);
    assert_eq!(edge.own(300), ConnectorState::Degraded);
    edge.changes.clear();
    edge.evaluate(301);
    assert!(matches!(edge.changes[..], [(301, Change::Facts)]), "{:?}", edge.changes);
    assert_eq!(edge.own(310), ConnectorState::Online);
    let live = edge.snapshot(310);
    assert_eq!((live.checks, live.verdict.presence), (Some(Vec::new()), Presence::Online));
}

#[test]
fn an_agent_at_the_pace_of_an_incident_is_never_too_often() {
    let mut edge = edge(json!({ "heartbeat": { "intervalSeconds": 300 } }), json!({}));
    edge.offer(None, "a1", "gateway.service");
    let sick = agent(json!({ "checks": [{ "type": "Process", "status": "Fail" }] }));
    for second in (0..600).step_by(5) {
        if second % 30 == 0 {
            edge.own(second);
        }
        assert_eq!(ids(&edge.say(second, sick.clone()).1), ["a1"], "{second}");
    }
    assert_eq!(crate::health::liveness::next_during_incident(&edge.entry.timing()), 5);
    let hasty = crate::health::liveness::Timing { interval: Duration::from_secs(3), ..edge.entry.timing() };
    assert_eq!(crate::health::liveness::next_during_incident(&hasty), 3);
}

/// An agent's beat about the backend `orders`, in this state for so many seconds.
fn about_orders(state: &str, since_seconds: i64) -> Value {
    agent(json!({ "backends": [{ "name": "orders", "state": state, "since_seconds": since_seconds }] }))
}

#[test]
fn news_of_a_backend_are_told_once_and_a_beat_that_repeats_them_tells_nothing() {
    let mut edge = edge(json!({}), json!({}));
    edge.say(0, about_orders("Running", 100));
    edge.changes.clear();
    for second in [30, 60, 90] {
        edge.say(second, about_orders("Running", 100 + second));
    }
    assert!(edge.changes.is_empty(), "{:?}", edge.changes);
    edge.say(95, about_orders("Exited", 2));
    edge.say(100, about_orders("Exited", 7));
    edge.say(130, agent(json!({})));
    assert_eq!(edge.changes, [(95, Change::Backends)]);
    let backends = edge.snapshot(130).said.backends.unwrap();
    assert_eq!((backends.at, backends.confirmed_at), (at(95), at(100)), "a beat without them confirms nothing");
    assert_eq!(edge.entry.reported_backends(), ["orders"]);
}

#[test]
fn an_agent_whose_reports_alternate_is_not_told_of_without_end() {
    let mut edge = edge(json!({}), json!({}));
    for second in 0..600 {
        edge.say(second, about_orders(if second % 2 == 0 { "Running" } else { "Exited" }, 1));
    }
    let told = edge.changes.iter().filter(|(_, change)| *change == Change::Backends).count();
    // 16 at once, and one in each interval of 30 s.
    assert!((16..=37).contains(&told), "{told}");
}
