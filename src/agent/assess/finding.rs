//! The verdict of one look.

use crate::api::{CheckOutcome, MAX_CHECK_MESSAGE, one_line};

/// The verdict of one look, and its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) outcome: CheckOutcome,
    pub(super) message: String,
}

impl Finding {
    fn new(outcome: CheckOutcome, message: impl Into<String>) -> Self {
        // The names in it come from the host. A heartbeat with a control character is refused.
        Self { outcome, message: one_line(&message.into(), MAX_CHECK_MESSAGE) }
    }

    pub(super) fn pass(message: impl Into<String>) -> Self {
        Self::new(CheckOutcome::Pass, message)
    }

    pub(super) fn warn(message: impl Into<String>) -> Self {
        Self::new(CheckOutcome::Warn, message)
    }

    pub(super) fn fail(message: impl Into<String>) -> Self {
        Self::new(CheckOutcome::Fail, message)
    }

    /// It could not be looked at.
    pub(super) fn unknown(why: impl Into<String>) -> Self {
        Self::new(CheckOutcome::Unknown, why)
    }
}
