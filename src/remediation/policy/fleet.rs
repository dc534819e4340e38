//! Checks of the fleet: the same workload, the same site, and everywhere.

use jiff::SignedDuration;

use super::{Objection, objection};
use crate::remediation::input::{Breaker, Limits, PolicyInput};

/// Window of [`Limits::per_minute`].
const MINUTE: SignedDuration = SignedDuration::from_secs(60);

/// Another object's attempt on the same workload is in progress.
pub(super) fn shared(input: &PolicyInput<'_>) -> Option<Objection> {
    let (holder, id) = input.fleet.held_by.as_ref()?;
    objection(format!("attempt {id} of {holder}, which has the same workload, is under way"))
}

/// The breaker is open, or its state is not known.
pub(super) fn breaker(input: &PolicyInput<'_>) -> Option<Objection> {
    match &input.fleet.breaker {
        Breaker::Closed => None,
        Breaker::Open(why) => {
            objection(format!("the breaker is open until a person resets it (vigie breaker reset): {why}"))
        }
        Breaker::Unknown(why) => objection(format!("whether the breaker is open cannot be read: {why}")),
    }
}

/// Whether the brake of a site is engaged, by the number of its unhealthy workloads.
pub fn is_braked(limits: &Limits, unhealthy: usize, all: usize) -> bool {
    unhealthy >= limits.brake_min && is_above(unhealthy, limits.brake_percent, all)
}

/// Whether `part` is more than `percent` of all.
pub(in crate::remediation) fn is_above(part: usize, percent: usize, all: usize) -> bool {
    part.saturating_mul(100) > percent.saturating_mul(all)
}

/// Too much of the site is unhealthy: that has one common cause outside of its workloads.
pub(super) fn brake(input: &PolicyInput<'_>) -> Option<Objection> {
    let fleet = input.fleet;
    let Limits { brake_percent, brake_min, .. } = fleet.limits;
    is_braked(&fleet.limits, fleet.site_unhealthy, fleet.site_total).then(|| Objection {
        message: format!(
            "{} of {} workloads of site {} are unhealthy, at least {brake_min} and more than {brake_percent} %",
            fleet.site_unhealthy, fleet.site_total, fleet.site
        ),
        check_again_at: None,
    })
}

/// Too many attempts are in flight, in the site or everywhere.
pub(super) fn too_many(input: &PolicyInput<'_>) -> Option<Objection> {
    let fleet = input.fleet;
    let Limits { in_flight, in_flight_per_site, .. } = fleet.limits;
    if let Some(own) = &input.status.current {
        return objection(format!("its own attempt {} is under way", own.id));
    }
    if fleet.site_in_flight >= in_flight_per_site {
        return objection(format!(
            "{} of at most {in_flight_per_site} attempts at once are under way in site {}",
            fleet.site_in_flight, fleet.site
        ));
    }
    if fleet.in_flight >= in_flight {
        return objection(format!("{} of at most {in_flight} attempts at once are under way", fleet.in_flight));
    }
    None
}

/// Too many attempts were started within a minute.
pub(super) fn rate(input: &PolicyInput<'_>) -> Option<Objection> {
    let most = input.fleet.limits.per_minute;
    let recent: Vec<_> =
        input.fleet.recent_starts.iter().filter(|at| input.now.duration_since(**at) < MINUTE).collect();
    let first = recent.len().checked_sub(most)?;
    // The next start is free when this one leaves the window; with a limit of 0 there is none.
    let check_again_at = recent.get(first).and_then(|at| at.checked_add(MINUTE).ok());
    Some(Objection {
        message: format!("--max-per-minute ({most}) attempts were started within a minute"),
        check_again_at,
    })
}
