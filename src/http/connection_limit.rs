//! Limits the number of open connections, and selects the connection that ends when all slots are taken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::client_network::client_network;
use super::connection::ConnectionPhase;

/// A trusted proxy counts as this many clients: it carries the connections of many, and an attacker has only its own.
const CLIENTS_OF_A_PROXY: usize = 16;

/// The connections of one client that are compared before one of them ends. The oldest come first, so the connections of
/// an attacker that fills the slots are among them; the bound keeps a flood from costing a scan for each connection.
const COMPARED: usize = 1024;

/// When all slots are taken, up to one in this many is freed at once, so that a flood of new connections waits for the end
/// of an older one only once for each such batch, and the port's backlog does not overflow meanwhile. Only a client that
/// holds more than a batch gives up more than one.
const SLOTS_OF_A_BATCH: usize = 64;

/// The connection slots of one port.
///
/// When all are taken, a new connection still gets one at once: the client with the most connections gives one up. A
/// client with few connections is served however many another client holds; an attacker needs as many addresses as there
/// are slots to shut it out.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    free: Arc<Semaphore>,
    holders: Arc<Mutex<Holders>>,
    /// The number of connections that end when all slots are taken.
    batch: usize,
}

impl ConnectionLimiter {
    /// `max` slots; the `trusted` proxies may hold more of them than other clients.
    pub(super) fn new(max: usize, trusted: Vec<IpNet>) -> Self {
        let holders = Holders { taken: 0, trusted, by_client: HashMap::new() };
        let batch = max / SLOTS_OF_A_BATCH + 1;
        Self { free: Arc::new(Semaphore::new(max)), holders: Arc::new(Mutex::new(holders)), batch }
    }

    /// Whether all slots are taken.
    pub(super) fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// A slot for a connection from this address. When all are taken, a batch of other connections is ended; this one waits
    /// until the first of them has ended.
    pub(super) async fn of(&self, address: IpAddr, phase: ConnectionPhase) -> ConnectionSlot {
        let held = Held::new(&self.holders, address.to_canonical(), phase);
        if self.is_full() {
            let mut holders = self.holders.lock();
            let mut least = 0;
            for _ in 0..self.batch {
                holders.evict_one(least);
                least = self.batch;
            }
        }
        let permit = Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed");
        ConnectionSlot { permit, held }
    }
}

/// The slot of a connection; free when dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    #[expect(dead_code, reason = "it is held")]
    permit: OwnedSemaphorePermit,
    held: Held,
}

impl ConnectionSlot {
    /// Completes when the connection has to end for another one.
    pub(super) async fn evicted(&self) {
        self.held.evicted.cancelled().await;
    }
}

/// The record of one connection among the holders.
#[derive(Debug)]
struct Held {
    holders: Arc<Mutex<Holders>>,
    client: IpAddr,
    number: u64,
    evicted: CancellationToken,
}

impl Held {
    fn new(holders: &Arc<Mutex<Holders>>, address: IpAddr, phase: ConnectionPhase) -> Self {
        let (client, number, evicted) = holders.lock().enter(address, phase);
        Self { holders: Arc::clone(holders), client, number, evicted }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holders.lock().leave(self.client, self.number);
    }
}

/// One open connection.
#[derive(Debug)]
struct Open {
    phase: ConnectionPhase,
    evicted: CancellationToken,
}

/// The connections of one client, in the order in which they were opened.
#[derive(Debug, Default)]
struct Client {
    is_proxy: bool,
    open: BTreeMap<u64, Open>,
}

impl Client {
    /// The number that is compared between clients.
    fn weight(&self) -> usize {
        if self.is_proxy { self.open.len().div_ceil(CLIENTS_OF_A_PROXY) } else { self.open.len() }
    }

    /// The connection that serves its client least: one whose request stalls, then the longest idle one, then the oldest.
    fn least_useful(&self) -> Option<u64> {
        let compared = self.open.iter().take(COMPARED);
        compared.max_by_key(|(number, open)| (open.phase.uselessness(), Reverse(**number))).map(|(number, _)| *number)
    }
}

/// The connections of each client.
#[derive(Debug)]
struct Holders {
    taken: u64,
    trusted: Vec<IpNet>,
    by_client: HashMap<IpAddr, Client>,
}

impl Holders {
    /// Records a connection from `address`; returns its client, its number and the token that ends it.
    fn enter(&mut self, address: IpAddr, phase: ConnectionPhase) -> (IpAddr, u64, CancellationToken) {
        let (number, evicted) = (self.taken, CancellationToken::new());
        self.taken += 1;
        let is_proxy = self.trusted.iter().any(|network| network.contains(&address));
        // Proxies may share a network with each other, and with other hosts.
        let client = if is_proxy { address } else { client_network(address) };
        let entry = self.by_client.entry(client).or_default();
        entry.is_proxy = is_proxy;
        entry.open.insert(number, Open { phase, evicted: evicted.clone() });
        (client, number, evicted)
    }

    fn leave(&mut self, client: IpAddr, number: u64) {
        if let Some(entry) = self.by_client.get_mut(&client) {
            entry.open.remove(&number);
            if entry.open.is_empty() {
                self.by_client.remove(&client);
            }
        }
    }

    /// Ends the least useful connection of the client that has the most, the new connection included; among several such
    /// clients, of the one with the oldest connection. None ends when that client has `least` connections or fewer.
    fn evict_one(&mut self, least: usize) {
        let oldest = |client: &Client| client.open.first_key_value().map(|(number, _)| Reverse(*number));
        let most = self.by_client.iter().max_by_key(|(_, client)| (client.weight(), oldest(client)));
        let Some((&address, client)) = most.filter(|(_, client)| client.open.len() > least) else { return };
        let Some(number) = client.least_useful() else { return };
        client.open[&number].evicted.cancel();
        self.leave(address, number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;
    use crate::http::connection::Phase;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_evicted(slot: &ConnectionSlot) -> bool {
        slot.held.evicted.is_cancelled()
    }

    /// Opens a connection for each of `takers` in turn, all of them in the same phase; returns the takers whose connections
    /// are still open.
    async fn left(max: usize, trusted: &[IpNet], takers: &[u8]) -> Vec<u8> {
        let limiter = ConnectionLimiter::new(max, trusted.to_vec());
        let mut open: Vec<(u8, ConnectionSlot)> = Vec::new();
        for &taker in takers {
            let mut asked = std::pin::pin!(limiter.of(address(taker), ConnectionPhase::new()));
            let at_once = asked.as_mut().now_or_never();
            open.retain(|(_, slot)| !is_evicted(slot));
            let slot = match at_once {
                Some(slot) => slot,
                None => asked.await,
            };
            open.push((taker, slot));
            assert!(open.len() <= max);
        }
        open.iter().map(|(taker, _)| *taker).collect()
    }

    #[tokio::test]
    async fn the_client_that_has_the_most_gives_up_its_oldest() {
        for (takers, expected) in [
            (&[1, 1, 1, 1][..], &[1, 1, 1, 1][..]),
            (&[1, 1, 1, 1, 2], &[1, 1, 1, 2]),
            // A client that fills all slots by itself ends its own connections.
            (&[2, 1, 1, 1, 1, 1, 1], &[2, 1, 1, 1]),
            (&[1, 1, 2, 2, 3], &[1, 2, 2, 3]),
            (&[1, 2, 3, 4, 5], &[2, 3, 4, 5]),
            (&[1, 2, 3, 4, 4], &[1, 2, 3, 4]),
        ] {
            assert_eq!(left(4, &[], takers).await, expected, "{takers:?}");
        }
    }

    #[tokio::test]
    async fn a_trusted_proxy_keeps_its_connections_and_others_keep_a_few_beside_it() {
        let proxy = ["192.0.2.1/32".parse().unwrap()];
        assert_eq!(left(4, &proxy, &[1, 1, 2, 2, 3]).await, [1, 1, 2, 3], "a proxy with two is not more than a client");
        assert_eq!(left(4, &[], &[1, 1, 2, 2, 3]).await, [1, 2, 2, 3], "what is not trusted is a client like others");
        let mut takers = vec![1; 40];
        takers.extend([2, 2]);
        let kept = left(40, &proxy, &takers).await;
        assert_eq!(kept.iter().filter(|taker| **taker == 2).count(), 2, "a proxy with all slots makes room: {kept:?}");
    }

    fn since(phase: Phase, age: u64) -> ConnectionPhase {
        ConnectionPhase::entered(phase, Duration::from_secs(age))
    }

    #[tokio::test]
    async fn of_one_client_the_connection_ends_that_serves_it_least() {
        for (phases, expected) in [
            (&[since(Phase::Idle, 60), since(Phase::Head, 3), since(Phase::Busy, 0)][..], 1),
            (&[since(Phase::Idle, 60), since(Phase::Busy, 3), since(Phase::Head, 0)], 1),
            (&[since(Phase::Head, 0), since(Phase::Idle, 5), since(Phase::Idle, 60)], 2),
            (&[since(Phase::Busy, 0), since(Phase::Idle, 0), since(Phase::Head, 0)], 1),
            (&[since(Phase::Head, 3), since(Phase::Head, 9), since(Phase::Busy, 5)], 1),
        ] {
            let limiter = ConnectionLimiter::new(phases.len(), Vec::new());
            let mut open = Vec::new();
            for phase in phases {
                open.push(limiter.of(address(1), phase.clone()).await);
            }
            let _ = limiter.of(address(2), ConnectionPhase::new()).now_or_never();
            let evicted: Vec<usize> = (0..open.len()).filter(|i| is_evicted(&open[*i])).collect();
            assert_eq!(evicted, [expected], "{phases:?}");
        }
    }

    #[tokio::test]
    async fn a_trusted_proxy_is_known_by_its_own_address_in_either_family() {
        let trusted = ["2001:db8::5/128", "192.0.2.9/32"].map(|network| network.parse().unwrap());
        let limiter = ConnectionLimiter::new(8, trusted.to_vec());
        let mut open = Vec::new();
        for address in ["2001:db8::5", "2001:db8::6", "::ffff:192.0.2.9", "192.0.2.10"] {
            open.push(limiter.of(address.parse().unwrap(), ConnectionPhase::new()).await);
        }
        let holders = limiter.holders.lock();
        let mut proxies: Vec<_> =
            holders.by_client.iter().filter(|(_, client)| client.is_proxy).map(|(at, _)| at.to_string()).collect();
        proxies.sort();
        assert_eq!(proxies, ["192.0.2.9", "2001:db8::5"]);
        assert_eq!(holders.by_client.len(), 4);
    }

    #[tokio::test]
    async fn a_flood_waits_once_for_each_batch_and_others_lose_one_connection_at_most() {
        let max = 10 * SLOTS_OF_A_BATCH;
        let still_open = |attacker: usize| async move {
            let limiter = ConnectionLimiter::new(max, Vec::new());
            let mut open = Vec::new();
            for i in 0..max {
                let client = if i < attacker { 1 } else { 2 + (i % 200) as u8 };
                open.push(limiter.of(address(client), ConnectionPhase::new()).await);
            }
            assert!(limiter.of(address(1), ConnectionPhase::new()).now_or_never().is_none());
            let kept = |slots: &[ConnectionSlot]| slots.iter().filter(|slot| !is_evicted(slot)).count();
            (kept(&open[..attacker]), kept(&open[attacker..]))
        };
        assert_eq!(still_open(300).await, (300 - 11, max - 300), "one batch, all of the attacker");
        assert_eq!(still_open(15).await, (15 - 5, max - 15), "a client with no more than a batch gives up no more");
        assert_eq!(still_open(0).await, (0, max - 1), "no client has many");
    }

    #[tokio::test]
    async fn the_addresses_of_one_host_are_one_client() {
        let limiter = ConnectionLimiter::new(8, Vec::new());
        let mut open = Vec::new();
        let mapped = IpAddr::V6(std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped());
        for one in [address(1), mapped, "2001:db8::1".parse().unwrap(), "2001:db8::ffff:1".parse().unwrap()] {
            open.push(limiter.of(one, ConnectionPhase::new()).await);
        }
        assert_eq!(limiter.holders.lock().by_client.len(), 2);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_closed_connections_and_none_ends_while_slots_are_free() {
        let limiter = ConnectionLimiter::new(4, Vec::new());
        let mut open = Vec::new();
        for last in 1..=4 {
            open.push(limiter.of(address(last), ConnectionPhase::new()).await);
        }
        assert!(limiter.is_full() && !open.iter().any(is_evicted));
        drop(open);
        assert!(!limiter.is_full() && limiter.holders.lock().by_client.is_empty());
    }
}
