//! The fleet, counted for the brakes: who is unhealthy, who is being restarted, and who turned unhealthy lately.
//!
//! Counts are kept as members change, so that a look costs the same for ten objects and for a hundred thousand. What is
//! counted are workloads, not objects: several objects may have one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::input::{BREAKER_WINDOW, Breaker, FleetContext, Limits};
use super::policy::{is_above, is_braked};
use super::text::stamp;
use member::RestartUnit;
pub use member::{Braked, InFlight, Member, ObjectId};
use workload_group::WorkloadGroup;

mod member;
#[cfg(test)]
mod tests;
mod workload_group;

/// The time in which starts are remembered: that of `--max-per-minute`.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(60);
/// A claim that was never seen in a status holds its place for so long: far longer than the write may take.
const CLAIM_HOLDS: SignedDuration = SignedDuration::from_secs(60);

/// A member at its place.
#[derive(Debug)]
struct Slot {
    member: Member,
    /// Its attempt was claimed and is not yet seen in its status.
    is_claim: bool,
    /// When it turned unhealthy, as far as that was looked at: each turn is judged once, as things stood then.
    judged: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Site {
    /// Objects, of whatever health: the site is forgotten with the last of them.
    objects: usize,
    all: usize,
    unhealthy: usize,
    in_flight: usize,
}

/// The fleet. No clock and no lock: whoever shares it brings both.
#[derive(Debug)]
pub struct FleetState {
    limits: Limits,
    breaker: Breaker,
    reset_at: Option<Timestamp>,
    seats: HashMap<ObjectId, Slot>,
    crews: HashMap<RestartUnit, WorkloadGroup>,
    sites: HashMap<Arc<str>, Site>,
    /// Sites above the brake.
    braked: BTreeSet<Arc<str>>,
    /// Workloads everywhere that were healthy once.
    all: usize,
    in_flight: usize,
    /// Attempts of the last minute, the oldest first: when they started, and their ids.
    started: VecDeque<(Timestamp, String)>,
    /// Claims, the oldest first.
    claims: VecDeque<(Timestamp, ObjectId, String)>,
    /// Which crews turned unhealthy lately and when, the oldest first.
    turns: BTreeSet<(Timestamp, u64)>,
    next_number: u64,
}

impl FleetState {
    /// Of nobody yet; whether the breaker is open is not known yet either.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            breaker: Breaker::Unknown("it was not read yet".to_owned()),
            reset_at: None,
            seats: HashMap::new(),
            crews: HashMap::new(),
            sites: HashMap::new(),
            braked: BTreeSet::new(),
            all: 0,
            in_flight: 0,
            started: VecDeque::new(),
            claims: VecDeque::new(),
            turns: BTreeSet::new(),
            next_number: 0,
        }
    }

    /// How an object is now. A claim that its status does not show yet stays: the status may be older than the claim.
    pub fn see(&mut self, id: &ObjectId, mut member: Member) {
        let known = self.seats.get(id);
        let before = known.and_then(|seat| seat.member.in_flight.clone());
        let is_shown = member.in_flight.as_ref().map(|flight| &flight.id) == before.as_ref().map(|flight| &flight.id);
        let is_claim = known.is_some_and(|seat| seat.is_claim) && !is_shown;
        if is_claim {
            member.in_flight = before;
        } else if let Some(flight) = member.in_flight.as_ref().filter(|_| !is_shown) {
            remember(&mut self.started, flight);
        }
        if known.is_some_and(|seat| seat.member == member && seat.is_claim == is_claim) {
            return;
        }
        let judged = known.and_then(|seat| seat.judged);
        let turned = member.unhealthy_since.filter(|_| workload_group::is_bad(&member));
        self.place(id, Some(Slot { member, is_claim, judged: turned.or(judged) }));
        if let Some(at) = turned.filter(|at| judged != Some(*at)) {
            self.note_turn(id, at);
        }
    }

    /// An object is gone, and all that it counted for.
    pub fn forget(&mut self, id: &ObjectId) {
        self.place(id, None);
    }

    /// What is known around an object that was seen. Its own attempt counts in none of the figures.
    pub fn surroundings(&mut self, id: &ObjectId, now: Timestamp) -> FleetContext {
        self.drop_old(now);
        let nobody = || FleetContext {
            breaker: self.breaker.clone(),
            site: String::new(),
            site_unhealthy: 0,
            site_all: 0,
            site_in_flight: 0,
            in_flight: self.in_flight,
            started: self.started.iter().map(|(at, _)| *at).collect(),
            held_by: None,
            shared_attempts: 0,
            shared_max: None,
            limits: self.limits,
        };
        let Some(Slot { member, .. }) = self.seats.get(id) else { return nobody() };
        let (Some(crew), Some(site)) = (self.crews.get(&RestartUnit::of(id, member)), self.sites.get(&member.site))
        else {
            return nobody();
        };
        let own = usize::from(member.in_flight.is_some());
        let is_own = |attempt: &String| member.in_flight.as_ref().is_some_and(|flight| flight.id == *attempt);
        let (shared_attempts, shared_max) = crew.shared_with(member);
        FleetContext {
            site: member.site.to_string(),
            site_unhealthy: site.unhealthy - usize::from(crew.only_flies(id)),
            site_all: site.all,
            site_in_flight: site.in_flight - own,
            in_flight: self.in_flight - own,
            started: self.started.iter().filter(|(_, attempt)| !is_own(attempt)).map(|(at, _)| *at).collect(),
            held_by: crew.held_by_another(id).map(|(other, flight)| (other.to_string(), flight.id.clone())),
            shared_attempts,
            shared_max,
            ..nobody()
        }
    }

    /// An attempt is about to be reserved: it counts as started and in flight from now on. It holds until the status of
    /// the object has shown it and shows it no more, until it is released, or for a minute when no status ever shows it.
    /// An object that was never seen has no place to claim.
    pub fn claim(&mut self, id: &ObjectId, attempt: &str, now: Timestamp) {
        self.drop_old(now);
        let Some(seat) = self.seats.get(id) else { return };
        let flight = InFlight { id: attempt.to_owned(), start: now };
        remember(&mut self.started, &flight);
        self.claims.push_back((now, id.clone(), flight.id.clone()));
        let member = Member { in_flight: Some(flight), ..seat.member.clone() };
        let seat = Slot { member, is_claim: true, judged: seat.judged };
        self.place(id, Some(seat));
    }

    /// The attempt of an object is over, or was never reserved. That it was started stays remembered.
    pub fn release(&mut self, id: &ObjectId) {
        let Some(seat) = self.seats.get(id) else { return };
        let member = Member { in_flight: None, ..seat.member.clone() };
        let seat = Slot { member, is_claim: false, judged: seat.judged };
        self.place(id, Some(seat));
    }

    /// Attempts in flight everywhere.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Sites whose brake is engaged now, by name.
    pub fn sites(&self) -> Vec<Braked> {
        let with_figures = |name: &Arc<str>| {
            let Site { unhealthy, all, .. } = self.sites.get(name)?;
            Some(Braked { site: name.clone(), unhealthy: *unhealthy, all: *all })
        };
        self.braked.iter().filter_map(with_figures).collect()
    }

    /// Every object.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.seats.values().map(|seat| &seat.member)
    }

    /// The breaker, as far as we know.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// What is known of the breaker now.
    pub fn set_breaker(&mut self, breaker: Breaker) {
        self.breaker = breaker;
    }

    /// A person reset the breaker at `at`: what turned unhealthy until then is no reason to open it any more. Whether it
    /// is closed is said by [`FleetState::set_breaker`].
    pub fn reset(&mut self, at: Timestamp) {
        self.reset_at = self.reset_at.max(Some(at));
        self.drop_turns(at);
    }

    /// Why the breaker must open now, if it must and is not open already. Who has recovered meanwhile counts all the
    /// same; who turned unhealthy under an attempt of ours, or was never healthy, does not.
    pub fn breaker_trip(&mut self, now: Timestamp) -> Option<String> {
        self.drop_turns(now.checked_sub(BREAKER_WINDOW).unwrap_or(Timestamp::MIN));
        let Limits { breaker_min, breaker_percent, .. } = self.limits;
        let turned = self.turns.len();
        if turned < breaker_min
            || !is_above(turned, breaker_percent, self.all)
            || matches!(self.breaker, Breaker::Open(_))
        {
            return None;
        }
        let ((first, _), (last, _)) = (self.turns.first()?, self.turns.last()?);
        Some(format!(
            "{turned} of {} workloads turned unhealthy from {} to {}: at least {breaker_min} and more than {breaker_percent} % within {} minutes",
            self.all,
            stamp(*first),
            stamp(*last),
            BREAKER_WINDOW.as_mins()
        ))
    }
}

/// What is counted, and how it is kept.
impl FleetState {
    /// Puts an object where it is now.
    fn place(&mut self, id: &ObjectId, seat: Option<Slot>) {
        let before = self.seats.remove(id);
        if let Some(Slot { member, .. }) = &before {
            let flies = usize::from(member.in_flight.is_some());
            self.change_crew(RestartUnit::of(id, member), |crew| crew.leave(id, member));
            self.change_site(&member.site, |site| {
                (site.objects, site.in_flight) = (site.objects - 1, site.in_flight - flies)
            });
            self.in_flight -= flies;
        }
        if let Some(seat) = seat {
            let member = &seat.member;
            let flies = usize::from(member.in_flight.is_some());
            self.change_site(&member.site, |site| {
                (site.objects, site.in_flight) = (site.objects + 1, site.in_flight + flies)
            });
            self.change_crew(RestartUnit::of(id, member), |crew| crew.join(id, member));
            self.in_flight += flies;
            self.seats.insert(id.clone(), seat);
        }
        if let Some(Slot { member, .. }) = &before {
            self.drop_empty(&RestartUnit::of(id, member), &member.site);
        }
    }

    fn change_site(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Site)) {
        change(self.sites.entry(name.clone()).or_default());
    }

    /// Changes a crew, and what each of its sites counts of it.
    fn change_crew(&mut self, unit: RestartUnit, change: impl FnOnce(&mut WorkloadGroup)) {
        let crew = self.crews.entry(unit).or_insert_with(|| {
            self.next_number += 1;
            WorkloadGroup::new(self.next_number)
        });
        let before = crew.standing();
        for name in crew.sites() {
            let site = self.sites.entry(name.clone()).or_default();
            site.all -= usize::from(before.is_known);
            site.unhealthy -= usize::from(before.is_unhealthy);
            evaluate(&self.limits, &mut self.braked, name, site);
        }
        change(crew);
        let now = crew.standing();
        for name in crew.sites() {
            let site = self.sites.entry(name.clone()).or_default();
            site.all += usize::from(now.is_known);
            site.unhealthy += usize::from(now.is_unhealthy);
            evaluate(&self.limits, &mut self.braked, name, site);
        }
        self.all = self.all - usize::from(before.is_known) + usize::from(now.is_known);
    }

    fn drop_empty(&mut self, unit: &RestartUnit, site: &Arc<str>) {
        if self.crews.get(unit).is_some_and(WorkloadGroup::is_empty)
            && let Some(crew) = self.crews.remove(unit)
            && let Some(at) = crew.turned
        {
            self.turns.remove(&(at, crew.number));
        }
        if self.sites.get(site).is_some_and(|site| site.objects == 0) {
            self.sites.remove(site);
            self.braked.remove(site);
        }
    }

    /// A workload turns unhealthy with the first of its objects; another one that follows is no second turn.
    fn note_turn(&mut self, id: &ObjectId, at: Timestamp) {
        let unit = self.seats.get(id).map(|seat| RestartUnit::of(id, &seat.member));
        let Some(crew) = unit.and_then(|unit| self.crews.get_mut(&unit)) else { return };
        // They are seen in any order: who turned before the one that was counted is the first.
        let is_first = crew.bad == 1 || crew.turned.is_some_and(|known| at < known);
        if !is_first || crew.was_in_flight(at) || self.reset_at.is_some_and(|reset| at <= reset) {
            return;
        }
        if let Some(other) = crew.turned.replace(at) {
            self.turns.remove(&(other, crew.number));
        }
        self.turns.insert((at, crew.number));
    }

    /// Forgets who turned unhealthy until then.
    fn drop_turns(&mut self, until: Timestamp) {
        while self.turns.first().is_some_and(|(at, _)| *at <= until) {
            self.turns.pop_first();
        }
    }

    /// Forgets starts that are too old to matter, and claims that came to nothing.
    fn drop_old(&mut self, now: Timestamp) {
        while self.started.front().is_some_and(|(at, _)| now.duration_since(*at) >= REMEMBERED) {
            self.started.pop_front();
        }
        while self.claims.front().is_some_and(|(at, ..)| now.duration_since(*at) >= CLAIM_HOLDS) {
            let Some((_, id, attempt)) = self.claims.pop_front() else { return };
            let is_same =
                |seat: &Slot| seat.is_claim && seat.member.in_flight.as_ref().is_some_and(|own| own.id == attempt);
            if self.seats.get(&id).is_some_and(is_same) {
                self.release(&id);
            }
        }
    }
}

/// Notes whether the brake of a site is engaged.
fn evaluate(limits: &Limits, braked: &mut BTreeSet<Arc<str>>, name: &Arc<str>, site: &Site) {
    if is_braked(limits, site.unhealthy, site.all) {
        braked.insert(name.clone());
    } else {
        braked.remove(name);
    }
}

/// An attempt was started; once for each id.
fn remember(started: &mut VecDeque<(Timestamp, String)>, flight: &InFlight) {
    if started.iter().all(|(_, id)| *id != flight.id) {
        let place = started.partition_point(|(at, _)| *at <= flight.start);
        started.insert(place, (flight.start, flight.id.clone()));
    }
}
