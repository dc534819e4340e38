//! Notices when the tasks of the runtime do not run: one of them keeps its thread, or the runtime does not tick.
//!
//! A task that computes for seconds keeps its thread of the runtime. Timeouts within it do not end it, and tasks that
//! wait for that thread do not run: heartbeats, `/livez` and the renewal of the Lease among them. The watchdog is asked
//! by a thread of its own, so that it also works while no task runs. The pulse ([`frozen_for`](super::frozen_for))
//! asks the other question: whether the whole process stood still.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::poll_fn;
use parking_lot::Mutex;

use crate::time::{Clock, Moment};

/// How often the watchdog is to be asked, and how often the runtime is to tick.
pub const WATCH_EVERY: Duration = Duration::from_millis(200);

/// From when a task keeps its thread for too long: a fifth of the time that a heartbeat may take.
const TOO_LONG: Duration = Duration::from_secs(1);

/// Something that kept the runtime from running its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The name of the task; `None` when the runtime does not tick and no task with a name is at work.
    pub task: Option<Arc<str>>,
    /// For how long at least.
    pub time: Duration,
}

/// The turns of tasks that are under way. Clones share it.
#[derive(Clone, Debug)]
pub struct Watchdog {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    next: u64,
    turns: BTreeMap<u64, Turn>,
    /// The last tick of the runtime, and whether its absence was reported.
    ticked: (Moment, bool),
    /// When the watchdog was last asked.
    asked: Moment,
}

/// A task that is at work.
#[derive(Debug)]
struct Turn {
    task: Arc<str>,
    since: Moment,
    is_reported: bool,
}

impl State {
    fn begin(&mut self, task: Arc<str>, now: Moment) -> u64 {
        self.next += 1;
        self.turns.insert(self.next, Turn { task, since: now, is_reported: false });
        self.next
    }

    /// What blocks the runtime, each time once. Nothing is reported when the asking thread itself did not run: then the
    /// whole process stood still, and all turns and ticks count from now.
    fn blocked(&mut self, now: Moment) -> Vec<Blocked> {
        let stood_still = now.since(self.asked) > TOO_LONG;
        self.asked = now;
        if stood_still {
            self.turns.values_mut().for_each(|turn| turn.since = now);
            self.ticked.0 = now;
            return Vec::new();
        }
        let mut found = Vec::new();
        for turn in self.turns.values_mut().filter(|turn| !turn.is_reported) {
            let time = now.since(turn.since);
            if time >= TOO_LONG {
                turn.is_reported = true;
                found.push(Blocked { task: Some(turn.task.clone()), time });
            }
        }
        let (ticked, is_reported) = &mut self.ticked;
        let time = now.since(*ticked);
        let has_named = self.turns.values().any(|turn| turn.is_reported);
        if time >= TOO_LONG && !*is_reported {
            *is_reported = true;
            if !has_named {
                found.push(Blocked { task: None, time });
            }
        }
        found
    }
}

/// Ends a turn when it is dropped, also by a panic.
struct EndOnDrop<'a>(&'a Mutex<State>, u64);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.lock().turns.remove(&self.1);
    }
}

impl Watchdog {
    /// A watchdog of a runtime that ticks now.
    pub fn new(clock: Clock) -> Self {
        let now = clock.now();
        let state = State { next: 0, turns: BTreeMap::new(), ticked: (now, false), asked: now };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    /// Runs `work` as `task`: each of its turns is watched.
    pub async fn watch<T>(&self, task: Arc<str>, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let turn = self.state.lock().begin(task.clone(), self.clock.now());
            let _end = EndOnDrop(&self.state, turn);
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Records that the runtime runs tasks. A task calls this every [`WATCH_EVERY`].
    pub fn tick(&self) {
        self.state.lock().ticked = (self.clock.now(), false);
    }

    /// What blocks the runtime, each time once. A thread of its own calls this every [`WATCH_EVERY`].
    pub fn blocked(&self) -> Vec<Blocked> {
        let now = self.clock.now();
        self.state.lock().blocked(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Moment {
        Moment::from_micros(milliseconds * 1000)
    }

    fn state() -> State {
        State { next: 0, turns: BTreeMap::new(), ticked: (at(0), false), asked: at(0) }
    }

    /// Asks every 200 ms until `end`, while the runtime ticks or not.
    fn ask(state: &mut State, from: i64, end: i64, ticks: bool) -> Vec<(i64, Blocked)> {
        let mut found = Vec::new();
        for now in (from..=end).step_by(200) {
            if ticks {
                state.ticked = (at(now), false);
            }
            found.extend(state.blocked(at(now)).into_iter().map(|blocked| (now, blocked)));
        }
        found
    }

    #[test]
    fn a_long_turn_is_reported_once_with_its_task() {
        let mut state = state();
        let turn = state.begin("the probe of shop/orders".into(), at(100));
        let task = Some("the probe of shop/orders".into());
        let time = Duration::from_millis(1100);
        assert_eq!(ask(&mut state, 200, 5000, true), [(1200, Blocked { task, time })]);
        state.turns.remove(&turn);
        state.begin("another".into(), at(5000));
        assert_eq!(ask(&mut state, 5200, 5800, true), [], "a short one is not");
    }

    #[test]
    fn a_runtime_that_does_not_tick_is_reported_once_until_it_ticks_again() {
        let mut state = state();
        let blocked = |time| Blocked { task: None, time: Duration::from_millis(time) };
        assert_eq!(ask(&mut state, 200, 3000, false), [(1000, blocked(1000))]);
        state.ticked = (at(3000), false);
        assert_eq!(ask(&mut state, 3200, 5000, false), [(4000, blocked(1000))]);
        // A task that is named explains it.
        let mut state = self::state();
        state.begin("a task".into(), at(0));
        let found = ask(&mut state, 200, 3000, false);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].1.task.as_deref(), Some("a task"));
    }

    #[test]
    fn a_process_that_stood_still_is_not_blocked() {
        let mut state = state();
        state.begin("a task".into(), at(0));
        assert_eq!(state.blocked(at(60_000)), []);
        assert_eq!(ask(&mut state, 60_200, 60_800, true), []);
        assert_eq!(ask(&mut state, 61_000, 61_000, true).len(), 1, "what goes on afterwards is");
    }

    #[tokio::test]
    async fn a_turn_ends_when_the_task_waits_and_when_it_panics() {
        let watchdog = Watchdog::new(Clock::default());
        let at_work = || watchdog.state.lock().turns.len();
        let work = watchdog.watch("a task".into(), async {
            assert_eq!(at_work(), 1);
            tokio::task::yield_now().await;
            assert_eq!(at_work(), 1);
            7
        });
        let mut work = pin!(work);
        assert_eq!(futures::FutureExt::now_or_never(work.as_mut()), None);
        assert_eq!(at_work(), 0, "it waits");
        assert_eq!(work.await, 7);
        let panics = std::panic::AssertUnwindSafe(watchdog.watch("a task".into(), async { panic!("a bug") }));
        assert!(futures::FutureExt::catch_unwind(panics).await.is_err());
        assert_eq!(at_work(), 0);
    }
}
