//! The background tasks of an HTTP/2 connection.

use std::future::Future;
use std::sync::Arc;

use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// The background tasks of one connection. A clone shares them.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().spawn(task);
    }
}

/// Aborts the tasks when it is dropped.
pub(super) struct AbortOnDrop(pub(super) Tasks);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.0.lock().abort_all();
    }
}
