//! The report on a connector's token, without the token itself.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::text::ago;
use crate::api::{Rotation, TokenHash, TokenStatus};
use crate::cli::token::TokenSource;
use crate::diagnosis::evidence::Lookup;
use crate::heartbeat::credentials::is_hash_of;

/// The findings about a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenFindings {
    /// Sentences.
    pub(super) lines: Vec<String>,
    /// Whether the token does not work.
    pub(super) is_wrong: bool,
    /// The public URL of the operator, when it is in the Secret.
    pub(super) url: Option<String>,
}

impl TokenSource {
    /// The Secret that holds the token, and its key there.
    pub(super) fn secret(&self) -> Option<(&str, &str)> {
        match self {
            Self::Issued { secret_name } => Some((secret_name, "token")),
            Self::Supplied { secret_name, key } => Some((secret_name, key)),
            Self::Lease => None,
        }
    }
}

/// The findings about the token from `source`, whose Secret was looked up, for the Connector with this `uid`.
pub(super) fn token(
    source: &TokenSource,
    secret: &Lookup<Secret>,
    status: &TokenStatus,
    uid: &str,
    now: Timestamp,
) -> TokenFindings {
    let mut token = TokenFindings::default();
    let Some((name, key)) = source.secret() else {
        token.lines.push(source.to_string());
        return token;
    };
    match secret {
        Lookup::Found(secret) => token.read(secret, (name, key), status, uid, now),
        Lookup::Absent => {
            token.is_wrong = true;
            token.lines.push(format!("Secret {name} does not exist"));
        }
        Lookup::NotLooked => {}
        Lookup::Forbidden(why) | Lookup::Failed(why) => token.lines.push(format!("Secret {name} was not read: {why}")),
    }
    if let Some(issued) = &status.issued_time {
        token.lines.push(format!("the newest token is number {}, made {}", status.generation, ago(issued.0, now)));
    }
    if status.rotation == Rotation::Pending {
        let until = status.grace_until.as_ref().map(|until| format!(" until {}", until.0)).unwrap_or_default();
        token.lines.push(match status.held_generation {
            Some(_) => "a new token could not be put into its Secret yet; the one before works until it is".to_owned(),
            None => format!("a new token waits for its first use; the one before works{until}"),
        });
    }
    if let Some(rejected) = &status.last_rejected_time {
        token.lines.push(format!("a token of it that has ended was refused {}", ago(rejected.0, now)));
    }
    token
}

impl TokenFindings {
    fn read(&mut self, secret: &Secret, (name, key): (&str, &str), status: &TokenStatus, uid: &str, now: Timestamp) {
        let data = secret.data.as_ref();
        let text = |key: &str| data.and_then(|data| std::str::from_utf8(&data.get(key)?.0).ok());
        self.url = text("url").filter(|url| !url.is_empty()).map(str::to_owned);
        let Some(value) = text(key).filter(|value| !value.is_empty()) else {
            self.is_wrong = true;
            self.lines.push(format!("Secret {name} exists and has no text under the key {key}"));
            return;
        };
        let known = status.hashes.iter().find(|known| is_hash_of(known, value, uid));
        let has_ended = |known: &TokenHash| known.not_after.as_ref().is_some_and(|end| end.0 <= now);
        let (state, is_wrong) = match known {
            Some(known) if has_ended(known) => {
                (format!("holds token number {}, which has ended", known.generation), true)
            }
            Some(known) if known.generation < status.generation => {
                (format!("holds token number {}, an older one that still works", known.generation), false)
            }
            Some(known) => (format!("holds token number {}, which works", known.generation), false),
            None if status.hashes.is_empty() => ("exists; no operator has noted its token yet".to_owned(), false),
            None => ("holds a token that the operator does not know".to_owned(), true),
        };
        self.is_wrong = is_wrong;
        self.lines.push(format!("Secret {name} {state}"));
    }
}
