//! Whole reconciles against an API server in memory.

use std::time::Duration;

use tokio::sync::watch;

use super::super::fake::{backend, context};
use super::*;
use crate::api::ErrorClass;
use crate::cluster::fake::{Fake, Mode};
use crate::controller::connector::fake::shared;
use crate::controller::runtime::calls::CallKind;
use crate::controller::runtime::queue::Action;
use crate::controller::runtime::retry::retry;
use crate::controller::runtime::run;
use crate::controller::runtime::wake::Guarded;
use crate::leadership::Leadership;
use crate::metrics::PanickedTask;

const BACKEND: &str = "/apis/vigie.dev/v1alpha1/namespaces/apps/monitoredbackends/shop";

struct Rig {
    fake: Fake,
    context: Arc<Context>,
    _leadership: watch::Sender<Leadership>,
}

impl Rig {
    /// A leader, and one MonitoredBackend in the API server.
    fn new() -> Self {
        let fake = Fake::new();
        let (shared, leadership) = shared(&fake);
        let context = context(shared);
        fake.put(BACKEND, backend());
        let rig = Self { fake, context, _leadership: leadership };
        rig.context.upsert(&rig.object());
        rig
    }

    fn object(&self) -> MonitoredBackend {
        serde_json::from_value(self.fake.object(BACKEND).unwrap()).unwrap()
    }

    fn state(&self) -> Option<BackendState> {
        self.object().status.and_then(|status| status.state)
    }

    /// One probe passes or fails.
    fn probe(&self, passed: bool) {
        let entry = self.context.entry(&Key::of(&self.object().metadata)).unwrap();
        entry.record_probe((!passed).then_some(ErrorClass::Refused), self.context.clock.read());
    }

    fn guarded(&self) -> Arc<Guarded<MonitoredBackend>> {
        Arc::new(serde_json::from_value(self.fake.object(BACKEND).unwrap()).unwrap())
    }

    async fn reconcile(&self) -> Result<Action, ReconcileError> {
        run::reconcile(&*self.context, &self.object()).await
    }

    /// The number of published events since the last call.
    fn published(&self) -> usize {
        self.fake.take_log().iter().filter(|request| request.starts_with("POST") && request.contains("/events")).count()
    }
}

#[tokio::test]
async fn the_event_of_a_transition_whose_answer_was_lost_comes_with_the_next_try() {
    let rig = Rig::new();
    rig.probe(true);
    rig.reconcile().await.unwrap();
    assert_eq!((rig.state(), rig.published()), (Some(BackendState::Up), 1));
    for (passes, state) in [(false, BackendState::Down), (true, BackendState::Up)] {
        rig.probe(passes);
        rig.fake.set_mode(Mode::Loses("/monitoredbackends/"));
        let failed = rig.reconcile().await.unwrap_err();
        assert_eq!((rig.state(), rig.published()), (Some(state), 0), "it is written, and nobody knows");
        rig.fake.set_mode(Mode::Up);
        retry(rig.guarded(), &failed, rig.context.clone());
        rig.context.states.hold(0, CallKind::Status, rig.context.clock.now() + Duration::from_secs(60));
        rig.fake.take_log();
        rig.reconcile().await.unwrap();
        assert_eq!(rig.fake.take_log(), Vec::<String>::new(), "whatever wakes it");
        rig.context.states.open(0);
        rig.reconcile().await.unwrap();
        assert_eq!(rig.published(), 1, "{state:?}");
        rig.reconcile().await.unwrap();
        assert_eq!(rig.published(), 0, "and not again");
    }
}

#[tokio::test]
async fn a_state_is_put_back_after_an_error_and_not_after_the_object_is_gone() {
    let rig = Rig::new();
    rig.probe(true);
    rig.fake.set_mode(Mode::Fails("/events"));
    rig.reconcile().await.unwrap();
    rig.fake.set_mode(Mode::Up);
    rig.reconcile().await.unwrap();
    assert_eq!(rig.published(), 1, "one try, and no other before its time");
    rig.context.states.open(0);
    rig.fake.take_log();
    rig.reconcile().await.unwrap();
    assert_eq!(rig.published(), 1, "the event was kept in the state");
    let states = &rig.context.states;
    let mut taken = states.take(0);
    taken.begin(1);
    taken.published = true;
    states.mark_checkpoint(0, 1);
    let now = rig.context.clock.now();
    let failed = || states.failed(0, CallKind::Restart, None, now).0;
    assert_eq!(failed(), 1, "written beside the state that is taken out");
    drop(taken);
    assert!(states.take(0).published && states.take_checkpoint(0, 1) && !states.take_checkpoint(0, 1));
    assert_eq!(failed(), 2);
    let taken = states.take(0);
    states.remove(0);
    drop(taken);
    assert!(!states.take(0).published);
}

#[tokio::test]
async fn a_wait_that_the_server_asks_for_is_kept_and_the_first_success_wakes_the_others() {
    let rig = Rig::new();
    let mut second = rig.fake.object(BACKEND).unwrap();
    (second["metadata"]["name"], second["metadata"]["uid"]) = (json!("cart"), json!("u2"));
    rig.context.upsert(&serde_json::from_value(second).unwrap());
    let mut entries = rig.context.entries();
    entries.sort_by_key(|entry| entry.number);
    let wait = |entry: &Backend| rig.context.states.write_wait(entry.number, rig.context.clock.now());
    rig.context.call_failed(&entries[0], CallKind::Status, Some(Duration::from_secs(30)));
    assert!(wait(&entries[0]).is_some_and(|wait| wait > Duration::from_secs(20)), "{:?}", wait(&entries[0]));
    for _ in 0..9 {
        rig.context.call_failed(&entries[1], CallKind::Status, None);
    }
    assert!(wait(&entries[1]).is_some_and(|wait| wait > Duration::from_secs(50)), "{:?}", wait(&entries[1]));
    rig.context.call_succeeded(&entries[0], CallKind::Status);
    assert_eq!(wait(&entries[0]), None);
    assert!(wait(&entries[1]).is_some_and(|wait| wait <= Duration::from_secs(12)), "{:?}", wait(&entries[1]));
}

#[tokio::test]
async fn a_step_that_panics_is_counted_and_its_object_is_scheduled_again() {
    let rig = Rig::new();
    let panics = |is_on| rig.context.panics.store(is_on, std::sync::atomic::Ordering::Relaxed);
    panics(true);
    let failed = rig.reconcile().await.unwrap_err();
    assert_eq!(failed.to_string(), "a step panicked: a defect of a step");
    assert_eq!(rig.context.metrics.panics(PanickedTask::Reconcile), 1);
    let number = rig.context.entries()[0].number;
    rig.context.call_failed(&rig.context.entries()[0], CallKind::Status, failed.retry_after());
    assert!(rig.context.states.write_wait(number, rig.context.clock.now()).is_some());
    panics(false);
    rig.context.states.open(number);
    rig.reconcile().await.unwrap();
    assert!(rig.fake.take_log().iter().any(|request| request.starts_with("PUT")), "its status is written");
}
