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

    /// The moment at which the wall clock showed `stamp`; a stamp of the future is taken as now.
    pub fn moment_of(&self, stamp: Timestamp) -> Moment {
        let age = self.wall.duration_since(stamp);
        self.moment - Duration::try_from(age).unwrap_or(Duration::ZERO)
    }
}
