//! Applies the election, the pulse and the readiness of the replica to `listeningSince`, and reports each change of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::controller::connector::deadlines::Command;
use crate::heartbeat::registry::Registry;
use crate::leadership::{Leadership, Role};
use crate::schedule::TICK;

/// How often the load is measured, in ticks of the pulse.
const MEASURE_EVERY: u32 = 5;

/// Updates the listening state, the deadline scheduler and the reconcilers when the role of this replica changes.
#[derive(Clone)]
pub(super) struct ListeningCoordinator {
    pub(super) registry: Arc<Registry>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    /// Requests that the elector reads the Lease again.
    pub(super) froze: Arc<Notify>,
    /// Requests the reconcile of every object.
    pub(super) reconcile_all: broadcast::Sender<()>,
}

impl ListeningCoordinator {
    /// A coordinator whose pulse begins now.
    pub(super) fn new(registry: Arc<Registry>, commands: mpsc::UnboundedSender<Command>) -> Self {
        let (reconcile_all, _) = broadcast::channel(16);
        registry.listening.tick(registry.clock().now());
        Self { registry, commands, froze: Arc::new(Notify::new()), reconcile_all }
    }

    /// Recalculates every deadline, because `listeningSince` changed.
    pub(super) fn listening_moved(&self) {
        // The deadline scheduler is gone only while the process ends.
        let _ = self.commands.send(Command::ListeningMoved);
    }

    /// Excludes a freeze since the last call from every verdict: moves `listeningSince` past it, and makes the role unconfirmed
    /// until the Lease has been read. Returns whether there was a freeze; one caller only sees each.
    pub(super) fn exclude_freeze(&self) -> bool {
        let Some(gap) = self.registry.listening.tick(self.registry.clock().now()) else { return false };
        tracing::warn!(
            seconds = gap.as_secs_f64(),
            "this process did not run for a while; silence meanwhile does not count"
        );
        self.froze.notify_one();
        self.listening_moved();
        true
    }

    /// A callback for one of `unfilled` scopes, to be called when its watch has delivered all objects. The call for the last
    /// scope marks this replica as synced.
    pub(super) fn filled(&self, unfilled: Arc<AtomicUsize>) -> Arc<dyn Fn() + Send + Sync> {
        let (coordinator, first) = (self.clone(), AtomicBool::new(true));
        Arc::new(move || {
            if !first.swap(false, Ordering::AcqRel) || unfilled.fetch_sub(1, Ordering::AcqRel) > 1 {
                return;
            }
            tracing::info!(connectors = coordinator.registry.len(), "synced");
            let now = coordinator.registry.clock().now();
            if coordinator.registry.listening.update(now, |inputs| inputs.synced = true) {
                coordinator.listening_moved();
            }
        })
    }

    /// Checks the pulse and measures the load, once per tick, until `stop`.
    pub(super) async fn run_pulse(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0u32;
        let mut measured_at = self.registry.clock().now();
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.exclude_freeze();
            let now = self.registry.clock().now();
            let last_heartbeat_at = self.registry.last_heartbeat_at();
            if self.registry.listening.update(now, |inputs| inputs.last_heartbeat_at = last_heartbeat_at) {
                self.listening_moved();
            }
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(MEASURE_EVERY) {
                self.registry.measure(now.since(measured_at).max(Duration::from_millis(1)));
                measured_at = now;
            }
        }
    }

    /// Applies each change of the election until `stop`.
    pub(super) async fn follow_election(self, mut leadership: watch::Receiver<Leadership>, stop: CancellationToken) {
        let mut led_in = 0;
        loop {
            let known = leadership.borrow_and_update().clone();
            let role = known.role;
            let now = self.registry.clock().now();
            let moved = self.registry.listening.update(now, |inputs| inputs.role = role);
            if role == Role::Leader {
                if known.epoch != led_in {
                    led_in = known.epoch;
                    let _ = self.commands.send(Command::TookOver);
                }
                // Writes that an uncertain leader held back are made now.
                let _ = self.reconcile_all.send(());
            }
            if moved {
                self.listening_moved();
            }
            match stop.run_until_cancelled(leadership.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}

/// A stream with one item for each message, and one for any number of missed messages.
pub(super) fn messages(receiver: broadcast::Receiver<()>) -> impl futures::Stream<Item = ()> + Send + 'static {
    futures::stream::unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Ok(()) | Err(broadcast::error::RecvError::Lagged(_)) => Some(((), receiver)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    })
}
