//! The plan for a token that the user brings.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{PlanInput, TokenPlan, whole_seconds};
use crate::api::{ConditionValue, Reason, Rotation, TokenHash, Truth};
use crate::heartbeat::credentials::Digest;

impl TokenPlan {
    pub(super) fn bring(&mut self, request: &PlanInput<'_>, value: &Result<Digest, String>) {
        let digest = match value {
            Ok(digest) => digest.to_hex(),
            Err(problem) => {
                self.provisioned = ConditionValue::new(Truth::False, Reason::TokenSecretInvalid, problem.clone());
                return;
            }
        };
        self.status.held_generation = None;
        match self.status.hashes.iter().find(|hash| hash.sha256 == digest) {
            Some(known) if known.not_after.is_none() => {}
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
                self.status.generation += 1;
                self.status.rotation = Rotation::None;
                self.status.grace_until = None;
                self.status.issued_time = Some(Time(whole_seconds(request.now)));
                let generation = self.status.generation;
                self.status.hashes.push(TokenHash { generation, sha256: digest, not_after: None });
            }
        }
    }
}
