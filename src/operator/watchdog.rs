//! Runs the watchdog of the runtime: a task that ticks, and a thread that asks.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::task_group::TaskGroup;
use crate::metrics::Metrics;
use crate::schedule::{WATCH_EVERY, Watchdog};
use crate::time::Clock;

/// Starts both. They end with `tasks`.
pub(super) fn start(clock: Clock, metrics: &Arc<Metrics>, tasks: &TaskGroup) -> Watchdog {
    let watchdog = Watchdog::new(clock);
    tasks.spawn(tick(watchdog.clone(), tasks.stop.clone()));
    let (asked, metrics, stop) = (watchdog.clone(), metrics.clone(), tasks.stop.clone());
    let asking = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || ask(&asked, &metrics, &stop));
    if let Err(error) = asking {
        tracing::warn!(%error, "there is no thread for the watchdog: a task that blocks the others is not noticed");
    }
    watchdog
}

async fn tick(watchdog: Watchdog, stop: CancellationToken) {
    let mut tick = tokio::time::interval(WATCH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        watchdog.tick();
    }
}

fn ask(watchdog: &Watchdog, metrics: &Metrics, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        std::thread::sleep(WATCH_EVERY);
        for blocked in watchdog.blocked() {
            metrics.task_blocked();
            let task = blocked.task.as_deref().unwrap_or("a task without a name");
            let milliseconds = u64::try_from(blocked.time.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(task, milliseconds, "a task keeps its thread: other tasks wait, heartbeats among them");
        }
    }
}
