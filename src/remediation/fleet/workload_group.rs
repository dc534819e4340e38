//! The objects that have one workload, counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{InFlight, Member, ObjectId};
use crate::remediation::input::Health;

/// How a workload counts in each of its sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupCounts {
    /// It was healthy once.
    pub(super) is_known: bool,
    /// Any of its objects is unhealthy, or an attempt is in flight.
    pub(super) is_unhealthy: bool,
}

/// An object that counts as unhealthy: what was never healthy does not.
pub(super) fn is_bad(member: &Member) -> bool {
    member.was_healthy && member.health == Health::Unhealthy
}

/// All objects with one workload.
#[derive(Debug)]
pub(super) struct WorkloadGroup {
    /// It among all crews.
    pub(super) number: u64,
    /// How many of them are unhealthy.
    pub(super) bad: usize,
    /// When it turned unhealthy last, under no attempt of ours.
    pub(super) turned: Option<Timestamp>,
    /// How many were healthy once.
    known: usize,
    /// In which sites they are, and how many in each.
    sites: BTreeMap<Arc<str>, usize>,
    flights: BTreeMap<ObjectId, InFlight>,
    attempts: i64,
    /// Their budgets, and how many have each.
    budgets: BTreeMap<i32, usize>,
}

impl WorkloadGroup {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            bad: 0,
            turned: None,
            known: 0,
            sites: BTreeMap::new(),
            flights: BTreeMap::new(),
            attempts: 0,
            budgets: BTreeMap::new(),
        }
    }

    pub(super) fn join(&mut self, id: &ObjectId, member: &Member) {
        let Member { site, workload: _, health: _, unhealthy_since: _, was_healthy, in_flight, attempts, max_attempts } =
            member;
        *self.sites.entry(site.clone()).or_default() += 1;
        self.known += usize::from(*was_healthy);
        self.bad += usize::from(is_bad(member));
        self.attempts += i64::from(*attempts);
        if let Some(flight) = in_flight {
            self.flights.insert(id.clone(), flight.clone());
        }
        if let Some(max) = max_attempts {
            *self.budgets.entry(*max).or_default() += 1;
        }
    }

    /// Takes back what [`WorkloadGroup::join`] did with the same member.
    pub(super) fn leave(&mut self, id: &ObjectId, member: &Member) {
        let Member {
            site,
            workload: _,
            health: _,
            unhealthy_since: _,
            was_healthy,
            in_flight: _,
            attempts,
            max_attempts,
        } = member;
        less_one(&mut self.sites, site);
        self.known -= usize::from(*was_healthy);
        self.bad -= usize::from(is_bad(member));
        self.attempts -= i64::from(*attempts);
        self.flights.remove(id);
        if let Some(max) = max_attempts {
            less_one(&mut self.budgets, max);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    pub(super) fn sites(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sites.keys()
    }

    pub(super) fn standing(&self) -> GroupCounts {
        let is_known = self.known > 0;
        GroupCounts { is_known, is_unhealthy: is_known && (self.bad > 0 || !self.flights.is_empty()) }
    }

    /// It counts as unhealthy for the attempt of this object alone.
    pub(super) fn only_flies(&self, id: &ObjectId) -> bool {
        self.standing().is_unhealthy && self.bad == 0 && self.held_by_another(id).is_none()
    }

    /// An attempt of another object with the same workload.
    pub(super) fn held_by_another(&self, id: &ObjectId) -> Option<(&ObjectId, &InFlight)> {
        self.flights.iter().find(|(other, _)| *other != id)
    }

    /// Whether an attempt that is under way was so at `at` already.
    pub(super) fn was_in_flight(&self, at: Timestamp) -> bool {
        self.flights.values().any(|flight| flight.start <= at)
    }

    /// What the others than this member have used, and the smallest of their budgets.
    pub(super) fn shared_with(&self, member: &Member) -> (i32, Option<i32>) {
        let others = self.attempts - i64::from(member.attempts);
        let is_anothers = |(max, count): &(&i32, &usize)| **count > usize::from(member.max_attempts == Some(**max));
        let smallest = self.budgets.iter().find(is_anothers).map(|(max, _)| *max);
        (i32::try_from(others).unwrap_or(i32::MAX), smallest)
    }
}

fn less_one<K: Ord>(counts: &mut BTreeMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}
