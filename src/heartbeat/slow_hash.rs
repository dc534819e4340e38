//! Computes the slow hashes of tokens that users bring, on blocking threads.
//!
//! One takes milliseconds. After a restart, each connector whose token a user brings needs one: a thread of the runtime that
//! computed a thousand of them would hear no heartbeat for more than a second.

use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::credentials::{Digest, ROUNDS};
use crate::schedule::FairShare;

/// Hashes that are computed at once, in the whole process. Namespaces share the places, so that the first heartbeats or the
/// wrong tokens of one do not delay those of another: one alone has two of them.
static PLACES: LazyLock<FairShare> = LazyLock::new(|| FairShare::new(4));

/// The longest wait of a heartbeat for its comparison. Clients wait for an answer for 5 s or longer.
const WAIT: Duration = Duration::from_secs(4);

/// The token of one heartbeat, and the stored slow hashes that it is to be compared with.
#[derive(Clone)]
pub struct Comparison {
    pub(super) namespace: Arc<str>,
    pub(super) token: String,
    pub(super) uid: Box<str>,
    pub(super) stored: Vec<(Digest, NonZeroU32)>,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// The stored hashes that the token was compared with.
    pub(super) stored: Vec<Digest>,
    /// The one that is the token's.
    pub(super) found: Option<Digest>,
}

impl std::fmt::Debug for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Comparison").field("stored", &self.stored).finish_non_exhaustive()
    }
}

impl Comparison {
    /// Compares the token with one stored hash after the other, until one is its own. When no place becomes free in time, it
    /// was compared with none. A dropped future gives its place in the queue away.
    pub async fn run(self) -> Compared {
        let Self { namespace, token, uid, stored } = self;
        let compare = move || {
            let mut compared = Compared::default();
            for (hash, rounds) in stored {
                compared.stored.push(hash);
                if Digest::slow(&token, &uid, rounds) == hash {
                    compared.found = Some(hash);
                    break;
                }
            }
            compared
        };
        let in_time = tokio::time::timeout(WAIT, in_a_place(&namespace, compare)).await;
        in_time.ok().flatten().unwrap_or_default()
    }
}

/// The slow hash of the token of the Connector with this `uid`, as it is stored; `None` only while the process ends.
pub async fn slow_hash(namespace: &Arc<str>, token: String, uid: String) -> Option<Digest> {
    in_a_place(namespace, move || Digest::slow(&token, &uid, ROUNDS)).await
}

/// Runs `work` on a blocking thread when `namespace` has a place. The place is free again when the work has ended, also when
/// nothing waits for it any longer.
async fn in_a_place<T: Send + 'static>(namespace: &Arc<str>, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let place = PLACES.acquire(namespace, false).await;
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    done.await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_hashes_of_one_namespace_are_computed_beside_the_runtime_and_delay_no_other_namespace() {
        let (busy, other): (Arc<str>, Arc<str>) = ("hashes-without-end".into(), "hashes-one".into());
        let elsewhere = in_a_place(&busy, || std::thread::current().id()).await.expect("the process goes on");
        assert_ne!(elsewhere, std::thread::current().id());
        let (release, wait) = mpsc::channel::<()>();
        let wait = Arc::new(parking_lot::Mutex::new(wait));
        let mut hashing: Vec<_> = (0..20)
            .map(|_| {
                let (busy, wait) = (busy.clone(), wait.clone());
                Box::pin(async move { in_a_place(&busy, move || wait.lock().recv().is_ok()).await })
            })
            .collect();
        assert!(hashing.iter_mut().all(|hash| hash.now_or_never().is_none()), "each waits or is computed elsewhere");
        let hash = slow_hash(&other, "0123456789abcdef".to_owned(), "u1".to_owned());
        let found = tokio::time::timeout(Duration::from_secs(30), hash).await.expect("it has a place");
        assert_eq!(found, Some(Digest::slow("0123456789abcdef", "u1", ROUNDS)));
        assert!(hashing.iter_mut().all(|hash| hash.now_or_never().is_none()), "they still wait");
        drop(release);
        futures::future::join_all(hashing).await;
    }
}
