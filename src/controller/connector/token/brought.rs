//! The plan for a token that the user brings.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{PlanInput, TokenPlan, whole_seconds};
use crate::api::{ConditionValue, Reason, Rotation, TokenHash, Truth};
use crate::heartbeat::credentials::{Digest, ROUNDS};

/// The hashes of the value in a user's Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supplied {
    /// Its SHA-256: compared with heartbeats in memory, and stored by older versions.
    pub plain: Digest,
    /// Its slow hash, which is stored.
    pub slow: Digest,
}

impl Supplied {
    /// Whether `hash` is that of this value.
    fn is_of(&self, hash: &TokenHash) -> bool {
        let own = if hash.rounds.is_some() { self.slow } else { self.plain };
        hash.sha256 == own.to_hex()
    }
}

impl TokenPlan {
    pub(super) fn bring(&mut self, request: &PlanInput<'_>, value: &Result<Supplied, String>) {
        let value = match value {
            Ok(value) => value,
            Err(problem) => {
                self.provisioned = ConditionValue::new(Truth::False, Reason::TokenSecretInvalid, problem.clone());
                return;
            }
        };
        self.status.held_generation = None;
        let (sha256, rounds) = (value.slow.to_hex(), i32::try_from(ROUNDS.get()).ok());
        match self.status.hashes.iter_mut().find(|hash| value.is_of(hash)) {
            // An older version stored the SHA-256, which can be guessed.
            Some(known) if known.not_after.is_none() => (known.sha256, known.rounds) = (sha256, rounds),
            // The operator cannot replace a token that the user brings: it waits for another value.
            Some(_) => {
                let problem = format!(
                    "the value in Secret {} was revoked or replaced before: put another one there",
                    request.secret_name
                );
                self.provisioned = ConditionValue::new(Truth::False, Reason::TokenSecretInvalid, problem);
            }
            None => {
                self.end(request.now, |_| true);
                self.status.generation = self.status.generation.saturating_add(1);
                self.status.rotation = Rotation::None;
                self.status.grace_until = None;
                self.status.issued_time = Some(Time(whole_seconds(request.now)));
                let generation = self.status.generation;
                self.status.hashes.push(TokenHash { generation, sha256, rounds, not_after: None });
            }
        }
    }
}
