//! The writer of statuses, against an API server in memory.

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::time::Duration;

use super::super::fake::{Fake, Mode};
use super::*;
use crate::leadership::{Leadership, Role};
use crate::schedule::Place;

const PATH: &str = "/api/v1/namespaces/ns/pods/a";

#[derive(Default)]
struct Counted(Mutex<Vec<(WriteReason, &'static str)>>);

impl WriteMetrics for Counted {
    fn wrote(&self, reason: WriteReason, result: &'static str) {
        self.0.lock().push((reason, result));
    }
}

struct Fixture {
    fake: Fake,
    clock: Clock,
    counted: Arc<Counted>,
    writer: StatusWriter,
    api: Api<Pod>,
}

/// A server with one pod, and a writer.
fn fixture() -> Fixture {
    let (fake, clock, counted) = (Fake::new(), Clock::default(), Arc::new(Counted::default()));
    let pod =
        json!({ "metadata": { "name": "a", "namespace": "ns" }, "status": { "message": "old", "phase": "Running" } });
    fake.put(PATH, pod);
    let writer = StatusWriter::new(clock, Arc::clone(&counted) as Arc<dyn WriteMetrics>);
    let api = Api::namespaced(fake.client(), "ns");
    Fixture { fake, clock, counted, writer, api }
}

impl Fixture {
    fn permit(&self, lasts: Duration) -> WritePermit {
        let now = self.clock.now();
        let leader = Leadership { role: Role::Leader, write_until: now + lasts, ..Leadership::follower() };
        leader.permit(now).unwrap()
    }

    fn counted(&self) -> Vec<(WriteReason, &'static str)> {
        std::mem::take(&mut *self.counted.0.lock())
    }

    /// Takes all slots that this namespace may have.
    fn all_slots_of(&self, namespace: &str) -> Vec<Place> {
        let take = || self.writer.transitions.acquire(&namespace.into(), false).now_or_never();
        std::iter::from_fn(take).collect()
    }

    async fn pod(&self) -> Pod {
        let pod = self.api.get("a").await.unwrap();
        self.fake.take_log();
        pod
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_transition_replaces_the_status_that_was_read_and_only_that() {
    let fixture = fixture();
    let permit = fixture.permit(LONG);
    let read = fixture.pod().await;
    let mut pod = read.clone();
    pod.status.as_mut().unwrap().message = Some("new".to_owned());
    let written = fixture.writer.replace(WriteReason::Transition, &permit, &fixture.api, &pod).await.unwrap();
    assert_ne!(written.metadata.resource_version, read.metadata.resource_version);
    assert_eq!(fixture.fake.take_log(), [format!("PUT {PATH}/status?&fieldManager=vigie")]);

    let stale = fixture.writer.replace(WriteReason::Transition, &permit, &fixture.api, &pod).await.unwrap_err();
    assert!(matches!(stale, WriteError::Call(CallError::Conflict)), "{stale}");
    assert_eq!(fixture.counted(), [(WriteReason::Transition, "ok"), (WriteReason::Transition, "conflict")]);
}

#[tokio::test]
async fn a_checkpoint_changes_its_fields_and_is_held_back_by_the_version_too() {
    let fixture = fixture();
    let permit = fixture.permit(LONG);
    let version = fixture.pod().await.metadata.resource_version.unwrap();
    let patch = json!({ "message": "new" });
    let written = fixture.writer.checkpoint(&permit, &fixture.api, "a", &version, patch.clone()).await.unwrap();
    let status = written.status.unwrap();
    assert_eq!((status.message.as_deref(), status.phase.as_deref()), (Some("new"), Some("Running")));
    assert_eq!(fixture.fake.take_log(), [format!("PATCH {PATH}/status?&fieldManager=vigie")]);

    let stale = fixture.writer.checkpoint(&permit, &fixture.api, "a", &version, patch).await.unwrap_err();
    assert!(matches!(stale, WriteError::Call(CallError::Conflict)), "{stale}");
    assert_eq!(fixture.counted(), [(WriteReason::Checkpoint, "ok"), (WriteReason::Checkpoint, "conflict")]);
}

#[tokio::test]
async fn without_a_current_permit_or_a_version_nothing_is_sent() {
    let fixture = fixture();
    let mut pod = fixture.pod().await;
    let over = fixture.permit(Duration::from_micros(1));
    while over.is_current(fixture.clock.now()) {}
    let refused = fixture.writer.replace(WriteReason::Transition, &over, &fixture.api, &pod).await.unwrap_err();
    assert!(matches!(refused, WriteError::NotLeader), "{refused}");

    let permit = fixture.permit(LONG);
    pod.metadata.resource_version = None;
    let refused = fixture.writer.replace(WriteReason::Transition, &permit, &fixture.api, &pod).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "refused as invalid: writing the status of Pod ns/a: the resourceVersion that was read is missing"
    );
    fixture.writer.checkpoint(&permit, &fixture.api, "a", "", json!({})).await.unwrap_err();
    assert_eq!((fixture.fake.take_log().len(), fixture.counted().len()), (0, 0));
}

#[tokio::test]
async fn a_transition_waits_for_a_slot_but_never_behind_checkpoints() {
    let fixture = fixture();
    let pod = fixture.pod().await;
    let long = fixture.permit(LONG);
    fixture.fake.set_mode(Mode::Hangs);
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (writer, api, permit) = (fixture.writer.clone(), fixture.api.clone(), long.clone());
        hanging.spawn(async move { writer.checkpoint(&permit, &api, "a", "1", json!({})).await.map(drop) });
    }
    while fixture.writer.checkpoints.acquire(&"ns".into(), false).now_or_never().is_some() {
        tokio::task::yield_now().await;
    }
    fixture.fake.set_mode(Mode::Up);
    fixture.writer.replace(WriteReason::Transition, &long, &fixture.api, &pod).await.unwrap();
    hanging.abort_all();
    while hanging.join_next().await.is_some() {}
    let counted = fixture.counted();
    let abandoned = counted.iter().filter(|(_, result)| *result == "abandoned").count();
    assert_eq!(abandoned, CHECKPOINTS_IN_FLIGHT / 2, "{counted:?}");
}

#[tokio::test]
async fn a_permit_that_runs_out_in_the_queue_sends_nothing() {
    let fixture = fixture();
    let pod = fixture.pod().await;
    let slots = fixture.all_slots_of("ns");
    let short = fixture.permit(Duration::from_millis(20));
    let write = fixture.writer.replace(WriteReason::Transition, &short, &fixture.api, &pod);
    tokio::pin!(write);
    while short.is_current(fixture.clock.now()) {
        assert!(futures::poll!(write.as_mut()).is_pending());
    }
    drop(slots);
    assert!(matches!(write.await, Err(WriteError::NotLeader)));
    assert!(fixture.fake.take_log().is_empty());
}

#[tokio::test]
async fn one_namespace_that_changes_without_end_delays_no_transition_of_another() {
    let fixture = fixture();
    let (pod, permit) = (fixture.pod().await, fixture.permit(LONG));
    let flapping = fixture.all_slots_of("flapping");
    assert_eq!(flapping.len(), TRANSITIONS_IN_FLIGHT / 2, "as many as an API server needs");
    let flapping_object = Api::<Pod>::namespaced(fixture.fake.client(), "flapping");
    let mut queue: Vec<_> = (0..1_000)
        .map(|_| Box::pin(fixture.writer.replace(WriteReason::Transition, &permit, &flapping_object, &pod)))
        .collect();
    assert!(queue.iter_mut().all(|write| write.now_or_never().is_none()));
    let write = |reason| {
        let write = fixture.writer.replace(reason, &permit, &fixture.api, &pod);
        tokio::time::timeout(Duration::from_secs(30), write)
    };
    write(WriteReason::Transition).await.expect("it has a free place").unwrap();
    write(WriteReason::Remedy).await.expect("it has a free place").unwrap_err();
    assert!(queue.iter_mut().all(|write| write.now_or_never().is_none()), "they still wait");
    assert_eq!(fixture.counted(), [(WriteReason::Transition, "ok"), (WriteReason::Remedy, "conflict")]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_checkpoints_hang_delays_no_checkpoint_of_another() {
    let fixture = fixture();
    let (pod, permit) = (fixture.pod().await, fixture.permit(LONG));
    fixture.fake.set_mode(Mode::HangsAt("/namespaces/slow/"));
    let slow = Api::<Pod>::namespaced(fixture.fake.client(), "slow");
    let begin = |_| Box::pin(fixture.writer.checkpoint(&permit, &slow, "a", "1", json!({})));
    let mut hanging: Vec<_> = (0..20).map(begin).collect();
    assert!(hanging.iter_mut().all(|write| write.now_or_never().is_none()));
    let version = pod.metadata.resource_version.unwrap();
    let written = fixture.writer.checkpoint(&permit, &fixture.api, "a", &version, json!({ "message": "new" }));
    tokio::time::timeout(Duration::from_secs(1), written).await.expect("it waits for no other namespace").unwrap();
}

#[tokio::test]
async fn a_refusal_is_counted_by_its_name() {
    let fixture = fixture();
    let (pod, permit) = (fixture.pod().await, fixture.permit(LONG));
    for (code, reason, result) in [(403, "Forbidden", "forbidden"), (429, "TooManyRequests", "throttled")] {
        fixture.fake.set_mode(Mode::Refuses(code, reason));
        fixture.writer.replace(WriteReason::Transition, &permit, &fixture.api, &pod).await.unwrap_err();
        assert_eq!(fixture.counted(), [(WriteReason::Transition, result)]);
        assert_eq!(fixture.fake.take_log().len(), 1, "sent once");
    }
}
