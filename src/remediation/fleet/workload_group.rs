//! Counts of the objects that have one workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{InFlight, Member, ObjectId};
use crate::remediation::input::ObjectHealth;

/// The contribution of a workload to the counts of each of its sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupCounts {
    /// At least one of its objects was healthy once.
    pub(super) is_known: bool,
    /// At least one of its objects is unhealthy, or an attempt is in flight.
    pub(super) is_unhealthy: bool,
    /// It is known, and at least one of its objects has remediation: it counts for the breaker.
    pub(super) is_remediated: bool,
}

/// Whether an object counts as unhealthy. One that was never healthy does not.
pub(super) fn is_unhealthy(member: &Member) -> bool {
    member.was_healthy && member.health == ObjectHealth::Unhealthy
}

/// All objects with one workload.
#[derive(Debug)]
pub(super) struct WorkloadGroup {
    /// Identifies the group among all groups.
    pub(super) number: u64,
    /// The namespace of all its objects.
    pub(super) namespace: Arc<str>,
    /// Number of objects that count as unhealthy.
    pub(super) unhealthy: usize,
    /// When the workload turned unhealthy last, outside of attempts.
    pub(super) turned: Option<Timestamp>,
    /// Number of objects that were healthy at least once.
    known: usize,
    /// Number of objects in each site.
    sites: BTreeMap<Arc<str>, usize>,
    in_flight: BTreeMap<ObjectId, InFlight>,
    /// Sum of the attempts in the ledgers.
    attempts: i64,
    /// Number of objects with each `maxAttempts`.
    budgets: BTreeMap<i32, usize>,
}

impl WorkloadGroup {
    pub(super) fn new(number: u64, namespace: Arc<str>) -> Self {
        Self {
            number,
            namespace,
            unhealthy: 0,
            turned: None,
            known: 0,
            sites: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            attempts: 0,
            budgets: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, id: &ObjectId, member: &Member) {
        let Member {
            site,
            workload: _,
            unit: _,
            health: _,
            unhealthy_since: _,
            was_healthy,
            in_flight,
            attempts,
            max_attempts,
        } = member;
        *self.sites.entry(site.clone()).or_default() += 1;
        self.known += usize::from(*was_healthy);
        self.unhealthy += usize::from(is_unhealthy(member));
        self.attempts += i64::from(*attempts);
        if let Some(flight) = in_flight {
            self.in_flight.insert(id.clone(), flight.clone());
        }
        if let Some(max) = max_attempts {
            *self.budgets.entry(*max).or_default() += 1;
        }
    }

    /// Reverts [`WorkloadGroup::add`] of the same member.
    pub(super) fn remove(&mut self, id: &ObjectId, member: &Member) {
        let Member {
            site,
            workload: _,
            unit: _,
            health: _,
            unhealthy_since: _,
            was_healthy,
            in_flight: _,
            attempts,
            max_attempts,
        } = member;
        decrement(&mut self.sites, site);
        self.known -= usize::from(*was_healthy);
        self.unhealthy -= usize::from(is_unhealthy(member));
        self.attempts -= i64::from(*attempts);
        self.in_flight.remove(id);
        if let Some(max) = max_attempts {
            decrement(&mut self.budgets, max);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    pub(super) fn sites(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sites.keys()
    }

    pub(super) fn counts(&self) -> GroupCounts {
        let is_known = self.known > 0;
        GroupCounts {
            is_known,
            is_unhealthy: is_known && (self.unhealthy > 0 || !self.in_flight.is_empty()),
            is_remediated: is_known && !self.budgets.is_empty(),
        }
    }

    /// Whether the workload counts as unhealthy only because of the attempt of this object.
    pub(super) fn is_only_in_flight(&self, id: &ObjectId) -> bool {
        self.counts().is_unhealthy && self.unhealthy == 0 && self.held_by_another(id).is_none()
    }

    /// The attempt in flight of another object with the same workload.
    pub(super) fn held_by_another(&self, id: &ObjectId) -> Option<(&ObjectId, &InFlight)> {
        self.in_flight.iter().find(|(other, _)| *other != id)
    }

    /// Whether an attempt in flight had started by `at`.
    pub(super) fn was_in_flight(&self, at: Timestamp) -> bool {
        self.in_flight.values().any(|flight| flight.start <= at)
    }

    /// Attempts of the other objects of the group, and their smallest `maxAttempts`.
    pub(super) fn shared_with(&self, member: &Member) -> (i32, Option<i32>) {
        let others = self.attempts - i64::from(member.attempts);
        let is_anothers = |(max, count): &(&i32, &usize)| **count > usize::from(member.max_attempts == Some(**max));
        let smallest = self.budgets.iter().find(is_anothers).map(|(max, _)| *max);
        (i32::try_from(others).unwrap_or(i32::MAX), smallest)
    }
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}
