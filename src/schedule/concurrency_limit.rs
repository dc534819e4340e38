//! Limits how many probes run at once: in all, and for each host. Probes that hang leave room for healthy ones.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The most probes of one host at once: enough for all backends behind one address, too few to harm it.
const MAX_PER_HOST: usize = 16;

/// Hands out permits, limited in all and for each host.
#[derive(Debug)]
pub struct ConcurrencyLimiter {
    all: Arc<HostQueue>,
    hosts: Mutex<HashMap<Arc<str>, Arc<HostQueue>>>,
}

/// The permits of one host, or of all hosts together. Suspects, whose last probe failed, may use at most half of them,
/// and only while more than half are free. Without the second rule, targets that hang for the first time and suspects
/// together would delay the healthy ones: in all, and on a host of their own, of which other ports may be healthy.
#[derive(Debug)]
struct HostQueue {
    all: Arc<Semaphore>,
    suspects: Arc<Semaphore>,
    /// A suspect is admitted only while more permits than this are free.
    reserved: usize,
    /// A permit was released.
    released: Notify,
}

/// A permit for one probe; released when dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Vec<OwnedSemaphorePermit>,
    queues: [Arc<HostQueue>; 2],
}

impl HostQueue {
    fn new(all: usize) -> Self {
        let suspects = Arc::new(Semaphore::new(all / 2));
        Self { all: Arc::new(Semaphore::new(all)), suspects, reserved: all - all / 2, released: Notify::new() }
    }

    /// Waits until a suspect may take a permit.
    async fn admit_suspect(&self) -> OwnedSemaphorePermit {
        let permit = acquire(&self.suspects).await;
        loop {
            let released = self.released.notified();
            if self.all.available_permits() > self.reserved {
                return permit;
            }
            released.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.clear();
        self.queues.iter().for_each(|queue| queue.released.notify_one());
    }
}

impl ConcurrencyLimiter {
    /// Limits to `all` permits at once, but not to fewer than 2.
    pub fn new(all: usize) -> Self {
        Self { all: Arc::new(HostQueue::new(all.max(2))), hosts: Mutex::default() }
    }

    /// Waits for a permit for a probe of `host`. Dropping the future stops waiting.
    pub async fn acquire(&self, host: &Arc<str>, is_suspect: bool) -> Permit {
        let queues = [self.queue_of(host), self.all.clone()];
        // Made first, so that a caller that stops waiting releases what it holds in the same way.
        let mut permit = Permit { permits: Vec::with_capacity(4), queues };
        // First the permits that only suspects wait for, and each time the host before the whole: a suspect that waits
        // holds no permit that a healthy probe waits for.
        if is_suspect {
            for queue in &permit.queues {
                permit.permits.push(queue.admit_suspect().await);
            }
        }
        for queue in &permit.queues {
            permit.permits.push(acquire(&queue.all).await);
            // Another suspect may be admitted too.
            queue.released.notify_one();
        }
        permit
    }

    fn queue_of(&self, host: &Arc<str>) -> Arc<HostQueue> {
        let mut hosts = self.hosts.lock();
        if let Some(known) = hosts.get(host) {
            return known.clone();
        }
        // Hosts come and go: unused ones are removed before the map grows again.
        if hosts.len() == hosts.capacity() {
            hosts.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        let queue = Arc::new(HostQueue::new(MAX_PER_HOST));
        hosts.insert(host.clone(), queue.clone());
        queue
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.clone().acquire_owned().await.expect("it is never closed")
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
        let limiter = ConcurrencyLimiter::new(4);
        let _hang = (limiter.acquire(&host("a"), true).await, limiter.acquire(&host("b"), true).await);
        assert!(limiter.acquire(&host("c"), true).now_or_never().is_none());
        let _fine = (limiter.acquire(&host("d"), false).await, limiter.acquire(&host("e"), false).await);
        assert!(limiter.acquire(&host("f"), false).now_or_never().is_none(), "four in all");
    }

    #[tokio::test]
    async fn what_hangs_on_one_port_leaves_half_of_its_host_to_the_other_ports() {
        let (limiter, gateway) = (ConcurrencyLimiter::new(1000), host("gateway"));
        let mut hang = Vec::new();
        for _ in 0..MAX_PER_HOST / 2 {
            hang.push(limiter.acquire(&gateway, true).await);
        }
        let mut next = Box::pin(limiter.acquire(&gateway, true));
        assert!(next.as_mut().now_or_never().is_none());
        let fine: Vec<_> =
            (0..MAX_PER_HOST / 2).map_while(|_| limiter.acquire(&gateway, false).now_or_never()).collect();
        assert_eq!(fine.len(), MAX_PER_HOST / 2, "a suspect that waits for a suspects' permit holds no other");
    }

    #[tokio::test]
    async fn suspects_that_wait_anywhere_keep_no_place_of_a_host_from_the_healthy() {
        let limiter = ConcurrencyLimiter::new(4);
        let _hang = (limiter.acquire(&host("a"), true).await, limiter.acquire(&host("b"), true).await);
        let gateway = host("gateway");
        let mut waiting: Vec<_> = (0..MAX_PER_HOST).map(|_| Box::pin(limiter.acquire(&gateway, true))).collect();
        for suspect in &mut waiting {
            assert!(suspect.as_mut().now_or_never().is_none());
        }
        assert!(limiter.acquire(&gateway, false).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_hangs_for_the_first_time_takes_from_the_suspects_and_not_from_the_healthy() {
        let limiter = ConcurrencyLimiter::new(8);
        let mut first: Vec<_> = Vec::new();
        for name in ["a", "b", "c", "d"] {
            first.push(limiter.acquire(&host(name), false).await);
        }
        let (e, f) = (host("e"), host("f"));
        let mut again = [Box::pin(limiter.acquire(&e, true)), Box::pin(limiter.acquire(&f, true))];
        for suspect in &mut again {
            assert!(suspect.as_mut().now_or_never().is_none(), "half of them are taken");
        }
        first.truncate(2);
        let [one, other] = again;
        let _both = (one.await, other.await);
        assert!(limiter.acquire(&host("g"), true).now_or_never().is_none());
        assert!(limiter.acquire(&host("g"), false).now_or_never().is_some());
    }

    #[tokio::test]
    async fn one_host_has_its_own_limit_and_unused_hosts_are_forgotten() {
        let limiter = ConcurrencyLimiter::new(1000);
        let mut held = Vec::new();
        for _ in 0..MAX_PER_HOST {
            held.push(limiter.acquire(&host("busy"), false).await);
        }
        assert!(limiter.acquire(&host("busy"), false).now_or_never().is_none());
        for number in 0..10_000 {
            drop(limiter.acquire(&host(&format!("host-{number}")), false).await);
        }
        assert!(limiter.hosts.lock().len() < 100, "{} are remembered", limiter.hosts.lock().len());
        held.pop();
        assert!(limiter.acquire(&host("busy"), false).now_or_never().is_some());
    }
}
