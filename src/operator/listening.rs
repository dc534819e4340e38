//! What the election, the pulse and the canary mean for hearing: one place that tells everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::controller::connector::deadlines::Command;
use crate::heartbeat::listening::Role;
use crate::heartbeat::registry::Registry;
use crate::leadership::{Leadership, Standing};
use crate::schedule::{Pulse, TICK};
use crate::time::Clock;

/// How often the load is measured, in ticks of the pulse.
const MEASURE_EVERY: u32 = 5;

/// Tells the ear, the keeper and the reconcilers when our part changes.
#[derive(Clone)]
pub(super) struct ListeningCoordinator {
    pub(super) registry: Arc<Registry>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    /// Asks for the Lease to be read again.
    pub(super) froze: Arc<Notify>,
    /// Has every object reconciled.
    pub(super) all: broadcast::Sender<()>,
}

impl ListeningCoordinator {
    /// A town whose process has just been seen running.
    pub(super) fn new(registry: Arc<Registry>, clock: Clock, commands: mpsc::UnboundedSender<Command>) -> Self {
        let (all, _) = broadcast::channel(16);
        Self { registry, pulse: Arc::new(Pulse::new(clock)), commands, froze: Arc::new(Notify::new()), all }
    }

    /// Every deadline moved with `listeningSince`.
    pub(super) fn listening_moved(&self) {
        // The keeper is gone only while the process ends.
        let _ = self.commands.send(Command::ListeningMoved);
    }

    /// Whether the process ran all the time since this was asked last; if not, everybody learns of it first.
    pub(super) fn is_awake(&self) -> bool {
        let Some(gap) = self.pulse.take() else { return true };
        tracing::warn!(
            seconds = gap.as_secs_f64(),
            "this process did not run for a while; silence meanwhile does not count"
        );
        let now = self.registry.clock().now();
        self.registry.listening.froze(now);
        self.registry.listening.update(now, |inputs| {
            if matches!(inputs.role, Role::Leader | Role::Uncertain) {
                inputs.role = Role::Unconfirmed;
            }
        });
        self.froze.notify_one();
        self.listening_moved();
        false
    }

    /// For one of `unfilled` scopes: what to call when all its objects are known. With the last of them we are synced.
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

    /// Ticks until `stop`.
    pub(super) async fn beat(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0u32;
        let mut measured_at = self.registry.clock().now();
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.is_awake();
            let now = self.registry.clock().now();
            let anyone_heard_at = self.registry.anyone_heard_at();
            if self.registry.listening.update(now, |inputs| inputs.anyone_heard_at = anyone_heard_at) {
                self.listening_moved();
            }
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(MEASURE_EVERY) {
                self.registry.measure(now.since(measured_at).max(Duration::from_millis(1)));
                measured_at = now;
            }
        }
    }

    /// Follows the election until `stop`.
    pub(super) async fn follow(self, mut leadership: watch::Receiver<Leadership>, stop: CancellationToken) {
        let mut led_in = 0;
        loop {
            let known = leadership.borrow_and_update().clone();
            let role = role(&known);
            let now = self.registry.clock().now();
            let moved = self.registry.listening.update(now, |inputs| inputs.role = role);
            if role == Role::Leader {
                if known.epoch != led_in {
                    led_in = known.epoch;
                    let _ = self.commands.send(Command::TookOver);
                }
                // What could not be written while we were uncertain is written now.
                let _ = self.all.send(());
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

fn role(known: &Leadership) -> Role {
    match known.standing {
        Standing::Follower => Role::Follower,
        Standing::Leader | Standing::Uncertain if !known.confirmed => Role::Unconfirmed,
        Standing::Leader => Role::Leader,
        Standing::Uncertain => Role::Uncertain,
    }
}

/// One item for each message, and one for any number that were missed.
pub(super) fn every(receiver: broadcast::Receiver<()>) -> impl futures::Stream<Item = ()> + Send + 'static {
    futures::stream::unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Ok(()) | Err(broadcast::error::RecvError::Lagged(_)) => Some(((), receiver)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    })
}
