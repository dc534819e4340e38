//! The log lines about calls for the Lease that fail.

use std::time::Duration;

use crate::cluster::CallError;
use crate::time::Moment;

/// The interval between log lines about a failure that lasts.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Logs a failure that lasts: when it begins, and then once a minute.
#[derive(Default)]
pub(super) struct FailureLog {
    logged_at: Option<Moment>,
}

impl FailureLog {
    pub(super) fn failed(&mut self, verb: &str, lease: &str, error: &CallError, now: Moment) {
        if self.logged_at.is_some_and(|logged_at| now.since(logged_at) < LOG_EVERY) {
            return;
        }
        self.logged_at = Some(now);
        if let CallError::Forbidden(reason) = error {
            tracing::warn!(lease, "may not {verb} the lease; grant get, create and update on leases there: {reason}");
        } else {
            tracing::warn!(lease, %error, "could not {verb} the lease");
        }
    }

    pub(super) fn recovered(&mut self, lease: &str) {
        if self.logged_at.take().is_some() {
            tracing::info!(lease, "the lease can be read or written again");
        }
    }
}
