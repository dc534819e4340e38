//! Limits the number of open connections, and selects the connection that ends when all slots are taken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The treatment of a new connection when all slots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits in the kernel's backlog until another connection ends. For a port whose clients have few addresses, those
    /// of an Ingress or a load balancer: there the address with the most connections carries the most clients.
    Wait,
    /// It gets a slot at once: the oldest connection of the address that has the most ends. A client with few connections
    /// is served however many another client holds; an attacker needs as many addresses as there are slots to shut it
    /// out.
    EndTheOldestOfTheMost,
}

/// The connection slots of one port.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    max: usize,
    free: Arc<Semaphore>,
    /// The connections of each address, for [`WhenFull::EndTheOldestOfTheMost`].
    holders: Option<Arc<Mutex<Holders>>>,
}

impl ConnectionLimiter {
    pub(super) fn new(max: usize, when_full: WhenFull) -> Self {
        let holders = (when_full == WhenFull::EndTheOldestOfTheMost).then(Arc::default);
        Self { max, free: Arc::new(Semaphore::new(max)), holders }
    }

    /// Whether all slots are taken.
    pub(super) fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Whether more than three quarters of the slots are taken.
    pub(super) fn is_scarce(&self) -> bool {
        self.free.available_permits() < self.max.div_ceil(4)
    }

    /// Whether a slot is taken before a connection is accepted.
    pub(super) fn waits_before_accept(&self) -> bool {
        self.holders.is_none()
    }

    /// Waits for a slot for a connection whose address is not known yet.
    pub(super) async fn any(&self) -> ConnectionSlot {
        ConnectionSlot { permit: self.permit().await, held: None }
    }

    /// A slot for a connection from this address. When all are taken, another connection is ended; this one waits until that
    /// has ended.
    pub(super) async fn of(&self, address: IpAddr) -> ConnectionSlot {
        let Some(holders) = &self.holders else { return self.any().await };
        // On a socket for both families an IPv4 address appears as a mapped IPv6 address.
        let held = Held::new(holders, address.to_canonical());
        if self.is_full() {
            holders.lock().evict_one();
        }
        ConnectionSlot { permit: self.permit().await, held: Some(held) }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// The slot of a connection; free when dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    #[expect(dead_code, reason = "it is held")]
    permit: OwnedSemaphorePermit,
    held: Option<Held>,
}

impl ConnectionSlot {
    /// Completes when the connection has to end for another one.
    pub(super) async fn evicted(&self) {
        match &self.held {
            Some(held) => held.evicted.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

/// The record of one connection among the holders.
#[derive(Debug)]
struct Held {
    holders: Arc<Mutex<Holders>>,
    address: IpAddr,
    number: u64,
    evicted: CancellationToken,
}

impl Held {
    fn new(holders: &Arc<Mutex<Holders>>, address: IpAddr) -> Self {
        let (number, evicted) = holders.lock().enter(address);
        Self { holders: Arc::clone(holders), address, number, evicted }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holders.lock().leave(self.address, self.number);
    }
}

/// The connections of each address, in the order in which they were opened.
#[derive(Debug, Default)]
struct Holders {
    taken: u64,
    by_address: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
}

impl Holders {
    fn enter(&mut self, address: IpAddr) -> (u64, CancellationToken) {
        let (number, evicted) = (self.taken, CancellationToken::new());
        self.taken += 1;
        self.by_address.entry(address).or_default().insert(number, evicted.clone());
        (number, evicted)
    }

    fn leave(&mut self, address: IpAddr, number: u64) {
        if let Some(slots) = self.by_address.get_mut(&address) {
            slots.remove(&number);
            if slots.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    /// Ends the oldest connection of the address that has the most, the new connection included; among several such
    /// addresses, the one with the oldest connection.
    fn evict_one(&mut self) {
        let oldest = |slots: &BTreeMap<u64, _>| slots.first_key_value().map(|(number, _)| Reverse(*number));
        let most = self.by_address.iter().max_by_key(|(_, slots)| (slots.len(), oldest(slots)));
        let Some((&address, slots)) = most else { return };
        let Some((&number, evicted)) = slots.first_key_value() else { return };
        evicted.cancel();
        self.leave(address, number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_evicted(slot: &ConnectionSlot) -> bool {
        slot.held.as_ref().is_some_and(|held| held.evicted.is_cancelled())
    }

    /// Opens a connection for each of `takers` in turn; returns the takers whose connections are still open.
    async fn left(max: usize, takers: &[u8]) -> Vec<u8> {
        let limiter = ConnectionLimiter::new(max, WhenFull::EndTheOldestOfTheMost);
        let mut open: Vec<(u8, ConnectionSlot)> = Vec::new();
        for &taker in takers {
            let mut asked = std::pin::pin!(limiter.of(address(taker)));
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
    async fn the_address_that_has_the_most_gives_up_its_oldest() {
        for (takers, expected) in [
            (&[1, 1, 1, 1][..], &[1, 1, 1, 1][..]),
            (&[1, 1, 1, 1, 2], &[1, 1, 1, 2]),
            // An address that fills all slots by itself ends its own connections.
            (&[2, 1, 1, 1, 1, 1, 1], &[2, 1, 1, 1]),
            (&[1, 1, 2, 2, 3], &[1, 2, 2, 3]),
            (&[1, 2, 3, 4, 5], &[2, 3, 4, 5]),
            (&[1, 2, 3, 4, 4], &[1, 2, 3, 4]),
        ] {
            assert_eq!(left(4, takers).await, expected, "{takers:?}");
        }
    }

    #[tokio::test]
    async fn an_address_is_the_same_on_a_socket_that_takes_both_families() {
        let limiter = ConnectionLimiter::new(2, WhenFull::EndTheOldestOfTheMost);
        let _first = limiter.of(address(1)).await;
        let _second = limiter.of(IpAddr::V6(std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped())).await;
        assert_eq!(limiter.holders.as_ref().unwrap().lock().by_address.len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_who_left_and_nobody_loses_a_slot_while_there_are_more() {
        let limiter = ConnectionLimiter::new(4, WhenFull::EndTheOldestOfTheMost);
        let mut open = Vec::new();
        for last in 1..=4 {
            open.push(limiter.of(address(last)).await);
        }
        assert!(limiter.is_full() && !open.iter().any(is_evicted));
        drop(open);
        assert!(!limiter.is_scarce());
        assert!(limiter.holders.as_ref().unwrap().lock().by_address.is_empty());
    }

    #[tokio::test]
    async fn where_a_newcomer_waits_nobody_loses_a_slot() {
        let limiter = ConnectionLimiter::new(1, WhenFull::Wait);
        assert!(limiter.waits_before_accept());
        let first = limiter.of(address(1)).await;
        let mut second = std::pin::pin!(limiter.of(address(2)));
        assert!(second.as_mut().now_or_never().is_none() && !is_evicted(&first));
        drop(first);
        second.await;
    }
}
