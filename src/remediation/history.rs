//! What the past of an object says about a remedy now.

use jiff::{SignedDuration, Timestamp};

use super::input::{Health, HealthInterval};
use crate::api::{AttemptOutcome, RemediationSpec, RemediationStatus};

/// So many changes within [`FLAP_WINDOW`] are flapping (remediation.md, `Flapping`).
pub const FLAPS: usize = 6;
/// The time within which changes between healthy and unhealthy are counted.
pub const FLAP_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// The longest backoff, in seconds, before it is varied.
const LONGEST_BACKOFF: i64 = 3600;

/// A spell with its end. Times of the future are now, and none begins after the next: two clocks may have written them.
struct Stretch {
    health: Health,
    from: Timestamp,
    to: Timestamp,
}

/// The newest first.
fn stretches(spells: &[HealthInterval], now: Timestamp) -> impl Iterator<Item = Stretch> {
    spells.iter().scan(now, |end, spell| {
        let (from, to) = (spell.since.min(*end), *end);
        *end = from;
        Some(Stretch { health: spell.health, from, to })
    })
}

/// For how long it has been known to be bad since it was healthy last. Time in which its state was unknown does not
/// count, and does not begin the count anew.
pub fn bad_for(spells: &[HealthInterval], now: Timestamp) -> SignedDuration {
    let since_healthy = stretches(spells, now).take_while(|stretch| stretch.health != Health::Healthy);
    let bad = since_healthy.filter(|stretch| stretch.health == Health::Unhealthy);
    bad.fold(SignedDuration::ZERO, |sum, stretch| sum.saturating_add(stretch.to.duration_since(stretch.from)))
}

/// When it turned unhealthy: the first time since it was healthy last. Losing sight of it meanwhile is no new turn.
pub fn unhealthy_since(spells: &[HealthInterval]) -> Option<Timestamp> {
    let since_healthy = spells.iter().take_while(|spell| spell.health != Health::Healthy);
    since_healthy.filter(|spell| spell.health == Health::Unhealthy).map(|spell| spell.since).min()
}

/// Since when it has been healthy without interruption; `None` when it is not healthy. What was not seen was not
/// witnessed, and interrupts.
pub fn healthy_since(spells: &[HealthInterval]) -> Option<Timestamp> {
    spells.iter().take_while(|spell| spell.health == Health::Healthy).map(|spell| spell.since).min()
}

/// Whether it has been healthy for so long that its ledger is emptied.
pub fn is_reset(spec: &RemediationSpec, spells: &[HealthInterval], now: Timestamp) -> bool {
    let enough = SignedDuration::from_secs(spec.reset_after_seconds.into());
    healthy_since(spells).is_some_and(|since| now.duration_since(since) >= enough)
}

/// When it changed between healthy and unhealthy within the last [`FLAP_WINDOW`], the newest first. What happened while
/// an attempt of ours was at work does not count.
pub fn turns(spells: &[HealthInterval], status: &RemediationStatus, now: Timestamp) -> Vec<Timestamp> {
    let known: Vec<Stretch> = stretches(spells, now).filter(|stretch| stretch.health != Health::Unknown).collect();
    let turns = known.windows(2).filter(|pair| pair[0].health != pair[1].health).map(|pair| pair[0].from);
    turns.filter(|at| now.duration_since(*at) < FLAP_WINDOW && !is_ours(status, *at)).collect()
}

/// Whether an attempt that touched the workload was under way at `at`.
fn is_ours(status: &RemediationStatus, at: Timestamp) -> bool {
    // Attempts are dated in whole seconds: the cure that ended one is within its last second.
    let second = Timestamp::from_second(at.as_second()).unwrap_or(at);
    let acted = status.history.iter().filter(|past| past.restarted || past.outcome == AttemptOutcome::TimedOut);
    status.current.as_ref().is_some_and(|current| at >= current.start_time.0)
        || acted.into_iter().any(|past| (past.start_time.0..=past.end_time.0).contains(&second))
}

/// How long to wait after the outcome of an attempt, when `attempts` of the ledger are used: doubled with each, at most
/// an hour, and up to 10 % more or less so that what failed together does not start together. Whoever computes it gets
/// the same: it varies by `seed` (the object's name) and the number of attempts.
pub fn backoff(spec: &RemediationSpec, attempts: i32, seed: &str) -> SignedDuration {
    // After twelve doublings one second is more than an hour.
    let doublings = attempts.saturating_sub(1).clamp(0, 12);
    let seconds = (i64::from(spec.backoff_seconds) << doublings).min(LONGEST_BACKOFF);
    let percent = 90 + i64::try_from(scatter(seed, attempts) % 21).unwrap_or(10);
    SignedDuration::from_millis(seconds * 10 * percent)
}

/// FNV-1a: the hashes of the standard library may differ between versions, and so between two replicas.
fn scatter(seed: &str, attempts: i32) -> u64 {
    let bytes = seed.bytes().chain(attempts.to_be_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    // Its lowest bits depend on few of the bytes.
    hash >> 32
}

#[cfg(test)]
mod tests;
