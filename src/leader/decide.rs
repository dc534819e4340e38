//! Decides the next step from the observed Lease. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::terms::LONGEST_TERM;
use crate::time::Moment;

/// The record of leadership in the Lease. Its times are by the holder's clock: the code writes and compares them, and
/// never computes with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The identity of the holder; `None` when the Lease was given back.
    pub holder: Option<String>,
    /// When the holder acquired it.
    pub acquired_at: Option<Timestamp>,
    /// When the holder last renewed it.
    pub renewed_at: Option<Timestamp>,
    /// The number of changes of the holder.
    pub transitions: i32,
    /// The term that the holder asks for.
    pub lasts_for: Duration,
}

/// The Lease as this process last read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedLease {
    /// The record; `None` when there was no Lease.
    pub record: Option<LeaseRecord>,
    /// When it was last read, changed or not.
    pub seen_at: Moment,
    /// When another replica may take it, by this process' clock: a term after the last change that this process saw.
    pub free_at: Moment,
    /// Whether the holder of this record already got extra time because this process could not read the Lease.
    pub spared: bool,
}

impl ObservedLease {
    /// The observation after the Lease was read; `now` is taken after the response arrived.
    ///
    /// An unchanged record keeps its time. But when this process could not read the Lease for half a term, the holder
    /// probably could not renew it either: the holder gets another half to do so, once. Otherwise every outage of the API
    /// server would change the leader, and move `listeningSince` with it.
    ///
    /// A record that vanishes while another replica holds it stays taken for the rest of its term, so that deleting the
    /// Lease does not make two replicas leaders.
    pub fn after(previous: Option<&Self>, record: Option<LeaseRecord>, me: &str, term: Duration, now: Moment) -> Self {
        let free_at = match (&record, previous) {
            (_, Some(previous)) if previous.record == record => return previous.clone().unchanged(term, now),
            (Some(record), _) => now + record.lasts_for.min(LONGEST_TERM).max(term),
            (None, Some(previous)) if previous.held_by_another(me) => previous.free_at,
            (None, _) => now,
        };
        Self { record, seen_at: now, free_at, spared: false }
    }

    fn unchanged(self, term: Duration, now: Moment) -> Self {
        let spare = !self.spared && now.since(self.seen_at) > term / 2;
        let free_at = if spare && self.record.is_some() { self.free_at.max(now + term / 2) } else { self.free_at };
        Self { free_at, seen_at: now, spared: self.spared || spare, ..self }
    }

    fn held_by_another(&self, me: &str) -> bool {
        self.holder().is_some_and(|holder| holder != me)
    }

    /// The identity of the holder.
    pub fn holder(&self) -> Option<&str> {
        self.record.as_ref()?.holder.as_deref()
    }
}

/// The next step about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// There is no Lease: create one held by this process.
    Create,
    /// No replica holds it, or its holder has not renewed it for a term: take it.
    Acquire,
    /// This process holds it, expired or not: renew it.
    Renew,
    /// Another replica holds it, at least until then.
    Wait(Moment),
}

/// The next step about the Lease as it was just read.
pub fn decide(observed: &ObservedLease, me: &str, now: Moment) -> LeaseStep {
    let ObservedLease { record, free_at, seen_at: _, spared: _ } = observed;
    match (record, observed.holder()) {
        // Also when it has expired for others: the resourceVersion proves whether another replica took it.
        (_, Some(holder)) if holder == me => LeaseStep::Renew,
        // The holder gave it back, so there is no term to wait for.
        (Some(_), None) => LeaseStep::Acquire,
        _ if now < *free_at => LeaseStep::Wait(*free_at),
        (Some(_), Some(_)) => LeaseStep::Acquire,
        (None, _) => LeaseStep::Create,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(12);

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn wall(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    fn held_by(holder: &str) -> LeaseRecord {
        LeaseRecord {
            holder: Some(holder.to_owned()),
            acquired_at: wall("2026-11-01T10:00:00Z"),
            renewed_at: wall("2026-11-01T10:00:00Z"),
            transitions: 1,
            lasts_for: TERM,
        }
    }

    fn seen(record: Option<LeaseRecord>, now: Moment) -> ObservedLease {
        ObservedLease::after(None, record, "me", TERM, now)
    }

    #[test]
    fn each_record_asks_for_one_step() {
        let given_back = LeaseRecord { holder: None, ..held_by("") };
        for (record, age, want) in [
            (None, 0, LeaseStep::Create),
            (Some(given_back), 0, LeaseStep::Acquire),
            (Some(held_by("other")), 0, LeaseStep::Wait(at(112))),
            (Some(held_by("other")), 11, LeaseStep::Wait(at(112))),
            (Some(held_by("other")), 12, LeaseStep::Acquire),
            (Some(held_by("me")), 0, LeaseStep::Renew),
            (Some(held_by("me")), 3600, LeaseStep::Renew),
        ] {
            let observed = seen(record, at(100));
            assert_eq!(decide(&observed, "me", at(100 + age)), want, "{observed:?} {age} s later");
        }
    }

    #[test]
    fn the_holders_clock_is_never_believed() {
        for renewed in ["1999-01-01T00:00:00Z", "2026-11-01T10:00:00Z", "2099-01-01T00:00:00Z"] {
            let record = LeaseRecord { renewed_at: wall(renewed), acquired_at: None, ..held_by("other") };
            let observed = seen(Some(record), at(100));
            assert_eq!(decide(&observed, "me", at(111)), LeaseStep::Wait(at(112)), "{renewed}");
            assert_eq!(decide(&observed, "me", at(112)), LeaseStep::Acquire, "{renewed}");
        }
    }

    #[test]
    fn a_term_begins_again_with_every_change_and_only_then() {
        let first = seen(Some(held_by("other")), at(100));
        let same = ObservedLease::after(Some(&first), Some(held_by("other")), "me", TERM, at(105));
        assert_eq!(same.free_at, at(112));
        let renewed = LeaseRecord { renewed_at: wall("1999-01-01T00:00:00Z"), ..held_by("other") };
        let changed = ObservedLease::after(Some(&same), Some(renewed), "me", TERM, at(109));
        assert_eq!(changed.free_at, at(121), "a renewal by a clock that stepped back is a renewal");
    }

    #[test]
    fn after_an_outage_the_holder_gets_half_a_term_to_renew_but_only_once() {
        let read = |before: &ObservedLease, seconds| {
            ObservedLease::after(Some(before), Some(held_by("other")), "me", TERM, at(seconds))
        };
        let blind = read(&seen(Some(held_by("other")), at(100)), 500);
        assert_eq!((decide(&blind, "me", at(500)), blind.free_at), (LeaseStep::Wait(at(506)), at(506)));
        let blind_again = read(&blind, 507);
        assert_eq!(decide(&blind_again, "me", at(507)), LeaseStep::Acquire, "or a bad line would spare it for ever");
        let one_read_missed = read(&seen(Some(held_by("other")), at(100)), 105);
        assert_eq!(one_read_missed.free_at, at(112));

        let renewed = LeaseRecord { renewed_at: wall("2026-11-01T11:00:00Z"), ..held_by("other") };
        let renewed = ObservedLease::after(Some(&blind), Some(renewed), "me", TERM, at(502));
        assert_eq!((renewed.free_at, renewed.spared), (at(514), false));
    }

    #[test]
    fn a_holder_that_asks_for_a_longer_term_gets_it_within_reason() {
        for (asks, gets) in [(1, 12), (12, 12), (15, 15), (60, 60), (1_000_000, 60)] {
            let record = LeaseRecord { lasts_for: Duration::from_secs(asks), ..held_by("other") };
            assert_eq!(seen(Some(record), at(100)).free_at, at(100 + gets), "{asks}");
        }
    }

    #[test]
    fn a_lease_deleted_under_another_stays_taken_until_its_term_ends() {
        let held = seen(Some(held_by("other")), at(100));
        let gone = ObservedLease::after(Some(&held), None, "me", TERM, at(102));
        assert_eq!(decide(&gone, "me", at(102)), LeaseStep::Wait(at(112)));
        let still_gone = ObservedLease::after(Some(&gone), None, "me", TERM, at(111));
        assert_eq!(decide(&still_gone, "me", at(111)), LeaseStep::Wait(at(112)));
        assert_eq!(decide(&still_gone, "me", at(112)), LeaseStep::Create);
    }

    #[test]
    fn a_lease_deleted_under_us_or_under_nobody_is_made_again_at_once() {
        for record in [held_by("me"), LeaseRecord { holder: None, ..held_by("") }] {
            let before = seen(Some(record), at(100));
            let gone = ObservedLease::after(Some(&before), None, "me", TERM, at(102));
            assert_eq!(decide(&gone, "me", at(102)), LeaseStep::Create, "{before:?}");
        }
    }
}
