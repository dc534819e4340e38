//! Runs the reconciles of one kind: one controller for each scope, from its watch and its requests to its queue.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, stream};
use kube::api::Api;
use kube::runtime::reflector::Store;
use kube::{Client, Resource as _, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use super::calls::CallKind;
use super::kind::{Kind, ObjectEntry as _, ReconcileError, Step};
use super::queue::{self, Action};
use super::retry::retry;
use super::wake::{Guarded, ReconcileRequests, reference};
use super::watch::{Tap, watched};
use crate::api::Key;
use crate::controller::remediation::{NextStep, Remediable as _};
use crate::metrics::{PanickedTask, panic_text};
use crate::schedule::checkpoints::{Checkpointed as _, PendingWrite};

/// The steps of one reconcile. Three are the most that a change of a Connector needs: the state, the intent of a
/// delivery, its outcome; an attempt of a remediation needs as many.
const STEPS_AT_ONCE: u32 = 6;

/// The wait before the next reconcile when these steps were not enough.
const AFTER_MANY_STEPS: Duration = Duration::from_secs(1);

/// The last checkpoints that a leader writes at once.
const FLUSHED_AT_ONCE: usize = 8;

/// Makes the controller of one scope; returns its store, and the future that runs it until `stop`.
pub fn controller<K: Kind>(
    client: &Client,
    scope: Option<&str>,
    tap: Tap<K>,
    mut requests: ReconcileRequests,
    all: impl futures::Stream<Item = ()> + Send + 'static,
    stop: CancellationToken,
) -> (Store<Guarded<K::Object>>, impl Future<Output = ()> + Send + 'static) {
    let api = scope.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace));
    let kind = tap.kind.clone();
    let (store, touched) = watched(api, tap);
    let woken = stream::poll_fn(move |context| requests.poll_recv(context));
    let reader = store.clone();
    let every = all.flat_map(move |()| stream::iter(reader.state()).map(|object| Key::of(object.meta())));
    let known = kind.clone();
    // The key of the entry is in memory already: an object that waits needs no text of its own.
    let requests = stream::select(touched, stream::select(woken, every))
        .map(move |key| known.entry(&key).map_or(key, |entry| entry.key().clone()));
    let reader = store.clone();
    let filled = async move {
        // It fails when the watch is gone, and then the store stays as it is.
        let _ = reader.wait_until_ready().await;
    };
    let reader = store.clone();
    let reconcile = move |key| reconcile_newest(reader.clone(), kind.clone(), key);
    (store, queue::run(K::RECONCILES_AT_ONCE.into(), filled, requests, reconcile, stop))
}

/// Reconciles an object as it is when its turn comes, which may be later than its request.
async fn reconcile_newest<K: Kind>(store: Store<Guarded<K::Object>>, kind: Arc<K>, key: Key) -> Action {
    let Some(object) = store.get(&reference(&key)) else { return Action::await_change() };
    let reconciled = reconcile_guarded(object.clone(), kind.clone()).await;
    reconciled.unwrap_or_else(|error| retry(object, &error, kind))
}

async fn reconcile_guarded<K: Kind>(object: Arc<Guarded<K::Object>>, kind: Arc<K>) -> Result<Action, ReconcileError> {
    match &object.0 {
        Ok(object) => {
            let task = format!("the reconcile of {} {}", K::Object::KIND, Key::of(object.meta()));
            kind.runtime().watchdog.watch(task.into(), reconcile(&*kind, object)).await
        }
        Err(invalid) => {
            kind.runtime().unreadable.mark::<K::Object>(&invalid.metadata, &invalid.error, K::UNKNOWN).await?;
            Ok(Action::await_change())
        }
    }
}

/// Reconciles one object. Level-based: the reason for the call does not matter.
///
/// # Errors
/// The cause of the failure; the caller retries.
pub async fn reconcile<K: Kind>(kind: &K, seen: &K::Object) -> Result<Action, ReconcileError> {
    let entry = kind
        .entry(&Key::of(seen.meta()))
        .filter(|entry| seen.meta().uid.as_deref().is_some_and(|uid| entry.has_uid(uid)));
    let Some(entry) = entry else { return Ok(Action::await_change()) };
    let runtime = kind.runtime();
    let mut state = runtime.states.take(entry.number());
    for _ in 0..STEPS_AT_ONCE {
        let now = runtime.clock.read();
        let Some(permit) = runtime.leadership.borrow().permit(now.moment) else { return Ok(Action::await_change()) };
        state.begin(permit.epoch());
        // Whatever woke the object: a watch event, also of a write of its own, must not bypass the wait after a failure.
        if let Some(wait) = runtime.states.write_wait(entry.number(), now.moment) {
            return Ok(Action::requeue(wait));
        }
        // Each step works on the object as the step before wrote it.
        let younger = state.newer_than(seen);
        state.note_seen(seen, now.moment);
        let mut step = Step {
            permit,
            object: younger.as_ref().unwrap_or(seen),
            live: kind.snapshot(&entry, now),
            entry: entry.clone(),
            now,
            state: &mut *state,
        };
        let next = guarded_step(kind, &mut step).await?;
        runtime.states.succeeded(entry.number(), CallKind::Status);
        match next {
            NextStep::Now => {}
            NextStep::Wait(wait) => {
                let wait = [wait, runtime.states.next_call(entry.number(), runtime.clock.now())];
                return Ok(wait.into_iter().flatten().min().map_or_else(Action::await_change, Action::requeue));
            }
        }
    }
    Ok(Action::requeue(AFTER_MANY_STEPS))
}

/// One step. A panic in it, which is a defect, is logged and counted, and becomes an error: the object is reconciled
/// again, and no other object is affected.
async fn guarded_step<K: Kind>(kind: &K, step: &mut Step<'_, K>) -> Result<NextStep, ReconcileError> {
    let Key { namespace, name } = step.entry.key().clone();
    // Unwind safe: the locks do not poison, the reconcile state is written in whole values, and each step decides anew
    // from the stored object.
    let work = async {
        #[cfg(test)]
        assert!(!kind.runtime().panics.load(std::sync::atomic::Ordering::Relaxed), "a defect of a step");
        kind.step(step).await
    };
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(next) => next,
        Err(panic) => {
            let error = panic_text(&*panic);
            kind.runtime().metrics.panicked(PanickedTask::Reconcile);
            tracing::error!(kind = K::Object::KIND, %namespace, %name, error, "a reconcile step panicked: please report this defect; trying again");
            Err(ReconcileError::Panicked(error.to_owned()))
        }
    }
}

/// Writes the checkpoints that are outstanding, oldest first, for at most `at_most`: the last act of a leader. Returns
/// their number.
pub async fn flush<K: Kind>(kind: &K, stores: &[Store<Guarded<K::Object>>], at_most: Duration) -> usize {
    let is_outstanding = |pending: &PendingWrite| pending.is_checkpointed && pending.contact.is_some();
    let mut pending: Vec<_> = kind
        .entries()
        .into_iter()
        .map(|entry| (entry.unwritten(), entry))
        .filter(|(pending, _)| is_outstanding(pending))
        .collect();
    pending.sort_by_key(|(pending, entry)| (pending.written_at, entry.number()));
    let epoch = kind.runtime().leadership.borrow().epoch;
    let written = std::sync::atomic::AtomicUsize::new(0);
    let all = futures::stream::iter(pending).for_each_concurrent(FLUSHED_AT_ONCE, |(_, entry)| {
        let object = stores.iter().find_map(|store| store.get(&reference(entry.key())));
        kind.runtime().states.mark_checkpoint(entry.number(), epoch);
        let written = &written;
        async move {
            let Some(Ok(object)) = object.as_deref().map(|object| &object.0) else { return };
            match reconcile(kind, object).await {
                Ok(_) => drop(written.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
                Err(error) => {
                    tracing::debug!(kind = K::Object::KIND, name = %object.name_any(), %error, "its checkpoint was not flushed");
                }
            }
        }
    });
    // A checkpoint that is not flushed is not lost: the stored time is as old as the last checkpoint.
    let _ = tokio::time::timeout(at_most, all).await;
    written.into_inner()
}

#[cfg(test)]
mod tests;
