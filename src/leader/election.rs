//! One contender's side of the election: what to do next, and what an answer means. Pure; [`super::Elector`] does the
//! talking, and the simulation runs many of these against each other.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::decide::{Observed, Record, Step, decide};
use super::{Leadership, Standing};
use crate::clock::Now;
use crate::health::Moment;

/// Refusals in a row after which we wait like everybody else: somebody keeps changing the Lease.
const REFUSALS_AT_ONCE: u32 = 2;

/// The three times of an election.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How long a record stands unchanged before another may take it.
    pub(super) term: Duration,
    /// How long after a renewal was sent its holder writes; shorter than the term.
    pub(super) renew_deadline: Duration,
    /// How often a leader renews and a follower looks.
    pub(super) retry: Duration,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Nothing until then.
    Sleep(Moment),
    /// Read the Lease.
    Read,
    /// Write this into the Lease as it was read last.
    Claim(Step, Record),
}

/// One contender.
#[derive(Debug)]
pub(super) struct Election {
    me: String,
    terms: Terms,
    observed: Option<Observed>,
    /// Whether `observed` is what the last answer said, so that it may be written upon.
    fresh: bool,
    attempt_at: Moment,
    refusals: u32,
    /// Whether a claim of ours may stand in the Lease, or may yet arrive there.
    may_hold: bool,
    leadership: Leadership,
}

impl Election {
    pub(super) fn new(me: String, terms: Terms, now: Moment) -> Self {
        Self {
            me,
            terms,
            observed: None,
            fresh: false,
            attempt_at: now,
            refusals: 0,
            may_hold: false,
            leadership: Leadership::follower(),
        }
    }

    pub(super) fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    pub(super) fn me(&self) -> &str {
        &self.me
    }

    pub(super) fn may_hold(&self) -> bool {
        self.may_hold
    }

    /// When a leader turns uncertain unless it renews before.
    pub(super) fn overdue_at(&self) -> Option<Moment> {
        (self.leadership.standing == Standing::Leader).then_some(self.leadership.write_until)
    }

    /// Turns a leader uncertain whose renewal is overdue.
    pub(super) fn tick(&mut self, now: Moment) {
        if self.overdue_at().is_some_and(|overdue_at| now >= overdue_at) {
            self.leadership.standing = Standing::Uncertain;
        }
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Now) -> Ask {
        self.tick(now.moment);
        if now.moment < self.attempt_at {
            return self.sleep();
        }
        let Some(observed) = self.observed.as_ref().filter(|_| self.fresh) else { return Ask::Read };
        match decide(observed, &self.me, now.moment) {
            Step::Wait(until) => {
                self.fresh = false;
                // Awake at the very end of the term, so that a failover takes no read interval longer.
                self.attempt_at = until.min(now.moment + self.terms.retry);
                self.sleep()
            }
            step => {
                self.may_hold = true;
                Ask::Claim(step, self.claim(step, now.wall))
            }
        }
    }

    fn sleep(&self) -> Ask {
        Ask::Sleep(self.overdue_at().map_or(self.attempt_at, |overdue_at| overdue_at.min(self.attempt_at)))
    }

    fn claim(&self, step: Step, wall: Timestamp) -> Record {
        let last = self.observed.as_ref().and_then(|observed| observed.record.as_ref());
        let kept = last.filter(|_| step == Step::Renew);
        // Others see that we live by a record that they have not seen before. A wall clock that stands still or steps
        // back could repeat one.
        let not_before = kept.and_then(|record| record.renewed_at).map(|last| last + SignedDuration::from_micros(1));
        let renewed_at = not_before.map_or(wall, |not_before| not_before.max(wall));
        Record {
            holder: Some(self.me.clone()),
            acquired_at: kept.and_then(|record| record.acquired_at).or(Some(wall)),
            renewed_at: Some(renewed_at),
            transitions: last.map_or(0, |record| record.transitions.saturating_add(i32::from(kept.is_none()))),
            lasts_for: self.terms.term,
        }
    }

    /// The Lease was read: `None` means that there is none.
    pub(super) fn saw(&mut self, record: Option<Record>, now: Moment) {
        let observed = Observed::after(self.observed.as_ref(), record, &self.me, self.terms.term, now);
        self.leadership.confirmed = true;
        match (&observed.record, observed.holder()) {
            (_, Some(holder)) if holder == self.me => {}
            // Deleted under us: nobody else was seen.
            (None, _) if self.leadership.standing != Standing::Follower => {}
            (None, _) => self.leadership.holder = None,
            (Some(_), holder) => {
                self.leadership.standing = Standing::Follower;
                self.leadership.acquired_at = None;
                self.leadership.holder = holder.map(str::to_owned);
                self.may_hold = false;
            }
        }
        self.observed = Some(observed);
        self.fresh = true;
        if self.refusals < REFUSALS_AT_ONCE {
            self.attempt_at = now;
        } else {
            self.refusals = 0;
            self.attempt_at = now + self.terms.retry;
        }
    }

    /// Our claim stands in the Lease; `sent_at` was taken before it was sent.
    pub(super) fn claimed(&mut self, step: Step, record: Record, sent_at: Moment, now: Moment) {
        self.tick(now);
        let kept = match (step, &self.leadership.standing) {
            (Step::Renew, Standing::Leader | Standing::Uncertain) => true,
            // Deleted under us and made anew within our own term: those who knew of us have waited.
            (Step::Create, Standing::Leader) => true,
            _ => false,
        };
        if !kept {
            self.leadership.epoch += 1;
            self.leadership.acquired_at = Some(now);
        }
        self.leadership.standing = Standing::Leader;
        self.leadership.holder = Some(self.me.clone());
        self.leadership.write_until = sent_at + self.terms.renew_deadline;
        self.leadership.confirmed = true;
        self.observed = Some(Observed::after(self.observed.as_ref(), Some(record), &self.me, self.terms.term, now));
        self.fresh = true;
        self.refusals = 0;
        self.attempt_at = sent_at + self.terms.retry;
        self.tick(now);
    }

    /// The Lease is not as we read it any more: it must be read before anything else.
    pub(super) fn refused(&mut self, now: Moment) {
        self.refusals += 1;
        self.fresh = false;
        self.attempt_at = now;
    }

    /// A call failed, or its answer was lost: what we know may be out of date.
    pub(super) fn failed(&mut self, sent_at: Moment, now: Moment) {
        self.fresh = false;
        self.attempt_at = now.max(sent_at + self.terms.retry);
    }

    /// We did not run for a while: another may hold the Lease, so it must be read.
    pub(super) fn froze(&mut self, now: Moment) {
        self.tick(now);
        self.leadership.confirmed = false;
        self.fresh = false;
        self.attempt_at = now;
    }

    /// We are leaving: nothing more is written.
    pub(super) fn resign(&mut self) {
        self.leadership.standing = Standing::Follower;
        self.leadership.acquired_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms =
        Terms { term: super::super::TERM, renew_deadline: super::super::RENEW_DEADLINE, retry: super::super::RETRY };

    fn at(seconds: i64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn now(seconds: i64) -> Now {
        Now { moment: at(seconds), wall: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds) }
    }

    fn held_by(holder: Option<&str>) -> Record {
        let holder = holder.map(str::to_owned);
        Record { holder, acquired_at: None, renewed_at: None, transitions: 4, lasts_for: TERMS.term }
    }

    fn contender() -> Election {
        Election::new("me".to_owned(), TERMS, at(100))
    }

    fn claims(election: &mut Election, seconds: i64, want: Step) -> Record {
        match election.next(now(seconds)) {
            Ask::Claim(step, record) if step == want => record,
            other => panic!("wanted to {want:?}, got {other:?}"),
        }
    }

    /// One that found no Lease at 100 s, and made it.
    fn leader() -> Election {
        let mut election = contender();
        assert_eq!(election.next(now(100)), Ask::Read);
        election.saw(None, at(100));
        let record = claims(&mut election, 100, Step::Create);
        election.claimed(Step::Create, record, at(100), at(101));
        election
    }

    /// One whose renewals failed until the deadline.
    fn uncertain() -> Election {
        let mut election = leader();
        claims(&mut election, 102, Step::Renew);
        election.failed(at(102), at(105));
        assert_eq!(election.next(now(105)), Ask::Read);
        election.failed(at(105), at(108));
        election.tick(at(108));
        assert_eq!(stands(&election), (Standing::Uncertain, 1));
        election
    }

    fn stands(election: &Election) -> (Standing, u64) {
        (election.leadership().standing.clone(), election.leadership().epoch)
    }

    fn ours(election: &Election) -> Record {
        election.observed.as_ref().unwrap().record.clone().unwrap()
    }

    #[test]
    fn the_first_lease_is_ours_and_renewed_every_retry() {
        let mut election = leader();
        let leadership = election.leadership();
        assert_eq!(leadership.write_until, at(108), "counted from before the request was sent");
        assert_eq!((leadership.acquired_at, leadership.holder.as_deref()), (Some(at(101)), Some("me")));
        assert_eq!(election.next(now(101)), Ask::Sleep(at(102)));
        let first = ours(&election);
        let renewed = claims(&mut election, 102, Step::Renew);
        assert_eq!((renewed.acquired_at, renewed.transitions), (first.acquired_at, 0));
        assert_eq!(renewed.renewed_at, Some(now(102).wall));
        election.claimed(Step::Renew, renewed, at(102), at(102));
        assert_eq!((stands(&election), election.leadership().write_until), ((Standing::Leader, 1), at(110)));
    }

    #[test]
    fn taking_over_counts_a_transition_and_dates_it() {
        for holder in [None, Some("other")] {
            let mut election = contender();
            election.saw(Some(held_by(holder)), at(100));
            if holder.is_some() {
                assert_eq!(election.next(now(100)), Ask::Sleep(at(102)));
                assert_eq!(election.next(now(102)), Ask::Read);
                election.saw(Some(held_by(holder)), at(112));
            }
            let record = claims(&mut election, 112, Step::Acquire);
            assert_eq!((record.transitions, record.acquired_at), (5, Some(now(112).wall)));
            assert_eq!(record.lasts_for, TERMS.term);
        }
    }

    #[test]
    fn a_follower_wakes_at_the_very_end_of_the_term() {
        let mut election = contender();
        election.saw(Some(held_by(Some("other"))), at(100));
        election.next(now(100));
        assert_eq!(election.next(now(111)), Ask::Read);
        election.saw(Some(held_by(Some("other"))), at(111));
        assert_eq!(election.next(now(111)), Ask::Sleep(at(112)));
        assert_eq!(election.leadership().holder.as_deref(), Some("other"));
    }

    #[test]
    fn a_leader_that_cannot_renew_is_uncertain_for_as_long_as_it_lasts() {
        let mut election = leader();
        claims(&mut election, 102, Step::Renew);
        election.failed(at(102), at(105));
        assert_eq!(stands(&election), (Standing::Leader, 1));
        assert_eq!(election.overdue_at(), Some(at(108)));
        for hour in 1..5 {
            assert_eq!(election.next(now(3600 * hour)), Ask::Read);
            election.failed(at(3600 * hour), at(3600 * hour + 3));
            assert_eq!(stands(&election), (Standing::Uncertain, 1));
            assert!(election.leadership().hears());
            assert!(election.leadership().permit(at(3600 * hour)).is_none());
        }
    }

    #[test]
    fn a_record_that_is_still_ours_makes_us_lead_on_in_the_same_epoch() {
        let mut election = uncertain();
        let record = ours(&election);
        assert_eq!(election.next(now(5000)), Ask::Read);
        election.saw(Some(record), at(5000));
        assert_eq!(stands(&election), (Standing::Uncertain, 1), "until it is renewed");
        let record = claims(&mut election, 5000, Step::Renew);
        election.claimed(Step::Renew, record, at(5000), at(5001));
        assert_eq!(stands(&election), (Standing::Leader, 1));
        assert_eq!(election.leadership().acquired_at, Some(at(101)));
    }

    #[test]
    fn a_record_that_another_holds_or_gave_back_ends_our_leadership() {
        for (mut election, holder) in
            [(leader(), Some("other")), (leader(), None), (uncertain(), Some("other")), (uncertain(), None)]
        {
            election.saw(Some(held_by(holder)), at(109));
            assert_eq!(stands(&election), (Standing::Follower, 1));
            assert_eq!(election.leadership().acquired_at, None);
            assert_eq!(election.leadership().holder.as_deref(), holder);
            assert!(!election.may_hold());
        }
    }

    #[test]
    fn leading_again_after_another_did_is_a_new_epoch() {
        let mut election = leader();
        election.saw(Some(held_by(None)), at(102));
        let record = claims(&mut election, 102, Step::Acquire);
        election.claimed(Step::Acquire, record, at(102), at(103));
        assert_eq!((stands(&election), election.leadership().acquired_at), ((Standing::Leader, 2), Some(at(103))));
    }

    #[test]
    fn a_lease_deleted_under_us_is_made_anew_and_only_within_our_term_in_the_same_epoch() {
        for (mut election, epoch) in [(leader(), 1), (uncertain(), 2)] {
            let seconds = if epoch == 1 { 102 } else { 109 };
            if epoch == 1 {
                claims(&mut election, seconds, Step::Renew);
                election.refused(at(seconds));
                assert_eq!(election.next(now(seconds)), Ask::Read);
            }
            election.saw(None, at(seconds));
            assert_ne!(stands(&election).0, Standing::Follower);
            let record = claims(&mut election, seconds, Step::Create);
            election.claimed(Step::Create, record, at(seconds), at(seconds));
            assert_eq!(stands(&election), (Standing::Leader, epoch));
        }
    }

    #[test]
    fn who_loses_the_race_for_the_first_lease_follows() {
        let mut election = contender();
        election.saw(None, at(100));
        claims(&mut election, 100, Step::Create);
        election.refused(at(100));
        assert_eq!(election.next(now(100)), Ask::Read);
        election.saw(Some(held_by(Some("other"))), at(100));
        assert_eq!(stands(&election), (Standing::Follower, 0));
        assert_eq!(election.next(now(100)), Ask::Sleep(at(102)));
    }

    #[test]
    fn a_claim_whose_answer_was_lost_is_found_and_renewed_before_anything_is_written() {
        let mut election = contender();
        election.saw(None, at(100));
        let record = claims(&mut election, 100, Step::Create);
        election.failed(at(100), at(103));
        assert_eq!(election.next(now(103)), Ask::Read);
        election.saw(Some(record), at(103));
        assert_eq!(stands(&election), (Standing::Follower, 0));
        let record = claims(&mut election, 103, Step::Renew);
        election.claimed(Step::Renew, record, at(103), at(103));
        assert_eq!((stands(&election), election.leadership().write_until), ((Standing::Leader, 1), at(111)));
    }

    #[test]
    fn refusals_do_not_make_a_busy_loop() {
        let mut election = leader();
        let record = ours(&election);
        let mut tries = 0;
        while let Ask::Claim(..) = election.next(now(102)) {
            election.refused(at(102));
            assert_eq!(election.next(now(102)), Ask::Read);
            election.saw(Some(record.clone()), at(102));
            tries += 1;
        }
        assert_eq!(tries, 2);
        assert_eq!(election.next(now(102)), Ask::Sleep(at(104)));
    }

    #[test]
    fn after_a_freeze_nothing_is_believed_until_the_lease_was_read() {
        let mut election = leader();
        let record = ours(&election);
        election.froze(at(103));
        assert!(!election.leadership().hears() && election.leadership().permit(at(103)).is_none());
        assert_eq!(election.next(now(103)), Ask::Read);
        election.saw(Some(record), at(103));
        assert!(election.leadership().hears() && election.leadership().permit(at(103)).is_some(), "a short one");

        election.froze(at(200));
        assert_eq!((stands(&election), election.leadership().hears()), ((Standing::Uncertain, 1), false));
        election.saw(Some(held_by(Some("other"))), at(200));
        assert_eq!((stands(&election), election.leadership().confirmed), ((Standing::Follower, 1), true));
    }

    #[test]
    fn a_wall_clock_that_stands_still_or_steps_back_repeats_no_record() {
        let mut election = leader();
        let mut seen = vec![ours(&election)];
        for wall in [100, 100, 50, 50, 101] {
            let Ask::Claim(_, record) = election.next(Now { moment: at(500), wall: now(wall).wall }) else { panic!() };
            assert!(!seen.contains(&record), "{record:?}");
            seen.push(record.clone());
            election.claimed(Step::Renew, record, at(498), at(499));
        }
    }

    #[test]
    fn who_never_led_follows_through_an_outage() {
        let mut election = contender();
        election.failed(at(100), at(103));
        assert_eq!(stands(&election), (Standing::Follower, 0));
        assert_eq!(election.next(now(103)), Ask::Read);
        election.failed(at(103), at(103));
        assert_eq!(election.next(now(103)), Ask::Sleep(at(105)), "a quick refusal waits for the next look");
    }
}
