//! Detects times at which the process did not run: a tick comes late.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::time::{Clock, Moment};

/// The time between two ticks.
pub const TICK: Duration = Duration::from_millis(200);

/// The delay from which a late tick means SIGSTOP or a frozen machine (`docs/design/liveness.md`, clock rule 3).
pub(super) const FROZEN: Duration = Duration::from_secs(2);

/// The last moment at which the process ran.
#[derive(Debug)]
pub struct Pulse {
    clock: Clock,
    last: AtomicI64,
}

impl Pulse {
    /// Starts now.
    pub fn new(clock: Clock) -> Self {
        Self { clock, last: AtomicI64::new(clock.now().as_micros()) }
    }

    /// Records a tick. Returns for how long the process did not run, if that was longer than `TICK + FROZEN`. Each gap is
    /// returned to one caller only.
    pub fn take(&self) -> Option<Duration> {
        let now = self.clock.now();
        let last = Moment::from_micros(self.last.swap(now.as_micros(), Ordering::AcqRel));
        gap(last, now)
    }
}

fn gap(last: Moment, now: Moment) -> Option<Duration> {
    let gap = now.since(last);
    (gap > TICK + FROZEN).then_some(gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_tick_is_a_freeze_and_a_slow_one_is_not() {
        let at = Moment::from_micros;
        assert_eq!(gap(at(0), at(200_000)), None);
        assert_eq!(gap(at(0), at(2_200_000)), None);
        assert_eq!(gap(at(0), at(2_200_001)), Some(Duration::from_micros(2_200_001)));
        assert_eq!(gap(at(5_000_000), at(0)), None);
    }
}
