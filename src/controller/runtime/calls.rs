//! When each kind of call about one object may be made again, whatever wakes the object. Pure.

use std::time::Duration;

use crate::cluster::{PROBE_INTERVAL, wait_after};
use crate::time::Moment;

/// The kinds of calls that are retried independently: a Secret that cannot be written delays no transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// A write of the status.
    Status,
    /// A write of the status that shows whether the API server keeps by now what it dropped before.
    Verification,
    /// A write of the status that changes words alone.
    Words,
    /// A read or a write of the token Secret.
    Secret,
    /// An event.
    Event,
    /// A patch of the workload, or an eviction.
    Restart,
    /// Any write while another program writes this status too.
    Contest,
}

const KINDS: usize = 7;

/// Writes of one status on average: one in this time. A heartbeat that alternates between two reports, or a second
/// operator, causes no more.
const WRITE_PERIOD: Duration = Duration::from_secs(3);

/// Writes of one status at once, after a minute without any: a restart takes five, a rotation four.
const WRITES_AT_ONCE: u32 = 20;

/// The tries of one kind of call.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    failures: u32,
    last: Moment,
    not_before: Moment,
}

/// The tries of all kinds of calls about one object.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallRetries([Tries; KINDS]);

impl CallRetries {
    /// Counts a failure; returns the number of failures in a row, and the wait.
    pub fn failed(&mut self, call: CallKind, asked: Option<Duration>, now: Moment) -> (u32, Duration) {
        let tries = &mut self.0[call as usize];
        tries.failures = tries.failures.saturating_add(1);
        tries.last = now;
        (tries.failures, wait_after(tries.failures, asked))
    }

    /// Makes no such call before this moment.
    pub fn hold(&mut self, call: CallKind, not_before: Moment) {
        self.0[call as usize].not_before = not_before;
    }

    /// Ends a row of failures.
    pub fn succeeded(&mut self, call: CallKind) {
        self.0[call as usize] = Tries::default();
    }

    /// The same kind of call succeeded for another object: the next try is due, but no sooner than [`PROBE_INTERVAL`] after
    /// the last one, which may have failed for a reason of its own.
    pub fn shorten(&mut self, call: CallKind) {
        let tries = &mut self.0[call as usize];
        tries.not_before = tries.not_before.min(tries.last + PROBE_INTERVAL);
    }

    /// The wait until the call may be made; `None` when it may be made now.
    pub fn wait(&self, call: CallKind, now: Moment) -> Option<Duration> {
        let wait = self.0[call as usize].not_before.since(now);
        (wait > Duration::ZERO).then_some(wait)
    }

    /// The wait until the next call may be made that may not be made now.
    pub fn next(&self, now: Moment) -> Option<Duration> {
        let waits = self.0.iter().map(|tries| tries.not_before.since(now));
        waits.filter(|wait| *wait > Duration::ZERO).min()
    }
}

/// The writes of one status that are allowed: `WRITES_AT_ONCE`, and then one in each `WRITE_PERIOD`.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteAllowance {
    /// When all of them are allowed again (the generic cell rate algorithm).
    full_at: Moment,
}

impl WriteAllowance {
    /// Counts a write.
    pub fn spend(&mut self, now: Moment) {
        self.full_at = self.full_at.max(now) + WRITE_PERIOD;
    }

    /// The wait until a write is allowed; `None` when one is allowed now.
    pub fn wait(&self, now: Moment) -> Option<Duration> {
        let wait = self.full_at.since(now).saturating_sub(WRITE_PERIOD * (WRITES_AT_ONCE - 1));
        (wait > Duration::ZERO).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Moment {
        Moment::from_micros(milliseconds * 1000)
    }

    #[test]
    fn one_kind_of_call_that_fails_delays_no_other() {
        let mut retries = CallRetries::default();
        let (failures, wait) = retries.failed(CallKind::Secret, None, at(0));
        retries.hold(CallKind::Secret, at(0) + wait);
        assert_eq!((failures, wait), (1, Duration::from_millis(100)));
        assert_eq!(retries.wait(CallKind::Secret, at(40)), Some(Duration::from_millis(60)));
        assert_eq!(retries.wait(CallKind::Status, at(40)), None);
        assert_eq!((retries.next(at(40)), retries.next(at(100))), (Some(Duration::from_millis(60)), None));
    }

    #[test]
    fn a_success_elsewhere_shortens_a_long_wait_and_makes_no_try_more_frequent() {
        let mut retries = CallRetries::default();
        for _ in 0..9 {
            retries.failed(CallKind::Event, None, at(0));
        }
        retries.hold(CallKind::Event, at(60_000));
        retries.shorten(CallKind::Event);
        assert_eq!(retries.wait(CallKind::Event, at(1_000)), Some(PROBE_INTERVAL - Duration::from_secs(1)));
        assert_eq!(retries.wait(CallKind::Event, at(12_000)), None);
        retries.succeeded(CallKind::Event);
        assert_eq!(retries.failed(CallKind::Event, None, at(0)).0, 1);
    }

    #[test]
    fn twenty_writes_are_allowed_at_once_and_then_one_in_three_seconds() {
        let mut writes = WriteAllowance::default();
        let mut made = 0;
        // A write is requested every 20 ms.
        for now in (0..120_000).step_by(20) {
            if writes.wait(at(now)).is_none() {
                writes.spend(at(now));
                made += 1;
            }
        }
        assert_eq!(made, 20 + 39);
        assert_eq!(writes.wait(at(190_000)), None);
    }
}
