//! Hands out the checkpoints of all kinds, as long as this replica leads.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio_util::sync::CancellationToken;

use super::kind::{Kind, ObjectEntry as _};
use super::shared::Shared;
use crate::cluster::events::{Event, EventType as EventKind};
use crate::schedule::checkpoints::{
    BudgetExceeded, Candidate, CheckpointQueue, Checkpointed as _, Slots, WriteBudget, hand_out,
};
use crate::time::Moment;

/// The pause between two hand-outs.
const CHECKPOINT_TICK: Duration = Duration::from_millis(100);

/// The pause between two reports that the budget is too small.
const SHORTFALL_INTERVAL: Duration = Duration::from_secs(3600);

/// The share of the reconciles of a kind that checkpoints may use: half of all, so that one namespace alone has a quarter,
/// half of its own reconciles. When the API server is slower than the budget of checkpoints, they would use all, and a
/// transition would wait behind them.
const fn checkpoints_at_once<K: Kind>() -> usize {
    K::RECONCILES_AT_ONCE as usize / 2
}

/// The queue of one kind, and the epoch of the leader that hands out.
struct KindQueue<'a, K: Kind> {
    kind: &'a K,
    epoch: u64,
}

impl<K: Kind> CheckpointQueue for KindQueue<'_, K> {
    fn slots(&self) -> Slots {
        self.kind.runtime().checkpoints.slots(checkpoints_at_once::<K>())
    }

    fn next(&self, turn: &dyn Fn(&str) -> Option<u64>, now: Moment) -> Option<Candidate> {
        self.kind.runtime().checkpoints.next(|entry| self.kind.is_current(entry), turn, now)
    }

    fn hand_out(&self, namespace: &str, now: Moment) {
        let runtime = self.kind.runtime();
        if let Some(entry) = runtime.checkpoints.take(namespace, now) {
            runtime.states.mark_checkpoint(entry.number(), self.epoch);
            runtime.trigger.wake(entry.key());
        }
    }

    fn set_staleness(&self, staleness: Duration) {
        self.kind.runtime().checkpoints.set_staleness(staleness);
    }
}

/// Hands out checkpoints of both kinds within one budget, as long as this replica leads; until `stop`. A budget that is
/// too small is reported on `lease`.
pub async fn run<A: Kind, B: Kind>(
    connectors: Arc<A>,
    backends: Arc<B>,
    shared: Arc<Shared>,
    budget: WriteBudget,
    lease: ObjectReference,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(CHECKPOINT_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reported: Option<Moment> = None;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let now = shared.clock.now();
        let Some(permit) = shared.leadership.borrow().permit(now) else { continue };
        let epoch = permit.epoch();
        let shortfall =
            hand_out_of(&KindQueue { kind: &*connectors, epoch }, &KindQueue { kind: &*backends, epoch }, &budget, now);
        if let Some((names, exceeded)) = shortfall
            && reported.is_none_or(|reported| now.since(reported) >= SHORTFALL_INTERVAL)
        {
            reported = Some(now);
            report_shortfall(&shared, &lease, names, &exceeded).await;
        }
    }
}

/// One hand-out over both kinds; returns the larger shortfall, with the names that its report uses.
fn hand_out_of<A: Kind, B: Kind>(
    one: &KindQueue<'_, A>,
    other: &KindQueue<'_, B>,
    budget: &WriteBudget,
    now: Moment,
) -> Option<((&'static str, &'static str), BudgetExceeded)> {
    let [first, second] = hand_out(&[one, other], budget, now);
    let first = first.map(|exceeded| ((A::CHECKPOINTED, A::STALE_AFTER), exceeded));
    let second = second.map(|exceeded| ((B::CHECKPOINTED, B::STALE_AFTER), exceeded));
    first.into_iter().chain(second).max_by_key(|(_, exceeded)| exceeded.staleness)
}

async fn report_shortfall(
    shared: &Shared,
    lease: &ObjectReference,
    (checkpointed, stale_after): (&str, &str),
    exceeded: &BudgetExceeded,
) {
    let at = shared.clock.read().wall;
    let staleness = exceeded.staleness.as_secs();
    let note = format!(
        "{checkpointed} in the API server are up to {staleness} s old, more than {stale_after} ({} s): raise --status-writes-per-second; \
         `vigie get` and the metrics are exact all the same",
        exceeded.late.as_secs()
    );
    tracing::warn!("{note}");
    let event = Event {
        kind: EventKind::Warning,
        reason: "CheckpointBudgetTooSmall",
        action: "Checkpoint",
        note,
        at,
        occurrence: format!("CheckpointBudgetTooSmall/{}", at.as_second() / 3600),
    };
    if let Err(error) = shared.reporter.publish(lease, &event).await {
        tracing::warn!(%error, "the event about it was not published");
    }
}

#[cfg(test)]
mod tests;
