//! Drives the reconciles of MonitoredBackends.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::Api;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::Store;
use tokio_util::sync::CancellationToken;

use super::reconcile::Failed;
use super::watch::{Guarded, Tap, watched};
use crate::api::{BackendState, Key, MonitoredBackend};
use crate::cluster::WriteError;
use crate::controller::remediation::Remediable as _;
use crate::controller::runtime::wake::ReconcileRequests;
use crate::monitor::context::Context;

/// How many reconciles run at once.
const AT_ONCE: u16 = 64;

/// How many of them checkpoints may take, so that no transition waits behind them.
const CHECKPOINTS_AT_ONCE: usize = AT_ONCE as usize / 4;
/// How often the budget of checkpoints is looked at.
const CHECKPOINT_TICK: Duration = Duration::from_millis(100);
/// The first wait after a failure; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Transitions are retried for ever, this seldom at last.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Starts the controller of one scope; gives its store, and what drives it until `stop`.
pub fn controller(
    client: &kube::Client,
    scope: Option<&str>,
    tap: Tap,
    woken: ReconcileRequests<MonitoredBackend>,
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
        .for_each(|_| std::future::ready(()));
    (reader, driven)
}

async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Failed> {
    match &object.0 {
        Ok(backend) => context.reconcile(backend).await,
        Err(invalid) => {
            let unknown = BackendState::Unknown.as_str();
            context.unreadable.say::<MonitoredBackend>(&invalid.metadata, &invalid.error, unknown).await?;
            Ok(Action::await_change())
        }
    }
}

/// Failed transitions are retried for ever, with growing pauses; said the first time and then ever more seldom.
fn retry(object: Arc<Guarded>, error: &Failed, context: Arc<Context>) -> Action {
    let Ok(backend) = &object.0 else { return Action::requeue(Duration::from_secs(60)) };
    let Some(entry) = context.backends.get(&Key::of(&backend.metadata)) else { return Action::await_change() };
    if matches!(error, Failed::Status(WriteError::NotLeader)) {
        return Action::requeue(Duration::from_millis(200));
    }
    let epoch = context.leadership.borrow().epoch;
    let failures = context.note(entry.number, epoch, |notes| {
        notes.failures = notes.failures.saturating_add(1);
        notes.failures
    });
    let (kind, Key { namespace, name }) = (MonitoredBackend::KIND, &entry.key);
    if failures.is_power_of_two() && failures > 1 {
        tracing::warn!(kind, %namespace, %name, %error, failures, "not done yet; trying again until it is");
    } else {
        tracing::debug!(kind, %namespace, %name, %error, "trying again");
    }
    Action::requeue(FIRST_WAIT.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_WAIT))
}

/// Hands out checkpoints within the budget for as long as we lead; until `stop`.
pub async fn checkpoints(context: Arc<Context>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(CHECKPOINT_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let now = context.clock.now();
        let Some(permit) = context.leadership.borrow().permit(now) else { continue };
        let room = CHECKPOINTS_AT_ONCE.saturating_sub(context.writer.checkpoints_under_way());
        let (turns, _) = context.checkpoints.take_due(|backend| context.backends.has(backend), room, now);
        for backend in turns {
            context.note(backend.number, permit.epoch(), |notes| notes.checkpoint = true);
            context.trigger.wake(&backend.key);
        }
    }
}
