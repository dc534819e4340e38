//! The backoff of watches.

use std::time::Duration;

use kube::runtime::utils::Backoff;

/// The first wait; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);

/// The longest wait. client-go's 30 s, doubled by jitter to a minute, would delay events by that time after the API server
/// is back: written states would look unwritten, and a renewed Lease would not be noticed. One request every 5 s from each
/// replica is no load for a struggling server.
const LONGEST: Duration = Duration::from_secs(5);

/// The waits between the attempts of one watch.
#[derive(Clone, Debug)]
pub(super) struct WatchBackoff {
    next: Duration,
}

impl Default for WatchBackoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        Some(wait)
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_grow_to_five_seconds_and_begin_again_after_a_success() {
        let mut backoff = WatchBackoff::default();
        let waits: Vec<_> = backoff.by_ref().take(6).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(), Some(FIRST));
    }
}
