//! The one place that reads clocks. Everything that decides takes a [`Moment`] or a timestamp as an argument.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::health::Moment;

/// Our two clocks: the monotonic one for ages, the wall for stamps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock {
    /// Now, on the monotonic clock.
    pub fn now(&self) -> Moment {
        Moment::default() + self.started.elapsed()
    }

    /// Both clocks, read together: what converts between them.
    pub fn read(&self) -> Now {
        Now { moment: self.now(), wall: Timestamp::now() }
    }

    /// The tokio instant at which `at` will be reached, for timers.
    pub fn instant(&self, at: Moment) -> tokio::time::Instant {
        let now = self.now();
        tokio::time::Instant::now() + at.since(now)
    }
}

/// One reading of both clocks.
///
/// Ages are measured on the monotonic clock and stamped with the wall clock of *this* reading, so a step of the wall
/// clock changes no verdict (liveness.md, clock rule 2).
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
        self.wall - jiff::SignedDuration::try_from(age).unwrap_or(jiff::SignedDuration::ZERO)
    }

    /// The moment at which the wall clock shows `stamp`, past or to come.
    pub fn place(&self, stamp: Timestamp) -> Moment {
        let ahead = stamp.duration_since(self.wall);
        match Duration::try_from(ahead) {
            Ok(ahead) => self.moment + ahead,
            Err(_) => self.moment - ahead.unsigned_abs(),
        }
    }

    /// The moment at which the wall clock showed `stamp`; a stamp of the future is taken as now.
    pub fn moment_of(&self, stamp: Timestamp) -> Moment {
        self.place(stamp).min(self.moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
