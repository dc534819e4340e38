use serde_json::{Value, json};
use tokio::sync::watch::Sender;

use super::record::RecordWrite;
use super::*;
use crate::cluster::CallError;
use crate::cluster::fake::{Fake, Mode};
use crate::leadership::Role;

const PATH: &str = "/api/v1/namespaces/ops/configmaps/vigie-breaker";
const OPENED: &str = "2026-01-31T12:00:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn map(version: &str, data: Value) -> ConfigMap {
    serde_json::from_value(
        json!({ "metadata": { "name": NAME, "namespace": "ops", "uid": "u", "resourceVersion": version },
        "data": data }),
    )
    .unwrap()
}

fn open_map(version: &str) -> ConfigMap {
    map(version, json!({ "state": "Open", "reason": "7 of 10 workloads", "openedTime": OPENED }))
}

fn record(data: Value) -> BreakerRecord {
    BreakerRecord::of(&map("5", data))
}

fn trip(reason: &str, namespaces: Option<&[&str]>) -> Trip {
    let scope = namespaces.map(|namespaces| namespaces.iter().map(|one| (*one).into()).collect());
    Trip { reason: reason.to_owned(), scope }
}

#[test]
fn an_opening_for_some_namespaces_is_stored_with_them_widened_and_reset_as_a_whole() {
    let at = time("2026-01-31T12:00:00Z");
    let write = |of: &BreakerRecord, namespaces| match of.open_write("ops", &trip("why", namespaces), at) {
        Some(RecordWrite::Patch(patch)) => Some(patch["data"]["namespaces"].clone()),
        Some(RecordWrite::Create(map)) => Some(json!(map.data.unwrap()["namespaces"])),
        None => None,
    };
    assert_eq!(write(&BreakerRecord::default(), Some(&["shop"])), Some(json!("shop")));
    let open =
        record(json!({ "state": "Open", "namespaces": "bank, shop", "openedTime": OPENED, "reason": "7 of 10" }));
    assert_eq!(open.scope, trip("", Some(&["bank", "shop"])).scope);
    assert_eq!(write(&open, Some(&["bank", "shop"])), None, "it is open for them");
    assert_eq!(write(&open, Some(&["bank", "mail", "shop"])), Some(json!("bank,mail,shop")));
    assert_eq!(write(&open, None), Some(Value::Null), "for all");
    assert_eq!(write(&BreakerRecord::of(&open_map("5")), Some(&["shop"])), None, "it is open for all");
    assert_eq!(open.reset_patch("ann", at).unwrap()["data"]["namespaces"], Value::Null);
    let note = &open.events(at)[0].note;
    assert!(note.contains("nothing is restarted in bank, shop until a person resets it"), "{note}");
}

#[test]
fn what_the_map_says_is_what_holds() {
    assert_eq!(BreakerRecord::default().breaker(), Breaker::Closed);
    assert_eq!(record(json!(null)).breaker(), Breaker::Closed, "one that was made beforehand, for RBAC");
    assert_eq!(record(json!({ "state": "Closed" })).breaker(), Breaker::Closed);
    let open = BreakerRecord::of(&open_map("5"));
    assert_eq!(open.breaker(), Breaker::Open("since 2026-01-31T12:00:00Z: 7 of 10 workloads".to_owned()));
    let by_hand = record(json!({ "state": "Open", "openedTime": "noon" }));
    assert_eq!(by_hand.breaker(), Breaker::Open("no reason is given".to_owned()));
    let odd = record(json!({ "state": "open" }));
    assert!(matches!(odd.breaker(), Breaker::Unknown(why) if why.contains(r#"state "open""#) && why.contains("reset")));
}

#[test]
fn it_is_made_when_there_is_none_and_patched_by_its_version_when_there_is() {
    let at = time("2026-01-31T12:00:00.25Z");
    let Some(RecordWrite::Create(made)) = BreakerRecord::default().open_write("ops", &trip("why", None), at) else {
        panic!("it is made")
    };
    assert_eq!(BreakerRecord::of(&made).reason_since(), "since 2026-01-31T12:00:00Z: why");
    let closed = record(json!({ "state": "Closed", "resetTime": OPENED, "resetBy": "ann" }));
    let expected = json!({ "metadata": { "resourceVersion": "5" },
        "data": { "state": "Open", "reason": "why", "openedTime": OPENED } });
    assert_eq!(closed.open_write("ops", &trip("why", None), at), Some(RecordWrite::Patch(expected)));
    assert_eq!(
        BreakerRecord::of(&open_map("5")).open_write("ops", &trip("again", None), at),
        None,
        "since when it is open stays"
    );
    assert_eq!(record(json!({ "state": "open" })).open_write("ops", &trip("why", None), at), None);
}

#[test]
fn a_reset_names_who_and_when_and_a_closed_one_is_left_alone() {
    let at = time("2026-01-31T13:00:00.5Z");
    let expected = json!({ "metadata": { "resourceVersion": "5" },
        "data": { "state": "Closed", "resetTime": "2026-01-31T13:00:00Z", "resetBy": "ann" } });
    assert_eq!(BreakerRecord::of(&open_map("5")).reset_patch("ann", at), Some(expected.clone()));
    assert_eq!(record(json!({ "state": "open" })).reset_patch("ann", at), Some(expected));
    assert_eq!(record(json!({ "state": "Closed" })).reset_patch("ann", at), None);
    assert_eq!(BreakerRecord::default().reset_patch("ann", at), None);
}

#[test]
fn an_opening_and_a_reset_are_told_for_an_hour_as_one_occurrence_each() {
    let both = record(json!({ "state": "Closed", "reason": "7 of 10", "openedTime": OPENED,
        "resetTime": "2026-01-31T12:30:00Z", "resetBy": "ann" }));
    let published =
        |now: &str| both.events(time(now)).into_iter().map(|e| (e.reason, e.occurrence)).collect::<Vec<_>>();
    let opened = ("BreakerOpened", format!("BreakerOpened/{OPENED}"));
    let reset = ("BreakerReset", "BreakerReset/2026-01-31T12:30:00Z".to_owned());
    assert_eq!(published("2026-01-31T12:31:00Z"), [opened, reset.clone()]);
    assert_eq!(published("2026-01-31T13:01:00Z"), [reset]);
    assert!(published("2026-02-01T12:00:00Z").is_empty());
    assert!(both.events(time("2026-01-31T12:31:00Z"))[1].note.starts_with("ann reset the breaker"));
}

#[test]
fn before_the_first_read_and_while_it_may_not_be_read_nothing_is_known() {
    let forbidden = || {
        let status = kube::core::Status::failure("no", "Forbidden").with_code(403).boxed();
        watcher::Error::InitialListFailed(kube::Error::Api(status))
    };
    let unknown = |watch_state: &WatchState, part: &str| matches!(watch_state.breaker(), Breaker::Unknown(why) if why.contains(part));
    let mut watch_state = WatchState::of("ops");
    assert!(unknown(&watch_state, "has not been read yet"));
    assert!(watch_state.take(Err(forbidden())));
    assert!(unknown(&watch_state, "list and watch on configmaps named vigie-breaker in namespace ops"));
    assert!(!watch_state.take(Err(forbidden())) && !watch_state.take(Ok(Event::Init)), "no news");
    assert!(watch_state.take(Ok(Event::InitDone)));
    assert_eq!(watch_state.breaker(), Breaker::Closed, "there is none");
    assert!(watch_state.take(Ok(Event::Apply(open_map("7")))));
    assert!(!watch_state.take(Err(watcher::Error::NoResourceVersion)));
    assert!(matches!(watch_state.breaker(), Breaker::Open(_)), "what was known stands");
    assert!(watch_state.take(Err(forbidden())) && unknown(&watch_state, "may not be read"));
    watch_state.take(Ok(Event::Init));
    assert!(!watch_state.take(Ok(Event::InitApply(open_map("7")))));
    assert!(watch_state.take(Ok(Event::InitDone)));
    assert_eq!(watch_state.record, BreakerRecord::of(&open_map("7")));
    assert!(watch_state.take(Ok(Event::Delete(open_map("7")))));
    assert_eq!(watch_state.breaker(), Breaker::Closed);
}

struct Rig {
    fake: Fake,
    breaker_store: BreakerStore,
    leads: Sender<Leadership>,
}

fn rig() -> Rig {
    let (fake, clock) = (Fake::new(), Clock::default());
    let write_until = clock.now() + Duration::from_secs(60);
    let leading = Leadership { role: Role::Leader, write_until, ..Leadership::follower() };
    let (leads, leadership) = tokio::sync::watch::channel(leading);
    let reporter = Reporter { client: fake.client(), instance: "test".to_owned() };
    let breaker_store =
        BreakerStore { client: fake.client(), namespace: "ops".to_owned(), reporter, leadership, clock };
    Rig { fake, breaker_store, leads }
}

impl Rig {
    fn permit(&self) -> WritePermit {
        self.breaker_store.leadership.borrow().permit(self.breaker_store.clock.now()).unwrap()
    }

    async fn open(&self, read: &BreakerRecord) -> Result<(), WriteError> {
        self.breaker_store.open(&self.permit(), read, &trip("7 of 10 workloads", None), time(OPENED)).await
    }

    fn stored(&self) -> BreakerRecord {
        BreakerRecord::of(&serde_json::from_value(self.fake.object(PATH).unwrap()).unwrap())
    }
}

#[tokio::test]
async fn opening_makes_the_map_or_changes_the_one_that_was_read() {
    let rig = rig();
    rig.open(&BreakerRecord::default()).await.unwrap();
    let made = rig.stored();
    assert_eq!(made.breaker(), BreakerRecord::of(&open_map("1")).breaker());
    rig.fake.take_log();
    rig.open(&made).await.unwrap();
    assert!(rig.fake.take_log().is_empty(), "it is open");
    rig.fake.put(PATH, json!({ "metadata": { "name": NAME }, "data": { "state": "Closed", "resetBy": "ann" } }));
    rig.open(&rig.stored()).await.unwrap();
    let opened = rig.stored();
    assert_eq!((opened.state, opened.reset_by.as_deref()), (State::Open, Some("ann")));
}

#[tokio::test]
async fn what_a_person_did_meanwhile_is_not_overwritten() {
    let rig = rig();
    rig.fake.put(PATH, json!({ "metadata": { "name": NAME }, "data": { "state": "Closed" } }));
    let read = rig.stored();
    rig.fake.put(PATH, json!({ "metadata": { "name": NAME }, "data": { "state": "Closed", "resetBy": "ann" } }));
    let refused = rig.open(&read).await.unwrap_err();
    assert!(matches!(refused, WriteError::Call(CallError::Conflict)), "{refused}");
    let refused = rig.open(&BreakerRecord::default()).await.unwrap_err();
    assert!(matches!(refused, WriteError::Call(CallError::AlreadyExists)), "{refused}");
    assert_eq!(rig.stored().state, State::Closed);
}

#[tokio::test]
async fn nothing_is_written_by_one_who_may_no_longer_write() {
    let rig = rig();
    let moment = rig.breaker_store.clock.now();
    let short = Leadership { write_until: moment + Duration::from_micros(1), ..rig.leads.borrow().clone() };
    let permit = short.permit(moment).unwrap();
    while permit.is_current(rig.breaker_store.clock.now()) {}
    let refused =
        rig.breaker_store.open(&permit, &BreakerRecord::default(), &trip("why", None), time(OPENED)).await.unwrap_err();
    assert!(matches!(refused, WriteError::NotLeader), "{refused}");
    assert!(rig.fake.take_log().is_empty());
}

#[tokio::test]
async fn events_are_told_once_by_the_leader_and_again_until_they_are() {
    let rig = rig();
    let (mut published, record) = (HashSet::new(), BreakerRecord::of(&open_map("5")));
    let leading = rig.leads.borrow().clone();
    rig.leads.send_replace(Leadership::follower());
    rig.breaker_store.publish_events(&record, &mut published, &mut Retry::default(), time(OPENED)).await;
    assert!(rig.fake.take_log().is_empty(), "a follower is silent");
    rig.leads.send_replace(leading);
    for (mode, told_to) in [(Mode::Refuses(503, "ServiceUnavailable"), 1), (Mode::Up, 1), (Mode::Up, 0)] {
        rig.fake.set_mode(mode);
        rig.breaker_store.publish_events(&record, &mut published, &mut Retry::default(), time(OPENED)).await;
        let asked = rig.fake.take_log();
        assert_eq!(asked.len(), told_to, "{mode:?}: {asked:?}");
        assert!(asked.iter().all(|line| line.starts_with("POST /apis/events.k8s.io/v1/namespaces/ops/events")));
    }
    // Another process, or the same one after a restart.
    rig.breaker_store.publish_events(&record, &mut HashSet::new(), &mut Retry::default(), time(OPENED)).await;
    assert_eq!(rig.fake.take_log().len(), 1, "the API server knows it by its name: AlreadyExists is success");
}
