//! The fleet, counted for the brakes: unhealthy workloads, attempts in flight, and workloads that turned unhealthy
//! recently.
//!
//! Counts are updated as members change, so that reading them costs the same for ten objects and for a hundred thousand.
//! Workloads are counted, not objects: several objects may have one workload.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::input::{BREAKER_WINDOW, Breaker, FleetContext, Limits};
use super::policy::is_braked;
use member::RestartUnit;
pub use member::{AgentUnit, BrakedSite, InFlight, Member, ObjectId};
use storm::Turns;
pub use storm::{Scope, Trip};
use workload_group::WorkloadGroup;

mod member;
mod storm;
#[cfg(test)]
mod tests;
mod workload_group;

/// Window in which starts are kept: that of `--max-per-minute`.
const RATE_WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// Lifetime of a claim that no status ever shows: far longer than the write may take.
const CLAIM_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);

/// The slot of an object.
#[derive(Debug)]
struct ObjectSlot {
    member: Member,
    /// The attempt in flight was claimed, and no status has shown it yet.
    is_claim: bool,
    /// The last turn to unhealthy that was considered for the breaker: each turn is considered once, by the state of the
    /// group at that time.
    considered_turn: Option<Timestamp>,
}

/// Counts of one site.
#[derive(Debug, Default)]
struct SiteCounts {
    /// Objects of any health: the site is removed with the last of them.
    objects: usize,
    /// Workloads that were healthy at least once.
    total: usize,
    /// Workloads that are unhealthy or being restarted.
    unhealthy: usize,
    /// Attempts.
    in_flight: usize,
}

/// Counts of the whole fleet.
#[derive(Debug, Default)]
struct Totals {
    /// Workloads with remediation that were healthy at least once, by their namespaces.
    workloads: HashMap<Arc<str>, usize>,
    /// Attempts.
    in_flight: usize,
}

impl Totals {
    fn count(&mut self, namespace: &Arc<str>, before: bool, now: bool) {
        if before == now {
            return;
        }
        let count = self.workloads.entry(namespace.clone()).or_default();
        *count = *count + usize::from(now) - usize::from(before);
        if *count == 0 {
            self.workloads.remove(namespace);
        }
    }
}

/// Attempts by the time at which they were started or claimed, the oldest first.
#[derive(Debug, Default)]
struct RecentAttempts {
    /// Start times and ids of the attempts of the last [`RATE_WINDOW`].
    started: VecDeque<(Timestamp, String)>,
    /// Claims that may still have to be released.
    claims: VecDeque<(Timestamp, ObjectId, String)>,
}

/// The fleet. It has neither clock nor lock: the caller brings both.
#[derive(Debug)]
pub struct FleetState {
    limits: Limits,
    breaker: Breaker,
    slots: HashMap<ObjectId, ObjectSlot>,
    groups: HashMap<RestartUnit, WorkloadGroup>,
    /// Number of the group that was added last.
    last_group: u64,
    sites: HashMap<Arc<str>, SiteCounts>,
    /// Sites whose brake is engaged.
    braked: BTreeSet<Arc<str>>,
    totals: Totals,
    recent: RecentAttempts,
    turns: Turns,
    /// The namespaces for which the breaker is open, where it is not open for all.
    scope: Scope,
}

impl FleetState {
    /// An empty fleet; the state of the breaker is not known yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            breaker: Breaker::Unknown("it was not read yet".to_owned()),
            slots: HashMap::new(),
            groups: HashMap::new(),
            last_group: 0,
            sites: HashMap::new(),
            braked: BTreeSet::new(),
            totals: Totals::default(),
            recent: RecentAttempts::default(),
            turns: Turns::default(),
            scope: Scope::default(),
        }
    }

    /// Adds or updates an object. A claim that its status does not show yet stays: the status may be older than the claim.
    pub fn upsert(&mut self, id: &ObjectId, mut member: Member) {
        let known = self.slots.get(id);
        let before = known.and_then(|slot| slot.member.in_flight.clone());
        let is_shown = member.in_flight.as_ref().map(|flight| &flight.id) == before.as_ref().map(|flight| &flight.id);
        let is_claim = known.is_some_and(|slot| slot.is_claim) && !is_shown;
        if is_claim {
            member.in_flight = before;
        } else if let Some(flight) = member.in_flight.as_ref().filter(|_| !is_shown) {
            record_start(&mut self.recent.started, flight);
        }
        if known.is_some_and(|slot| slot.member == member && slot.is_claim == is_claim) {
            return;
        }
        let considered_turn = known.and_then(|slot| slot.considered_turn);
        let turned = member.unhealthy_since.filter(|_| workload_group::is_unhealthy(&member));
        self.set_slot(id, Some(ObjectSlot { member, is_claim, considered_turn: turned.or(considered_turn) }));
        if let Some(at) = turned.filter(|at| considered_turn != Some(*at)) {
            self.note_turn(id, at);
        }
    }

    /// Removes an object, with everything that it counted for.
    pub fn remove(&mut self, id: &ObjectId) {
        self.set_slot(id, None);
    }

    /// The fleet as seen from one object. The object's own attempt counts in none of the figures.
    pub fn context(&mut self, id: &ObjectId, now: Timestamp) -> FleetContext {
        self.expire(now);
        let is_in_scope = self.scope.as_ref().is_none_or(|scope| scope.contains(&id.key.namespace));
        let without_member = || FleetContext {
            // Open for other namespaces means closed for this one.
            breaker: match &self.breaker {
                Breaker::Open(_) if !is_in_scope => Breaker::Closed,
                breaker => breaker.clone(),
            },
            site: String::new(),
            site_unhealthy: 0,
            site_total: 0,
            site_in_flight: 0,
            in_flight: self.totals.in_flight,
            recent_starts: self.recent.started.iter().map(|(at, _)| *at).collect(),
            held_by: None,
            shared_attempts: 0,
            shared_max: None,
            limits: self.limits,
        };
        let Some(ObjectSlot { member, .. }) = self.slots.get(id) else { return without_member() };
        let (Some(group), Some(site)) = (self.groups.get(&RestartUnit::of(id, member)), self.sites.get(&member.site))
        else {
            return without_member();
        };
        let own = usize::from(member.in_flight.is_some());
        let is_own = |attempt: &String| member.in_flight.as_ref().is_some_and(|flight| flight.id == *attempt);
        let (shared_attempts, shared_max) = group.shared_with(member);
        FleetContext {
            site: member.site.to_string(),
            site_unhealthy: site.unhealthy - usize::from(group.is_only_in_flight(id)),
            site_total: site.total,
            site_in_flight: site.in_flight - own,
            in_flight: self.totals.in_flight - own,
            recent_starts: self
                .recent
                .started
                .iter()
                .filter(|(_, attempt)| !is_own(attempt))
                .map(|(at, _)| *at)
                .collect(),
            held_by: group.held_by_another(id).map(|(other, flight)| (other.to_string(), flight.id.clone())),
            shared_attempts,
            shared_max,
            ..without_member()
        }
    }

    /// Claims an attempt that is about to be reserved: it counts as started and in flight from now on. The claim holds
    /// until the status of the object has shown the attempt and no longer does, until it is released, or for a minute
    /// when no status ever shows it. An object without a slot cannot claim.
    pub fn claim(&mut self, id: &ObjectId, attempt: &str, now: Timestamp) {
        self.expire(now);
        let Some(slot) = self.slots.get(id) else { return };
        let flight = InFlight { id: attempt.to_owned(), start: now };
        record_start(&mut self.recent.started, &flight);
        self.recent.claims.push_back((now, id.clone(), flight.id.clone()));
        let member = Member { in_flight: Some(flight), ..slot.member.clone() };
        let slot = ObjectSlot { member, is_claim: true, considered_turn: slot.considered_turn };
        self.set_slot(id, Some(slot));
    }

    /// Releases the attempt of an object that is over or was never reserved. Its start still counts.
    pub fn release(&mut self, id: &ObjectId) {
        let Some(slot) = self.slots.get(id) else { return };
        let member = Member { in_flight: None, ..slot.member.clone() };
        let slot = ObjectSlot { member, is_claim: false, considered_turn: slot.considered_turn };
        self.set_slot(id, Some(slot));
    }

    /// Attempts in flight everywhere.
    pub fn in_flight(&self) -> usize {
        self.totals.in_flight
    }

    /// Sites whose brake is engaged, by name.
    pub fn braked_sites(&self) -> Vec<BrakedSite> {
        let with_figures = |name: &Arc<str>| {
            let SiteCounts { unhealthy, total, .. } = self.sites.get(name)?;
            Some(BrakedSite { site: name.clone(), unhealthy: *unhealthy, total: *total })
        };
        self.braked.iter().filter_map(with_figures).collect()
    }

    /// All objects.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.slots.values().map(|slot| &slot.member)
    }

    /// State of the breaker, as far as it is known.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Sets the state of the breaker, and the namespaces for which it is open.
    pub fn set_breaker(&mut self, breaker: Breaker, scope: Scope) {
        (self.breaker, self.scope) = (breaker, scope);
    }

    /// Notes that a person reset the breaker at `at`: turns until then no longer count. The state of the breaker itself is
    /// set by [`FleetState::set_breaker`].
    pub fn reset(&mut self, at: Timestamp) {
        self.turns.reset_at = self.turns.reset_at.max(Some(at));
        self.expire_turns(at);
    }

    /// The reason to open the breaker now, or to open it for more namespaces, and for which. Workloads that have recovered
    /// meanwhile count; those that turned unhealthy during an attempt, that were never healthy or that have no remediation,
    /// do not.
    pub fn breaker_trip(&mut self, now: Timestamp) -> Option<Trip> {
        self.expire_turns(now.checked_sub(BREAKER_WINDOW).unwrap_or(Timestamp::MIN));
        let open = matches!(self.breaker, Breaker::Open(_)).then_some(&self.scope);
        storm::trip(&self.turns.by_time, &self.totals.workloads, &self.limits, open)
    }
}

/// The counts and their updates.
impl FleetState {
    /// Replaces the slot of an object, or removes it, and updates all counts.
    fn set_slot(&mut self, id: &ObjectId, slot: Option<ObjectSlot>) {
        let before = self.slots.remove(id);
        if let Some(ObjectSlot { member, .. }) = &before {
            let in_flight_count = usize::from(member.in_flight.is_some());
            self.change_group(RestartUnit::of(id, member), |group| group.remove(id, member));
            self.change_site(&member.site, |site| {
                (site.objects, site.in_flight) = (site.objects - 1, site.in_flight - in_flight_count)
            });
            self.totals.in_flight -= in_flight_count;
        }
        if let Some(slot) = slot {
            let member = &slot.member;
            let in_flight_count = usize::from(member.in_flight.is_some());
            self.change_site(&member.site, |site| {
                (site.objects, site.in_flight) = (site.objects + 1, site.in_flight + in_flight_count)
            });
            self.change_group(RestartUnit::of(id, member), |group| group.add(id, member));
            self.totals.in_flight += in_flight_count;
            self.slots.insert(id.clone(), slot);
        }
        if let Some(ObjectSlot { member, .. }) = &before {
            self.remove_empty(&RestartUnit::of(id, member), &member.site);
        }
    }

    fn change_site(&mut self, name: &Arc<str>, change: impl FnOnce(&mut SiteCounts)) {
        change(self.sites.entry(name.clone()).or_default());
    }

    /// Changes a group, and its counts in each of its sites.
    fn change_group(&mut self, unit: RestartUnit, change: impl FnOnce(&mut WorkloadGroup)) {
        let namespace = unit.namespace().clone();
        let group = self.groups.entry(unit).or_insert_with(|| {
            self.last_group += 1;
            WorkloadGroup::new(self.last_group, namespace.clone())
        });
        let before = group.counts();
        for name in group.sites() {
            let site = self.sites.entry(name.clone()).or_default();
            site.total -= usize::from(before.is_known);
            site.unhealthy -= usize::from(before.is_unhealthy);
            update_brake(&self.limits, &mut self.braked, name, site);
        }
        change(group);
        let now = group.counts();
        for name in group.sites() {
            let site = self.sites.entry(name.clone()).or_default();
            site.total += usize::from(now.is_known);
            site.unhealthy += usize::from(now.is_unhealthy);
            update_brake(&self.limits, &mut self.braked, name, site);
        }
        self.totals.count(&namespace, before.is_remediated, now.is_remediated);
    }

    fn remove_empty(&mut self, unit: &RestartUnit, site: &Arc<str>) {
        if self.groups.get(unit).is_some_and(WorkloadGroup::is_empty)
            && let Some(group) = self.groups.remove(unit)
            && let Some(at) = group.turned
        {
            self.turns.by_time.remove(&(at, group.number, group.namespace));
        }
        if self.sites.get(site).is_some_and(|site| site.objects == 0) {
            self.sites.remove(site);
            self.braked.remove(site);
        }
    }

    /// Counts a turn to unhealthy. A workload turns with the first of its objects; the next object is no second turn.
    fn note_turn(&mut self, id: &ObjectId, at: Timestamp) {
        let unit = self.slots.get(id).map(|slot| RestartUnit::of(id, &slot.member));
        let Some(group) = unit.and_then(|unit| self.groups.get_mut(&unit)) else { return };
        // Objects arrive in any order: one that turned before the counted one is the first.
        let is_first = group.unhealthy == 1 || group.turned.is_some_and(|known| at < known);
        if !group.counts().is_remediated
            || !is_first
            || group.was_in_flight(at)
            || self.turns.reset_at.is_some_and(|reset| at <= reset)
        {
            return;
        }
        if let Some(other) = group.turned.replace(at) {
            self.turns.by_time.remove(&(other, group.number, group.namespace.clone()));
        }
        self.turns.by_time.insert((at, group.number, group.namespace.clone()));
    }

    /// Removes turns until `until`.
    fn expire_turns(&mut self, until: Timestamp) {
        while self.turns.by_time.first().is_some_and(|(at, ..)| *at <= until) {
            self.turns.by_time.pop_first();
        }
    }

    /// Removes starts outside of the window, and releases claims that no status has shown in time.
    fn expire(&mut self, now: Timestamp) {
        while self.recent.started.front().is_some_and(|(at, _)| now.duration_since(*at) >= RATE_WINDOW) {
            self.recent.started.pop_front();
        }
        while self.recent.claims.front().is_some_and(|(at, ..)| now.duration_since(*at) >= CLAIM_TIMEOUT) {
            let Some((_, id, attempt)) = self.recent.claims.pop_front() else { return };
            let is_same = |slot: &ObjectSlot| {
                slot.is_claim && slot.member.in_flight.as_ref().is_some_and(|own| own.id == attempt)
            };
            if self.slots.get(&id).is_some_and(is_same) {
                self.release(&id);
            }
        }
    }
}

/// Updates whether the brake of a site is engaged.
fn update_brake(limits: &Limits, braked: &mut BTreeSet<Arc<str>>, name: &Arc<str>, site: &SiteCounts) {
    if is_braked(limits, site.unhealthy, site.total) {
        braked.insert(name.clone());
    } else {
        braked.remove(name);
    }
}

/// Records the start of an attempt, once for each id.
fn record_start(started: &mut VecDeque<(Timestamp, String)>, flight: &InFlight) {
    if started.iter().all(|(_, id)| *id != flight.id) {
        let set_slot = started.partition_point(|(at, _)| *at <= flight.start);
        started.insert(set_slot, (flight.start, flight.id.clone()));
    }
}
