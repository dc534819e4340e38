//! Schedules the rounds of probes: each backend has its own turn within its interval, so that the probes of all backends
//! are spread evenly.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use jiff::SignedDuration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::context::{Command, Monitor};
use super::entry::Backend;
use super::round;
use crate::api::Key;
use crate::metrics::{PanickedTask, panic_text};
use crate::schedule::Deadlines;
use crate::time::Moment;

/// The age below which a new backend is probed at once: the person who created it may be waiting.
const FRESH: SignedDuration = SignedDuration::from_secs(60);

/// Runs the rounds until `stop`.
pub async fn run(monitor: Arc<Monitor>, mut commands: mpsc::UnboundedReceiver<Command>, stop: CancellationToken) {
    let (done, mut ended) = mpsc::unbounded_channel::<(Arc<Backend>, Moment)>();
    let mut scheduler = ProbeScheduler { monitor, deadlines: Deadlines::default(), backends: HashMap::new() };
    let tasks = TaskTracker::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(command) = commands.recv() => scheduler.handle(command),
            Some((backend, next)) = ended.recv() => scheduler.round_ended(&backend, next),
            number = scheduler.deadlines.next() => {
                let Some((backend, due)) = scheduler.begin_round(number) else { continue };
                let (monitor, done, stop) = (scheduler.monitor.clone(), done.clone(), stop.clone());
                tasks.spawn(async move {
                    let task = format!("the round of MonitoredBackend {}", backend.key);
                    let round = monitor.parts.watchdog.watch(task.into(), guarded_round(&monitor, &backend, due));
                    let next = stop.run_until_cancelled(round).await;
                    if let Some(next) = next {
                        let _ = done.send((backend, next));
                    }
                });
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// One round. A panic in it, which is a defect, is logged and counted; the backend is probed again at its next turn.
pub(super) async fn guarded_round(monitor: &Arc<Monitor>, backend: &Arc<Backend>, due: Moment) -> Moment {
    // Unwind safe: the locks do not poison, and a round stores its results in whole values.
    match AssertUnwindSafe(round::run(monitor, backend, due)).catch_unwind().await {
        Ok(next) => next,
        Err(panic) => {
            let (error, Key { namespace, name }) = (panic_text(&*panic), &backend.key);
            monitor.parts.metrics.panicked(PanickedTask::Probe);
            tracing::error!(%namespace, %name, error, "a round of probes panicked: please report this defect; probing it again at its next turn");
            monitor.next_turn(backend)
        }
    }
}

/// The next turn of each backend.
struct ProbeScheduler {
    monitor: Arc<Monitor>,
    deadlines: Deadlines<u64>,
    backends: HashMap<u64, Scheduled>,
}

struct Scheduled {
    backend: Arc<Backend>,
    due: Moment,
    is_under_way: bool,
    /// The spec changed, or its agent spoke, while a round was under way: the next round begins at its end.
    again: bool,
}

impl ProbeScheduler {
    fn handle(&mut self, command: Command) {
        match command {
            Command::Upsert(backend) => self.upsert(&backend),
            Command::Hurry(backend) => drop(self.hurry(&backend)),
            Command::Remove(backend) => {
                self.deadlines.set(backend.number, None);
                self.backends.remove(&backend.number);
            }
        }
    }

    /// Schedules a new backend, or one whose spec changed.
    fn upsert(&mut self, backend: &Arc<Backend>) {
        if self.hurry(backend) {
            return;
        }
        let now = self.monitor.parts.clock.read();
        let created = backend.object().metadata.creation_timestamp.as_ref().map(|created| created.0);
        let is_fresh = created.is_some_and(|created| now.wall.duration_since(created) < FRESH);
        let due = if is_fresh { now.moment } else { self.monitor.next_turn(backend) };
        self.set(backend, due);
    }

    /// Begins the next round of a known backend now, or at the end of the one that is under way; true when it is known.
    fn hurry(&mut self, backend: &Arc<Backend>) -> bool {
        let Some(scheduled) = self.backends.get_mut(&backend.number) else { return false };
        scheduled.again = scheduled.is_under_way;
        if !scheduled.is_under_way {
            let now = self.monitor.parts.clock.now();
            self.set(backend, now);
        }
        true
    }

    fn set(&mut self, backend: &Arc<Backend>, due: Moment) {
        let scheduled = Scheduled { backend: backend.clone(), due, is_under_way: false, again: false };
        self.backends.insert(backend.number, scheduled);
        self.deadlines.set(backend.number, Some(self.monitor.parts.clock.instant(due)));
    }

    /// Begins a round, unless another replica leads: then only the next turn is scheduled.
    fn begin_round(&mut self, number: u64) -> Option<(Arc<Backend>, Moment)> {
        let monitor = self.monitor.clone();
        let scheduled = self.backends.get_mut(&number)?;
        let backend = scheduled.backend.clone();
        if !monitor.parts.leadership.borrow().accepts_heartbeats() {
            let due = monitor.next_turn(&backend);
            self.set(&backend, due);
            return None;
        }
        scheduled.is_under_way = true;
        Some((backend, scheduled.due))
    }

    fn round_ended(&mut self, backend: &Arc<Backend>, next: Moment) {
        let Some(scheduled) = self.backends.get(&backend.number) else { return };
        let next = if scheduled.again { self.monitor.parts.clock.now() } else { next };
        self.set(backend, next);
    }
}
