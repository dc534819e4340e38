//! The durations of the election (`docs/design/liveness.md`, "Leader").

use std::time::Duration;

/// How long a record stays unchanged before another replica may take the Lease.
///
/// From the kill of a leader to the first heartbeat that the next one accepts, 20 s are allowed: a read interval, the
/// term, and the time for two calls and a relabelled pod fit.
pub const TERM: Duration = Duration::from_secs(12);

/// How long after the last renewal a leader writes: a third of the term is left for clocks that run at different rates and
/// for a write in progress.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(8);

/// The interval at which a leader renews and a follower reads the Lease: four renewals in each deadline.
pub const RETRY: Duration = Duration::from_secs(2);

/// The longest term that is granted to a holder whose record asks for more than this process would, such as another
/// version of vigie: a mistyped number must not keep every replica from leading for ever.
pub(super) const LONGEST_TERM: Duration = Duration::from_secs(60);

/// The three durations of an election.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How long a record stays unchanged before another replica may take the Lease.
    pub(super) term: Duration,
    /// How long its holder writes after a renewal was sent; shorter than the term.
    pub(super) renew_deadline: Duration,
    /// The interval at which a leader renews and a follower reads.
    pub(super) retry: Duration,
}

impl Terms {
    /// The configured durations. Writes stop before the term ends, whatever is configured: `renew_deadline` is at most five
    /// sixths of `term`.
    pub(super) fn clamped(term: Duration, renew_deadline: Duration, retry: Duration) -> Self {
        Self { term, renew_deadline: renew_deadline.min(term * 5 / 6), retry }
    }

    /// The limit of one call: a renewal that hangs leaves time for a second one before the deadline.
    pub(super) fn call_timeout(&self) -> Duration {
        self.renew_deadline.saturating_sub(self.retry) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_write_ends_before_the_term() {
        assert!(RENEW_DEADLINE < TERM && RETRY * 3 < RENEW_DEADLINE);
    }
}
