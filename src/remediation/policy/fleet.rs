//! What the others say: of the same workload, of the same site, everywhere.

use jiff::SignedDuration;

use super::{Objection, no};
use crate::remediation::input::{Breaker, Limits, PolicyInput};

/// The time in which [`Limits::per_minute`] counts.
const MINUTE: SignedDuration = SignedDuration::from_secs(60);

/// Another object's attempt on the same workload is under way.
pub(super) fn shared(s: &PolicyInput<'_>) -> Option<Objection> {
    let (holder, id) = s.around.held_by.as_ref()?;
    no(format!("attempt {id} of {holder}, which has the same workload, is under way"))
}

/// The breaker has latched, or nobody can say that it has not.
pub(super) fn breaker(s: &PolicyInput<'_>) -> Option<Objection> {
    match &s.around.breaker {
        Breaker::Closed => None,
        Breaker::Open(why) => no(format!("the breaker is open until a person resets it (vigie breaker reset): {why}")),
        Breaker::Unknown(why) => no(format!("whether the breaker is open cannot be read: {why}")),
    }
}

/// Whether so many unhealthy workloads of a site's stop new remedies there.
pub fn is_braked(limits: &Limits, unhealthy: usize, all: usize) -> bool {
    unhealthy >= limits.brake_min && is_above(unhealthy, limits.brake_percent, all)
}

/// More than so many percent of all.
pub(in crate::remediation) fn is_above(part: usize, percent: usize, all: usize) -> bool {
    part.saturating_mul(100) > percent.saturating_mul(all)
}

/// Too much of its site is unhealthy: that has one cause, and it is none of its workloads.
pub(super) fn brake(s: &PolicyInput<'_>) -> Option<Objection> {
    let around = s.around;
    let Limits { brake_percent, brake_min, .. } = around.limits;
    is_braked(&around.limits, around.site_unhealthy, around.site_all).then(|| Objection {
        message: format!(
            "{} of {} workloads of site {} are unhealthy, at least {brake_min} and more than {brake_percent} %",
            around.site_unhealthy, around.site_all, around.site
        ),
        again: None,
    })
}

/// One after the other.
pub(super) fn too_many(s: &PolicyInput<'_>) -> Option<Objection> {
    let around = s.around;
    let Limits { in_flight, in_flight_per_site, .. } = around.limits;
    if let Some(own) = &s.status.current {
        return no(format!("its own attempt {} is under way", own.id));
    }
    if around.site_in_flight >= in_flight_per_site {
        return no(format!(
            "{} of at most {in_flight_per_site} attempts at once are under way in site {}",
            around.site_in_flight, around.site
        ));
    }
    if around.in_flight >= in_flight {
        return no(format!("{} of at most {in_flight} attempts at once are under way", around.in_flight));
    }
    None
}

/// Not all at once.
pub(super) fn rate(s: &PolicyInput<'_>) -> Option<Objection> {
    let most = s.around.limits.per_minute;
    let recent: Vec<_> = s.around.started.iter().filter(|at| s.now.duration_since(**at) < MINUTE).collect();
    let place = recent.len().checked_sub(most)?;
    // With the one that leaves the minute there is a place; where none is ever allowed there is none.
    let again = recent.get(place).and_then(|at| at.checked_add(MINUTE).ok());
    Some(Objection { message: format!("--max-per-minute ({most}) attempts were started within a minute"), again })
}
