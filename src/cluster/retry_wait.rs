//! The waits between the tries of a call that fails: one policy for every write and read of one object.

use std::time::Duration;

use super::CallError;
use crate::time::Moment;

/// The wait after the first failure. A conflict, or one lost answer, is over by then.
const FIRST: Duration = Duration::from_millis(100);

/// Each wait is this many times the one before: six tries in the first minute.
const FACTOR: u32 = 4;

/// The longest wait. It is long enough not to hurt an API server in trouble: 10,000 objects are 167 requests a second.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The longest wait of a call that no other call tries for: it is tried at least this often, so that all is well within
/// seconds after the fault.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(12);

/// The tries of one call that fails, such as the write of the breaker's ConfigMap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retry {
    failures: u32,
    not_before: Moment,
}

impl Retry {
    /// Whether the call may be made now.
    pub fn is_due(&self, now: Moment) -> bool {
        self.not_before <= now
    }

    /// Notes that the call failed; returns the wait until its next try.
    pub fn failed(&mut self, error: &CallError, now: Moment) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let wait = wait_after(self.failures, None).min(PROBE_INTERVAL).max(error.retry_after().unwrap_or_default());
        let wait = wait.min(LONGEST_WAIT);
        self.not_before = now + wait;
        wait
    }

    /// Notes that the call succeeded.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }
}

/// The wait after `failures` failures in a row. A wait that the server asked for is kept, up to the longest wait.
pub fn wait_after(failures: u32, asked: Option<Duration>) -> Duration {
    let factor = FACTOR.saturating_pow(failures.saturating_sub(1));
    FIRST.saturating_mul(factor).max(asked.unwrap_or_default()).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_call_is_tried_every_twelve_seconds_or_when_the_server_wants_it() {
        let (mut retry, now) = (Retry::default(), Moment::default());
        let mut fail = |error: &CallError| retry.failed(error, now).as_millis();
        let waits: Vec<_> = (0..7).map(|_| fail(&CallError::NotFound)).collect();
        assert_eq!(waits, [100, 400, 1_600, 6_400, 12_000, 12_000, 12_000]);
        assert_eq!(fail(&CallError::TooManyRequests { retry_after: Some(Duration::from_secs(30)) }), 30_000);
        assert!(!retry.is_due(now) && retry.is_due(now + Duration::from_secs(30)));
        retry.succeeded();
        assert!(retry.is_due(now));
    }

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
