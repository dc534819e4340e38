//! The watch of one kind of object, which outlives failures and calls that hang.

use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use kube::Resource;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;

use super::WatchBackoff;

/// How long the next object or page of a list may take. Calls of a watch have no time limit of their own, because a watch
/// may be silent for minutes, and an API server that starts again may accept a call and never answer it.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one call of a watch lasts, in seconds; the next one goes on where it ended. An API server that starts, or to
/// which a definition is applied, may replace the storage of a kind and leave a watch of the old one open without events:
/// for so long at most is a change not seen.
const WATCH_SECONDS: u32 = 60;

/// Watches the objects of `api` by `config`: after a failure again with the waits of `WatchBackoff`, and anew when a list
/// does not continue within 20 s. It never ends by itself. `api` is of `Clients::watching`, by which a call that is not
/// answered ends.
pub fn watch<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let config = config.timeout(WATCH_SECONDS);
    restarted(move || watcher(api.clone(), config.clone()).backoff(WatchBackoff::default()).boxed())
}

type Events<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// The events of one watch after another: the next one begins when a list of the one before does not continue in time.
fn restarted<K: 'static>(
    start: impl Fn() -> Events<K> + Send,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send {
    let first = (start(), true);
    stream::unfold((first, start), async |((mut events, mut is_listing), start)| {
        loop {
            let next = if is_listing {
                tokio::time::timeout(LIST_TIMEOUT, events.next()).await
            } else {
                Ok(events.next().await)
            };
            let Ok(next) = next else {
                tracing::warn!("a list of the API server did not continue within {LIST_TIMEOUT:?}; listing again");
                events = start();
                continue;
            };
            match &next {
                Some(Ok(Event::Init | Event::InitApply(_))) => is_listing = true,
                Some(Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_))) => is_listing = false,
                // A watch that failed goes on where it was, or begins with a list, which says so.
                Some(Err(_)) | None => {}
            }
            return next.map(|event| (event, ((events, is_listing), start)));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_failed_and_goes_on_in_silence_lists_nothing_anew() {
        let started = Arc::new(AtomicUsize::new(0));
        let count = started.clone();
        let mut events = Box::pin(restarted(move || {
            count.fetch_add(1, Ordering::Relaxed);
            let failed = Err(watcher::Error::NoResourceVersion);
            let events: Vec<Result<Event<u8>, watcher::Error>> = vec![Ok(Event::Init), Ok(Event::InitDone), failed];
            stream::iter(events).chain(stream::pending()).boxed()
        }));
        let silent = tokio::time::timeout(100 * LIST_TIMEOUT, async { while events.next().await.is_some() {} }).await;
        assert!(silent.is_err() && started.load(Ordering::Relaxed) == 1);
    }

    /// Three watches: the list of the first one hangs after an object, that of the second one at once.
    #[tokio::test(start_paused = true)]
    async fn a_list_that_hangs_is_begun_anew_and_a_silent_watch_is_not() {
        let started = Arc::new(AtomicUsize::new(0));
        let count = started.clone();
        let mut events = Box::pin(restarted(move || {
            let events: Vec<Result<Event<u8>, watcher::Error>> = match count.fetch_add(1, Ordering::Relaxed) {
                0 => vec![Ok(Event::Init), Ok(Event::InitApply(1))],
                1 => vec![],
                _ => vec![Ok(Event::Init), Ok(Event::InitApply(2)), Ok(Event::InitDone), Ok(Event::Apply(3))],
            };
            stream::iter(events).chain(stream::pending()).boxed()
        }));
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(match events.next().await.unwrap().unwrap() {
                Event::InitApply(object) | Event::Apply(object) => object,
                Event::Init => 0,
                other => {
                    assert!(matches!(other, Event::InitDone));
                    9
                }
            });
        }
        assert_eq!(seen, [0, 1, 0, 2, 9, 3]);
        let silent = tokio::time::timeout(100 * LIST_TIMEOUT, events.next()).await;
        assert!(silent.is_err() && started.load(Ordering::Relaxed) == 3, "a watch may be silent");
    }
}
