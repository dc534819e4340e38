//! One contender's side of the election: what to do next, and what an answer means. Pure; [`super::Elector`] does the
//! talking, and the simulation runs many of these against each other.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::decide::{Observed, Record, Step, decide};
use crate::leadership::{Leadership, Standing};
use crate::time::{Moment, Now};

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
        self.leadership.holder = None;
        self.leadership.resigned = true;
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
