//! Tasks that are stopped together. A panic in one of them ends the process.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that are stopped together.
#[derive(Clone)]
pub(super) struct TaskGroup {
    tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    /// Cancels the tasks that did not stop within their time limit.
    kill: CancellationToken,
    /// Reports that a task has panicked.
    failed: CancellationToken,
}

impl TaskGroup {
    /// `failed` is cancelled when a task panics. The process then has to end and be restarted: for example, without the
    /// deadline scheduler it would continue to lead and answer, but no connector would become Offline.
    pub(super) fn new(failed: CancellationToken) -> Self {
        Self { tasks: TaskTracker::new(), stop: CancellationToken::new(), kill: CancellationToken::new(), failed }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let (kill, failed) = (self.kill.clone(), self.failed.clone());
        self.tasks.spawn(async move {
            // Unwind safe: the process ends, so no state that the task left inconsistent is used again.
            if AssertUnwindSafe(kill.run_until_cancelled_owned(task)).catch_unwind().await.is_err() {
                failed.cancel();
            }
        });
    }

    pub(super) async fn end(&self, what: &str, within: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!(what, left = self.tasks.len(), "stopped without waiting any longer");
            // Dropped here and not at the end of the runtime, where kube's controller would find its reconciles cancelled.
            self.kill.cancel();
            self.tasks.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_reported_and_the_others_of_the_group_still_end_as_they_should() {
        let failed = CancellationToken::new();
        let group = TaskGroup::new(failed.clone());
        let (stop, ended) = (group.stop.clone(), CancellationToken::new());
        let ended_after_stop = ended.clone();
        group.spawn(async move {
            stop.cancelled().await;
            ended_after_stop.cancel();
        });
        group.spawn(async {});
        tokio::task::yield_now().await;
        assert!(!failed.is_cancelled(), "an end is no failure");
        group.spawn(async { panic!("a bug of ours") });
        tokio::time::timeout(Duration::from_secs(10), failed.cancelled()).await.expect("the panic is reported");
        group.end("the tasks", Duration::from_secs(10)).await;
        assert!(ended.is_cancelled());
    }
}
