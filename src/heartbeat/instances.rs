//! Boot ids and sequence numbers: detects heartbeats that were overtaken, and two hosts with one token.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use crate::time::Moment;

/// This many switches between the same two boot ids within [`WITHIN`] intervals are two hosts with one token
/// (A, B, A, B; `docs/design/liveness.md`, "Beats"). A restart is one switch.
const SWITCHES: u8 = 3;

/// How many intervals the alternation may take, and how long it is remembered after the last one.
const WITHIN: u32 = 3;

/// A heartbeat is overtaken only by one that was received within this many intervals: networks do not hold one back for
/// longer. Later a lower number is that of a counter that began anew.
const OVERTAKEN_WITHIN: u32 = 2;

/// This many heartbeats in a row may be overtaken. More lower numbers mean that the counter began anew: otherwise one
/// heartbeat with a large number would hide all later reports.
const OVERTAKEN_IN_A_ROW: u8 = 2;

/// One boot of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Boot {
    id: u64,
    sequence: Option<u64>,
    /// When the heartbeat with this sequence number was received.
    heard_at: Moment,
    /// The overtaken heartbeats since.
    overtaken: u8,
}

impl Boot {
    /// Whether `new`, of the same boot, was sent before the latest heartbeat; counts it then.
    fn overtakes(&mut self, new: &Self, interval: Duration) -> bool {
        let is_lower = matches!((self.sequence, new.sequence), (Some(known), Some(new)) if new <= known);
        let in_time = new.heard_at.since(self.heard_at) < interval * OVERTAKEN_WITHIN;
        let overtakes = is_lower && in_time && self.overtaken < OVERTAKEN_IN_A_ROW;
        if overtakes {
            self.overtaken += 1;
        }
        overtakes
    }
}

/// The last two boot ids. Ids are kept as hashes: the only cost of a collision is a missed warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instances {
    current: Option<Boot>,
    /// `None` for almost all senders: they did not start again since this process began.
    switched: Option<Box<Switched>>,
}

/// The switches from one boot id to another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Switched {
    /// The boot before the current one.
    from: Boot,
    /// How often in a row the sender switched, and when it began to.
    switches: u8,
    first: Moment,
    last: Moment,
    duplicate_since: Option<Moment>,
}

/// Whether a heartbeat is the latest of its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// No later heartbeat was received.
    Fresh,
    /// A later heartbeat was received shortly before: it counts as contact and changes nothing.
    Overtaken,
}

impl Instances {
    /// Records a heartbeat.
    pub fn record(&mut self, boot: &str, sequence: Option<u64>, interval: Duration, now: Moment) -> Freshness {
        let heard = Boot { id: hash(boot), sequence, heard_at: now, overtaken: 0 };
        match (&mut self.current, self.switched.as_deref_mut()) {
            (Some(current), _) if current.id == heard.id => {
                if current.overtakes(&heard, interval) {
                    return Freshness::Overtaken;
                }
                *current = heard;
            }
            (_, Some(switched)) if switched.from.id == heard.id => {
                if switched.from.overtakes(&heard, interval) {
                    return Freshness::Overtaken;
                }
                self.switch(heard, true, interval, now);
            }
            _ => self.switch(heard, false, interval, now),
        }
        Freshness::Fresh
    }

    /// Since when two hosts send heartbeats with one token; `None` when they do not, or no longer.
    pub fn duplicate_since(&self, interval: Duration, now: Moment) -> Option<Moment> {
        self.duplicate(interval, now).map(|(since, _)| since)
    }

    /// Since when two hosts send heartbeats with one token, and until when that is remembered.
    pub fn duplicate(&self, interval: Duration, now: Moment) -> Option<(Moment, Moment)> {
        self.switched.as_deref()?.duplicate(interval, now)
    }

    fn switch(&mut self, to: Boot, back: bool, interval: Duration, now: Moment) {
        let Some(from) = self.current.replace(to) else { return };
        match &mut self.switched {
            Some(switched) => switched.again(from, back, interval, now),
            None => {
                let first = Switched { from, switches: 1, first: now, last: now, duplicate_since: None };
                self.switched = Some(Box::new(first));
            }
        }
    }
}

impl Switched {
    fn duplicate(&self, interval: Duration, now: Moment) -> Option<(Moment, Moment)> {
        let until = self.last + interval * WITHIN;
        self.duplicate_since.filter(|_| now < until).map(|since| (since, until))
    }

    fn again(&mut self, from: Boot, back: bool, interval: Duration, now: Moment) {
        self.from = from;
        self.duplicate_since = self.duplicate(interval, now).map(|(since, _)| since);
        let in_time = now.since(self.first) <= interval * WITHIN;
        if back && (in_time || self.duplicate_since.is_some()) {
            self.switches = self.switches.saturating_add(1);
        } else {
            // An unknown boot id is a restart; a known one after a long time restarts the count.
            self.switches = 1;
            self.first = now;
        }
        self.last = now;
        if self.switches >= SWITCHES && self.duplicate_since.is_none() {
            self.duplicate_since = Some(now);
        }
    }
}

fn hash(boot: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    boot.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn beats(of: &[(&str, i64)]) -> (Instances, Moment) {
        let mut instances = Instances::default();
        let mut now = at(0);
        for (boot, second) in of {
            now = at(*second);
            instances.record(boot, None, INTERVAL, now);
        }
        (instances, now)
    }

    #[test]
    fn two_hosts_that_alternate_are_duplicates_and_a_restart_is_not() {
        let (two, now) = beats(&[("a", 0), ("b", 15), ("a", 30), ("b", 45)]);
        assert_eq!(two.duplicate_since(INTERVAL, now), Some(at(45)));
        let (restarted, now) = beats(&[("a", 0), ("a", 30), ("b", 60), ("b", 90)]);
        assert_eq!(restarted.duplicate_since(INTERVAL, now), None);
        let (crash_loop, now) = beats(&[("a", 0), ("b", 10), ("c", 20), ("d", 30), ("e", 40)]);
        assert_eq!(crash_loop.duplicate_since(INTERVAL, now), None);
        let (overlapping, now) = beats(&[("a", 0), ("b", 15), ("a", 16), ("b", 150)]);
        assert_eq!(overlapping.duplicate_since(INTERVAL, now), None);
    }

    #[test]
    fn a_duplicate_is_forgotten_three_intervals_after_the_last_alternation() {
        let (mut two, _) = beats(&[("a", 0), ("b", 15), ("a", 30), ("b", 45), ("a", 60)]);
        assert_eq!(two.duplicate_since(INTERVAL, at(149)), Some(at(45)));
        assert_eq!(two.duplicate_since(INTERVAL, at(150)), None);
        two.record("a", None, INTERVAL, at(200));
        assert_eq!(two.duplicate_since(INTERVAL, at(200)), None);
    }

    /// Records heartbeats of one boot at these seconds with these numbers; returns which of them were overtaken.
    fn overtaken(of: &[(i64, u64)]) -> Vec<usize> {
        let mut instances = Instances::default();
        let freshness = |(second, sequence): &(i64, u64)| {
            instances.record("a", Some(*sequence), INTERVAL, at(*second)) == Freshness::Overtaken
        };
        let answers: Vec<bool> = of.iter().map(freshness).collect();
        (0..answers.len()).filter(|i| answers[*i]).collect()
    }

    #[test]
    fn a_beat_that_was_overtaken_changes_no_more_than_the_count_of_such() {
        let mut instances = Instances::default();
        assert_eq!(instances.record("a", Some(5), INTERVAL, at(0)), Freshness::Fresh);
        assert_eq!(instances.record("a", Some(4), INTERVAL, at(1)), Freshness::Overtaken);
        assert_eq!(instances.record("b", Some(1), INTERVAL, at(2)), Freshness::Fresh);
        let before = instances.clone();
        assert_eq!(instances.record("a", Some(5), INTERVAL, at(3)), Freshness::Overtaken);
        assert_eq!(instances.current, before.current);
        let switches = |of: &Instances| of.switched.as_ref().map(|switched| switched.switches);
        assert_eq!(switches(&instances), switches(&before));
        assert_eq!(instances.record("a", Some(6), INTERVAL, at(4)), Freshness::Fresh);
    }

    #[test]
    fn a_counter_that_began_anew_in_the_same_boot_hides_two_reports_at_most() {
        const LARGEST: u64 = u64::MAX;
        for (beats, expected) in [
            (&[(0, 5), (1, 6), (2, 4)][..], &[2][..]),
            (&[(0, 5), (30, 0), (60, 1), (90, 2)], &[1]),
            (&[(0, LARGEST), (5, 1), (10, 2), (15, 3), (20, 4)], &[1, 2]),
            (&[(0, LARGEST), (59, 1)], &[1]),
            (&[(0, LARGEST), (60, 1), (61, 2)], &[]),
            // The same number again and again is no counter.
            (&[(0, 7), (5, 7), (10, 7), (15, 7), (20, 7), (25, 7), (30, 7)], &[1, 2, 4, 5]),
            // After a fresh one the count begins again: those that the network held back come singly.
            (&[(0, 5), (1, 4), (2, 3), (3, 6), (4, 2), (5, 1), (6, 7)], &[1, 2, 4, 5]),
            // A counter that went back to a number counts from there.
            (&[(0, 900), (1, 3), (2, 4), (3, 5), (4, 4), (5, 6)], &[1, 2, 4]),
        ] {
            assert_eq!(overtaken(beats), expected, "{beats:?}");
        }
    }

    #[test]
    fn a_sender_that_did_not_start_again_takes_48_bytes() {
        assert_eq!(size_of::<Instances>(), 48);
        let (once, _) = beats(&[("a", 0), ("a", 30), ("a", 60)]);
        assert_eq!(once.switched, None);
    }

    #[test]
    fn the_counter_of_the_boot_before_may_begin_anew_too() {
        let mut instances = Instances::default();
        instances.record("a", Some(u64::MAX), INTERVAL, at(0));
        instances.record("b", Some(1), INTERVAL, at(1));
        let answers = [2, 3, 4].map(|second| instances.record("a", Some(1), INTERVAL, at(second)));
        assert_eq!(answers, [Freshness::Overtaken, Freshness::Overtaken, Freshness::Fresh]);
        instances.record("b", Some(2), INTERVAL, at(5));
        assert_eq!(instances.record("a", Some(1), INTERVAL, at(500)), Freshness::Fresh);
    }
}
