//! The plan for a token that the operator makes: what the Secret holds decides which tokens may end.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{OwnSecret, PlanInput, SecretState, TokenEvent, TokenPlan, Write, has_ended, whole_seconds};
use crate::api::{ConditionValue, Reason, Rotation, TokenHash, Truth};
use crate::heartbeat::credentials::Digest;

impl TokenPlan {
    /// Learns the token in the Secret again when the status has lost it, or is an older copy than the Secret.
    ///
    /// Only a token of the operator's own form in the Connector's own Secret is taken over, and only where the status does
    /// not know better: a value that was revoked or replaced stays so, and an older Secret is no news.
    pub(super) fn adopt(&mut self, request: &PlanInput<'_>, own: &OwnSecret) {
        let Some(held) = own.token.filter(|_| own.is_made) else { return };
        let is_known = self.status.hashes.iter().any(|hash| hash.sha256 == held.to_hex());
        let is_newer = own.record.as_ref().is_some_and(|record| record.generation > self.status.generation);
        if is_known || !(self.status.hashes.is_empty() || is_newer) {
            return;
        }
        let was_revoked = match &own.record {
            Some(record) => {
                let status = &mut self.status;
                status.observed_rotation_generation =
                    record.observed_rotation_generation.min(request.spec.rotation_generation);
                let revoked = record.observed_revoke_request.clone();
                std::mem::replace(&mut status.observed_revoke_request, revoked.clone()) != revoked
            }
            // A version that kept no record honoured each request within seconds: none of them is new.
            None => {
                self.status.observed_rotation_generation = request.spec.rotation_generation;
                if let Some(asked) = self.revocation(request) {
                    self.status.observed_revoke_request = Some(asked);
                }
                false
            }
        };
        let status = &mut self.status;
        status.generation = own.record.as_ref().map_or(1, |record| record.generation).max(status.generation).max(1);
        let issued = own.record.as_ref().and_then(|record| record.issued_time).filter(|at| *at <= request.now);
        status.issued_time = Some(Time(whole_seconds(issued.unwrap_or(request.now))));
        (status.rotation, status.grace_until, status.held_generation) = (Rotation::None, None, None);
        // The tokens of the older copy: those of before a revocation have ended, the others were superseded.
        let grace = SignedDuration::from_secs(if was_revoked { 0 } else { request.spec.grace_seconds });
        self.end(request.now + grace, |_| true);
        let generation = self.status.generation;
        self.status.hashes.push(TokenHash { generation, sha256: held.to_hex(), rounds: None, not_after: None });
        self.events.push(TokenEvent::Adopted);
    }

    /// The first use of a pending token ends the one before it; a grace that runs may be shortened.
    pub(super) fn confirm(&mut self, request: &PlanInput<'_>) {
        if self.status.rotation != Rotation::Pending {
            return;
        }
        let newest = self.status.generation;
        if request.used_generation >= newest {
            self.status.rotation = Rotation::Confirmed;
            // Its use proves that it was delivered.
            self.status.held_generation = None;
            self.confirmed(request, newest);
            return;
        }
        // While the newest one is not delivered, the one before it may be pending itself.
        let undelivered = self.status.held_generation.is_some();
        let pending = if undelivered { self.newest_before(newest) } else { newest };
        if undelivered && self.status.grace_until.is_some() && request.used_generation >= pending {
            self.confirmed(request, pending);
        }
        let (Some(until), Some(issued)) = (&self.status.grace_until, &self.status.issued_time) else { return };
        let allowed = plus_grace(issued.0, request);
        if allowed < until.0 && request.now < until.0 {
            let until = allowed.max(request.now);
            self.status.grace_until = Some(Time(whole_seconds(until)));
            self.end(until, |hash| hash.generation < pending);
        }
    }

    fn confirmed(&mut self, request: &PlanInput<'_>, used: i64) {
        self.status.grace_until = None;
        self.end(request.now, |hash| hash.generation < used);
        self.events.push(TokenEvent::Rotated(used));
    }

    /// The youngest delivery before `generation` whose token has no end.
    fn newest_before(&self, generation: i64) -> i64 {
        let endless = self.status.hashes.iter().filter(|hash| hash.not_after.is_none());
        endless.map(|hash| hash.generation).filter(|known| *known < generation).max().unwrap_or(generation)
    }

    /// Plans the delivery of a token that the operator makes: the first one, a rotation, a revocation, or a Secret that lost
    /// its token.
    ///
    /// Nothing ends here: a delivery may fail for as long as it likes, and the token that stands in the Secret stays valid
    /// until another one stands there.
    pub(super) fn deliver(&mut self, request: &PlanInput<'_>, fresh: Digest, own: Option<&OwnSecret>) {
        let held = own.and_then(|own| own.token);
        let newest = self.status.hashes.iter().max_by_key(|hash| hash.generation).cloned();
        let rotates = request.spec.rotation_generation > self.status.observed_rotation_generation;
        // One that was revoked while no other could take its place is as good as none.
        match newest.filter(|newest| !has_ended(newest, request.now)) {
            None => self.next_generation(request, fresh),
            Some(newest) if held.is_some_and(|held| held.to_hex() == newest.sha256) => {
                self.delivered(request, own);
                if !rotates {
                    return;
                }
                self.supersede();
                self.next_generation(request, fresh);
            }
            Some(newest) if !request.delivered => {
                // No gateway can have it yet, so it serves for a rotation that was asked for meanwhile, too.
                self.status.observed_rotation_generation = request.spec.rotation_generation;
                self.deliver_again(request, fresh, &newest, held);
            }
            Some(_) => {
                self.supersede();
                self.next_generation(request, fresh);
                if !rotates {
                    self.events.push(TokenEvent::Recreated);
                }
            }
        }
        self.write = if own.is_some() { Write::Replace } else { Write::Create };
        self.status.held_generation = Some(self.find(held).map_or(0, |known| known.generation));
        let message = format!(
            "token {} is not in Secret {} yet; {}",
            self.status.generation,
            request.secret_name,
            self.standing(request)
        );
        self.provisioned = ConditionValue::new(Truth::False, Reason::TokenSecretInvalid, message);
    }

    fn find(&self, held: Option<Digest>) -> Option<&TokenHash> {
        let held = held?.to_hex();
        self.status.hashes.iter().find(|hash| hash.sha256 == held)
    }

    /// The newest token stands in its Secret: since that was written, the grace of those before it runs, as it does for
    /// [`TokenPlan::confirm`]. A token that was never used
    /// ends at once, and the grace that was granted before it stays as it was.
    fn delivered(&mut self, request: &PlanInput<'_>, own: Option<&OwnSecret>) {
        let is_undated = self.status.rotation == Rotation::Pending && self.status.grace_until.is_none();
        if self.status.held_generation.take().is_none() && !is_undated {
            return;
        }
        let record =
            own.and_then(|own| own.record.as_ref()).filter(|record| record.generation == self.status.generation);
        let written = record.and_then(|record| record.issued_time).filter(|at| *at <= request.now);
        let issued = whole_seconds(written.unwrap_or(request.now));
        self.status.issued_time = Some(Time(issued));
        if self.status.rotation != Rotation::Pending {
            return;
        }
        let (newest, used) = (self.status.generation, request.used_generation);
        let until = plus_grace(issued, request).max(request.now);
        self.end(until, |hash| hash.generation < newest && hash.generation <= used);
        self.end(request.now, |hash| hash.generation < newest && hash.generation > used);
        let before = self.status.hashes.iter().filter(|hash| hash.generation < newest && !has_ended(hash, request.now));
        let last = before.filter_map(|hash| hash.not_after.clone()).max_by_key(|end| end.0);
        self.status.grace_until = Some(last.unwrap_or_else(|| Time(whole_seconds(request.now))));
    }

    /// The status was written and the Secret was not: that token was never readable. A process that knows it tries again;
    /// otherwise another token takes its place.
    fn deliver_again(&mut self, request: &PlanInput<'_>, fresh: Digest, newest: &TokenHash, held: Option<Digest>) {
        if self.status.held_generation.is_none()
            && self.status.rotation == Rotation::Pending
            && let Some(held) = held
        {
            // A version that counted the grace from the decision has set an end to the only token that can be read.
            let (held, now) = (held.to_hex(), request.now);
            let standing = self.status.hashes.iter_mut().find(|hash| hash.sha256 == held && !has_ended(hash, now));
            if let Some(standing) = standing {
                standing.not_after = None;
                self.status.grace_until = None;
            }
        }
        if request.undelivered.is_some_and(|undelivered| undelivered.to_hex() == newest.sha256) {
            self.reuses = true;
            return;
        }
        let generation = newest.generation;
        self.status.hashes.retain(|hash| hash.generation != generation);
        self.status.hashes.push(TokenHash { generation, sha256: fresh.to_hex(), rounds: None, not_after: None });
        self.status.issued_time = Some(Time(whole_seconds(request.now)));
    }

    /// Begins a rotation. A grace that runs belongs to a token before one that was never used, and runs on.
    fn supersede(&mut self) {
        if self.status.rotation != Rotation::Pending {
            self.status.rotation = Rotation::Pending;
            self.status.grace_until = None;
        }
    }

    fn next_generation(&mut self, request: &PlanInput<'_>, fresh: Digest) {
        self.status.generation = self.status.generation.saturating_add(1);
        self.status.observed_rotation_generation = request.spec.rotation_generation;
        self.status.issued_time = Some(Time(whole_seconds(request.now)));
        let generation = self.status.generation;
        self.status.hashes.push(TokenHash { generation, sha256: fresh.to_hex(), rounds: None, not_after: None });
    }

    /// What really stands in the Secret while the newest token does not, as a sentence.
    fn standing(&self, request: &PlanInput<'_>) -> String {
        let own = match request.seen {
            SecretState::Ours(own) => own,
            _ => return "there is no such Secret".to_owned(),
        };
        match (own.token, self.find(own.token)) {
            (None, _) => "the Secret holds no token".to_owned(),
            (Some(_), None) => "the Secret holds a value that is no token of this Connector".to_owned(),
            (Some(_), Some(TokenHash { generation, not_after: None, .. })) => {
                format!("the Secret holds token {generation}, which stays valid until the new one is there")
            }
            (Some(_), Some(known)) if has_ended(known, request.now) => {
                format!("the Secret holds token {}, which has ended", known.generation)
            }
            (Some(_), Some(TokenHash { generation, not_after, .. })) => {
                let end = not_after.as_ref().map(|end| format!(", which ends at {}", end.0)).unwrap_or_default();
                format!("the Secret holds token {generation}{end}")
            }
        }
    }

    /// Puts the failure of the last write into the `Provisioned` condition.
    pub(super) fn report_failure(&mut self, request: &PlanInput<'_>, error: &str) {
        let name = request.secret_name;
        let (before, after) = match self.write {
            Write::Nothing => return,
            Write::Complete => (
                format!("Secret {name} holds the token, and the rest of it could not be brought up to date: "),
                String::new(),
            ),
            Write::Create | Write::Replace => (
                format!("token {} could not be put into Secret {name}: ", self.status.generation),
                format!("; {}", self.standing(request)),
            ),
        };
        let stored = request.provisioned.map(|stored| stored.message.as_str()).unwrap_or_default();
        let told = stored.strip_prefix(&before);
        if told.is_none() && self.write != Write::Complete {
            self.events.push(TokenEvent::DeliveryFailed);
        }
        // An error that names another port or request each time is the same error: it is no reason to write the status.
        let known = told.and_then(|told| told.strip_suffix(&after)).filter(|known| same_words(known, error));
        self.provisioned.message = format!("{before}{}{after}", known.unwrap_or(error));
    }
}

/// The end of the grace of a token that was issued at this time; a stored time may be the last that there is.
fn plus_grace(issued: Timestamp, request: &PlanInput<'_>) -> Timestamp {
    issued.saturating_add(SignedDuration::from_secs(request.spec.grace_seconds)).unwrap_or(Timestamp::MAX)
}

/// Whether two texts differ in numbers alone.
fn same_words(one: &str, other: &str) -> bool {
    let words = |text: &str| {
        text.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    words(one) == words(other)
}
