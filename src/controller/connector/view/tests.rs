//! The views of the fleet: a leader shows its live state, a follower the stored status.

use std::time::Duration;

use kube::runtime::reflector::store;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::time::advance;

use super::super::fake::{Ends, Guarded, beat, connector, guarded, leader, unreadable};
use super::*;
use crate::api::{Cause, ConnectorState};
use crate::cluster::fake::Fake;
use crate::heartbeat::payload::parse;
use crate::heartbeat::sink::{HeartbeatSink as _, Reply};

const CONTACT: &str = "2026-01-01T00:00:00.000000Z";

struct Rig {
    known: FleetView,
    writer: kube::runtime::reflector::store::Writer<Guarded>,
    _ends: Ends,
}

fn rig() -> Rig {
    let (context, ends) = leader(&Fake::new());
    let (reader, writer) = store::<Guarded>();
    let known = FleetView {
        registry: context.registry.clone(),
        stores: RwLock::new(vec![reader]),
        sites: context.sites.clone(),
        checkpoints: Arc::new(Checkpoints::new(Duration::from_secs(60))),
        has_canary: false,
    };
    Rig { known, writer, _ends: ends }
}

impl Rig {
    fn put(&mut self, connector: &Connector) {
        self.writer.apply_watcher_event(&Event::Apply(guarded(connector)));
        self.known.registry.upsert(connector, self.known.registry.clock().read());
    }

    fn add(&mut self, name: &str, status: Value) {
        self.put(&connector(name, "u1", json!({}), status));
    }

    fn views(&self, namespace: Option<&str>) -> Vec<ConnectorView> {
        let mut views = Vec::new();
        self.known.connectors(namespace, &mut |view| views.push(view));
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    fn view(&self, name: &str) -> ConnectorView {
        self.views(None).into_iter().find(|view| view.name == name).unwrap()
    }

    fn become_(&self, role: Role) {
        let now = self.known.registry.clock().now();
        self.known.registry.listening.update(now, |inputs| inputs.role = role);
    }

    fn evaluate(&self) {
        let now = self.known.registry.clock().now();
        for entry in self.known.registry.all() {
            self.known.registry.evaluate(&entry, now);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_says_what_it_knows_before_it_is_written() {
    let mut rig = rig();
    rig.add("paris", json!({ "state": "Pending", "observedGeneration": 1 }));
    assert_eq!((rig.view("paris").state, rig.view("paris").written), (ConnectorState::Pending, true));
    assert_eq!(rig.known.facts().status_write_pending, 0);

    let before = rig.known.registry.clock().read();
    beat(&rig.known.registry, "paris");
    let view = rig.view("paris");
    assert_eq!((view.state, view.written), (ConnectorState::Online, false));
    assert_eq!(view.last_heartbeat_time, Some(before.stamp(before.moment)), "exact to the beat");
    assert_eq!((view.state_since, view.cause), (view.last_heartbeat_time, None));
    assert_eq!(view.address.as_deref(), Some("192.0.2.1"));
    assert_eq!(rig.known.facts().status_write_pending, 1);

    advance(Duration::from_secs(301)).await;
    rig.evaluate();
    let gone = rig.view("paris");
    assert_eq!(
        (gone.state, gone.ready, gone.cause),
        (ConnectorState::Offline, Truth::False, Some(Cause::HeartbeatExpired))
    );
    let since = gone.state_since.unwrap().duration_since(gone.last_heartbeat_time.unwrap());
    assert_eq!(since.as_secs(), 300, "since its deadline");
    assert!(gone.message.is_some() && gone.advice.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_written_has_the_date_that_is_written() {
    let mut rig = rig();
    rig.add("paris", json!({ "state": "Pending", "observedGeneration": 1 }));
    beat(&rig.known.registry, "paris");
    let since = rig.view("paris").state_since.unwrap();
    let stored = (since - jiff::SignedDuration::from_millis(3)).to_string();
    rig.add("paris", json!({ "state": "Online", "stateSince": stored, "observedGeneration": 1 }));
    let view = rig.view("paris");
    assert_eq!((view.written, view.state_since.map(|since| since.to_string())), (true, Some(stored)));
}

#[tokio::test(start_paused = true)]
async fn a_follower_says_what_is_written_and_an_uncertain_leader_what_it_knows() {
    let mut rig = rig();
    rig.add("paris", json!({ "state": "Online", "lastHeartbeatTime": CONTACT, "stateSince": CONTACT, "observedGeneration": 1,
        "agent": { "version": "1.4.2" }, "checks": [{ "type": "Process", "status": "Pass", "time": "2026-01-01T00:00:00Z" }] }));
    rig.evaluate();
    assert_eq!(
        rig.view("paris").state,
        ConnectorState::Unknown,
        "its last contact is old, and we have just begun to listen"
    );
    rig.become_(Role::Uncertain);
    assert_eq!(rig.view("paris").state, ConnectorState::Unknown);
    assert_eq!((rig.known.facts().leader, rig.known.facts().status_write_pending), (Role::Uncertain, 1));
    rig.become_(Role::Follower);
    let view = rig.view("paris");
    assert_eq!((view.state, view.written), (ConnectorState::Online, true));
    assert_eq!(view.last_heartbeat_time.map(|at| at.to_string()).as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!((view.version.as_deref(), view.checks.len()), (Some("1.4.2"), 1));
    assert_eq!((rig.known.facts().leader, rig.known.facts().status_write_pending), (Role::Follower, 0));
    rig.become_(Role::Unconfirmed);
    assert_eq!(rig.known.facts().leader.as_str(), "Uncertain");
}

#[tokio::test]
async fn of_those_asked_for_and_of_no_others() {
    let mut rig = rig();
    rig.add("paris", json!({}));
    let mut elsewhere = connector("lyon", "u1", json!({}), json!({}));
    elsewhere.metadata.namespace = Some("elsewhere".to_owned());
    rig.put(&elsewhere);
    // In the store, and not in the registry: it is on its way in or out.
    rig.writer.apply_watcher_event(&Event::Apply(guarded(&connector("nice", "u1", json!({}), json!({})))));
    rig.writer.apply_watcher_event(&Event::Apply(unreadable("lille")));
    let names = |namespace| rig.views(namespace).into_iter().map(|view| view.name).collect::<Vec<_>>();
    assert_eq!(names(None), ["lyon", "paris"]);
    assert_eq!(names(Some("edge")), ["paris"]);
    assert_eq!(names(Some("nowhere")), Vec::<String>::new());
    assert_eq!(rig.known.facts().connectors, 2);
}

#[tokio::test]
async fn reachable_is_what_the_canary_says_and_nothing_without_one() {
    let mut rig = rig();
    assert_eq!(rig.known.facts().reachable, None);
    rig.known.has_canary = true;
    assert_eq!(rig.known.facts().reachable, Some(true));
    let now = rig.known.registry.clock().now();
    rig.known.registry.listening.update(now, |inputs| inputs.canary_failing_since = Some(now));
    let facts = rig.known.facts();
    assert_eq!((facts.reachable, facts.listening_since), (Some(false), None));
}

#[test]
fn paused_until_a_time_is_paused_until_that_time() {
    let now: jiff::Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let is = |spec: Value, annotation: Option<&str>| {
        let mut connector = connector("paris", "u1", spec, json!({}));
        let annotations = annotation.map(|until| [("vigie.dev/paused-until".to_owned(), until.to_owned())].into());
        connector.metadata.annotations = annotations;
        is_paused(&connector.metadata, connector.spec.paused.as_ref(), now)
    };
    let paused = |until: Option<&str>| json!({ "paused": { "by": "me", "reason": "a test", "until": until } });
    assert!(!is(json!({}), None));
    assert!(is(paused(None), None), "without an end");
    assert!(is(paused(Some("2026-01-01T12:00:01Z")), None));
    assert!(!is(paused(Some("2026-01-01T12:00:00Z")), None), "over");
    assert!(is(json!({}), Some("2026-01-01T12:00:01Z")));
    assert!(!is(json!({}), Some("2026-01-01T12:00:00Z")));
    assert!(!is(json!({}), Some("tomorrow")), "what is no time pauses nothing");
    assert!(is(paused(Some("2026-01-01T11:00:00Z")), Some("2026-01-01T13:00:00Z")), "either of them");
}

/// A heartbeat of the agent of `name`.
fn agent_beats(rig: &Rig, name: &str, more: Value) {
    let mut body = json!({ "connector_id": format!("edge/{name}"), "token": name, "agent": true });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = body.to_string();
    let reply = rig.known.registry.receive(&parse(body.as_bytes(), None).unwrap(), [192, 0, 2, 1].into());
    assert!(matches!(reply, Reply::Accepted { .. }), "{reply:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_silent_after_its_own_deadline_and_not_when_it_was_removed_from_beside_its_connector() {
    let mut rig = rig();
    for name in ["alone", "beside", "none", "removed", "stopped"] {
        rig.add(name, json!({ "state": "Pending", "observedGeneration": 1 }));
    }
    let own = ["beside", "none", "removed", "stopped"];
    own.iter().for_each(|name| beat(&rig.known.registry, name));
    let before = rig.known.registry.clock().read();
    for (name, more) in [
        ("alone", json!({ "stopping": { "reason": "Uninstall" } })),
        ("beside", json!({})),
        ("removed", json!({ "stopping": { "reason": "Uninstall" } })),
        ("stopped", json!({ "stopping": { "reason": "Stop" } })),
    ] {
        agent_beats(&rig, name, more);
    }
    let silent = |rig: &Rig| {
        rig.evaluate();
        ["alone", "beside", "none", "removed", "stopped"].map(|name| rig.view(name).is_agent_silent)
    };
    assert_eq!(silent(&rig), [Some(false), Some(false), None, None, Some(false)]);
    assert_eq!(rig.view("beside").agent_heartbeat_time, Some(before.stamp(before.moment)));
    for _ in 0..11 {
        advance(Duration::from_secs(30)).await;
        own.iter().for_each(|name| beat(&rig.known.registry, name));
    }
    assert_eq!(silent(&rig), [Some(true), Some(true), None, None, Some(true)]);
    assert_eq!(
        (rig.view("alone").state, rig.view("alone").cause),
        (ConnectorState::Offline, Some(Cause::AgentStopped))
    );
    for name in own {
        assert_eq!(rig.view(name).state, ConnectorState::Online, "{name}");
    }
}
