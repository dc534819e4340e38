//! Plans the token of a Connector: delivery, rotation with grace, revocation, a Secret that was deleted or restored. Pure.

mod brought;
mod delivery;
mod record;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use self::brought::Supplied;
pub use self::record::TokenRecord;
use crate::api::{ConditionValue, Reason, Rotation, TokenHash, TokenSpec, TokenStatus, Truth};
use crate::heartbeat::credentials::{Digest, MAX_CREDENTIALS};

/// How far ahead of the operator's clock a revocation may be dated and still be honoured: the clock of the requester may be
/// a little fast, but a time far ahead is a mistake.
const MAX_REVOKE_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The time in which the Secret of a deleted predecessor is expected to be collected; after it the Secret is a conflict.
const PREDECESSOR_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// The Secret under the expected name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// There is no Secret.
    Absent,
    /// The Secret of this Connector, by owner UID, or by all that it says when a restore has dropped its owner.
    Ours(OwnSecret),
    /// A Secret that is not of this Connector; why, as the end of a sentence about it.
    Foreign(String),
    /// The Secret of a deleted Connector of the same name; since when this Connector exists.
    Predecessors(Timestamp),
    /// A Secret that the user brings: the hashes of its value, or what is wrong with it.
    Supplied(Result<Supplied, String>),
}

/// The contents of this Connector's own Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnSecret {
    /// The hash of its token; `None` when it has none.
    pub token: Option<Digest>,
    /// The token has the form of those that the operator makes, so it was not typed in by hand.
    pub is_made: bool,
    /// Its other keys and its owner are as they should be.
    pub complete: bool,
    /// The operator's record of the delivery; `None` in a Secret that an older version wrote.
    pub record: Option<TokenRecord>,
}

/// Why the Secret was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// The Secret or the key that the user is to bring does not exist.
    Missing,
    /// The Secret could not be read.
    Unreadable,
}

/// The input of the plan.
#[derive(Clone, Debug)]
pub struct PlanInput<'a> {
    /// The spec, defaults applied.
    pub spec: &'a TokenSpec,
    /// The Secret's name.
    pub secret_name: &'a str,
    /// The status as it is stored.
    pub status: Option<&'a TokenStatus>,
    /// The stored `Provisioned` condition.
    pub provisioned: Option<&'a ConditionValue>,
    /// Whether the newest token has been delivered; see [`was_delivered`].
    pub delivered: bool,
    /// The value of the annotation `vigie.dev/revoke-requested`.
    pub revoke: Option<&'a str>,
    /// The youngest delivery whose token was used.
    pub used_generation: i64,
    /// When a retired token was used last.
    pub retired_use: Option<Timestamp>,
    /// The hash of a token that the operator made, and whose Secret could not be written yet.
    pub undelivered: Option<Digest>,
    /// The Secret under the expected name.
    pub seen: &'a SecretState,
    /// Why `seen` does not show the Secret.
    pub failure: Option<ReadFailure>,
    /// Why the last delivery failed.
    pub last_error: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// An event of a token, to be published once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenEvent {
    /// The token of this delivery was used for the first time; the old one has ended.
    Rotated(i64),
    /// Every token was ended on request.
    Revoked,
    /// The Secret was gone or unusable, and is delivered again.
    Recreated,
    /// The status did not know the token in the Secret, and knows it again.
    Adopted,
    /// The token could not be put into its Secret.
    DeliveryFailed,
}

/// The write that the Secret needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The Secret is as it should be.
    Nothing,
    /// Its other keys and its owner; the token stays.
    Complete,
    /// The new token, in a new Secret.
    Create,
    /// The new token, in the Secret that is there.
    Replace,
}

/// The plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPlan {
    /// The status to store, before the Secret is written.
    pub status: TokenStatus,
    /// The write to the Secret after that.
    pub write: Write,
    /// The undelivered token is delivered, not the fresh one.
    pub reuses: bool,
    /// The `Provisioned` condition while `write` is outstanding (True only when nothing is).
    pub provisioned: ConditionValue,
    /// `False` of `Accepted`, when the token is the cause.
    pub refused: Option<(Reason, String)>,
    /// The events to publish.
    pub events: Vec<TokenEvent>,
    /// The last try to write the Secret failed; `provisioned` says why.
    pub has_failed: bool,
    /// When to read the Secret again, if that is sooner than usual.
    pub reread_after: Option<SignedDuration>,
}

/// Whether the newest token has been delivered, according to the stored `Provisioned` condition.
///
/// Only the condition of an outstanding delivery says so. A conflict, or a missing condition, says nothing about an earlier
/// delivery: that token may be in use, and taking it for undelivered would end it.
pub fn was_delivered(provisioned: Option<&ConditionValue>) -> bool {
    provisioned.is_none_or(|value| value.status == Truth::True || value.reason != Reason::TokenSecretInvalid)
}

/// Plans. `fresh` is the hash of a token that was made just now and was not shown anywhere: it is used for a delivery.
pub fn plan(request: &PlanInput<'_>, fresh: Digest) -> TokenPlan {
    let mut plan = TokenPlan {
        status: request.status.cloned().unwrap_or_default(),
        write: Write::Nothing,
        reuses: false,
        provisioned: ConditionValue::new(
            Truth::True,
            Reason::Provisioned,
            format!("Secret {} holds the token", request.secret_name),
        ),
        refused: None,
        events: Vec::new(),
        has_failed: false,
        reread_after: None,
    };
    plan.status.secret_name = Some(request.secret_name.to_owned());
    if let Some(used) = request.retired_use {
        plan.status.last_rejected_time = plan.status.last_rejected_time.max(Some(Time(whole_seconds(used))));
    }
    if let SecretState::Ours(own) = request.seen {
        plan.adopt(request, own);
    }
    plan.confirm(request);
    plan.revoke(request);
    match request.seen {
        SecretState::Supplied(value) => plan.bring(request, value),
        SecretState::Foreign(why) => plan.conflict(request, why),
        SecretState::Predecessors(created) if request.now.duration_since(*created) > PREDECESSOR_GRACE => {
            plan.conflict(request, "belongs to a deleted Connector of the same name and was not collected");
        }
        SecretState::Predecessors(_) => {
            plan.conflict(request, "belongs to a deleted Connector of the same name and is being collected");
            plan.reread_after = Some(SignedDuration::from_secs(2));
        }
        SecretState::Absent => plan.deliver(request, fresh, None),
        SecretState::Ours(own) => {
            plan.deliver(request, fresh, Some(own));
            if plan.write == Write::Nothing && !own.complete {
                plan.write = Write::Complete;
            }
        }
    }
    plan.forget(request.now);
    plan.report(request);
    plan
}

impl TokenPlan {
    /// Ends the tokens that have not ended, at `at` at the latest.
    fn end(&mut self, at: Timestamp, which: impl Fn(&TokenHash) -> bool) {
        for hash in self.status.hashes.iter_mut().filter(|hash| which(hash)) {
            if hash.not_after.as_ref().is_none_or(|end| end.0 > at) {
                hash.not_after = Some(Time(whole_seconds(at)));
            }
        }
    }

    /// Forgets the oldest ended tokens, and only ended ones: a token in its grace is in use, however many were issued after
    /// it.
    fn forget(&mut self, now: Timestamp) {
        let hashes = &mut self.status.hashes;
        hashes.sort_by_key(|hash| std::cmp::Reverse(hash.generation));
        while hashes.len() > MAX_CREDENTIALS {
            let oldest_ended = hashes.iter().rposition(|hash| has_ended(hash, now));
            hashes.remove(oldest_ended.unwrap_or(MAX_CREDENTIALS));
        }
    }

    /// Adds to the conditions why the Secret was not seen, and why the last delivery failed.
    fn report(&mut self, request: &PlanInput<'_>) {
        if let (Some(ReadFailure::Missing), SecretState::Supplied(Err(problem))) = (request.failure, request.seen) {
            self.refused = Some((Reason::SecretNotFound, problem.clone()));
        }
        if request.failure == Some(ReadFailure::Unreadable)
            && let Some(stored) = request.provisioned.filter(|stored| was_delivered(Some(stored)))
        {
            // A failed read is no evidence against the last successful one.
            self.provisioned = stored.clone();
        }
        if let (Some(last_error), true) = (request.last_error, self.write != Write::Nothing) {
            self.has_failed = true;
            self.report_failure(request, last_error);
        }
    }

    /// Ends every token on request, whether or not a new one can be delivered.
    fn revoke(&mut self, request: &PlanInput<'_>) {
        let Some(requested_at) = self.revocation(request) else { return };
        self.status.observed_revoke_request = Some(requested_at);
        // Before the first token there is nothing to end.
        if self.status.hashes.is_empty() {
            return;
        }
        self.end(request.now, |_| true);
        self.status.rotation = Rotation::None;
        self.status.grace_until = None;
        self.events.push(TokenEvent::Revoked);
    }

    fn conflict(&mut self, request: &PlanInput<'_>, why: &str) {
        let message = format!("Secret {} {why}", request.secret_name);
        self.provisioned = ConditionValue::new(Truth::False, Reason::TokenSecretConflict, message);
    }

    /// A requested revocation that has not been honoured: once for each distinct requested time.
    fn revocation(&self, request: &PlanInput<'_>) -> Option<String> {
        let revoke_request = request.revoke?;
        let at: Timestamp = revoke_request.parse().ok().filter(|_| revoke_request.len() <= 64)?;
        let is_new = self.status.observed_revoke_request.as_deref() != Some(revoke_request);
        let is_now = at <= request.now + MAX_REVOKE_SKEW;
        (is_new && is_now).then(|| revoke_request.to_owned())
    }
}

fn has_ended(hash: &TokenHash, now: Timestamp) -> bool {
    hash.not_after.as_ref().is_some_and(|end| end.0 <= now)
}

/// `Time` is written in whole seconds: the kept value must equal the value that will be read back.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
