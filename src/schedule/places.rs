//! Places for work that waits on others: bounded in all, bounded for each host, and with room for the healthy whatever
//! hangs.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many of one host's may be under way at once: enough for all backends behind one address, too few to hurt it.
const OF_ONE_HOST: usize = 16;

/// All places.
#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    /// Those that failed last time have half of the places at most: what hangs must not keep the others waiting.
    suspects: Arc<Semaphore>,
    hosts: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
}

/// One place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    _all: OwnedSemaphorePermit,
    _suspect: Option<OwnedSemaphorePermit>,
    _host: OwnedSemaphorePermit,
}

impl Places {
    /// So many in all; at least 2.
    pub fn new(all: usize) -> Self {
        let all = all.max(2);
        Self {
            all: Arc::new(Semaphore::new(all)),
            suspects: Arc::new(Semaphore::new(all / 2)),
            hosts: Mutex::default(),
        }
    }

    /// Waits for a place on `host`. Give up waiting by dropping it.
    pub async fn take(&self, host: &Arc<str>, is_suspect: bool) -> Place {
        // From the narrowest to the widest: whoever waits holds nothing that others wait for.
        let _host = own(self.of(host)).await;
        let _suspect = if is_suspect { Some(own(self.suspects.clone()).await) } else { None };
        Place { _all: own(self.all.clone()).await, _suspect, _host }
    }

    fn of(&self, host: &Arc<str>) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock();
        if let Some(known) = hosts.get(host) {
            return known.clone();
        }
        // Hosts come and go; those that nobody uses are forgotten before the map grows again.
        if hosts.len() == hosts.capacity() {
            hosts.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = Arc::new(Semaphore::new(OF_ONE_HOST));
        hosts.insert(host.clone(), places.clone());
        places
    }
}

async fn own(places: Arc<Semaphore>) -> OwnedSemaphorePermit {
    places.acquire_owned().await.expect("it is never closed")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn host(name: &str) -> Arc<str> {
        name.into()
    }

    #[tokio::test]
    async fn what_hangs_leaves_half_of_the_places_to_the_healthy() {
        let places = Places::new(4);
        let _hang = (places.take(&host("a"), true).await, places.take(&host("b"), true).await);
        assert!(places.take(&host("c"), true).now_or_never().is_none());
        let _fine = (places.take(&host("d"), false).await, places.take(&host("e"), false).await);
        assert!(places.take(&host("f"), false).now_or_never().is_none(), "four in all");
    }

    #[tokio::test]
    async fn one_host_has_its_own_limit_and_unused_hosts_are_forgotten() {
        let places = Places::new(1000);
        let mut held = Vec::new();
        for _ in 0..OF_ONE_HOST {
            held.push(places.take(&host("busy"), false).await);
        }
        assert!(places.take(&host("busy"), false).now_or_never().is_none());
        for number in 0..10_000 {
            drop(places.take(&host(&format!("host-{number}")), false).await);
        }
        assert!(places.hosts.lock().len() < 100, "{} are remembered", places.hosts.lock().len());
        held.pop();
        assert!(places.take(&host("busy"), false).now_or_never().is_some());
    }
}
