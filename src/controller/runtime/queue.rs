//! The queue of reconciles of one scope: one reconcile at a time for each object, places shared by namespace, and retries
//! at their time.
//!
//! The controller of kube has one limit for all objects and takes the next one in any order, so one namespace could keep
//! all of its places. Without that limit it polls each waiting future for each one that ends, which takes minutes for
//! 100,000 objects. Here an object that waits is a key, not a future.

use std::pin::pin;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Key;
use crate::schedule::{Deadlines, FairQueue, Namespaced};

/// The longest wait before a requested reconcile; the timer does not take years.
const LONGEST_REQUEUE: Duration = Duration::from_secs(30 * 24 * 3600);

/// When an object is reconciled again without a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action(Option<Duration>);

impl Action {
    /// After this wait, or earlier on a request.
    pub const fn requeue(wait: Duration) -> Self {
        Self(Some(wait))
    }

    /// Only on a request.
    pub const fn await_change() -> Self {
        Self(None)
    }

    fn due(self) -> Option<Instant> {
        self.0.map(|wait| Instant::now() + wait.min(LONGEST_REQUEUE))
    }
}

impl Namespaced for Key {
    fn namespace(&self) -> &std::sync::Arc<str> {
        &self.namespace
    }
}

/// Runs `reconcile` for each requested key once `ready` is done, with at most `places` at once, until `stop`: then the
/// keys that wait are dropped, and the reconciles that run come to their end.
pub async fn run<R>(
    places: usize,
    ready: impl Future<Output = ()>,
    requests: impl Stream<Item = Key>,
    reconcile: impl Fn(Key) -> R,
    stop: CancellationToken,
) where
    R: Future<Output = Action> + Send + 'static,
{
    let (mut queue, mut requeues) = (FairQueue::<Key>::new(places), Deadlines::default());
    let mut running = JoinSet::new();
    let (mut ready, mut requests) = (pin!(ready.fuse()), pin!(requests.fuse()));
    let mut is_ready = false;
    loop {
        while is_ready && let Some(key) = queue.pop() {
            let work = reconcile(key.clone());
            running.spawn(async move { (key, work.await) });
        }
        let requested = tokio::select! {
            () = stop.cancelled() => break,
            () = &mut ready, if !is_ready => {
                is_ready = true;
                continue;
            }
            Some(finished) = running.join_next() => {
                if let Some((key, action)) = outcome(finished)
                    && !queue.done(&key)
                {
                    requeues.set(key, action.due());
                }
                continue;
            }
            key = requeues.next() => key,
            Some(key) = requests.next() => key,
        };
        // The reconcile that comes now returns its own wait.
        requeues.set(requested.clone(), None);
        queue.push(requested);
    }
    while let Some(finished) = running.join_next().await {
        outcome(finished);
    }
}

/// The result of a task; `None` while the process ends. A panic of a step is caught before; any other one is raised here
/// and ends the controller.
fn outcome(finished: Result<(Key, Action), JoinError>) -> Option<(Key, Action)> {
    match finished.map_err(JoinError::try_into_panic) {
        Ok(outcome) => Some(outcome),
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => None,
    }
}

#[cfg(test)]
mod tests;
