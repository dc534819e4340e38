//! Moments for tests: seconds after the start of a process at a known time.

use jiff::Timestamp;

use crate::time::{Moment, Now};

/// When the process started, on the wall clock, in seconds.
pub(super) const START: i64 = 1_800_000_000;

/// A reading of both clocks `second` seconds later, with a fraction that no stored time keeps.
pub(super) fn now(second: i64) -> Now {
    let wall = Timestamp::new(START + second, 123_456_789).unwrap();
    Now { moment: Moment::from_micros(second * 1_000_000 + 123_456), wall }
}

/// A moment, to the second.
pub(super) fn moment(second: i64) -> Moment {
    Moment::from_micros(second * 1_000_000)
}
