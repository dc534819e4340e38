//! The state machine of one contender in the election. Pure; [`super::Elector`] calls the API server, and the simulation
//! runs many contenders against each other.

use jiff::{SignedDuration, Timestamp};

use super::decide::{LeaseRecord, LeaseStep, ObservedLease, decide};
use super::terms::Terms;
use crate::leadership::{Leadership, Role};
use crate::time::{Moment, Now};

/// After this many refusals in a row a contender waits for its next turn: another writer keeps changing the Lease.
const REFUSALS_AT_ONCE: u32 = 2;

/// The next action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Wait until then.
    Sleep(Moment),
    /// Read the Lease.
    Read,
    /// Write this record into the Lease as it was last read.
    Claim(LeaseStep, LeaseRecord),
}

/// One contender.
#[derive(Debug)]
pub(super) struct Election {
    me: String,
    terms: Terms,
    observed: Option<ObservedLease>,
    /// Whether `observed` is from the last response, so that a write may be based on it.
    fresh: bool,
    attempt_at: Moment,
    refusals: u32,
    /// Whether a claim of this process may be in the Lease, or may yet arrive there.
    may_hold: bool,
    /// The role by the Lease alone, whether or not the process was frozen since: never `Unconfirmed`.
    lease_role: Role,
    /// False from a detected freeze until the Lease has been read.
    confirmed: bool,
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
            lease_role: Role::Follower,
            confirmed: true,
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

    /// When a leader becomes uncertain unless it renews before.
    pub(super) fn overdue_at(&self) -> Option<Moment> {
        (self.lease_role == Role::Leader).then_some(self.leadership.write_until)
    }

    /// Makes a leader uncertain whose renewal is overdue.
    pub(super) fn tick(&mut self, now: Moment) {
        if self.overdue_at().is_some_and(|overdue_at| now >= overdue_at) {
            self.lease_role = Role::Uncertain;
        }
        self.set_role();
    }

    /// Derives the role that is published.
    fn set_role(&mut self) {
        self.leadership.role = match self.lease_role {
            Role::Leader | Role::Uncertain if !self.confirmed => Role::Unconfirmed,
            role => role,
        };
    }

    /// The action to do now.
    pub(super) fn next(&mut self, now: Now) -> Ask {
        self.tick(now.moment);
        if now.moment < self.attempt_at {
            return self.sleep();
        }
        let Some(observed) = self.observed.as_ref().filter(|_| self.fresh) else { return Ask::Read };
        match decide(observed, &self.me, now.moment) {
            LeaseStep::Wait(until) => {
                self.fresh = false;
                // Wakes at the very end of the term, so that a failover does not take a read interval longer.
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

    fn claim(&self, step: LeaseStep, wall: Timestamp) -> LeaseRecord {
        let last = self.observed.as_ref().and_then(|observed| observed.record.as_ref());
        let kept = last.filter(|_| step == LeaseStep::Renew);
        // Other replicas detect a renewal by a record that they have not seen before. A wall clock that stands still or
        // steps back could repeat one.
        let not_before = kept.and_then(|record| record.renewed_at).map(|last| last + SignedDuration::from_micros(1));
        let renewed_at = not_before.map_or(wall, |not_before| not_before.max(wall));
        LeaseRecord {
            holder: Some(self.me.clone()),
            acquired_at: kept.and_then(|record| record.acquired_at).or(Some(wall)),
            renewed_at: Some(renewed_at),
            transitions: last.map_or(0, |record| record.transitions.saturating_add(i32::from(kept.is_none()))),
            lasts_for: self.terms.term,
        }
    }

    /// Handles a read of the Lease: `None` means that there is none.
    pub(super) fn saw(&mut self, record: Option<LeaseRecord>, now: Moment) {
        let observed = ObservedLease::after(self.observed.as_ref(), record, &self.me, self.terms.term, now);
        self.confirmed = true;
        match (&observed.record, observed.holder()) {
            (_, Some(holder)) if holder == self.me => {}
            // The Lease of this process was deleted, and no other holder was seen.
            (None, _) if self.lease_role != Role::Follower => {}
            (None, _) => self.leadership.holder = None,
            (Some(_), holder) => {
                self.lease_role = Role::Follower;
                self.leadership.acquired_at = None;
                self.leadership.holder = holder.map(str::to_owned);
                self.may_hold = false;
            }
        }
        self.set_role();
        self.observed = Some(observed);
        self.fresh = true;
        if self.refusals < REFUSALS_AT_ONCE {
            self.attempt_at = now;
        } else {
            self.refusals = 0;
            self.attempt_at = now + self.terms.retry;
        }
    }

    /// Handles a successful claim; `sent_at` was taken before it was sent.
    pub(super) fn claimed(&mut self, step: LeaseStep, record: LeaseRecord, sent_at: Moment, now: Moment) {
        self.tick(now);
        let kept = match (step, self.lease_role) {
            (LeaseStep::Renew, Role::Leader | Role::Uncertain) => true,
            // The Lease was deleted and created again within the term of this process: replicas that had seen it waited.
            (LeaseStep::Create, Role::Leader) => true,
            _ => false,
        };
        if !kept {
            self.leadership.epoch += 1;
            self.leadership.acquired_at = Some(now);
        }
        self.lease_role = Role::Leader;
        self.leadership.holder = Some(self.me.clone());
        self.leadership.write_until = sent_at + self.terms.renew_deadline;
        self.confirmed = true;
        self.observed =
            Some(ObservedLease::after(self.observed.as_ref(), Some(record), &self.me, self.terms.term, now));
        self.fresh = true;
        self.refusals = 0;
        self.attempt_at = sent_at + self.terms.retry;
        self.tick(now);
    }

    /// Handles a conflict: the Lease changed since it was read, so it must be read again first.
    pub(super) fn refused(&mut self, now: Moment) {
        self.refusals += 1;
        self.fresh = false;
        self.attempt_at = now;
    }

    /// Handles a failed call or a lost response: the observation may be out of date.
    pub(super) fn failed(&mut self, sent_at: Moment, now: Moment) {
        self.fresh = false;
        self.attempt_at = now.max(sent_at + self.terms.retry);
    }

    /// Handles a freeze of the process: another replica may hold the Lease, so it must be read.
    pub(super) fn froze(&mut self, now: Moment) {
        self.tick(now);
        self.confirmed = false;
        self.set_role();
        self.fresh = false;
        self.attempt_at = now;
    }

    /// Gives the leadership up for good: nothing more is written.
    pub(super) fn resign(&mut self) {
        self.lease_role = Role::Follower;
        self.set_role();
        self.leadership.acquired_at = None;
        self.leadership.holder = None;
        self.leadership.resigned = true;
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
