//! The agent's attempts to reach the operator.

use std::collections::VecDeque;
use std::time::Duration;

use super::finding::Finding;
use crate::time::Moment;

/// The time that counts.
const WINDOW: Duration = Duration::from_secs(300);
/// Most attempts that are kept.
const MAX_ATTEMPTS: usize = 256;

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The class of the error, as of a probe: `ConnectTimeout`.
    pub class: String,
    /// The phase that failed: `Connect`.
    pub phase: String,
}

/// The attempts of the last five minutes.
#[derive(Clone, Debug, Default)]
pub struct Attempts(VecDeque<(Moment, Option<Attempt>)>);

impl Attempts {
    /// Records an attempt: `None` = a heartbeat was accepted.
    pub fn record(&mut self, at: Moment, failed: Option<Attempt>) {
        self.0.retain(|(earlier, _)| at.since(*earlier) < WINDOW);
        if self.0.len() == MAX_ATTEMPTS {
            self.0.pop_front();
        }
        self.0.push_back((at, failed));
    }

    /// A heartbeat that tells this was accepted, so the operator can be reached; the question is how well.
    pub(super) fn judge(&self, now: Moment) -> Finding {
        let recent: Vec<&Option<Attempt>> =
            self.0.iter().filter(|(at, _)| now.since(*at) < WINDOW).map(|(_, failed)| failed).collect();
        let failed: Vec<&Attempt> = recent.iter().copied().flatten().collect();
        let (Some(last), all) = (failed.last(), recent.len()) else {
            return match recent.len() {
                // As of the first one since the agent started: an Unknown would be shown as a cause.
                0 => Finding::pass("no other heartbeat was sent in the last 5 min"),
                all => Finding::pass(format!("all {all} heartbeats of the last 5 min were accepted")),
            };
        };
        let message = format!(
            "{} of {all} heartbeats of the last 5 min were not accepted, the last one by {} in phase {}",
            failed.len(),
            last.class,
            last.phase
        );
        if failed.len() * 5 > all { Finding::warn(message) } else { Finding::pass(message) }
    }
}
