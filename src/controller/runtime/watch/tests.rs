//! Entries, timers and reconcile states come and go with the objects, in every order of watch events.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::api::Connector;
use crate::cluster::fake::Fake;
use crate::controller::connector::deadlines::Command;
use crate::controller::connector::fake::{Ends, Guarded, connector, guarded, leader, unreadable};
use crate::controller::connector::reconcile::Context;
use crate::heartbeat::entry::Entry;

struct Rig {
    tap: Tap<Context>,
    listed: HashSet<Key>,
    filled: Arc<AtomicUsize>,
    ends: Ends,
}

fn rig() -> Rig {
    rig_on(&Fake::new())
}

fn rig_on(fake: &Fake) -> Rig {
    let (context, ends) = leader(fake);
    let filled = Arc::new(AtomicUsize::new(0));
    let fills = filled.clone();
    let tap = Tap {
        kind: Arc::new(context),
        scope: Some("edge".into()),
        filled: Arc::new(move || {
            fills.fetch_add(1, Ordering::Relaxed);
        }),
    };
    Rig { tap, listed: HashSet::new(), filled, ends }
}

impl Rig {
    fn see(&mut self, event: Event<Guarded>) {
        drop(self.tap.handle(&event, &mut self.listed));
    }

    fn list(&mut self, objects: Vec<Guarded>) {
        self.see(Event::Init);
        objects.into_iter().for_each(|object| self.see(Event::InitApply(object)));
        self.see(Event::InitDone);
    }

    fn apply(&mut self, name: &str, uid: &str, spec: serde_json::Value) {
        self.see(Event::Apply(guarded(&connector(name, uid, spec, json!({})))));
    }

    fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.tap.kind.registry.get(&Key { namespace: "edge".into(), name: name.into() })
    }

    /// The commands to the deadline scheduler since the last call.
    fn commands(&mut self) -> Vec<String> {
        let said = |command| match command {
            Command::Upsert(entry) => format!("upsert {}/{}", entry.identity.key.name, entry.identity.uid()),
            Command::Remove(entry) => format!("remove {}/{}", entry.identity.key.name, entry.identity.uid()),
            other => format!("{other:?}"),
        };
        std::iter::from_fn(|| self.ends.commands.try_recv().ok()).map(said).collect()
    }

    /// The objects whose reconcile was requested since the last call.
    fn woken(&mut self) -> Vec<String> {
        let (_, requests) = &mut self.ends.scopes[0];
        std::iter::from_fn(|| requests.try_recv().ok()).map(|key| key.name.to_string()).collect()
    }

    /// Sets a mark in the reconcile state of an entry; returns whether one was there.
    fn note(&self, entry: &Entry) -> bool {
        let mut state = self.tap.kind.states.take(entry.number);
        state.begin(1);
        std::mem::replace(&mut state.published, true)
    }
}

fn object(name: &str) -> Guarded {
    guarded(&connector(name, "u1", json!({}), json!({})))
}

#[tokio::test]
async fn a_list_fills_the_registry_and_says_that_it_did() {
    let mut rig = rig();
    rig.list(vec![object("a"), object("b")]);
    assert!(rig.entry("a").is_some() && rig.entry("b").is_some());
    assert_eq!(rig.commands(), ["upsert a/u1", "upsert b/u1"]);
    assert_eq!(rig.filled.load(Ordering::Relaxed), 1);
}

/// A reconcile works on the object in the store: one that is requested earlier would be lost with the change.
#[tokio::test]
async fn an_object_of_a_list_is_reconciled_when_the_store_has_it() {
    let Rig { tap, ends: _ends, .. } = rig();
    let spec = |name: &str| json!({ "displayName": name });
    let seen = |name: &str, uid: &str, text: &str| guarded(&connector(name, uid, spec(text), json!({})));
    let events = vec![
        Event::Init,
        Event::InitApply(seen("a", "u1", "first")),
        Event::InitDone,
        Event::Apply(seen("a", "u1", "second")),
        // Listed anew after a watch that failed: a was changed meanwhile, and b was made.
        Event::Init,
        Event::InitApply(seen("a", "u1", "third")),
        Event::InitApply(seen("b", "u2", "new")),
        Event::InitDone,
    ];
    let (store, requests) = requests(stream::iter(events.into_iter().map(Ok)), tap);
    let mut requests = Box::pin(requests);
    let mut reconciled = Vec::new();
    while let Some(key) = requests.next().await {
        let objects = store.state();
        let of_key = objects.iter().filter_map(|object| object.0.as_ref().ok());
        let found = of_key.into_iter().find(|object| Key::of(object.meta()) == key);
        reconciled.push((key.name.to_string(), found.and_then(|object| object.spec.display_name.clone())));
    }
    reconciled[2..].sort();
    let of = |name: &str, text: &str| (name.to_owned(), Some(text.to_owned()));
    assert_eq!(reconciled, [of("a", "first"), of("a", "second"), of("a", "third"), of("b", "new")]);
}

#[tokio::test]
async fn whoever_is_missing_in_a_relist_is_gone_with_all_that_was_noted() {
    let mut rig = rig();
    rig.list(vec![object("a"), object("b")]);
    let (kept, gone) = (rig.entry("a").unwrap(), rig.entry("b").unwrap());
    assert!(!rig.note(&kept) && !rig.note(&gone));
    rig.commands();
    rig.list(vec![object("a")]);
    assert!(rig.entry("a").is_some() && rig.entry("b").is_none());
    assert_eq!(rig.commands(), ["remove b/u1"]);
    assert!(rig.note(&kept), "the note on who is still there stays");
    assert!(!rig.note(&gone), "and that on who is gone goes");
    assert_eq!(rig.filled.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_list_of_one_namespace_says_nothing_of_another() {
    let mut rig = rig();
    let mut elsewhere = connector("far", "u1", json!({}), json!({}));
    elsewhere.metadata.namespace = Some("elsewhere".to_owned());
    rig.tap.kind.registry.upsert(&elsewhere, rig.tap.kind.clock.read());
    rig.list(vec![object("a")]);
    assert_eq!(rig.tap.kind.registry.len(), 2);
    rig.tap.scope = None;
    rig.list(vec![object("a")]);
    assert_eq!(rig.tap.kind.registry.len(), 1, "a list of all does");
}

#[tokio::test]
async fn one_that_cannot_be_read_any_more_is_not_gone() {
    let mut rig = rig();
    rig.list(vec![object("a")]);
    rig.list(vec![unreadable("a"), unreadable("b")]);
    assert!(rig.entry("a").is_some(), "its beats are heard as before");
    assert!(rig.entry("b").is_none());
}

const UNREADABLE: &str = "/apis/vigie.dev/v1alpha1/namespaces/edge/connectors/a";

/// Marks an object that cannot be read, as its reconcile does; returns whether a request was made for it.
async fn mark(rig: &Rig, fake: &Fake, object: &Guarded) -> bool {
    let stored = fake.object(UNREADABLE).unwrap();
    let mut meta = object.meta().clone();
    meta.resource_version = stored["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    fake.take_log();
    rig.tap.kind.unreadable.mark::<Connector>(&meta, "bad", "Unknown").await.expect("the mark is written");
    !fake.take_log().is_empty()
}

#[tokio::test]
async fn a_mark_is_remembered_as_long_as_the_object_cannot_be_read_and_no_longer() {
    let fake = Fake::new();
    fake.put(UNREADABLE, json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": { "name": "a", "namespace": "edge", "uid": "a" } }));
    let mut rig = rig_on(&fake);
    let bad = || unreadable("a");
    rig.list(vec![bad()]);
    assert!(mark(&rig, &fake, &bad()).await && !mark(&rig, &fake, &bad()).await, "once");
    rig.list(vec![bad()]);
    assert!(!mark(&rig, &fake, &bad()).await, "a relist that has it changes nothing");
    rig.apply("a", "a", json!({}));
    rig.see(Event::Apply(bad()));
    assert!(mark(&rig, &fake, &bad()).await, "it was readable meanwhile, and its mark is gone");
    rig.see(Event::Delete(bad()));
    assert!(!rig.tap.kind.unreadable.is_marked::<Connector>(bad().meta()), "deleted");
    assert!(mark(&rig, &fake, &bad()).await);
    rig.list(Vec::new());
    assert!(!rig.tap.kind.unreadable.is_marked::<Connector>(bad().meta()), "deleted while nothing was watched");
}

#[tokio::test]
async fn the_delete_of_a_predecessor_takes_nothing_from_its_successor() {
    let mut rig = rig();
    rig.apply("a", "u1", json!({}));
    let first = rig.entry("a").unwrap();
    rig.note(&first);
    rig.apply("a", "u2", json!({}));
    assert_eq!(rig.commands(), ["upsert a/u1", "remove a/u1", "upsert a/u2"]);
    assert!(!rig.note(&first), "the notes on the first are not the second's");
    rig.see(Event::Delete(object("a")));
    assert!(rig.entry("a").unwrap().identity.has_uid("u2"));
    assert_eq!(rig.commands(), Vec::<String>::new());
    rig.see(Event::Delete(guarded(&connector("a", "u2", json!({}), json!({})))));
    assert!(rig.entry("a").is_none());
    assert_eq!(rig.commands(), ["remove a/u2"]);
}

#[tokio::test]
async fn who_inherits_an_id_is_woken() {
    let mut rig = rig();
    let shared = || json!({ "connectorID": "shared" });
    rig.apply("a", "u1", shared());
    rig.apply("b", "u1", shared());
    rig.woken();
    rig.see(Event::Delete(object("a")));
    assert_eq!(rig.woken(), ["b"]);
    rig.apply("c", "u1", shared());
    rig.woken();
    rig.list(vec![guarded(&connector("c", "u1", shared(), json!({})))]);
    assert_eq!(rig.woken(), ["c"], "after a relist too");
}

#[tokio::test]
async fn what_changes_no_deadline_pokes_nobody() {
    let mut rig = rig();
    rig.apply("a", "u1", json!({}));
    rig.commands();
    rig.apply("a", "u1", json!({ "displayName": "Paris" }));
    assert_eq!(rig.commands(), Vec::<String>::new());
    rig.apply("a", "u1", json!({ "heartbeat": { "intervalSeconds": 5 } }));
    assert_eq!(rig.commands(), ["upsert a/u1"]);
}
