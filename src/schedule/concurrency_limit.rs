//! Places for work that waits on others: bounded in all, bounded for each host, and with room for the healthy whatever
//! hangs.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How many of one host's may be under way at once: enough for all backends behind one address, too few to hurt it.
const OF_ONE_HOST: usize = 16;

/// All places.
#[derive(Debug)]
pub struct ConcurrencyLimiter {
    all: Arc<HostQueue>,
    hosts: Mutex<HashMap<Arc<str>, Arc<HostQueue>>>,
}

/// So many places. Those that failed last time get one only while more than half of them are free, whoever has the
/// others: what hangs for the first time and what hangs again must not together keep the others waiting, neither
/// everywhere nor on a host of their own, of which other ports may be well.
#[derive(Debug)]
struct HostQueue {
    all: Arc<Semaphore>,
    suspects: Arc<Semaphore>,
    /// So many must be left by suspects.
    spared: usize,
    /// Something was given back.
    freed: Notify,
}

/// One place; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Vec<OwnedSemaphorePermit>,
    of: [Arc<HostQueue>; 2],
}

impl HostQueue {
    fn new(all: usize) -> Self {
        let suspects = Arc::new(Semaphore::new(all / 2));
        Self { all: Arc::new(Semaphore::new(all)), suspects, spared: all - all / 2, freed: Notify::new() }
    }

    /// Waits until a suspect may have a place.
    async fn admit(&self) -> OwnedSemaphorePermit {
        let permit = own(&self.suspects).await;
        loop {
            let freed = self.freed.notified();
            if self.all.available_permits() > self.spared {
                return permit;
            }
            freed.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.clear();
        self.of.iter().for_each(|rooms| rooms.freed.notify_one());
    }
}

impl ConcurrencyLimiter {
    /// So many in all; at least 2.
    pub fn new(all: usize) -> Self {
        Self { all: Arc::new(HostQueue::new(all.max(2))), hosts: Mutex::default() }
    }

    /// Waits for a place on `host`. Give up waiting by dropping it.
    pub async fn take(&self, host: &Arc<str>, is_suspect: bool) -> Permit {
        let of = [self.of(host), self.all.clone()];
        // Whoever gives up waiting gives back what it has as a place would.
        let mut place = Permit { permits: Vec::with_capacity(4), of };
        // What only suspects wait for comes first, and each time the narrower before the wider: a suspect that waits
        // holds nothing that the healthy wait for.
        if is_suspect {
            for rooms in &place.of {
                place.permits.push(rooms.admit().await);
            }
        }
        for rooms in &place.of {
            place.permits.push(own(&rooms.all).await);
            // There may be room for another.
            rooms.freed.notify_one();
        }
        place
    }

    fn of(&self, host: &Arc<str>) -> Arc<HostQueue> {
        let mut hosts = self.hosts.lock();
        if let Some(known) = hosts.get(host) {
            return known.clone();
        }
        // Hosts come and go; those that nobody uses are forgotten before the map grows again.
        if hosts.len() == hosts.capacity() {
            hosts.retain(|_, rooms| Arc::strong_count(rooms) > 1);
        }
        let rooms = Arc::new(HostQueue::new(OF_ONE_HOST));
        hosts.insert(host.clone(), rooms.clone());
        rooms
    }
}

async fn own(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    places.clone().acquire_owned().await.expect("it is never closed")
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
        let places = ConcurrencyLimiter::new(4);
        let _hang = (places.take(&host("a"), true).await, places.take(&host("b"), true).await);
        assert!(places.take(&host("c"), true).now_or_never().is_none());
        let _fine = (places.take(&host("d"), false).await, places.take(&host("e"), false).await);
        assert!(places.take(&host("f"), false).now_or_never().is_none(), "four in all");
    }

    #[tokio::test]
    async fn what_hangs_on_one_port_leaves_half_of_its_host_to_the_other_ports() {
        let (places, gateway) = (ConcurrencyLimiter::new(1000), host("gateway"));
        let mut hang = Vec::new();
        for _ in 0..OF_ONE_HOST / 2 {
            hang.push(places.take(&gateway, true).await);
        }
        let mut next = Box::pin(places.take(&gateway, true));
        assert!(next.as_mut().now_or_never().is_none());
        let fine: Vec<_> = (0..OF_ONE_HOST / 2).map_while(|_| places.take(&gateway, false).now_or_never()).collect();
        assert_eq!(fine.len(), OF_ONE_HOST / 2, "whoever waits for the suspects' places holds none of the others");
    }

    #[tokio::test]
    async fn suspects_that_wait_anywhere_keep_no_place_of_a_host_from_the_healthy() {
        let places = ConcurrencyLimiter::new(4);
        let _hang = (places.take(&host("a"), true).await, places.take(&host("b"), true).await);
        let gateway = host("gateway");
        let mut waiting: Vec<_> = (0..OF_ONE_HOST).map(|_| Box::pin(places.take(&gateway, true))).collect();
        for suspect in &mut waiting {
            assert!(suspect.as_mut().now_or_never().is_none());
        }
        assert!(places.take(&gateway, false).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_hangs_for_the_first_time_takes_from_the_suspects_and_not_from_the_healthy() {
        let places = ConcurrencyLimiter::new(8);
        let mut first: Vec<_> = Vec::new();
        for name in ["a", "b", "c", "d"] {
            first.push(places.take(&host(name), false).await);
        }
        let (e, f) = (host("e"), host("f"));
        let mut again = [Box::pin(places.take(&e, true)), Box::pin(places.take(&f, true))];
        for suspect in &mut again {
            assert!(suspect.as_mut().now_or_never().is_none(), "half of them are taken");
        }
        first.truncate(2);
        let [one, other] = again;
        let _both = (one.await, other.await);
        assert!(places.take(&host("g"), true).now_or_never().is_none());
        assert!(places.take(&host("g"), false).now_or_never().is_some());
    }

    #[tokio::test]
    async fn one_host_has_its_own_limit_and_unused_hosts_are_forgotten() {
        let places = ConcurrencyLimiter::new(1000);
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
