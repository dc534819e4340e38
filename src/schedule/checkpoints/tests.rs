//! Which checkpoints are handed out, in which order, and how many at once.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use tokio::time::advance;

use super::*;
use crate::api::Connector;
use crate::heartbeat::credentials::Digest;
use crate::heartbeat::entry::{Entry, Key};
use crate::heartbeat::payload::parse;
use crate::heartbeat::registry::{Notice, Registry};
use crate::heartbeat::routes::HeartbeatSink as _;
use crate::leadership::Role;
use crate::time::Clock;

const PERIOD: Duration = Duration::from_secs(60);

struct Rig {
    registry: Registry,
    checkpoints: Checkpoints<Entry>,
    budget: Arc<WriteBudget>,
    /// The slots of this queue, and the objects that were handed out and are not taken yet.
    slots: Cell<usize>,
    turns: RefCell<Vec<Arc<Entry>>>,
    _notices: tokio::sync::mpsc::UnboundedReceiver<Notice>,
}

impl Rig {
    fn new(per_second: u32) -> Self {
        Self::within(Arc::new(WriteBudget::new(per_second)))
    }

    fn within(budget: Arc<WriteBudget>) -> Self {
        let (registry, notices) = Registry::new(Clock::default(), &[7; 32]);
        let now = registry.clock().now();
        registry
            .listening
            .update(now, |inputs| (inputs.role, inputs.synced, inputs.port_open) = (Role::Leader, true, true));
        let (slots, turns) = (Cell::new(usize::MAX), RefCell::default());
        Self { registry, checkpoints: Checkpoints::new(PERIOD), budget, slots, turns, _notices: notices }
    }

    fn now(&self) -> Moment {
        self.registry.clock().now()
    }

    /// New here, heard now, and written now.
    fn upsert(&self, name: &str) -> Arc<Entry> {
        self.upsert_in("edge", name)
    }

    fn upsert_in(&self, namespace: &str, name: &str) -> Arc<Entry> {
        let token = json!({ "generation": 1, "hashes": [{ "generation": 1, "sha256": Digest::of("token").to_hex() }] });
        let meta = json!({ "name": name, "namespace": namespace, "uid": name, "resourceVersion": "1" });
        let object = json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": {}, "status": { "token": token } });
        let connector: Connector = serde_json::from_value(object).unwrap();
        self.registry.upsert(&connector, self.registry.clock().read());
        let entry = self.registry.get(&Key { namespace: namespace.into(), name: name.into() }).unwrap();
        self.beat_in(namespace, name);
        self.wrote(&entry);
        self.checkpoints.add(entry.clone());
        entry
    }

    fn beat(&self, name: &str) {
        self.beat_in("edge", name);
    }

    fn beat_in(&self, namespace: &str, name: &str) {
        let body = json!({ "connector_id": format!("{namespace}/{name}"), "token": "token" }).to_string();
        self.registry.receive(&parse(body.as_bytes(), None).unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    fn wrote(&self, entry: &Entry) {
        entry.note_written(
            entry.snapshot(self.registry.listening.listening(self.now()), self.now()).last_contact,
            self.now(),
        );
    }

    /// Whose turn it is now; they are written.
    fn turns(&self) -> Vec<String> {
        hand_out(&[self], &self.budget, self.now());
        self.handed_out()
    }

    /// The names of the objects that were handed out; they are written.
    fn handed_out(&self) -> Vec<String> {
        let turns = self.turns.take();
        turns.iter().for_each(|entry| self.wrote(entry));
        turns.iter().map(|entry| entry.identity.key.name.to_string()).collect()
    }
}

impl CheckpointQueue for Rig {
    fn slots(&self) -> Slots {
        self.checkpoints.slots(self.slots.get())
    }

    fn next(&self, turn: &dyn Fn(&str) -> Option<u64>, now: Moment) -> Option<Candidate> {
        self.checkpoints.next(|entry| self.registry.has(entry), turn, now)
    }

    fn hand_out(&self, namespace: &str, now: Moment) {
        self.turns.borrow_mut().extend(self.checkpoints.take(namespace, now));
    }

    fn set_staleness(&self, staleness: Duration) {
        self.checkpoints.set_staleness(staleness);
    }
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_beats_is_written_at_most_once_a_period() {
    let rig = Rig::new(100);
    rig.upsert("paris");
    let mut written_at = Vec::new();
    for second in 1..=200 {
        pass(1).await;
        rig.beat("paris");
        if !rig.turns().is_empty() {
            written_at.push(second);
        }
    }
    assert_eq!(written_at, [60, 120, 180]);
}

#[tokio::test(start_paused = true)]
async fn what_is_silent_or_written_already_is_not_written() {
    let rig = Rig::new(100);
    rig.upsert("quiet");
    let offline = rig.upsert("offline");
    pass(100).await;
    assert!(rig.turns().is_empty(), "nothing was heard that is not written");
    rig.beat("offline");
    pass(200).await;
    rig.registry.evaluate(&offline, rig.now());
    assert!(rig.turns().is_empty(), "silence is published by a transition");
}

#[tokio::test(start_paused = true)]
async fn what_a_transition_wrote_meanwhile_waits_for_its_own_period() {
    let rig = Rig::new(100);
    let paris = rig.upsert("paris");
    pass(59).await;
    rig.wrote(&paris);
    pass(30).await;
    rig.beat("paris");
    assert!(rig.turns().is_empty());
    pass(30).await;
    assert_eq!(rig.turns(), ["paris"]);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_goes_first_within_the_budget_and_the_rest_is_counted_as_stale() {
    let rig = Rig::new(2);
    for name in ["a", "b", "c", "d", "e"] {
        rig.upsert(name);
        pass(1).await;
    }
    pass(200).await;
    ["a", "b", "c", "d", "e"].iter().for_each(|name| rig.beat(name));
    assert_eq!(rig.turns(), ["a", "b"]);
    assert_eq!(rig.checkpoints.staleness(), Duration::from_secs(205), "the oldest that was due");
    assert!(rig.turns().is_empty(), "the second is used up");
    assert_eq!(rig.checkpoints.staleness(), Duration::from_secs(203), "c waits");
    pass(1).await;
    assert_eq!(rig.turns(), ["c", "d"]);
    pass(1).await;
    assert_eq!(rig.turns(), ["e"]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_not_followed_by_a_burst() {
    let rig = Rig::new(3);
    let names: Vec<String> = (0..50).map(|number| format!("c{number}")).collect();
    names.iter().for_each(|name| drop(rig.upsert(name)));
    pass(3600).await;
    names.iter().for_each(|name| rig.beat(name));
    assert_eq!(rig.turns().len(), 3, "an hour without a check saves up a second's worth");
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_too_small_is_told_with_the_limit_that_it_exceeds() {
    let rig = Rig::new(1);
    ["a", "b"].iter().for_each(|name| drop(rig.upsert(name)));
    pass(80).await;
    ["a", "b"].iter().for_each(|name| rig.beat(name));
    let [shortfall] = hand_out(&[&rig], &rig.budget, rig.now());
    assert_eq!((rig.turns.take().len(), shortfall), (1, None), "80 s are no more than was promised");
    pass(80).await;
    ["a", "b"].iter().for_each(|name| rig.beat(name));
    let [shortfall] = hand_out(&[&rig], &rig.budget, rig.now());
    assert_eq!(shortfall, Some(BudgetExceeded { staleness: Duration::from_secs(160), late: Duration::from_secs(90) }));
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_or_created_again_has_no_turn() {
    let rig = Rig::new(100);
    let paris = rig.upsert("paris");
    pass(70).await;
    rig.beat("paris");
    rig.registry.remove(&paris);
    assert!(rig.turns().is_empty());
    assert_eq!(rig.checkpoints.due.lock().len(), 0, "and leaves nothing");
}

#[tokio::test(start_paused = true)]
async fn no_more_are_handed_out_than_there_is_room_for_and_none_is_lost() {
    let rig = Rig::new(1000);
    for name in ["a", "b", "c"] {
        rig.upsert(name);
    }
    pass(61).await;
    for name in ["a", "b", "c"] {
        rig.beat(name);
    }
    let take = |slots| {
        rig.slots.set(slots);
        let [shortfall] = hand_out(&[&rig], &rig.budget, rig.now());
        let names = rig.turns.take().iter().map(|entry| entry.identity.key.name.to_string()).collect::<Vec<_>>();
        (names, shortfall)
    };
    assert_eq!(take(0), (Vec::new(), None), "a larger budget would not help");
    assert_eq!(rig.checkpoints.staleness(), Duration::from_secs(61));
    assert_eq!(take(4).0, ["a", "b"], "a namespace alone has half of the slots");
    assert_eq!(take(4).0, ["c"], "the oldest first, whenever there is room");
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_all_kinds_goes_first_and_each_kind_reports_its_shortfall() {
    let budget = Arc::new(WriteBudget::new(2));
    let (many, few) = (Rig::within(budget.clone()), Rig::within(budget.clone()));
    for second in 0..5 {
        many.upsert(&format!("many-{second}"));
        pass(1).await;
        few.upsert(&format!("few-{second}"));
        pass(1).await;
    }
    pass(300).await;
    for second in 0..5 {
        many.beat(&format!("many-{second}"));
        few.beat(&format!("few-{second}"));
    }
    let [one, other] = hand_out(&[&many, &few], &budget, many.now());
    assert_eq!((many.handed_out(), few.handed_out()), (vec!["many-0".to_owned()], vec!["few-0".to_owned()]));
    assert!(one.is_some() && other.is_some(), "{one:?} {other:?}");
    assert!(many.checkpoints.staleness() > few.checkpoints.staleness());
    pass(1).await;
    hand_out(&[&few, &many], &budget, many.now());
    assert_eq!((many.handed_out(), few.handed_out()), (vec!["many-1".to_owned()], vec!["few-1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_kind_without_room_holds_back_no_other() {
    let budget = Arc::new(WriteBudget::new(10));
    let (full, free) = (Rig::within(budget.clone()), Rig::within(budget.clone()));
    full.upsert("full");
    free.upsert("free");
    pass(61).await;
    full.beat("full");
    free.beat("free");
    full.slots.set(0);
    hand_out(&[&full, &free], &budget, full.now());
    assert_eq!((full.handed_out().len(), free.handed_out()), (0, vec!["free".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_with_many_objects_makes_the_contacts_of_no_other_old() {
    let rig = Rig::new(4);
    let many: Vec<String> = (0..50).map(|number| format!("many-{number}")).collect();
    many.iter().for_each(|name| drop(rig.upsert_in("greedy", name)));
    pass(30).await;
    for name in ["one", "two"] {
        rig.upsert_in("modest", name);
    }
    pass(61).await;
    many.iter().for_each(|name| rig.beat_in("greedy", name));
    ["one", "two"].iter().for_each(|name| rig.beat_in("modest", name));
    let turns = rig.turns();
    assert_eq!(turns.len(), 4);
    assert!(turns.contains(&"one".to_owned()) && turns.contains(&"two".to_owned()), "{turns:?}");
    pass(1).await;
    let turns = rig.turns();
    assert!(
        turns.len() == 4 && turns.iter().all(|name| name.starts_with("many-")),
        "no write is left unused: {turns:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_writes_hang_holds_back_no_other() {
    let rig = Rig::new(100);
    rig.slots.set(8);
    let hangs: Arc<str> = "hangs".into();
    let in_flight: Vec<_> = (0..4).map(|_| rig.checkpoints.begin(&hangs)).collect();
    rig.upsert_in("hangs", "another");
    rig.upsert("paris");
    pass(61).await;
    rig.beat_in("hangs", "another");
    rig.beat("paris");
    assert_eq!(rig.turns(), ["paris"]);
    drop(in_flight);
    assert_eq!(rig.turns(), ["another"]);
    assert!(rig.checkpoints.in_flight.lock().is_empty());
}

#[test]
fn turns_of_namespaces_that_had_none_for_long_are_forgotten() {
    let mut turns = Turns::default();
    for number in 0..10_000 {
        turns.take(&format!("gone-{number}").into());
        turns.take(&"here".into());
    }
    assert!(turns.last.len() < 100, "{}", turns.last.len());
    assert_eq!(turns.last.get("here"), Some(&20_000));
}
