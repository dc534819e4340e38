//! Ledger, backoff and flapping: what the past of an object means for a remedy now.

use jiff::{SignedDuration, Timestamp};

use super::input::{HealthInterval, ObjectHealth};
use crate::api::{AttemptOutcome, RemediationSpec, RemediationStatus};

/// Changes within [`FLAP_WINDOW`] that are flapping (docs/design/remediation.md, `Flapping`).
pub const FLAP_CHANGES: usize = 6;
/// Window in which changes between healthy and unhealthy are counted.
pub const FLAP_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// The longest backoff, in seconds, before it is varied.
const LONGEST_BACKOFF: i64 = 3600;

/// An interval with its end. Times in the future count as now, and no interval begins after the next one: two clocks may
/// have written them.
struct BoundedInterval {
    health: ObjectHealth,
    from: Timestamp,
    to: Timestamp,
}

/// The intervals with their ends, the newest first.
fn bounded_intervals(intervals: &[HealthInterval], now: Timestamp) -> impl Iterator<Item = BoundedInterval> {
    intervals.iter().scan(now, |end, interval| {
        let (from, to) = (interval.since.min(*end), *end);
        *end = from;
        Some(BoundedInterval { health: interval.health, from, to })
    })
}

/// Time for which the object has been known to be unhealthy since it was healthy last. Unknown time does not count, and
/// does not start the count again.
pub fn unhealthy_duration(intervals: &[HealthInterval], now: Timestamp) -> SignedDuration {
    let since_healthy = bounded_intervals(intervals, now).take_while(|stretch| stretch.health != ObjectHealth::Healthy);
    let bad = since_healthy.filter(|stretch| stretch.health == ObjectHealth::Unhealthy);
    bad.fold(SignedDuration::ZERO, |sum, stretch| sum.saturating_add(stretch.to.duration_since(stretch.from)))
}

/// When the object turned unhealthy: the first time since it was healthy last. Unknown time in between is no new turn.
pub fn unhealthy_since(intervals: &[HealthInterval]) -> Option<Timestamp> {
    let since_healthy = intervals.iter().take_while(|interval| interval.health != ObjectHealth::Healthy);
    since_healthy.filter(|interval| interval.health == ObjectHealth::Unhealthy).map(|interval| interval.since).min()
}

/// Start of uninterrupted health; `None` when the object is not healthy. Unknown time interrupts, because health was not
/// witnessed then.
pub fn healthy_since(intervals: &[HealthInterval]) -> Option<Timestamp> {
    intervals
        .iter()
        .take_while(|interval| interval.health == ObjectHealth::Healthy)
        .map(|interval| interval.since)
        .min()
}

/// Whether the object has been healthy for `resetAfterSeconds`, which empties its ledger.
pub fn is_reset(spec: &RemediationSpec, intervals: &[HealthInterval], now: Timestamp) -> bool {
    let enough = SignedDuration::from_secs(spec.reset_after_seconds.into());
    healthy_since(intervals).is_some_and(|since| now.duration_since(since) >= enough)
}

/// Times of the changes between healthy and unhealthy within the last [`FLAP_WINDOW`], the newest first. Changes during
/// an attempt do not count.
pub fn health_changes(intervals: &[HealthInterval], status: &RemediationStatus, now: Timestamp) -> Vec<Timestamp> {
    let known: Vec<BoundedInterval> =
        bounded_intervals(intervals, now).filter(|stretch| stretch.health != ObjectHealth::Unknown).collect();
    let health_changes = known.windows(2).filter(|pair| pair[0].health != pair[1].health).map(|pair| pair[0].from);
    health_changes.filter(|at| now.duration_since(*at) < FLAP_WINDOW && !was_during_attempt(status, *at)).collect()
}

/// Whether an attempt that touched the workload was under way at `at`.
fn was_during_attempt(status: &RemediationStatus, at: Timestamp) -> bool {
    // Attempts are dated in whole seconds: a cure that ended one is within its last second.
    let second = Timestamp::from_second(at.as_second()).unwrap_or(at);
    let acted = status.history.iter().filter(|past| past.restarted || past.outcome == AttemptOutcome::TimedOut);
    status.current.as_ref().is_some_and(|current| at >= current.start_time.0)
        || acted.into_iter().any(|past| (past.start_time.0..=past.end_time.0).contains(&second))
}

/// Wait after the outcome of an attempt, when `attempts` of the ledger are used: doubled with each attempt, at most an
/// hour, and varied by ±10 % so that objects that failed together do not start together. The variation depends on `seed`
/// (the object's name) and the number of attempts alone, so every replica computes the same wait.
pub fn backoff(spec: &RemediationSpec, attempts: i32, seed: &str) -> SignedDuration {
    // After twelve doublings one second is more than an hour.
    let doublings = attempts.saturating_sub(1).clamp(0, 12);
    let seconds = (i64::from(spec.backoff_seconds) << doublings).min(LONGEST_BACKOFF);
    let percent = 90 + i64::try_from(hash(seed, attempts) % 21).unwrap_or(10);
    SignedDuration::from_millis(seconds * 10 * percent)
}

/// FNV-1a. Hashes of the standard library may differ between versions, and therefore between two replicas.
fn hash(seed: &str, attempts: i32) -> u64 {
    let bytes = seed.bytes().chain(attempts.to_be_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    // The lowest bits depend on few of the bytes.
    hash >> 32
}

#[cfg(test)]
mod tests;
