//! The tokens of one connector in memory, and what their use tells.

use std::net::IpAddr;
use std::time::Duration;

use super::brought::Brought;
use super::credentials::{Checked, Credential, Digest, check};
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
    /// Compares a token that a user brings with the stored slow hashes, once for each: after that its SHA-256 is known.
    pub(super) fn verify_brought(&mut self, text: &str, token: &Digest, uid: &str) {
        let Some(brought) = &mut self.brought else { return };
        let is_known = self.credentials.iter().any(|known| known.rounds.is_none() && known.digest == *token);
        for credential in self.credentials.iter_mut().filter(|_| !is_known) {
            let Some(rounds) = credential.rounds else { continue };
            if Digest::slow(text, uid, rounds) == credential.digest {
                brought.learn(credential.digest, *token);
                (credential.digest, credential.rounds) = (*token, None);
            }
        }
    }

    pub(super) fn count_brought(&mut self, accepted: bool, from: IpAddr, now: Moment) {
        match &mut self.brought {
            Some(brought) if accepted => brought.accepted(from),
            Some(brought) => brought.failed(from, now),
            None => {}
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
