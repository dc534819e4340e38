//! The time since the host started: the one clock that both halves of the agent read alike, and that nothing sets.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since the host started, time asleep included.
pub(super) fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}
