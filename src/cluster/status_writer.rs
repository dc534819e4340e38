//! The only writer of status: requires a permit of the leader, limits concurrency and time, and counts each request.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use thiserror::Error;

use super::call::{CALL_TIMEOUT, CallError, within};
use crate::leadership::WritePermit;
use crate::schedule::FairShare;
use crate::time::Clock;

/// The field manager in `metadata.managedFields`; without one the API server records `unknown`.
pub const FIELD_MANAGER: &str = "vigie";

/// Transitions in flight at once: measured, an API server gives no more writes per second beyond 8 to 32
/// (`docs/design/liveness.md`, "Last contact in etcd"). Namespaces share them: one alone has 16 in flight, and the next one
/// finds a free place however many objects of the first change at once.
const TRANSITIONS_IN_FLIGHT: usize = 32;

/// Checkpoints in flight at once. They have slots of their own, so that a transition never waits for a checkpoint. One
/// namespace alone has 4 in flight: where its writes take long, as behind a slow admission webhook, an object of another
/// one would wait with its checkpoint, and its next transition behind that.
const CHECKPOINTS_IN_FLIGHT: usize = 8;

/// The reason of a status write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteReason {
    /// A visible change.
    Transition,
    /// Only the last contact changed.
    Checkpoint,
    /// The reservation or the outcome of an attempt.
    Remedy,
}

impl WriteReason {
    /// All reasons, for the registration of metrics.
    pub const ALL: &'static [Self] = &[Self::Transition, Self::Checkpoint, Self::Remedy];

    /// The reason as a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::Checkpoint => "checkpoint",
            Self::Remedy => "remedy",
        }
    }
}

/// Counts the writes.
pub trait WriteMetrics: Send + Sync {
    /// Counts one request. `result` is `ok`, a [`CallError::result_label`], or `abandoned` when the task was cancelled before
    /// the response.
    fn wrote(&self, reason: WriteReason, result: &'static str);
}

/// The error of a status write.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The permit expired before the request could be sent. Nothing was sent.
    #[error("not written: we do not lead any more")]
    NotLeader,
    /// The request failed, or could not be built.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl WriteError {
    /// Whether the status may have been written: no definitive answer was received.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::NotLeader => false,
            Self::Call(error) => error.outcome_unknown(),
        }
    }
}

/// The only writer of status. Cloning is cheap, and clones share the slots.
///
/// Callers pass [`Api`]s of [`super::Clients::no_retry`], which sends each request once: then one call here is one
/// request, and none is sent after the permit expired.
#[derive(Clone)]
pub struct StatusWriter {
    clock: Clock,
    metrics: Arc<dyn WriteMetrics>,
    transitions: FairShare,
    checkpoints: FairShare,
}

impl StatusWriter {
    /// A writer with all slots free.
    pub fn new(clock: Clock, metrics: Arc<dyn WriteMetrics>) -> Self {
        Self {
            clock,
            metrics,
            transitions: FairShare::new(TRANSITIONS_IN_FLIGHT),
            checkpoints: FairShare::new(CHECKPOINTS_IN_FLIGHT),
        }
    }

    /// Replaces the status of `object`, if it still has the resourceVersion of `object`; returns the object as written.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`] when the permit expired before a slot was free; [`CallError::Conflict`] when the object was
    /// changed meanwhile; [`CallError::Invalid`], with nothing sent, when it has no resourceVersion, which is what stops the
    /// write of a former leader.
    pub async fn replace<K>(
        &self,
        reason: WriteReason,
        permit: &WritePermit,
        api: &Api<K>,
        object: &K,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let name = object.name_any();
        let what = format!("writing the status of {} {}", K::kind(&()), path(api, &name));
        fenced(&what, object.meta().resource_version.as_deref().unwrap_or_default())?;
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let call = async { api.replace_status(&name, &params, object).await };
        self.send(reason, (permit, api.namespace()), &what, call).await
    }

    /// Merges `status_patch` into the status of one object, if it still has `resource_version`.
    ///
    /// `status_patch` is the content of `status`, such as `{"lastHeartbeatTime": "…"}`.
    ///
    /// # Errors
    /// As [`StatusWriter::replace`].
    pub async fn checkpoint<K>(
        &self,
        permit: &WritePermit,
        api: &Api<K>,
        name: &str,
        resource_version: &str,
        status_patch: serde_json::Value,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let what = format!("writing a checkpoint of {} {}", K::kind(&()), path(api, name));
        fenced(&what, resource_version)?;
        let patch = json!({ "metadata": { "resourceVersion": resource_version }, "status": status_patch });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(patch);
        let call = async { api.patch_status(name, &params, &patch).await };
        self.send(WriteReason::Checkpoint, (permit, api.namespace()), &what, call).await
    }

    async fn send<T>(
        &self,
        reason: WriteReason,
        (permit, namespace): (&WritePermit, Option<&str>),
        what: &str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, WriteError> {
        let slots = match reason {
            WriteReason::Checkpoint => &self.checkpoints,
            WriteReason::Transition | WriteReason::Remedy => &self.transitions,
        };
        let _slot = slots.acquire(&namespace.unwrap_or_default().into(), false).await;
        // Checked again: the wait for the slot may have outlasted the permit.
        if !permit.is_current(self.clock.now()) {
            return Err(WriteError::NotLeader);
        }
        let mut sent = Sent { metrics: self.metrics.as_ref(), reason, result: "abandoned" };
        let result = within(what, CALL_TIMEOUT, call).await;
        sent.result = result.as_ref().map_or_else(CallError::result_label, |_| "ok");
        Ok(result?)
    }
}

/// A request that was sent. It is counted when it is dropped, so that a request of a cancelled task is counted too.
struct Sent<'a> {
    metrics: &'a dyn WriteMetrics,
    reason: WriteReason,
    result: &'static str,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.metrics.wrote(self.reason, self.result);
    }
}

fn path<K: Resource>(api: &Api<K>, name: &str) -> String {
    api.namespace().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

fn fenced(what: &str, resource_version: &str) -> Result<(), WriteError> {
    if resource_version.is_empty() {
        return Err(CallError::Invalid(format!("{what}: the resourceVersion that was read is missing")).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let pod = json!({ "metadata": { "name": "a", "namespace": "ns" }, "status": { "message": "old", "phase": "Running" } });
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
}
