//! The tokens of one connector in memory, and what their use tells.

use std::num::NonZeroU32;
use std::time::Duration;

use super::brought::Brought;
use super::credentials::{Checked, Credential, Digest, check};
use super::entry::{HeartbeatOutcome, Identity, IncomingBeat};
use super::slow_hash::{Compared, Comparison};
use crate::time::Moment;

/// The use of a retired token is recorded at most this often.
const REJECTION_INTERVAL: Duration = Duration::from_secs(60);

/// The result of a check of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authentication {
    /// Accepted; the delivery that the token belongs to.
    Accepted(i64),
    /// Refused.
    Rejected {
        /// The use of a retired token was recorded.
        is_news: bool,
    },
    /// The credentials have not been loaded.
    NotLoaded,
}

/// The tokens of one connector, and their use.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    pub(super) credentials: Box<[Credential]>,
    /// The resourceVersion that the credentials were read from; `None` = never loaded.
    pub(super) as_of: Option<u64>,
    /// The youngest delivery whose token was used.
    pub(super) used_generation: i64,
    pub(super) retired_use: Option<Moment>,
    /// The user brings the token.
    pub(super) brought: Option<Box<Brought>>,
}

impl Tokens {
    /// Learns from the comparison of a token that a user brings with the stored slow hashes, or asks for it.
    ///
    /// The token counts as wrong from the moment at which its comparison is asked for: otherwise many tokens that are sent at
    /// once would all be compared.
    pub(super) fn compare_brought(
        &mut self,
        identity: &Identity,
        received: &IncomingBeat<'_, '_>,
    ) -> Result<(), HeartbeatOutcome> {
        let IncomingBeat { beat, token, from, at: now, compared } = *received;
        match compared {
            Some(Compared { found: Some(found), .. }) => self.learn(*found, *token),
            Some(_) => {}
            None => {
                if let Some(seconds) = self.brought.as_ref().and_then(|brought| brought.wait(from, now)) {
                    return Err(HeartbeatOutcome::NotCompared(seconds));
                }
            }
        }
        let stored = self.uncompared(token, compared);
        let Some(brought) = self.brought.as_mut().filter(|_| !stored.is_empty()) else { return Ok(()) };
        if compared.is_some() {
            // No place was free in time, or the stored hashes changed meanwhile.
            brought.take_back(from);
            return Err(HeartbeatOutcome::NotLoaded);
        }
        brought.failed(from, now);
        let (namespace, uid) = (identity.key.namespace.clone(), identity.uid().into());
        let comparison = Comparison { namespace, token: beat.token.clone().into_owned(), uid, stored };
        Err(HeartbeatOutcome::Uncompared(Box::new(comparison)))
    }

    /// The slow hashes that a token is still to be compared with: none when its SHA-256 is known.
    fn uncompared(&self, token: &Digest, compared: Option<&Compared>) -> Vec<(Digest, NonZeroU32)> {
        if self.credentials.iter().any(|known| known.rounds.is_none() && known.digest == *token) {
            return Vec::new();
        }
        let was_compared = |stored: &Digest| compared.is_some_and(|compared| compared.stored.contains(stored));
        let slow = self.credentials.iter().filter_map(|known| Some((known.digest, known.rounds?)));
        slow.filter(|(stored, _)| !was_compared(stored)).collect()
    }

    /// Counts a token that was judged. One that was compared with slow hashes was counted as wrong in advance.
    pub(super) fn count_brought(&mut self, accepted: bool, received: &IncomingBeat<'_, '_>) {
        let (from, now, was_counted) = (received.from, received.at, received.compared.is_some());
        match &mut self.brought {
            Some(brought) if accepted => {
                if was_counted {
                    brought.take_back(from);
                }
                brought.accepted(from);
            }
            Some(brought) if !was_counted => brought.failed(from, now),
            _ => {}
        }
    }

    /// Remembers the SHA-256 of the token that stands in the user's Secret, and has this stored hash.
    pub(super) fn learn(&mut self, stored: Digest, plain: Digest) {
        self.brought.get_or_insert_default().learn(stored, plain);
        let known = self.credentials.iter_mut().filter(|known| known.rounds.is_some() && known.digest == stored);
        for credential in known {
            (credential.digest, credential.rounds) = (plain, None);
        }
    }

    /// Checks a token. It is compared first, so that the time of an answer does not depend on the source of the heartbeats.
    pub(super) fn authenticate(&mut self, by_lease: bool, token: &Digest, now: Moment) -> Authentication {
        match check(&self.credentials, token, now) {
            _ if by_lease => Authentication::Rejected { is_news: false },
            Checked::Accepted(generation) => Authentication::Accepted(generation),
            Checked::Retired => {
                let is_news = self.retired_use.is_none_or(|noted| now.since(noted) >= REJECTION_INTERVAL);
                if is_news {
                    self.retired_use = Some(now);
                }
                Authentication::Rejected { is_news }
            }
            Checked::Wrong if self.as_of.is_none() => Authentication::NotLoaded,
            Checked::Wrong => Authentication::Rejected { is_news: false },
        }
    }
}
