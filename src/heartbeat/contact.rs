//! The last contact of a connector.

use crate::health::liveness::{Presence, PreviousVerdict};
use crate::time::Moment;

/// The last contact, and the part of it that the stored status has.
#[derive(Clone, Debug, Default)]
pub(super) struct Contact {
    pub(super) last: Option<Moment>,
    /// The previous verdict: see [`Contact::previous`].
    pub(super) presence: Presence,
    since: Moment,
    /// The last contact in the stored status.
    pub(super) written: Option<Moment>,
    /// When this process wrote it.
    pub(super) written_at: Moment,
    pub(super) was_mass_silent: bool,
}

impl Contact {
    /// The previous verdict.
    pub(super) fn previous(&self) -> PreviousVerdict {
        PreviousVerdict { presence: self.presence, since: self.since }
    }

    pub(super) fn set_previous(&mut self, previous: PreviousVerdict) {
        (self.presence, self.since) = (previous.presence, previous.since);
    }
}
