//! A point on the monotonic clock.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the monotonic clock, in microseconds since this process started.
///
/// Negative before the start: an event that a predecessor stored gets its moment by its wall-clock age. Unlike
/// `std::time::Instant` it can be constructed in tests, stored in an atomic, and lie before the boot of the machine.
///
/// An `Option<Moment>` takes 8 bytes: each connector has several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(NonZeroU64);

/// The sign bit: with it flipped, unsigned numbers have the order of the signed ones.
const SIGN: u64 = 1 << 63;

impl Moment {
    /// The moment that lies `micros` microseconds after the start of this process.
    pub const fn from_micros(micros: i64) -> Self {
        // Only the least number has no place of its own: it is one microsecond later.
        match NonZeroU64::new(micros.cast_unsigned() ^ SIGN) {
            Some(at) => Self(at),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Microseconds since the start of this process.
    pub const fn as_micros(self) -> i64 {
        (self.0.get() ^ SIGN).cast_signed()
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.as_micros().saturating_sub(earlier.as_micros());
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

impl Default for Moment {
    /// The start of this process.
    fn default() -> Self {
        Self::from_micros(0)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Moment").field(&self.as_micros()).finish()
    }
}

fn micros(of: Duration) -> i64 {
    i64::try_from(of.as_micros()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self::from_micros(self.as_micros().saturating_add(micros(by)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self::from_micros(self.as_micros().saturating_sub(micros(by)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_ordered_as_their_microseconds_and_an_absent_one_takes_no_room() {
        let micros = [i64::MIN + 1, -1_000_000, -1, 0, 1, 1_000_000, i64::MAX];
        let moments = micros.map(Moment::from_micros);
        assert_eq!(moments.map(Moment::as_micros), micros);
        assert!(moments.is_sorted());
        assert_eq!(Moment::from_micros(i64::MIN).as_micros(), i64::MIN + 1);
        assert_eq!(Moment::default().as_micros(), 0);
        assert_eq!(size_of::<Option<Moment>>(), 8);
        assert_eq!(format!("{:?}", Moment::from_micros(-7)), "Moment(-7)");
    }

    #[test]
    fn sums_and_differences_stop_at_the_ends() {
        let (first, last) = (Moment::from_micros(i64::MIN), Moment::from_micros(i64::MAX));
        assert_eq!((first - Duration::MAX, last + Duration::MAX), (first, last));
        assert_eq!(Moment::default().since(first), Duration::from_micros(i64::MAX as u64));
        assert_eq!(first.since(last), Duration::ZERO);
    }
}
