//! The waits between the tries of a call that fails: one policy for every write and read of one object.

use std::time::Duration;

/// The wait after the first failure. A conflict, or one lost answer, is over by then.
const FIRST: Duration = Duration::from_millis(100);

/// Each wait is this many times the one before: six tries in the first minute.
const FACTOR: u32 = 4;

/// The longest wait. It is long enough not to hurt an API server in trouble: 10,000 objects are 167 requests a second.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The wait after `failures` failures in a row. A wait that the server asked for is kept, up to the longest wait.
pub fn wait_after(failures: u32, asked: Option<Duration>) -> Duration {
    let factor = FACTOR.saturating_pow(failures.saturating_sub(1));
    FIRST.saturating_mul(factor).max(asked.unwrap_or_default()).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_grow_to_a_minute_and_keep_what_the_server_asked_for() {
        let waits: Vec<_> = (1..8).map(|failures| wait_after(failures, None).as_millis()).collect();
        assert_eq!(waits, [100, 400, 1_600, 6_400, 25_600, 60_000, 60_000]);
        assert_eq!(wait_after(u32::MAX, None), LONGEST_WAIT);
        assert_eq!(wait_after(0, None), FIRST);
        let asked = |seconds| wait_after(1, Some(Duration::from_secs(seconds)));
        assert_eq!((asked(7), asked(86_400)), (Duration::from_secs(7), LONGEST_WAIT));
    }
}
