//! Limits how many probes run at once: in all, and for each host. Probes that hang leave room for healthy ones, and those
//! of one namespace leave room for the others.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::fair_share::{FairShare, Place};

/// The most probes of one host at once, of which one namespace alone takes half: enough for all backends behind one
/// address, too few to harm it.
const MAX_PER_HOST: usize = 32;

/// Hands out permits, limited in all and for each host.
#[derive(Debug)]
pub struct ConcurrencyLimiter {
    all: FairShare,
    hosts: Mutex<HashMap<Arc<str>, FairShare>>,
}

/// A permit for one probe; released when dropped.
#[derive(Debug)]
pub struct Permit {
    _places: [Place; 2],
}

impl ConcurrencyLimiter {
    /// Limits to `all` permits at once, but not to fewer than 2.
    pub fn new(all: usize) -> Self {
        Self { all: FairShare::new(all), hosts: Mutex::default() }
    }

    /// Waits for a permit for a probe of `host` by a backend of `namespace`. Dropping the future stops waiting.
    pub async fn acquire(&self, namespace: &Arc<str>, host: &Arc<str>, is_suspect: bool) -> Permit {
        // The host before the whole: a probe that waits for a busy host holds no place that another host could use.
        let of_host = self.places_of(host).acquire(namespace, is_suspect).await;
        Permit { _places: [of_host, self.all.acquire(namespace, is_suspect).await] }
    }

    fn places_of(&self, host: &Arc<str>) -> FairShare {
        let mut hosts = self.hosts.lock();
        if let Some(known) = hosts.get(host) {
            return known.clone();
        }
        // Hosts come and go: unused ones are removed before the map grows again.
        if hosts.len() == hosts.capacity() {
            hosts.retain(|_, places| places.is_shared());
        }
        let places = FairShare::new(MAX_PER_HOST);
        hosts.insert(host.clone(), places.clone());
        places
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// The share that one namespace has of a host, alone.
    const SHARE: usize = MAX_PER_HOST / 2;

    fn text(name: &str) -> Arc<str> {
        name.into()
    }

    fn try_one(limiter: &ConcurrencyLimiter, namespace: &str, host: &str, is_suspect: bool) -> Option<Permit> {
        limiter.acquire(&text(namespace), &text(host), is_suspect).now_or_never()
    }

    #[test]
    fn hundreds_of_slow_backends_of_one_namespace_leave_places_for_another_one() {
        let limiter = ConcurrencyLimiter::new(256);
        let slow: Vec<_> =
            (0..256).map_while(|number| try_one(&limiter, "greedy", &format!("host-{number}"), false)).collect();
        assert_eq!(slow.len(), 128);
        for is_suspect in [false, true] {
            assert!(try_one(&limiter, "shop", "web", is_suspect).is_some());
        }
    }

    #[test]
    fn slow_backends_of_one_namespace_leave_places_of_a_shared_host_for_another_one() {
        let limiter = ConcurrencyLimiter::new(1000);
        let slow: Vec<_> = (0..100).map_while(|_| try_one(&limiter, "greedy", "gateway", false)).collect();
        assert_eq!(slow.len(), SHARE);
        for is_suspect in [false, true] {
            assert!(try_one(&limiter, "shop", "gateway", is_suspect).is_some());
        }
    }

    #[test]
    fn what_hangs_on_one_port_leaves_half_of_its_host_to_the_other_ports() {
        let limiter = ConcurrencyLimiter::new(1000);
        let hang: Vec<_> = (0..SHARE).map_while(|_| try_one(&limiter, "shop", "gateway", true)).collect();
        let fine: Vec<_> = (0..SHARE).map_while(|_| try_one(&limiter, "shop", "gateway", false)).collect();
        assert_eq!((hang.len(), fine.len()), (SHARE / 2, SHARE / 2));
    }

    #[tokio::test]
    async fn suspects_that_wait_anywhere_leave_places_of_a_host_to_the_healthy() {
        let limiter = ConcurrencyLimiter::new(8);
        let _hang = (try_one(&limiter, "shop", "a", true).unwrap(), try_one(&limiter, "shop", "b", true).unwrap());
        let (namespace, gateway) = (text("shop"), text("gateway"));
        let mut waiting: Vec<_> =
            (0..MAX_PER_HOST).map(|_| Box::pin(limiter.acquire(&namespace, &gateway, true))).collect();
        for suspect in &mut waiting {
            assert!(suspect.as_mut().now_or_never().is_none());
        }
        assert!(try_one(&limiter, "shop", "gateway", false).is_some());
    }

    #[tokio::test]
    async fn unused_hosts_are_forgotten() {
        let limiter = ConcurrencyLimiter::new(1000);
        let mut busy: Vec<_> = (0..SHARE).map_while(|_| try_one(&limiter, "shop", "busy", false)).collect();
        for number in 0..10_000 {
            drop(limiter.acquire(&text("shop"), &text(&format!("host-{number}")), false).await);
        }
        assert!(limiter.hosts.lock().len() < 100, "{} are remembered", limiter.hosts.lock().len());
        assert!(try_one(&limiter, "shop", "busy", false).is_none(), "one that is used is not");
        busy.pop();
        assert!(try_one(&limiter, "shop", "busy", false).is_some());
    }
}
