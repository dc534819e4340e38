//! Judges the availability of a backend from its probes: thresholds, quick confirmation, latency, flapping. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Moment;

/// While a failure is confirmed, probes follow after the interval divided by this
/// (`docs/design/probes-and-diagnosis.md`).
const CONFIRM_DIVISOR: u32 = 4;
/// The shortest time between such probes: one that follows at once measures the same moment.
const MIN_CONFIRM: Duration = Duration::from_millis(250);
/// The number of alternations within [`FLAP_WINDOW`] intervals from which a backend is flapping.
const FLAP_TURNS: usize = 6;
/// The window in which alternations are counted, in intervals.
const FLAP_WINDOW: u32 = 20;
/// How many intervals a verdict stands without a finished probe, but at least [`MIN_VERDICT_AGE`].
const MAX_VERDICT_INTERVALS: u32 = 3;
/// How long any verdict stands without a finished probe.
const MIN_VERDICT_AGE: Duration = Duration::from_secs(60);

/// The settings of the spec that the verdict depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time between two probes.
    pub interval: Duration,
    /// The number of failures in a row that make it Down; at least 1.
    pub failure_threshold: u32,
    /// The number of successes in a row that make it Up again; at least 1.
    pub success_threshold: u32,
    /// The latency above which a probe is slow; `None` to ignore latency.
    pub slow_above: Option<Duration>,
}

/// The result of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The start of the probe.
    pub at: Moment,
    /// Whether it passed.
    pub passed: bool,
    /// Its duration.
    pub took: Duration,
}

/// The verdict on a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Never probed.
    NotProbed,
    /// Its probes pass.
    Up,
    /// Its probes fail, confirmed by the failure threshold.
    Down,
}

/// The record of the probes of one backend.
#[derive(Clone, Debug)]
pub struct ProbeHistory {
    availability: Availability,
    /// The start of the probe that decided the verdict.
    since: Moment,
    passes: u32,
    failures: u32,
    first_failure: Option<Moment>,
    slow: bool,
    slow_passes: u32,
    fast_passes: u32,
    last: Option<Sample>,
    /// The end of the newest probe, or of the one that a stored verdict rests on.
    evidence_at: Option<Moment>,
    /// The times at which the result alternated between passed and failed, the newest last.
    turns: VecDeque<Moment>,
}

impl ProbeHistory {
    /// The record of a backend that was never probed.
    pub fn new(now: Moment) -> Self {
        Self {
            availability: Availability::NotProbed,
            since: now,
            passes: 0,
            failures: 0,
            first_failure: None,
            slow: false,
            slow_passes: 0,
            fast_passes: 0,
            last: None,
            evidence_at: None,
            turns: VecDeque::with_capacity(FLAP_TURNS),
        }
    }

    /// Continues from the stored status of a former leader: one probe does not overturn a verdict that several established.
    /// `probed_at` is the end of the last probe that the status contains.
    pub fn resumed(availability: Availability, since: Moment, slow: bool, probed_at: Option<Moment>) -> Self {
        let first_failure = (availability == Availability::Down).then_some(since);
        Self { availability, first_failure, slow, evidence_at: probed_at, ..Self::new(since) }
    }

    /// The current verdict.
    pub fn availability(&self) -> Availability {
        self.availability
    }

    /// The start of the probe that decided the verdict.
    pub fn since(&self) -> Moment {
        self.since
    }

    /// The first of the failures that last until now; `None` when it does not fail.
    pub fn failing_since(&self) -> Option<Moment> {
        self.first_failure
    }

    /// Whether it is Up and slow. As many slow probes in a row make it slow as failures make it Down.
    pub fn is_slow(&self) -> bool {
        self.slow && self.availability == Availability::Up
    }

    /// The newest probe.
    pub fn last(&self) -> Option<&Sample> {
        self.last.as_ref()
    }

    /// The end of the newest probe, or of the one that a stored verdict rests on.
    pub fn evidence_at(&self) -> Option<Moment> {
        self.evidence_at
    }

    /// Until when the verdict stands without another finished probe; `None` when there is no verdict. A replica that has
    /// led since `leads_since` gets one turn to renew a stored verdict, however old that is: while no replica leads,
    /// nothing is probed.
    pub fn stands_until(&self, limits: &Limits, leads_since: Moment) -> Option<Moment> {
        let most = (limits.interval * MAX_VERDICT_INTERVALS).max(MIN_VERDICT_AGE);
        let first_turn = leads_since + most.min(limits.interval + MIN_VERDICT_AGE);
        let is_known = self.availability != Availability::NotProbed;
        is_known.then(|| self.evidence_at.map_or(first_turn, |at| first_turn.max(at + most)))
    }

    /// Whether it fails and the failure is not confirmed yet: the next probe comes soon.
    pub fn is_confirming(&self) -> bool {
        self.failures > 0 && self.availability != Availability::Down
    }

    /// Records one probe. Returns whether the verdict or `is_slow` changed. A probe that was started before the newest one
    /// is ignored.
    pub fn record(&mut self, sample: Sample, limits: &Limits) -> bool {
        if self.last.is_some_and(|last| sample.at < last.at) {
            return false;
        }
        self.note_turn(&sample);
        self.last = Some(sample);
        self.evidence_at = Some(sample.at + sample.took);
        let before = (self.availability, self.slow);
        if sample.passed {
            self.passed(&sample, limits);
        } else {
            self.failed(&sample, limits);
        }
        before != (self.availability, self.slow)
    }

    fn note_turn(&mut self, sample: &Sample) {
        if self.last.is_none_or(|last| last.passed == sample.passed) {
            return;
        }
        if self.turns.len() == FLAP_TURNS {
            self.turns.pop_front();
        }
        self.turns.push_back(sample.at);
    }

    fn passed(&mut self, sample: &Sample, limits: &Limits) {
        self.failures = 0;
        self.passes = self.passes.saturating_add(1);
        // Before the first verdict a success has nothing to overturn: one is enough.
        let needed = if self.availability == Availability::NotProbed { 1 } else { limits.success_threshold.max(1) };
        if self.availability != Availability::Up && self.passes >= needed {
            self.turn(Availability::Up, sample.at);
        }
        if self.availability == Availability::Up {
            self.first_failure = None;
        }
        self.weigh_latency(sample.took, limits);
    }

    fn failed(&mut self, sample: &Sample, limits: &Limits) {
        self.passes = 0;
        (self.slow_passes, self.fast_passes) = (0, 0);
        self.failures = self.failures.saturating_add(1);
        self.first_failure.get_or_insert(sample.at);
        if self.availability != Availability::Down && self.failures >= limits.failure_threshold.max(1) {
            self.turn(Availability::Down, sample.at);
        }
    }

    fn weigh_latency(&mut self, took: Duration, limits: &Limits) {
        if limits.slow_above.is_some_and(|limit| took > limit) {
            (self.slow_passes, self.fast_passes) = (self.slow_passes.saturating_add(1), 0);
        } else {
            (self.slow_passes, self.fast_passes) = (0, self.fast_passes.saturating_add(1));
        }
        if self.slow_passes >= limits.failure_threshold.max(1) {
            self.slow = true;
        } else if self.fast_passes >= limits.success_threshold.max(1) {
            self.slow = false;
        }
    }

    fn turn(&mut self, to: Availability, at: Moment) {
        self.availability = to;
        self.since = at;
    }

    /// How long after the start of the last probe the next one is due, while a first failure is confirmed; `None`
    /// otherwise. Confirmation is fast, and a failure that happens once does not change the verdict.
    pub fn confirm_in(&self, limits: &Limits) -> Option<Duration> {
        let soon = (limits.interval / CONFIRM_DIVISOR).max(MIN_CONFIRM).min(limits.interval);
        self.is_confirming().then_some(soon)
    }

    /// The number of alternations and the window in which they happened, if the backend is flapping.
    pub fn flapping(&self, now: Moment, limits: &Limits) -> Option<(usize, Duration)> {
        let window = limits.interval * FLAP_WINDOW;
        let recent = self.turns.iter().filter(|at| now.since(**at) <= window).count();
        (recent >= FLAP_TURNS).then_some((recent, window))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits =
        Limits { interval: Duration::from_secs(15), failure_threshold: 3, success_threshold: 2, slow_above: None };

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn sample(seconds: i64, passed: bool) -> Sample {
        Sample { at: at(seconds), passed, took: Duration::from_millis(20) }
    }

    fn probed(results: &[bool], limits: &Limits) -> ProbeHistory {
        let mut record = ProbeHistory::new(at(0));
        for (second, passed) in (1..).zip(results) {
            record.record(sample(second, *passed), limits);
        }
        record
    }

    #[test]
    fn thresholds_make_a_verdict_and_one_success_is_enough_for_the_first() {
        for (results, expected) in [
            (&[][..], Availability::NotProbed),
            (&[true], Availability::Up),
            (&[false], Availability::NotProbed),
            (&[false, false], Availability::NotProbed),
            (&[false, false, false], Availability::Down),
            (&[false, false, true], Availability::Up),
            (&[true, false, false], Availability::Up),
            (&[true, false, false, false], Availability::Down),
            (&[true, false, false, true, false, false], Availability::Up),
            (&[false, false, false, true], Availability::Down),
            (&[false, false, false, true, false, true], Availability::Down),
            (&[false, false, false, true, true], Availability::Up),
        ] {
            assert_eq!(probed(results, &LIMITS).availability(), expected, "{results:?}");
        }
    }

    #[test]
    fn it_is_failing_since_its_first_failure_and_down_since_the_one_that_decided() {
        let record = probed(&[true, false, false, false, false], &LIMITS);
        assert_eq!((record.failing_since(), record.since()), (Some(at(2)), at(4)));
        let back = probed(&[true, false, false, false, true, true], &LIMITS);
        assert_eq!((back.failing_since(), back.since()), (None, at(6)));
    }

    #[test]
    fn a_first_failure_is_confirmed_within_a_quarter_of_the_interval_and_never_at_once() {
        assert_eq!(probed(&[true], &LIMITS).confirm_in(&LIMITS), None);
        assert_eq!(probed(&[true, false], &LIMITS).confirm_in(&LIMITS), Some(Duration::from_millis(3750)));
        assert_eq!(probed(&[false, false, false], &LIMITS).confirm_in(&LIMITS), None, "established");
        let brisk = Limits { interval: Duration::from_millis(100), ..LIMITS };
        assert_eq!(probed(&[false], &brisk).confirm_in(&brisk), Some(brisk.interval));
    }

    #[test]
    fn what_a_predecessor_established_is_not_overturned_by_one_probe() {
        let mut record = ProbeHistory::resumed(Availability::Up, at(-100), false, None);
        assert!(!record.record(sample(1, false), &LIMITS));
        assert_eq!((record.availability(), record.since()), (Availability::Up, at(-100)));
        let mut down = ProbeHistory::resumed(Availability::Down, at(-100), false, None);
        assert!(!down.record(sample(1, true), &LIMITS));
        assert_eq!(down.failing_since(), Some(at(-100)));
    }

    #[test]
    fn slow_takes_as_many_probes_as_down_does_and_goes_as_up_comes() {
        let limits = Limits { slow_above: Some(Duration::from_millis(100)), ..LIMITS };
        let mut record = ProbeHistory::new(at(0));
        for (second, millis, slow) in
            [(1, 500, false), (2, 500, false), (3, 500, true), (4, 20, true), (5, 100, false), (6, 101, false)]
        {
            record.record(Sample { at: at(second), passed: true, took: Duration::from_millis(millis) }, &limits);
            assert_eq!(record.is_slow(), slow, "after {second}");
        }
    }

    #[test]
    fn flapping_is_six_turns_within_twenty_intervals() {
        let alternating = [true, false, true, false, true, false, true];
        let record = probed(&alternating, &LIMITS);
        assert_eq!(record.flapping(at(7), &LIMITS), Some((6, Duration::from_secs(300))));
        assert_eq!(record.flapping(at(303), &LIMITS), None, "the first turn is older than the window");
        assert_eq!(probed(&alternating[..6], &LIMITS).flapping(at(7), &LIMITS), None);
    }

    #[test]
    fn a_verdict_stands_for_three_intervals_and_a_minute_at_least_and_a_stored_one_for_a_turn_of_the_new_leader() {
        let until = |record: &ProbeHistory, interval, leads_since| {
            record.stands_until(&Limits { interval: Duration::from_secs(interval), ..LIMITS }, at(leads_since))
        };
        assert_eq!(until(&probed(&[], &LIMITS), 15, 0), None, "no verdict");
        assert_eq!(until(&probed(&[false], &LIMITS), 15, 0), None, "one failure is none");
        let mut record = ProbeHistory::new(at(0));
        for passed in [true, false, false, false] {
            record.record(Sample { at: at(100), passed, took: Duration::from_secs(5) }, &LIMITS);
            assert_eq!(until(&record, 15, 0), Some(at(165)), "from the end of the probe, also of one that failed");
            assert_eq!(until(&record, 100, 0), Some(at(405)));
        }
        let stored = ProbeHistory::resumed(Availability::Down, at(-5000), false, Some(at(-900)));
        assert_eq!((until(&stored, 15, 0), until(&stored, 15, 40)), (Some(at(60)), Some(at(100))));
        assert_eq!(until(&stored, 3600, 0), Some(at(3 * 3600 - 900)), "its own probe vouches for longer");
        let old = ProbeHistory::resumed(Availability::Up, at(-50_000), false, Some(at(-20_000)));
        assert_eq!(until(&old, 3600, 0), Some(at(3660)), "one turn");
        let unknown = ProbeHistory::resumed(Availability::Up, at(-50_000), false, None);
        assert_eq!(until(&unknown, 15, 7), Some(at(67)));
    }

    proptest! {
        #[test]
        fn down_needs_its_threshold_and_up_its_own(results in proptest::collection::vec(any::<bool>(), 0..60)) {
            let mut record = ProbeHistory::new(at(0));
            let (mut streak, mut kind) = (0u32, true);
            for (second, passed) in (1..).zip(results) {
                let before = record.availability();
                streak = if passed == kind { streak + 1 } else { 1 };
                kind = passed;
                let changed = record.record(sample(second, passed), &LIMITS);
                prop_assert_eq!(changed, before != record.availability());
                match (before, record.availability()) {
                    (Availability::Up, Availability::Down) => prop_assert!(!passed && streak == 3),
                    (Availability::Down, Availability::Up) => prop_assert!(passed && streak == 2),
                    (_, Availability::NotProbed) => prop_assert!(!passed && streak < 3),
                    _ => {}
                }
                prop_assert_eq!(record.failing_since().is_some(), record.is_confirming() || record.availability() == Availability::Down);
            }
        }
    }
}
