//! One look at a connector's token Secret, and what follows from it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use super::assess::stored;
use super::decide::decide;
use super::reconcile::{Context, Failed, retired_use};
use super::secrets::{Secrets, Token};
use super::state::DeliveryNotes;
use super::token::{Request, Seen, TokenPlan, Write, plan, was_delivered};
use crate::api::{ConditionType, Connector, Reason};
use crate::cluster::CallError;
use crate::heartbeat::entry::{Entry, Snapshot};
use crate::leadership::Permit;
use crate::time::Now;

/// What a look at the token Secret found, and what is to be done about it.
pub(super) struct TokenStep {
    pub(super) plan: TokenPlan,
    secrets: Secrets,
    secret: Option<Secret>,
    token: Token,
    pub(super) failure: Option<CallError>,
}

/// What stands where the token should be.
struct TokenObservation {
    seen: Seen,
    secret: Option<Secret>,
    /// The user was to bring it, and has not.
    is_missing: bool,
    failure: Option<CallError>,
}

impl Context {
    /// Looks at the token Secret when that is due, and decides about it. A transition that waits to be written goes
    /// first: then the look is put off to the next step.
    pub(super) async fn look(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        live: &Snapshot,
        now: Now,
    ) -> Option<TokenStep> {
        // One that is being deleted in the foreground waits for its Secret to go: a new one would keep it for ever.
        let is_going = connector.metadata.deletion_timestamp.is_some();
        if is_going || connector.is_lease() || self.registry.holder_instead_of(entry).is_some() {
            return None;
        }
        let status = connector.status.as_ref();
        if status.is_some_and(|status| status.state.is_some()) {
            let mass_silence = self.sites.mass_silence(&entry.identity.domain);
            if decide(&self.case(connector, entry, live, mass_silence.as_deref(), None, now), None).due_at.is_some() {
                return None;
            }
        }
        let rejected = retired_use(connector, live, now);
        let noted = status.and_then(|status| status.token.as_ref()?.last_rejected_time.as_ref()).map(|at| at.0);
        let is_news = rejected.is_some_and(|at| noted.is_none_or(|noted| at.as_second() > noted.as_second()));
        let spread = (entry.number % 997) as f64 / 997.0;
        let due = self.desks.at(entry.number, permit.epoch(), |desk| {
            desk.is_look_due(connector, live.used_generation, is_news, now.moment, spread).then(|| desk.notes())
        });
        let notes = due?;
        Some(self.look_now(connector, live, rejected, notes, now).await)
    }

    async fn look_now(
        &self,
        connector: &Connector,
        live: &Snapshot,
        rejected: Option<Timestamp>,
        notes: DeliveryNotes,
        now: Now,
    ) -> TokenStep {
        let DeliveryNotes { undelivered, trouble, delivered } = notes;
        let secrets = Secrets::new(self.client.clone(), &connector.namespace().unwrap_or_default());
        let secret_name = connector.credential_secret_name();
        let TokenObservation { seen, secret, is_missing, failure } = self.see(connector, &secrets, &secret_name).await;
        let annotations = connector.metadata.annotations.as_ref();
        let provisioned = stored(connector, ConditionType::Provisioned);
        let status = connector.status.as_ref().and_then(|status| status.token.as_ref());
        let request = Request {
            spec: &connector.spec.token,
            secret_name: &secret_name,
            status,
            // What was used has been delivered, whatever else is known.
            delivered: was_delivered(provisioned.as_ref())
                || status.is_some_and(|token| delivered.max(live.used_generation) >= token.generation),
            revoke: annotations.and_then(|all| all.get(super::REVOKE_REQUESTED)).map(String::as_str),
            used_generation: live.used_generation,
            retired_use: rejected,
            undelivered: undelivered.as_ref().map(Token::digest),
            seen: &seen,
            now: now.wall,
        };
        let fresh = Token::random();
        let mut plan = plan(&request, fresh.digest());
        let token = undelivered.filter(|_| plan.reuses).unwrap_or(fresh);
        if let (true, Seen::Brought(Err(problem))) = (is_missing, &seen) {
            plan.refused = Some((Reason::SecretNotFound, problem.clone()));
        }
        if failure.is_some()
            && let Some(said) = provisioned.filter(|said| was_delivered(Some(said)))
        {
            // Not being able to look is no evidence against what was seen last.
            plan.provisioned = said;
        }
        if let (Some(trouble), true) = (trouble, plan.write != Write::Nothing) {
            plan.provisioned.2 = format!("{}: {trouble}", plan.provisioned.2);
            plan.in_trouble = true;
        }
        TokenStep { plan, secrets, secret, token, failure }
    }

    /// Reads the Secret: ours, or the one that the user brings.
    async fn see(&self, connector: &Connector, secrets: &Secrets, name: &str) -> TokenObservation {
        let _slot = self.slot().await;
        let brought = connector.spec.token.existing_secret_ref.as_ref();
        let found = match brought {
            Some(from) => secrets.look_brought(from).await.map(|seen| (seen, None)),
            None => {
                secrets.look(connector, self.public_url.as_deref()).await.map(|found| (Some(found.seen), found.secret))
            }
        };
        match found {
            Ok((Some(seen), secret)) => TokenObservation { seen, secret, is_missing: false, failure: None },
            Ok((None, _)) => {
                let key = brought.map(|from| from.key.as_str()).unwrap_or_default();
                let seen = Seen::Brought(Err(format!("there is no Secret {name} with a key {key}")));
                TokenObservation { seen, secret: None, is_missing: true, failure: None }
            }
            Err(error) => {
                let seen = Seen::Brought(Err(format!("Secret {name} cannot be read: {error}")));
                TokenObservation { seen, secret: None, is_missing: false, failure: Some(error) }
            }
        }
    }

    /// Puts the token where the plan wants it. Its hash is stored already: from now on it is accepted.
    pub(super) async fn deliver(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        look: &TokenStep,
        write: Write,
    ) -> Result<(), Failed> {
        let token = match write {
            Write::Nothing if look.failure.is_some() => return Ok(()),
            Write::Nothing => {
                // What timed out has arrived after all, or is not wanted any more: no token in clear is kept for longer.
                self.desks.at(entry.number, permit.epoch(), |desk| desk.note_delivery(None, None));
                return Ok(());
            }
            Write::Complete => None,
            Write::Create | Write::Replace => Some(&look.token),
        };
        let _slot = self.slot().await;
        // The one that the step began with may have run out while we stood in line, without anybody else having led:
        // to begin anew then would put us at the end of the same line, and a fleet created at once would never get its
        // tokens.
        let permit = &self.renewed(permit)?;
        let found = if write == Write::Create { None } else { look.secret.clone() };
        let outcome = look.secrets.write(connector, self.public_url.as_deref(), found, token).await;
        self.desks.at(entry.number, permit.epoch(), |desk| {
            let undelivered = token.filter(|_| outcome.is_err()).cloned();
            desk.note_delivery(undelivered, outcome.as_ref().err().map(ToString::to_string));
            if token.is_some() && outcome.is_ok() {
                desk.delivered = look.plan.status.generation;
            }
            desk.look_at = None;
        });
        outcome.map_err(Failed::Secret)
    }
}
