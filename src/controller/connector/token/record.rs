//! The record of a delivery that the operator keeps in the Secret itself, for the case that the status is lost.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::api::TokenStatus;

/// The largest generation that a record may claim. It leaves room for every later one, and JSON carries it exactly.
const MAX_GENERATION: i64 = 9_007_199_254_740_991;

/// How much later than its last write a Secret must have been created before it counts as restored. The clocks of the
/// operator and of the API server may differ a little.
const RESTORED_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// The part of the status that a Secret cannot be understood without. The annotation `vigie.dev/token-record` of the token
/// Secret holds it, so that a backup of the Secret is enough: restores drop the status of custom resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRecord {
    /// `status.token.generation` of the token in this Secret.
    pub generation: i64,
    /// `status.token.observedRotationGeneration` at its delivery.
    #[serde(default)]
    pub observed_rotation_generation: i64,
    /// `status.token.observedRevokeRequest` at its delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_revoke_request: Option<String>,
    /// `status.token.issuedTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_time: Option<Timestamp>,
    /// When the operator wrote the Secret last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_time: Option<Timestamp>,
}

impl TokenRecord {
    /// The name of the annotation.
    pub const ANNOTATION: &'static str = "vigie.dev/token-record";

    /// The record of a Secret that holds the newest token of `status`, written at `now`.
    pub fn of(status: &TokenStatus, now: Timestamp) -> Self {
        Self {
            generation: status.generation,
            observed_rotation_generation: status.observed_rotation_generation,
            observed_revoke_request: status.observed_revoke_request.clone(),
            issued_time: status.issued_time.as_ref().map(|time| time.0),
            written_time: Some(now),
        }
    }

    /// Reads the value of the annotation. A value that cannot be read, or that no operator writes, is as good as none.
    pub fn parse(text: &str) -> Option<Self> {
        let record: Self = serde_json::from_str(text).ok().filter(|_| text.len() <= 1024)?;
        let is_sane = |generation: i64| (0..=MAX_GENERATION).contains(&generation);
        let revoke = record.observed_revoke_request.as_ref();
        let is_short = revoke.is_none_or(|request| request.len() <= 64);
        (record.generation >= 1
            && is_sane(record.generation)
            && is_sane(record.observed_rotation_generation)
            && is_short)
            .then_some(record)
    }

    /// The value of the annotation.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether a Secret that was created at `created` is a copy of the one that the operator wrote: an original is created
    /// before its last write, not after it.
    pub fn is_restored(&self, created: Timestamp) -> bool {
        self.written_time.is_some_and(|written| created.duration_since(written) > RESTORED_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_nonsense_is_none() {
        let record = TokenRecord {
            generation: 3,
            observed_rotation_generation: 2,
            observed_revoke_request: Some("2026-11-01T00:00:00Z".to_owned()),
            issued_time: Some(Timestamp::UNIX_EPOCH),
            written_time: Some(Timestamp::UNIX_EPOCH),
        };
        assert_eq!(TokenRecord::parse(&record.to_text()), Some(record));
        let long = format!(r#"{{"generation":1,"observedRevokeRequest":"{}"}}"#, "x".repeat(65));
        for nonsense in [
            "",
            "{}",
            "[]",
            "3",
            r#"{"generation":0}"#,
            r#"{"generation":-1}"#,
            r#"{"generation":9223372036854775807}"#,
            &long,
        ] {
            assert_eq!(TokenRecord::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_secret_that_is_younger_than_its_last_write_was_restored() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let record = TokenRecord { written_time: Some(at(1000)), ..TokenRecord::default() };
        for (created, restored) in [(0, false), (1000, false), (1060, false), (1061, true)] {
            assert_eq!(record.is_restored(at(created)), restored, "{created}");
        }
        assert!(!TokenRecord::default().is_restored(at(5000)), "no time, no evidence");
    }
}
