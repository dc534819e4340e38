//! The queue in paused time: fairness, one at a time, retries, and the end.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

/// The start of a reconcile: its object, and when it started since the begin of the test.
type Started = (String, Duration);

struct Rig {
    requests: mpsc::UnboundedSender<Key>,
    started: mpsc::UnboundedReceiver<Started>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn key(namespace: &str, name: impl std::fmt::Display) -> Key {
    Key { namespace: namespace.into(), name: name.to_string().into() }
}

/// A queue with 256 places whose reconciles report their start, and then do `work`.
fn rig<W, R>(work: W) -> Rig
where
    W: Fn(Key) -> R + Clone + Send + 'static,
    R: Future<Output = Action> + Send + 'static,
{
    let (requests, mut received) = mpsc::unbounded_channel();
    let (starts, started) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let begin = Instant::now();
    let reconcile = move |key: Key| {
        let (starts, work) = (starts.clone(), work.clone());
        async move {
            let _ = starts.send((key.to_string(), begin.elapsed()));
            work(key).await
        }
    };
    let received = futures::stream::poll_fn(move |context| received.poll_recv(context));
    let task = tokio::spawn(run(256, std::future::ready(()), received, reconcile, stop.clone()));
    Rig { requests, started, stop, task }
}

impl Rig {
    fn request(&self, key: Key) {
        self.requests.send(key).unwrap();
    }

    /// The next start, unless there is none within a simulated day.
    async fn next(&mut self) -> Option<Started> {
        tokio::time::timeout(Duration::from_secs(86_400), self.started.recv()).await.ok().flatten()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn two_thousand_objects_of_one_namespace_that_hang_delay_no_other_namespace() {
    let mut rig = rig(|key| async move {
        if &*key.namespace == "flapping" {
            std::future::pending::<()>().await;
        }
        Action::await_change()
    });
    (0..2_000).for_each(|number| rig.request(key("flapping", number)));
    for _ in 0..128 {
        rig.next().await.unwrap();
    }
    assert_eq!(rig.next().await, None, "half of the places are for others");
    let before = Instant::now();
    rig.request(key("shop", "web"));
    assert_eq!(rig.next().await.unwrap().0, "shop/web");
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_objects_at_a_start_are_all_reached() {
    let mut rig = rig(|_| async {
        tokio::time::sleep(SECOND).await;
        Action::await_change()
    });
    (0..10_000).for_each(|number| rig.request(key(["a", "b", "c"][number % 3], number)));
    let mut reached = HashSet::new();
    for _ in 0..10_000 {
        reached.insert(rig.next().await.unwrap().0);
    }
    assert_eq!(reached.len(), 10_000);
    assert_eq!(rig.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_retry_comes_at_its_time_and_a_request_before_it_replaces_it() {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    let mut rig = rig(move |_| {
        let run = count.fetch_add(1, Ordering::Relaxed);
        async move { if run < 2 { Action::requeue(10 * SECOND) } else { Action::await_change() } }
    });
    rig.request(key("shop", "web"));
    let mut at = Vec::new();
    at.push(rig.next().await.unwrap().1.as_secs());
    at.push(rig.next().await.unwrap().1.as_secs());
    tokio::time::sleep(3 * SECOND).await;
    rig.request(key("shop", "web"));
    at.push(rig.next().await.unwrap().1.as_secs());
    assert_eq!(at, [0, 10, 13]);
    assert_eq!(rig.next().await, None, "the retry at 20 s was replaced");
    assert!(Action::requeue(Duration::MAX).due().is_some(), "the longest wait is no panic");
}

#[tokio::test(start_paused = true)]
async fn an_object_is_reconciled_once_at_a_time_and_afterwards_as_it_is_then() {
    let (newest, seen) = (Arc::new(AtomicUsize::new(1)), Arc::new(Mutex::new(Vec::new())));
    let (read, note) = (newest.clone(), seen.clone());
    let mut rig = rig(move |_| {
        note.lock().push(read.load(Ordering::Relaxed));
        async {
            tokio::time::sleep(5 * SECOND).await;
            Action::requeue(3600 * SECOND)
        }
    });
    rig.request(key("shop", "web"));
    rig.next().await.unwrap();
    for version in 2..=4 {
        newest.store(version, Ordering::Relaxed);
        rig.request(key("shop", "web"));
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(rig.next().await.unwrap().1.as_secs(), 5, "when the first one has ended");
    assert_eq!(*seen.lock(), [1, 4], "one run for three requests, with the newest");
    assert_eq!(rig.next().await.unwrap().1.as_secs(), 3_610, "the retry of the second run alone");
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_waits_is_dropped_and_what_runs_comes_to_its_end() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    let mut rig = rig(move |_| {
        let count = count.clone();
        async move {
            tokio::time::sleep(SECOND).await;
            count.fetch_add(1, Ordering::Relaxed);
            Action::requeue(SECOND)
        }
    });
    (0..2_000).for_each(|number| rig.request(key("shop", number)));
    for _ in 0..128 {
        rig.next().await.unwrap();
    }
    rig.stop.cancel();
    (&mut rig.task).await.unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), 128);
    assert_eq!(rig.next().await, None);
}
