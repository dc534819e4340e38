//! Decides when so much of the fleet turned unhealthy at once that the breaker opens, and for which namespaces. Pure.
//!
//! Namespaces are counted first: a tenant decides how many workloads it has and when they turn unhealthy, and must not stop
//! the remedies of others by it. A storm in one namespace of several opens the breaker for that namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::remediation::input::{BREAKER_WINDOW, Limits};
use crate::remediation::policy::is_above;
use crate::remediation::text::format_time;

/// The namespaces for which the breaker is open; `None` means all.
pub type Scope = Option<BTreeSet<Arc<str>>>;

/// Time, number of the group and namespace of each workload that turned unhealthy.
pub(super) type TurnsByTime = BTreeSet<(Timestamp, u64, Arc<str>)>;

/// Turns to unhealthy, counted for the breaker.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// When a person reset the breaker: earlier turns do not count.
    pub(super) reset_at: Option<Timestamp>,
    /// The groups that turned unhealthy recently, the oldest first.
    pub(super) by_time: TurnsByTime,
}

/// The breaker is to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    /// Why, in a sentence.
    pub reason: String,
    /// For which namespaces.
    pub scope: Scope,
}

/// The trip that follows from these turns, in a fleet with so many `workloads` in each namespace. `open` is the scope of a
/// breaker that is open already.
pub(super) fn trip(
    turns: &TurnsByTime,
    workloads: &HashMap<Arc<str>, usize>,
    limits: &Limits,
    open: Option<&Scope>,
) -> Option<Trip> {
    if turns.len() < limits.breaker_min || open.is_some_and(Option::is_none) {
        return None;
    }
    let mut turned: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    turns.iter().for_each(|(_, _, namespace)| *turned.entry(namespace).or_default() += 1);
    let all = |namespace: &Arc<str>| workloads.get(namespace).copied().unwrap_or_default();
    turned.retain(|namespace, count| is_above(*count, limits.breaker_percent, all(namespace)));
    if is_fleet_wide(&turned, workloads.len(), limits) {
        let of = workloads.values().sum();
        return Some(Trip { reason: reason(turns.iter(), of, limits, None)?, scope: None });
    }
    let known = open.cloned().flatten().unwrap_or_default();
    let storms = turned.iter().filter(|(_, count)| **count >= limits.breaker_min).map(|(namespace, _)| *namespace);
    let (namespace, of) = storms.map(|namespace| (namespace, all(namespace))).find(|(one, _)| !known.contains(*one))?;
    let own = turns.iter().filter(|(_, _, of)| of == namespace);
    let reason = reason(own, of, limits, Some(namespace))?;
    Some(Trip { reason, scope: Some(known.into_iter().chain([namespace.clone()]).collect()) })
}

/// Whether most namespaces had a storm, and their workloads are enough. In a fleet of several namespaces the one with the
/// most turns counts as one, so that it takes others to stop everybody.
fn is_fleet_wide(turned: &BTreeMap<&Arc<str>, usize>, namespaces: usize, limits: &Limits) -> bool {
    let sum: usize = turned.values().sum();
    let most = turned.values().max().copied().unwrap_or_default();
    let counted = if namespaces > 1 { sum - most + most.min(1) } else { sum };
    counted >= limits.breaker_min && is_above(turned.len(), limits.breaker_percent, namespaces)
}

fn reason<'a>(
    mut turns: impl Iterator<Item = &'a (Timestamp, u64, Arc<str>)>,
    of: usize,
    limits: &Limits,
    namespace: Option<&str>,
) -> Option<String> {
    let (first, ..) = turns.next()?;
    let (last, count) = turns.fold((first, 1), |(_, count), (at, ..)| (at, count + 1));
    let Limits { breaker_min, breaker_percent, .. } = limits;
    let place = namespace.map(|namespace| format!(" of namespace {namespace}")).unwrap_or_default();
    Some(format!(
        "{count} of {of} workloads{place} turned unhealthy from {} to {}: at least {breaker_min} and more than {breaker_percent} % within {} minutes",
        format_time(*first),
        format_time(*last),
        BREAKER_WINDOW.as_mins()
    ))
}
