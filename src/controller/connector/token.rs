//! Plans the token of a Connector: delivery, rotation with grace, revocation, a Secret that was deleted. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

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
    /// The Secret of this Connector, by owner UID.
    Ours {
        /// The hash of its token; `None` when it has none.
        token: Option<Digest>,
        /// Its other keys are as they should be.
        complete: bool,
    },
    /// The Secret of another owner.
    Foreign,
    /// The Secret of a deleted Connector of the same name; since when this Connector exists.
    Predecessors(Timestamp),
    /// A Secret that the user brings: the hash of its value, or what is wrong with it.
    Supplied(Result<Digest, String>),
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
    /// The new token was used for the first time; the old one has ended.
    Rotated,
    /// Every token was ended on request.
    Revoked,
    /// The Secret was gone or unusable, and is delivered again.
    Recreated,
}

/// The write that the Secret needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The Secret is as it should be.
    Nothing,
    /// Its other keys; the token stays.
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
    plan.confirm(request);
    plan.revoke(request);
    match request.seen {
        SecretState::Supplied(value) => plan.bring(request, value),
        SecretState::Foreign => plan.conflict(request, "exists and does not belong to this Connector"),
        SecretState::Predecessors(created) if request.now.duration_since(*created) > PREDECESSOR_GRACE => {
            plan.conflict(request, "belongs to a deleted Connector of the same name and was not collected");
        }
        SecretState::Predecessors(_) => {
            plan.conflict(request, "belongs to a deleted Connector of the same name and is being collected");
            plan.reread_after = Some(SignedDuration::from_secs(2));
        }
        SecretState::Absent => plan.deliver(request, fresh, None, Write::Create),
        SecretState::Ours { token, complete } => {
            plan.deliver(request, fresh, *token, Write::Replace);
            if plan.write == Write::Nothing && !complete {
                plan.write = Write::Complete;
            }
        }
    }
    plan.forget(request.now);
    plan.report(request);
    plan
}

impl TokenPlan {
    /// The first use of a pending token ends the one before it; a grace that runs may be shortened.
    fn confirm(&mut self, request: &PlanInput<'_>) {
        if self.status.rotation != Rotation::Pending {
            return;
        }
        if request.used_generation >= self.status.generation {
            self.status.rotation = Rotation::Confirmed;
            self.status.grace_until = None;
            let current = self.status.generation;
            self.end(request.now, |hash| hash.generation < current);
            self.events.push(TokenEvent::Rotated);
            return;
        }
        let (Some(until), Some(issued)) = (&self.status.grace_until, &self.status.issued_time) else { return };
        let allowed = issued.0 + SignedDuration::from_secs(request.spec.grace_seconds);
        if allowed < until.0 && request.now < until.0 {
            let until = allowed.max(request.now);
            self.status.grace_until = Some(Time(whole_seconds(until)));
            let current = self.status.generation;
            self.end(until, |hash| hash.generation < current);
        }
    }

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
            self.provisioned.message = format!("{}: {last_error}", self.provisioned.message);
            self.has_failed = true;
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

    /// Plans the delivery of a token that the operator makes: the first one, a rotation, a revocation, or a Secret that lost
    /// its token.
    fn deliver(&mut self, request: &PlanInput<'_>, fresh: Digest, held: Option<Digest>, write: Write) {
        let newest = self.status.hashes.iter().max_by_key(|hash| hash.generation).cloned();
        // One that was revoked while no other could take its place is as good as none.
        match newest.filter(|newest| !has_ended(newest, request.now)) {
            None => self.next_generation(request, fresh),
            Some(_) if request.spec.rotation_generation > self.status.observed_rotation_generation => {
                self.supersede(request);
                self.next_generation(request, fresh);
            }
            Some(newest) if held.is_some_and(|held| held.to_hex() == newest.sha256) => return,
            Some(newest) if !request.delivered => self.deliver_again(request, fresh, &newest),
            Some(_) => {
                self.supersede(request);
                self.next_generation(request, fresh);
                self.events.push(TokenEvent::Recreated);
            }
        }
        self.write = write;
        self.provisioned = ConditionValue::new(
            Truth::False,
            Reason::TokenSecretInvalid,
            format!("Secret {} does not hold the newest token yet", request.secret_name),
        );
    }

    /// The status was written and the Secret was not: that token was never readable. A process that knows it tries again;
    /// otherwise another token takes its place.
    fn deliver_again(&mut self, request: &PlanInput<'_>, fresh: Digest, newest: &TokenHash) {
        if request.undelivered.is_some_and(|undelivered| undelivered.to_hex() == newest.sha256) {
            self.reuses = true;
            return;
        }
        let generation = newest.generation;
        self.status.hashes.retain(|hash| hash.generation != generation);
        self.status.hashes.push(TokenHash { generation, sha256: fresh.to_hex(), not_after: None });
        self.status.issued_time = Some(Time(whole_seconds(request.now)));
    }

    /// A token in use stays valid through its grace. A token that was never used ends at once, and the grace that was
    /// granted before stays as it was.
    fn supersede(&mut self, request: &PlanInput<'_>) {
        let current = self.status.generation;
        if self.status.rotation == Rotation::Pending {
            self.end(request.now, |hash| hash.generation == current);
            return;
        }
        let until = request.now + SignedDuration::from_secs(request.spec.grace_seconds);
        self.end(until, |_| true);
        self.status.rotation = Rotation::Pending;
        self.status.grace_until = Some(Time(whole_seconds(until)));
    }

    fn next_generation(&mut self, request: &PlanInput<'_>, fresh: Digest) {
        self.status.generation += 1;
        self.status.observed_rotation_generation = request.spec.rotation_generation;
        self.status.issued_time = Some(Time(whole_seconds(request.now)));
        let generation = self.status.generation;
        self.status.hashes.push(TokenHash { generation, sha256: fresh.to_hex(), not_after: None });
    }

    /// A requested revocation that has not been honoured: once for each distinct requested time.
    fn revocation(&self, request: &PlanInput<'_>) -> Option<String> {
        let revoke_request = request.revoke?;
        let at: Timestamp = revoke_request.parse().ok().filter(|_| revoke_request.len() <= 64)?;
        let is_new = self.status.observed_revoke_request.as_deref() != Some(revoke_request);
        let is_now = at <= request.now + MAX_REVOKE_SKEW;
        (is_new && is_now).then(|| revoke_request.to_owned())
    }

    fn bring(&mut self, request: &PlanInput<'_>, value: &Result<Digest, String>) {
        let digest = match value {
            Ok(digest) => digest.to_hex(),
            Err(problem) => {
                self.provisioned = ConditionValue::new(Truth::False, Reason::TokenSecretInvalid, problem.clone());
                return;
            }
        };
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

fn has_ended(hash: &TokenHash, now: Timestamp) -> bool {
    hash.not_after.as_ref().is_some_and(|end| end.0 <= now)
}

/// `Time` is written in whole seconds: the kept value must equal the value that will be read back.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
