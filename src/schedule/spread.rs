//! Spreads turns over an interval by the UID of the object, so that probes do not align and keep their phase after a
//! restart.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// The stable phase of `uid` within any interval, as a fraction of 2^64.
pub fn phase_of(uid: &str) -> u64 {
    let hash = Sha256::digest(uid.as_bytes());
    u64::from_be_bytes(hash[..8].try_into().expect("a SHA-256 hash has 32 bytes"))
}

/// The next turn after `now` of an object with this `phase`. It has one turn in each `interval`.
pub fn turn_after(now: Timestamp, interval: Duration, phase: u64) -> Timestamp {
    let interval = i128::try_from(interval.as_micros()).unwrap_or(i128::MAX).max(1);
    let offset = (interval * i128::from(phase)) >> 64;
    let now_micros = i128::from(now.as_microsecond());
    let passed = (now_micros - offset).rem_euclid(interval);
    i64::try_from(now_micros - passed + interval)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(micros).expect("in range")
    }

    #[test]
    fn each_has_its_own_turn_once_in_each_interval_also_after_a_restart() {
        let phase = phase_of("6a1c4e0e-77b5-4f5e-9d76-0d6f6e4f7d11");
        let first = turn_after(at(1_700_000_000_000_000), INTERVAL, phase);
        let second = turn_after(first, INTERVAL, phase);
        assert_eq!(second.as_microsecond() - first.as_microsecond(), 15_000_000);
        assert_eq!(turn_after(at(first.as_microsecond() - 1), INTERVAL, phase), first);
        let later = turn_after(at(first.as_microsecond() + 14_999_999), INTERVAL, phase);
        assert_eq!(later, second, "whenever it is asked for within an interval");
    }

    #[test]
    fn a_fleet_is_spread_evenly() {
        let mut seconds = [0; 15];
        for number in 0..3_000 {
            let turn = turn_after(at(0), INTERVAL, phase_of(&format!("uid-{number}")));
            seconds[usize::try_from((turn.as_microsecond() - 1) / 1_000_000).expect("ahead")] += 1;
        }
        assert!(seconds.iter().all(|count| (140..260).contains(count)), "{seconds:?}");
    }
}
