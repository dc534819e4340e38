//! Wakes the reconcile of each backend whose verdict or findings go out of date: nothing else happens to a backend that is
//! not probed. Reads what the agents on the hosts of backends say: a fault that one reports comes by its heartbeat, and its
//! silence comes here.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::agent;
use super::context::Monitor;

/// How often that is asked. The reads of this process are exact; the stored status follows within this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub async fn run(monitor: Arc<Monitor>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if monitor.parts.leadership.borrow().accepts_heartbeats() {
            wake_all_that_turned(&monitor);
        }
    }
}

fn wake_all_that_turned(monitor: &Arc<Monitor>) {
    let (now, leads_since) = (monitor.parts.clock.now(), monitor.leads_since());
    for backend in monitor.backends.all() {
        agent::read(monitor, &backend);
        if backend.turned_out_of_date(now, leads_since) {
            monitor.wake(&backend);
        }
    }
}
