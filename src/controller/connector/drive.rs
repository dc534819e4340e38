//! Drives the reconciles of Connectors: one controller for each scope, one budget of checkpoints for all.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config, Error as ControllerError};
use kube::runtime::reflector::Store;
use tokio_util::sync::CancellationToken;

use super::reconcile::{Context, Failed, key};
use super::watch::{Guarded, Tap, watched};
use crate::api::{Connector, ConnectorState, Key};
use crate::cluster::WriteError;
use crate::controller::events::{Event, Kind};
use crate::controller::remediation::Remediable as _;
use crate::controller::runtime::wake::{ReconcileRequests, ReconcileTrigger, reference};
use crate::heartbeat::entry::Entry;
use crate::schedule::checkpoints::{BudgetExceeded, Checkpoints};

/// How often the budget of checkpoints is looked at.
const CHECKPOINT_TICK: Duration = Duration::from_millis(100);

/// How many reconciles run at once. Each holds a few copies of its object while it waits for its turn to write, so a
/// fleet that is created at once must not have all of them; and there must be room for a transition beside many others
/// that wait for a Secret or a checkpoint.
const AT_ONCE: u16 = 256;

/// How many of them checkpoints may take. When the API server is slower than their budget they would take all, and kube
/// does not serve the rest in turn: a transition could wait for ever.
const CHECKPOINTS_AT_ONCE: usize = AT_ONCE as usize / 4;

/// How often it is told that the budget is too small.
const SHORTFALL_TOLD: Duration = Duration::from_secs(3600);

/// Starts the controller of one scope; gives its store, and what drives it until `stop`.
pub fn controller(
    client: &kube::Client,
    scope: Option<&str>,
    tap: Tap,
    woken: ReconcileRequests<Connector>,
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
            let unknown = ConnectorState::Unknown.as_str();
            context.unreadable.say::<Connector>(&invalid.metadata, &invalid.error, unknown).await?;
            Ok(Action::await_change())
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
    let (kind, Key { namespace, name }) = (Connector::KIND, &entry.identity.key);
    if failures.is_power_of_two() && failures > 1 {
        tracing::warn!(kind, %namespace, %name, %error, failures, "not done yet; trying again until it is");
    } else {
        tracing::debug!(kind, %namespace, %name, %error, "trying again");
    }
    Action::requeue(wait)
}

/// Hands out checkpoints within the budget for as long as we lead; until `stop`.
pub async fn checkpoints(
    context: Arc<Context>,
    checkpoints: Arc<Checkpoints<Entry>>,
    trigger: ReconcileTrigger<Connector>,
    lease: ObjectReference,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(CHECKPOINT_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told: Option<crate::time::Moment> = None;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let now = context.clock.now();
        let Some(permit) = context.leadership.borrow().permit(now) else { continue };
        let room = CHECKPOINTS_AT_ONCE.saturating_sub(context.writer.checkpoints_under_way());
        let (turns, shortfall) = checkpoints.take_due(|entry| context.registry.has(entry), room, now);
        for entry in turns {
            context.desks.checkpoint(entry.number, permit.epoch());
            trigger.wake(&entry.identity.key);
        }
        if let Some(shortfall) = shortfall
            && told.is_none_or(|told| now.since(told) >= SHORTFALL_TOLD)
        {
            told = Some(now);
            tell_shortfall(&context, &lease, &shortfall).await;
        }
    }
}

async fn tell_shortfall(context: &Context, lease: &ObjectReference, shortfall: &BudgetExceeded) {
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
