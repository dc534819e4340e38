//! Why the target of a backend cannot be resolved.

use crate::api::Reason;

/// Why there is nothing to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// The spec names an object that does not exist, or is invalid: `Accepted` is False.
    Refused(Reason, String),
    /// Objects that were read contradict each other, maybe because one was read before the other changed. Nothing is dialled
    /// meanwhile, and after a while the spec is refused.
    Unverified(String),
    /// The lookup failed. The result of the previous lookup stays valid.
    Failed(String),
}

impl ResolveError {
    pub(super) fn target(message: impl Into<String>) -> Self {
        Self::Refused(Reason::InvalidTarget, message.into())
    }

    /// The sentence that says why.
    pub fn into_message(self) -> String {
        match self {
            Self::Refused(_, why) | Self::Unverified(why) | Self::Failed(why) => why,
        }
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::Refused(Reason::TargetDenied, message.into())
    }
}
