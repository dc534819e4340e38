//! The only code that reads clocks. Every decision takes a [`Moment`] or a timestamp as an argument.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::time::Moment;

/// How far the two clocks may drift apart before they are aligned again, in microseconds. Below it a moment always has the
/// same timestamp; above it the wall clock was set.
const MAX_DRIFT: i64 = 20_000;

/// The two clocks of the operator: the monotonic clock for ages, the wall clock for timestamps. The timers use the same
/// monotonic clock, so a test that pauses it pauses both.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    /// The wall clock at moment 0, in microseconds since the epoch, corrected by alignment. It lives as long as the
    /// process, so that the clock can be copied.
    origin: &'static AtomicI64,
}

impl Default for Clock {
    fn default() -> Self {
        let origin = Timestamp::now().as_microsecond();
        Self { started: Instant::now(), origin: Box::leak(Box::new(AtomicI64::new(origin))) }
    }
}

impl Clock {
    /// The current moment of the monotonic clock.
    pub fn now(&self) -> Moment {
        Moment::default() + self.started.elapsed()
    }

    /// Reads both clocks together, to convert between them.
    pub fn read(&self) -> Now {
        let before = self.now();
        let wall = Timestamp::now().as_microsecond();
        let moment = self.now();
        let seen = (wall - moment.as_micros(), wall - before.as_micros());
        let origin = aligned(self.origin.load(Ordering::Relaxed), seen);
        self.origin.store(origin, Ordering::Relaxed);
        let wall = Timestamp::from_microsecond(origin + moment.as_micros());
        Now { moment, wall: wall.expect("it is within a second of the wall clock") }
    }

    /// The tokio instant at which `at` will be reached, for timers.
    pub fn instant(&self, at: Moment) -> Instant {
        let now = self.now();
        Instant::now() + at.since(now)
    }
}

/// The origin to use from now on. The observed origin lies between two values, because time passes between the two reads;
/// on a busy machine this may be long, and is no reason to align again.
fn aligned(known: i64, (earliest, latest): (i64, i64)) -> i64 {
    if (earliest - MAX_DRIFT..=latest + MAX_DRIFT).contains(&known) { known } else { latest }
}

/// One reading of both clocks.
///
/// Ages are measured on the monotonic clock and dated by the wall clock of *this* reading, so a step of the wall clock
/// changes no verdict (`docs/design/liveness.md`, clock rule 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub moment: Moment,
    /// The wall clock.
    pub wall: Timestamp,
}

impl Now {
    /// The wall-clock time of `at`, never later than this reading: a date column in the future prints `<invalid>`.
    pub fn stamp(&self, at: Moment) -> Timestamp {
        let age = self.moment.since(at);
        let age = jiff::SignedDuration::try_from(age).unwrap_or(jiff::SignedDuration::MAX);
        self.wall.saturating_sub(age).unwrap_or(Timestamp::MIN)
    }

    /// The moment at which the wall clock shows `stamp`, in the past or the future.
    pub fn place(&self, stamp: Timestamp) -> Moment {
        let ahead = stamp.duration_since(self.wall);
        match Duration::try_from(ahead) {
            Ok(ahead) => self.moment + ahead,
            Err(_) => self.moment - ahead.unsigned_abs(),
        }
    }

    /// The moment at which the wall clock showed `stamp`; now for a `stamp` in the future.
    pub fn moment_of(&self, stamp: Timestamp) -> Moment {
        self.place(stamp).min(self.moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_keeps_its_stamp_until_the_wall_clock_is_set() {
        let clock = Clock::default();
        let at = clock.now();
        assert_eq!(clock.read().stamp(at), clock.read().stamp(at));
        let at = |seen| aligned(1_000_000, (seen, seen));
        assert_eq!(at(1_000_400), 1_000_000, "two readings are never quite at once");
        assert_eq!(at(3_601_000_000), 3_601_000_000, "an hour ahead");
        assert_eq!(at(-5_000_000), -5_000_000, "and behind");
        assert_eq!(aligned(1_000_000, (700_000, 1_000_001)), 1_000_000, "we did not run for 300 ms in the midst of it");
        assert_eq!(aligned(1_000_000, (3_600_700_000, 3_601_000_000)), 3_601_000_000, "the clock was set all the same");
    }

    #[test]
    fn stamps_and_moments_convert_both_ways_and_never_point_into_the_future() {
        let now =
            Now { moment: Moment::from_micros(5_000_000), wall: Timestamp::from_second(1_000).expect("in range") };
        let earlier = Moment::from_micros(-3_000_000);
        assert_eq!(now.stamp(earlier), Timestamp::from_second(992).expect("in range"));
        assert_eq!(now.moment_of(now.stamp(earlier)), earlier);
        assert_eq!(now.stamp(Moment::from_micros(9_000_000)), now.wall);
        let ahead = Timestamp::from_second(1_060).expect("in range");
        assert_eq!(now.moment_of(ahead), now.moment);
        assert_eq!(now.place(ahead), Moment::from_micros(65_000_000));
    }
}
