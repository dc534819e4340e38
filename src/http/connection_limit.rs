//! The places for open connections: how many there are, who has them, and who gives one up when all are taken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// What becomes of a connection when as many are open as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits in the kernel's backlog until another ends. For a port that is reached through few addresses, those of
    /// an Ingress or a load balancer: who has the most there is who carries the most.
    Wait,
    /// It gets a place at once: the address that has the most gives up its oldest. Whoever holds few connections is
    /// served however many one other holds; to shut it out takes as many addresses as there are places.
    EndTheOldestOfTheMost,
}

/// The places of one port.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    max: usize,
    free: Arc<Semaphore>,
    /// Who has them, where that matters.
    holders: Option<Arc<Mutex<Holders>>>,
}

impl ConnectionLimiter {
    pub(super) fn new(max: usize, when_full: WhenFull) -> Self {
        let holders = (when_full == WhenFull::EndTheOldestOfTheMost).then(Arc::default);
        Self { max, free: Arc::new(Semaphore::new(max)), holders }
    }

    /// Whether somebody has to give up a place, or a newcomer to wait.
    pub(super) fn are_taken(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Whether more than three quarters are taken.
    pub(super) fn are_scarce(&self) -> bool {
        self.free.available_permits() < self.max.div_ceil(4)
    }

    /// Whether a newcomer waits for a place before it is accepted.
    pub(super) fn come_first(&self) -> bool {
        self.holders.is_none()
    }

    /// A place for somebody who is not known yet; waits for it.
    pub(super) async fn any(&self) -> Slot {
        Slot { permit: self.permit().await, held: None }
    }

    /// A place for a connection from this address. Where all are taken, one is given up for it; it waits for no longer
    /// than that takes to end.
    pub(super) async fn of(&self, address: IpAddr) -> Slot {
        let Some(holders) = &self.holders else { return self.any().await };
        // An IPv4 address is the same one on a socket that takes both.
        let held = Held::new(holders, address.to_canonical());
        if self.are_taken() {
            holders.lock().end_one();
        }
        Slot { permit: self.permit().await, held: Some(held) }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    #[expect(dead_code, reason = "it is held")]
    permit: OwnedSemaphorePermit,
    held: Option<Held>,
}

impl Slot {
    /// Completes when it has to be given up.
    pub(super) async fn lost(&self) {
        match &self.held {
            Some(held) => held.lost.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

/// A line in the book of who has which place.
#[derive(Debug)]
struct Held {
    holders: Arc<Mutex<Holders>>,
    address: IpAddr,
    number: u64,
    lost: CancellationToken,
}

impl Held {
    fn new(holders: &Arc<Mutex<Holders>>, address: IpAddr) -> Self {
        let (number, lost) = holders.lock().enter(address);
        Self { holders: Arc::clone(holders), address, number, lost }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holders.lock().leave(self.address, self.number);
    }
}

/// Who has which places: by address, in the order in which they were taken.
#[derive(Debug, Default)]
struct Holders {
    taken: u64,
    by_address: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
}

impl Holders {
    fn enter(&mut self, address: IpAddr) -> (u64, CancellationToken) {
        let (number, lost) = (self.taken, CancellationToken::new());
        self.taken += 1;
        self.by_address.entry(address).or_default().insert(number, lost.clone());
        (number, lost)
    }

    fn leave(&mut self, address: IpAddr, number: u64) {
        if let Some(places) = self.by_address.get_mut(&address) {
            places.remove(&number);
            if places.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    /// Ends the oldest connection of the address that has the most, the newcomer's among them; of several such, of the
    /// one that has held its oldest for longest.
    fn end_one(&mut self) {
        let oldest = |places: &BTreeMap<u64, _>| places.first_key_value().map(|(number, _)| Reverse(*number));
        let most = self.by_address.iter().max_by_key(|(_, places)| (places.len(), oldest(places)));
        let Some((&address, places)) = most else { return };
        let Some((&number, lost)) = places.first_key_value() else { return };
        lost.cancel();
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

    fn is_lost(place: &Slot) -> bool {
        place.held.as_ref().is_some_and(|held| held.lost.is_cancelled())
    }

    /// Who takes places one after another, and how many each has then. Who loses one gives it up.
    async fn left(max: usize, takers: &[u8]) -> Vec<u8> {
        let places = ConnectionLimiter::new(max, WhenFull::EndTheOldestOfTheMost);
        let mut open: Vec<(u8, Slot)> = Vec::new();
        for &taker in takers {
            let mut asked = std::pin::pin!(places.of(address(taker)));
            let at_once = asked.as_mut().now_or_never();
            open.retain(|(_, place)| !is_lost(place));
            let place = match at_once {
                Some(place) => place,
                None => asked.await,
            };
            open.push((taker, place));
            assert!(open.len() <= max);
        }
        open.iter().map(|(taker, _)| *taker).collect()
    }

    #[tokio::test]
    async fn the_address_that_has_the_most_gives_up_its_oldest() {
        for (takers, expected) in [
            (&[1, 1, 1, 1][..], &[1, 1, 1, 1][..]),
            (&[1, 1, 1, 1, 2], &[1, 1, 1, 2]),
            // Whoever fills it by itself ends its own.
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
        let places = ConnectionLimiter::new(2, WhenFull::EndTheOldestOfTheMost);
        let _first = places.of(address(1)).await;
        let _second = places.of(IpAddr::V6(std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped())).await;
        assert_eq!(places.holders.as_ref().unwrap().lock().by_address.len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_who_left_and_nobody_loses_a_place_while_there_are_more() {
        let places = ConnectionLimiter::new(4, WhenFull::EndTheOldestOfTheMost);
        let mut open = Vec::new();
        for last in 1..=4 {
            open.push(places.of(address(last)).await);
        }
        assert!(places.are_taken() && !open.iter().any(is_lost));
        drop(open);
        assert!(!places.are_scarce());
        assert!(places.holders.as_ref().unwrap().lock().by_address.is_empty());
    }

    #[tokio::test]
    async fn where_a_newcomer_waits_nobody_loses_a_place() {
        let places = ConnectionLimiter::new(1, WhenFull::Wait);
        assert!(places.come_first());
        let first = places.of(address(1)).await;
        let mut second = std::pin::pin!(places.of(address(2)));
        assert!(second.as_mut().now_or_never().is_none() && !is_lost(&first));
        drop(first);
        second.await;
    }
}
