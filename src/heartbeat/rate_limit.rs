//! The limit on failed attempts, and the limit on log lines about them.
//!
//! Clients can invent the identifiers of both, so both use a fixed number of slots.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use crate::http::client_network::client_network;
use crate::time::Moment;

/// Failed attempts of one address and id within [`WINDOW`] before the answer is to wait (`docs/design/api.md`).
pub const FREE_FAILURES: usize = 20;
/// The period of both limits: 20 failed attempts a minute, one log line a minute.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Pairs of address and id that are remembered: 3 MB, and more than the failing pairs of a fleet that lost all its tokens.
const CAPACITY: usize = 16_384;
/// Slots of one key. The least recently used one is replaced, so a flood costs eight comparisons a request, not a scan.
const WAYS: usize = 8;

/// Failed attempts, by address and id.
#[derive(Debug)]
pub struct RateLimiter {
    attempts: Slots<Failures>,
}

/// The answer to a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateDecision {
    /// The attempt was wrong.
    Plain,
    /// Try again after this many seconds (1 to 60); the answer does not reveal whether the attempt was wrong.
    Wait {
        /// Until the oldest of the last twenty failures is a minute old.
        seconds: u32,
    },
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl RateLimiter {
    /// A limiter for about `capacity` pairs of address and id.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { attempts: Slots::new(capacity) }
    }

    /// Decides the answer to a failed attempt of `from` as `id` at `now`, and records it if the answer is plain.
    ///
    /// An IPv6 address counts as its /64, because one host owns all of it.
    pub fn refuse(&mut self, from: IpAddr, id: &str, now: Moment) -> RateDecision {
        self.attempts.get((client_network(from), id), now).add(now)
    }
}

/// The last failures with a plain answer, as a ring.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    at: [Option<Moment>; FREE_FAILURES],
    oldest: usize,
}

impl Failures {
    fn add(&mut self, now: Moment) -> RateDecision {
        let oldest = &mut self.at[self.oldest];
        let age = oldest.map_or(WINDOW, |at| now.since(at));
        if let Some(left) = WINDOW.checked_sub(age).filter(|left| !left.is_zero()) {
            return RateDecision::Wait { seconds: left.as_secs_f64().ceil() as u32 };
        }
        *oldest = Some(now);
        self.oldest = (self.oldest + 1) % FREE_FAILURES;
        RateDecision::Plain
    }
}

/// Which log lines were written within the last minute.
#[derive(Debug)]
pub struct LogLimiter {
    written: Slots<Option<Moment>>,
}

impl Default for LogLimiter {
    fn default() -> Self {
        Self { written: Slots::new(CAPACITY) }
    }
}

impl LogLimiter {
    /// Whether the line for `reason` and `about` is due at `now`: at most one a minute. Lines about unknown connectors
    /// (`None`) share one.
    pub fn due(&mut self, reason: &str, about: Option<&str>, now: Moment) -> bool {
        let written = self.written.get((reason, about), now);
        let due = written.is_none_or(|at| now.since(at) >= WINDOW);
        if due {
            *written = Some(now);
        }
        due
    }
}

/// A map that never grows: each key hashes to a set of [`WAYS`] slots, and replaces the least recently used one.
///
/// The hash is keyed at random, so no client can aim at the set of another, and two keys collide with a probability of
/// 2⁻⁶⁴.
#[derive(Debug)]
struct Slots<V> {
    hasher: RandomState,
    /// Empty until the first use: most processes never need it.
    slots: Vec<Slot<V>>,
    sets: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot<V> {
    key: Option<u64>,
    used: Moment,
    value: V,
}

impl<V: Copy + Default> Slots<V> {
    fn new(capacity: usize) -> Self {
        Self { hasher: RandomState::new(), slots: Vec::new(), sets: capacity.div_ceil(WAYS).max(1) }
    }

    fn get(&mut self, key: impl Hash, now: Moment) -> &mut V {
        if self.slots.is_empty() {
            let empty = Slot { key: None, used: Moment::from_micros(i64::MIN), value: V::default() };
            self.slots = vec![empty; self.sets * WAYS];
        }
        let hash = self.hasher.hash_one(key);
        // The high half selects the set, so that the low half still distinguishes its keys.
        let first = (hash >> 32) as usize % self.sets * WAYS;
        let set = &mut self.slots[first..first + WAYS];
        let chosen = set.iter().position(|slot| slot.key == Some(hash)).unwrap_or_else(|| {
            let stalest = set.iter().enumerate().min_by_key(|(_, slot)| slot.used).map_or(0, |(i, _)| i);
            set[stalest] = Slot { key: Some(hash), used: now, value: V::default() };
            stalest
        });
        let slot = &mut set[chosen];
        slot.used = now;
        &mut slot.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn at(seconds: f64) -> Moment {
        Moment::from_micros((seconds * 1e6) as i64)
    }

    fn fail_twenty_times(refusals: &mut RateLimiter, from: IpAddr, id: &str, now: Moment) {
        for _ in 0..FREE_FAILURES {
            assert_eq!(refusals.refuse(from, id, now), RateDecision::Plain);
        }
    }

    #[test]
    fn the_twenty_first_failure_within_a_minute_waits() {
        let mut refusals = RateLimiter::default();
        fail_twenty_times(&mut refusals, FROM, "a", at(0.0));
        assert_eq!(refusals.refuse(FROM, "a", at(0.0)), RateDecision::Wait { seconds: 60 });
        assert_eq!(refusals.refuse(FROM, "a", at(59.5)), RateDecision::Wait { seconds: 1 });
        assert_eq!(refusals.refuse(FROM, "a", at(60.0)), RateDecision::Plain);
    }

    #[test]
    fn no_minute_ever_has_more_than_twenty_plain_answers() {
        let mut refusals = RateLimiter::default();
        let mut plain = Vec::new();
        for tick in 0..3_000 {
            let now = at(f64::from(tick) * 0.1);
            if refusals.refuse(FROM, "a", now) == RateDecision::Plain {
                plain.push(now);
            }
        }
        assert!(plain.windows(21).all(|w| w[20].since(w[0]) >= WINDOW));
        // A client that tries again while it should wait is not locked out for longer.
        assert_eq!(plain.len(), 100);
    }

    #[test]
    fn another_id_or_another_address_has_failures_of_its_own() {
        let mut refusals = RateLimiter::default();
        fail_twenty_times(&mut refusals, FROM, "a", at(0.0));
        assert_eq!(refusals.refuse(FROM, "b", at(0.0)), RateDecision::Plain);
        assert_eq!(refusals.refuse("192.0.2.8".parse().unwrap(), "a", at(0.0)), RateDecision::Plain);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_fail_together() {
        let mut refusals = RateLimiter::default();
        fail_twenty_times(&mut refusals, "2001:db8::1".parse().unwrap(), "a", at(0.0));
        assert_ne!(refusals.refuse("2001:db8::ffff:1:2:3".parse().unwrap(), "a", at(0.0)), RateDecision::Plain);
        assert_eq!(refusals.refuse("2001:db8:0:1::1".parse().unwrap(), "a", at(0.0)), RateDecision::Plain);
        fail_twenty_times(&mut refusals, FROM, "a", at(0.0));
        assert_ne!(refusals.refuse("::ffff:192.0.2.7".parse().unwrap(), "a", at(0.0)), RateDecision::Plain);
    }

    #[test]
    fn a_flood_of_ids_does_not_grow_and_pushes_out_the_stalest() {
        let mut refusals = RateLimiter::with_capacity(WAYS);
        fail_twenty_times(&mut refusals, FROM, "old", at(0.0));
        fail_twenty_times(&mut refusals, FROM, "recent", at(1.0));
        for i in 0..WAYS - 2 {
            refusals.refuse(FROM, &format!("flood-{i}"), at(2.0));
        }
        refusals.refuse(FROM, "one more", at(3.0));
        assert_ne!(refusals.refuse(FROM, "recent", at(3.0)), RateDecision::Plain);
        assert_eq!(refusals.refuse(FROM, "old", at(3.0)), RateDecision::Plain);

        for i in 0..10_000 {
            refusals.refuse(FROM, &format!("flood-{i}"), at(4.0));
        }
        assert_eq!(refusals.attempts.slots.len(), WAYS);
    }

    #[test]
    fn a_line_is_due_once_a_minute_for_each_reason_and_connector() {
        let mut lines = LogLimiter::default();
        assert!(lines.due("rejected", Some("a"), at(0.0)));
        assert!(!lines.due("rejected", Some("a"), at(59.9)));
        assert!(lines.due("rejected", Some("b"), at(1.0)));
        assert!(lines.due("too_often", Some("a"), at(1.0)));
        assert!(lines.due("rejected", None, at(1.0)));
        assert!(!lines.due("rejected", None, at(2.0)));
        assert!(lines.due("rejected", Some("a"), at(60.0)));
    }
}
