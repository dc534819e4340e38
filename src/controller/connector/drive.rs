//! Drives the reconciles of Connectors: one controller for each scope, one budget of checkpoints for all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config, Error as ControllerError};
use kube::runtime::reflector::{ObjectRef, Store};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::checkpoints::{Checkpoints, Shortfall};
use super::reconcile::{Context, Failed, key};
use super::watch::{Guarded, Tap, reference, watched};
use crate::api::{ConditionType, ConnectorState, Reason, Truth, condition};
use crate::cluster::{CALL_TIMEOUT, FIELD_MANAGER, WriteError, within};
use crate::controller::events::{Event, Kind};
use crate::heartbeat::entry::Key;

/// How often the budget of checkpoints is looked at.
const CHECKPOINT_TICK: Duration = Duration::from_millis(100);

/// How many reconciles run at once. Each holds a few copies of its object while it waits for its turn to write, so a
/// fleet that is created at once must not have all of them; and there must be room for a transition beside many others
/// that wait for a Secret or a checkpoint.
const AT_ONCE: u16 = 256;

/// How often it is told that the budget is too small.
const SHORTFALL_TOLD: Duration = Duration::from_secs(3600);

/// Whose reconcile was woken.
pub type Woken = mpsc::UnboundedReceiver<ObjectRef<Guarded>>;

/// Wakes the reconcile of one object, whichever controller it belongs to.
#[derive(Clone, Default)]
pub struct Wakes {
    all: Option<mpsc::UnboundedSender<ObjectRef<Guarded>>>,
    by_namespace: HashMap<String, mpsc::UnboundedSender<ObjectRef<Guarded>>>,
}

impl Wakes {
    /// A sender for each scope, and their receiving ends in the order of the scopes. No scopes = one for everything.
    pub fn new(namespaces: &[String]) -> (Self, Vec<(Option<String>, Woken)>) {
        let mut wakes = Self::default();
        if namespaces.is_empty() {
            let (sender, receiver) = mpsc::unbounded_channel();
            wakes.all = Some(sender);
            return (wakes, vec![(None, receiver)]);
        }
        let mut ends = Vec::new();
        for namespace in namespaces {
            let (sender, receiver) = mpsc::unbounded_channel();
            wakes.by_namespace.insert(namespace.clone(), sender);
            ends.push((Some(namespace.clone()), receiver));
        }
        (wakes, ends)
    }

    /// Wakes the reconcile of `key`.
    pub fn wake(&self, key: &Key) {
        if let Some(sender) = self.all.as_ref().or_else(|| self.by_namespace.get(&*key.namespace)) {
            // The controller is gone only while the process ends.
            let _ = sender.send(reference(key));
        }
    }
}

/// Starts the controller of one scope; gives its store, and what drives it until `stop`.
pub fn controller(
    client: &kube::Client,
    scope: Option<&str>,
    tap: Tap,
    woken: Woken,
    all: impl futures::Stream<Item = ()> + Send + 'static,
    stop: CancellationToken,
) -> (Store<Guarded>, impl Future<Output = ()> + Send + 'static) {
    let api = scope.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace));
    let context = tap.context.clone();
    let (reader, stream) = watched(api, tap);
    let woken = futures::stream::unfold(woken, |mut woken| async move { woken.recv().await.map(|next| (next, woken)) });
    let driven = Controller::for_stream(stream, reader.clone())
        .with_config(Config::default().concurrency(AT_ONCE))
        .reconcile_on(woken)
        .reconcile_all_on(all)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, retry, context)
        .for_each(|outcome| {
            if let Err(ControllerError::QueueError(error)) = outcome {
                // The watch says what is wrong with it where it is tapped.
                tracing::debug!(%error, "the queue of reconciles");
            }
            std::future::ready(())
        });
    (reader, driven)
}

async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Failed> {
    match &object.0 {
        Ok(connector) => context.reconcile(connector).await,
        Err(invalid) => {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            let namespace = invalid.metadata.namespace.as_deref().unwrap_or_default();
            context.say_unreadable(namespace, name, &invalid.metadata, &invalid.error).await
        }
    }
}

/// Failed transitions are retried for ever, with growing pauses; said the first time and then ever more seldom.
fn retry(object: Arc<Guarded>, error: &Failed, context: Arc<Context>) -> Action {
    let Ok(connector) = &object.0 else { return Action::requeue(Duration::from_secs(60)) };
    let Some(entry) = context.registry.get(&key(connector)) else { return Action::await_change() };
    if matches!(error, Failed::Status(WriteError::NotLeader)) {
        // It waited for its turn longer than its permit was good for. A new leader, or we when we lead again, look at
        // everything anew.
        return Action::requeue(Duration::from_millis(200));
    }
    let (wait, failures) = context.desks.failed(entry.number);
    if failures.is_power_of_two() && failures > 1 {
        tracing::warn!(connector = %entry.identity.key, %error, failures, "not done yet; trying again until it is");
    } else {
        tracing::debug!(connector = %entry.identity.key, %error, "trying again");
    }
    Action::requeue(wait)
}

impl Context {
    /// An object whose status cannot be read: it says so itself, once, and stops nobody else.
    async fn say_unreadable(
        &self,
        namespace: &str,
        name: &str,
        meta: &kube::core::ObjectMeta,
        error: &str,
    ) -> Result<Action, Failed> {
        let uid = meta.uid.clone().unwrap_or_default();
        let now = self.clock.read();
        if self.unreadable.read().contains(&uid) || self.leadership.borrow().permit(now.moment).is_none() {
            return Ok(Action::await_change());
        }
        tracing::error!(connector = %format!("{namespace}/{name}"), error, "its stored form cannot be read; nothing is done about it until it can");
        let message = format!("the stored status cannot be read: {error}");
        let generation = meta.generation.unwrap_or(0);
        let said = [
            (ConditionType::Ready, Truth::False),
            (ConditionType::Accepted, Truth::False),
            (ConditionType::Stalled, Truth::True),
        ];
        let conditions: Vec<_> = said
            .into_iter()
            .map(|(type_, truth)| {
                let mut said = condition(type_, truth, Reason::UnreadableStatus, message.clone(), generation);
                said.last_transition_time = crate::api::Time(now.wall);
                said
            })
            .collect();
        let patch = json!({ "metadata": { "resourceVersion": meta.resource_version }, "status": { "state": ConnectorState::Unknown, "conditions": conditions } });
        let api: Api<Guarded> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let what = format!("writing the status of Connector {namespace}/{name}");
        within(&what, CALL_TIMEOUT, api.patch_status(name, &params, &Patch::Merge(patch)))
            .await
            .map_err(WriteError::Call)?;
        self.unreadable.write().insert(uid);
        Ok(Action::await_change())
    }
}

/// Hands out checkpoints within the budget for as long as we lead; until `stop`.
pub async fn checkpoints(
    context: Arc<Context>,
    checkpoints: Arc<Checkpoints>,
    wakes: Wakes,
    lease: ObjectReference,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(CHECKPOINT_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told: Option<crate::health::Moment> = None;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let now = context.clock.now();
        let Some(permit) = context.leadership.borrow().permit(now) else { continue };
        let (turns, shortfall) = checkpoints.take_due(&context.registry, now);
        for entry in turns {
            context.desks.checkpoint(entry.number, permit.epoch());
            wakes.wake(&entry.identity.key);
        }
        if let Some(shortfall) = shortfall
            && told.is_none_or(|told| now.since(told) >= SHORTFALL_TOLD)
        {
            told = Some(now);
            tell_shortfall(&context, &lease, &shortfall).await;
        }
    }
}

async fn tell_shortfall(context: &Context, lease: &ObjectReference, shortfall: &Shortfall) {
    let at = context.clock.read().wall;
    let staleness = shortfall.staleness.as_secs();
    let note = format!(
        "last contacts in the API server are up to {staleness} s old, more than lateAfterSeconds ({} s): raise --status-writes-per-second; \
         `vigie get` and the metrics are exact all the same",
        shortfall.late.as_secs()
    );
    tracing::warn!("{note}");
    let event = Event {
        kind: Kind::Warning,
        reason: "CheckpointBudgetTooSmall",
        action: "Checkpoint",
        note,
        at,
        occurrence: format!("CheckpointBudgetTooSmall/{}", at.as_second() / 3600),
    };
    if let Err(error) = context.reporter.tell(lease, &event).await {
        tracing::warn!(%error, "the event about it was not told");
    }
}

/// Writes what is not written yet, oldest first, for as long as `within` lasts: the last thing a leader does.
pub async fn flush(context: &Arc<Context>, stores: &[Store<Guarded>], at_most: Duration) -> usize {
    let mut behind: Vec<_> = context
        .registry
        .all()
        .into_iter()
        .filter_map(|entry| {
            let unwritten = entry.unwritten();
            (unwritten.beats && unwritten.contact.is_some()).then_some((unwritten.written_at, entry))
        })
        .collect();
    behind.sort_by_key(|(written_at, entry)| (*written_at, entry.number));
    let epoch = context.leadership.borrow().epoch;
    let written = std::sync::atomic::AtomicUsize::new(0);
    let all = futures::stream::iter(behind).for_each_concurrent(8, |(_, entry)| {
        let object = stores.iter().find_map(|store| store.get(&reference(&entry.identity.key)));
        context.desks.checkpoint(entry.number, epoch);
        let written = &written;
        async move {
            let Some(Ok(connector)) = object.as_deref().map(|object| &object.0) else { return };
            match context.reconcile(connector).await {
                Ok(_) => drop(written.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
                Err(error) => {
                    tracing::debug!(connector = %connector.name_any(), %error, "its last contact was not flushed")
                }
            }
        }
    });
    // What does not fit is not lost: its last contact is as old as its last checkpoint.
    let _ = tokio::time::timeout(at_most, all).await;
    written.into_inner()
}
