//! Detects times at which the process did not run: a tick comes late.

use std::time::Duration;

use crate::time::Moment;

/// The time between two ticks.
pub const TICK: Duration = Duration::from_millis(200);

/// The delay from which a late tick means SIGSTOP or a frozen machine (`docs/design/liveness.md`, clock rule 3).
pub(super) const FROZEN: Duration = Duration::from_secs(2);

/// For how long the process did not run between its last tick and `now`; `None` for a pause that an ordinary delay explains.
pub fn frozen_for(last_tick: Moment, now: Moment) -> Option<Duration> {
    let pause = now.since(last_tick);
    (pause > TICK + FROZEN).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_tick_is_a_freeze_and_a_slow_one_is_not() {
        let at = Moment::from_micros;
        assert_eq!(frozen_for(at(0), at(200_000)), None);
        assert_eq!(frozen_for(at(0), at(2_200_000)), None);
        assert_eq!(frozen_for(at(0), at(2_200_001)), Some(Duration::from_micros(2_200_001)));
        assert_eq!(frozen_for(at(5_000_000), at(0)), None);
    }
}
