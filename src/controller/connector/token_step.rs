//! The step of a Connector's token: reads its Secret when that is due, gives the plan its input, and delivers.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::num::NonZeroU64;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use super::assess::{retired_use, state_of};
use super::reconcile::Context;
use super::secrets::{CREDENTIALS_LABEL, SecretContent, Secrets, Token};
use super::token::{PlanInput, ReadFailure, SecretState, TokenPlan, TokenRecord, Write, plan, was_delivered};
use super::workload_step::WorkloadNote;
use crate::api::{ConditionType, ConditionValue, Connector, Rotation, SecretKeyRef, Truth};
use crate::cluster::CallError;
use crate::controller::remediation::Remediable as _;
use crate::controller::runtime::Step;
use crate::controller::runtime::calls::CallKind;
use crate::controller::runtime::kind::ReconcileError;
use crate::time::Moment;

/// The period in which an unchanged token Secret is read (docs/design/api.md).
const OBSERVE_EVERY: Duration = Duration::from_secs(600);

/// A fleet that was taken over is spread over the period in this many parts.
const SPREAD: u64 = 997;

/// The token Secret as it was read.
pub(super) struct TokenObservation {
    /// The error of a failed read.
    pub(super) error: Option<CallError>,
    failure: Option<ReadFailure>,
    seen: SecretState,
    secret: Option<Secret>,
    secrets: Secrets,
    /// A new random token, for a plan that delivers one.
    fresh: Token,
}

/// The plan for the token, and the token that it delivers.
pub(super) struct PlannedToken {
    pub(super) plan: TokenPlan,
    token: Token,
}

/// The part of the reconcile state that only Connectors have: the reads of the Secret and of the pods.
#[derive(Debug, Default)]
pub struct Notes {
    /// The token request of the object when the Secret was read last.
    observed: Option<TokenRequest>,
    /// When to read the Secret again, whatever else changes.
    pub(super) observe_at: Option<Moment>,
    /// When the pods were diagnosed last.
    pub(super) pods_diagnosed_at: Option<Moment>,
    /// The last look at the workload; `None` for a connector that names none.
    pub(super) workload: Option<Box<WorkloadNote>>,
    /// The newest generation whose token reached its Secret, as this process saw; 0 before the first. The status says so a
    /// moment later, and a Secret that is deleted in that moment held a token that may be in use.
    pub(super) delivered: i64,
    /// A delivery that failed; `None` for almost all objects.
    outstanding: Option<Box<Outstanding>>,
}

/// Whether the token of an object is provisioned as its spec and its annotations ask for, by its status.
fn is_in_order(connector: &Connector) -> bool {
    let Some(status) = &connector.status else { return false };
    let Some(token) = &status.token else { return false };
    let is_current = Some(status.observed_generation) == connector.metadata.generation;
    let is_provisioned = ConditionValue::stored(connector.conditions(), ConditionType::Provisioned)
        .is_some_and(|value| value.status == Truth::True);
    let rotates = connector.spec.token.rotation_generation > token.observed_rotation_generation;
    let asks = connector.metadata.annotations.as_ref().and_then(|all| all.get(super::REVOKE_REQUESTED));
    let revokes = asks.is_some() && asks != token.observed_revoke_request.as_ref();
    is_current && is_provisioned && !rotates && !revokes
}

/// A delivery that failed and is tried again.
#[derive(Debug)]
struct Outstanding {
    /// The token whose hash is stored and that has not reached its Secret.
    undelivered: Option<Token>,
    /// Why it has not.
    last_error: Option<String>,
}

/// The parts of an object, besides the status, that decide about its token: after a change the Secret is read at once.
///
/// Kept as a hash: `kubectl apply` leaves the whole object in an annotation. A collision would only put off a read, to its
/// usual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TokenRequest(NonZeroU64);

impl TokenRequest {
    fn of(connector: &Connector) -> Self {
        let meta = &connector.metadata;
        let mut hasher = DefaultHasher::new();
        (meta.generation, &meta.annotations, &meta.labels).hash(&mut hasher);
        Self(NonZeroU64::MIN | hasher.finish())
    }
}

impl Notes {
    /// Takes an object that a predecessor left in order as observed: its Secret is read within the usual time. `spread`
    /// (0..1) keeps a fleet from being read all at once.
    pub fn adopt(&mut self, connector: &Connector, now: Moment, spread: f64) {
        if self.observed.is_none() && is_in_order(connector) {
            self.observed = Some(TokenRequest::of(connector));
            self.observe_at = Some(now + OBSERVE_EVERY.mul_f64(spread));
        }
    }

    /// Whether the Secret is to be read now. A new leader calls [`Notes::adopt`] first.
    pub fn is_due(&self, connector: &Connector, used_generation: i64, rejected: bool, now: Moment) -> bool {
        let Some(token) = connector.status.as_ref().and_then(|status| status.token.as_ref()) else { return true };
        let to_confirm = token.rotation == Rotation::Pending && used_generation >= token.generation;
        let is_changed = self.observed != Some(TokenRequest::of(connector));
        is_changed || to_confirm || rejected || self.observe_at.is_none_or(|at| now >= at)
    }

    /// Notes that the Secret was read; it is read again after the usual time, or `sooner`.
    pub fn note_observation(&mut self, connector: &Connector, now: Moment, sooner: Option<Duration>) {
        self.observed = Some(TokenRequest::of(connector));
        self.observe_at = Some(now + sooner.unwrap_or(OBSERVE_EVERY));
    }

    /// Notes the result of a delivery: the token that did not reach its Secret, and why it did not.
    fn note_delivery(&mut self, undelivered: Option<Token>, last_error: Option<String>) {
        self.outstanding = match (undelivered, last_error) {
            (None, None) => None,
            (undelivered, last_error) => Some(Box::new(Outstanding { undelivered, last_error })),
        };
    }
}

impl Context {
    /// Reads the token Secret when that is due. A transition that waits to be written goes first: then the Secret is read
    /// in the next step.
    pub(super) async fn observe_token_if_due(&self, step: &mut Step<'_, Self>) -> Option<TokenObservation> {
        let (connector, live, now) = (step.object, &step.live, step.now);
        // One that is being deleted in the foreground waits for its Secret to go: a new one would keep it for ever.
        let is_going = connector.metadata.deletion_timestamp.is_some();
        if is_going || connector.is_lease() || self.registry.claim_refusal(&step.entry).is_some() {
            return None;
        }
        if !self.may_call(&step.entry, CallKind::Secret) {
            return None;
        }
        let status = connector.status.as_ref();
        let state = status.and_then(|status| status.state);
        if state.is_some_and(|state| state != state_of(connector, live)) {
            return None;
        }
        let rejected = retired_use(connector, live, now);
        let noted = status.and_then(|status| status.token.as_ref()?.last_rejected_time.as_ref()).map(|at| at.0);
        let is_news = rejected.is_some_and(|at| noted.is_none_or(|noted| at.as_second() > noted.as_second()));
        let spread = (step.entry.number % SPREAD) as f64 / SPREAD as f64;
        step.state.notes.adopt(connector, now.moment, spread);
        if !step.state.notes.is_due(connector, live.used_generation, is_news, now.moment) {
            return None;
        }
        let observed = self.observe_token(connector).await;
        if let SecretState::Supplied(Ok(value)) = &observed.seen {
            self.registry.learn(&step.entry, value.slow, value.plain);
        }
        Some(observed)
    }

    /// Reads the Secret: the one that the operator makes, or the one that the user brings.
    async fn observe_token(&self, connector: &Connector) -> TokenObservation {
        let namespace = connector.namespace().unwrap_or_default();
        let secrets = Secrets::new(self.client.clone(), &namespace);
        let name = connector.credential_secret_name();
        let brought = connector.spec.token.existing_secret_ref.as_ref();
        let found = match brought {
            Some(from) => self.read_supplied(connector, &secrets, from).await.map(|seen| (seen, None)),
            None => {
                let _permit = self.call_permit(&namespace.as_str().into()).await;
                secrets.read(connector, self.public_url.as_deref()).await.map(|found| (Some(found.seen), found.secret))
            }
        };
        let without = |problem| (SecretState::Supplied(Err(problem)), None);
        let ((seen, secret), failure, error) = match found {
            Ok((Some(seen), secret)) => ((seen, secret), None, None),
            Ok((None, _)) => {
                let key = brought.map(|from| from.key.as_str()).unwrap_or_default();
                let (label, value) = CREDENTIALS_LABEL;
                let problem = format!(
                    "there is no Secret {name} with the label {label}={value} and a value under the key {key}: its owner \
                     labels it to allow its use as the token of a Connector"
                );
                (without(problem), Some(ReadFailure::Missing), None)
            }
            Err(error) => {
                let problem = format!("Secret {name} cannot be read: {error}");
                (without(problem), Some(ReadFailure::Unreadable), Some(error))
            }
        };
        TokenObservation { error, failure, seen, secret, secrets, fresh: Token::random() }
    }

    /// Reads the token that the user brings, and hashes it. No call waits for the hashing.
    async fn read_supplied(
        &self,
        connector: &Connector,
        secrets: &Secrets,
        from: &SecretKeyRef,
    ) -> Result<Option<SecretState>, CallError> {
        let namespace = connector.namespace().unwrap_or_default();
        let permit = self.call_permit(&namespace.as_str().into()).await;
        let Some(value) = secrets.read_supplied(from).await? else { return Ok(None) };
        drop(permit);
        let value = match value {
            Ok(token) => {
                let uid = connector.metadata.uid.as_deref().unwrap_or_default();
                let hashed = token.supplied(&namespace, uid).await;
                // The operator ends.
                Ok(hashed
                    .ok_or_else(|| CallError::Timeout { what: format!("hashing the value in Secret {}", from.name) })?)
            }
            Err(problem) => Err(problem),
        };
        Ok(Some(SecretState::Supplied(value)))
    }

    /// Writes the token to the Secret as planned. Its hash is stored already: from now on it is accepted.
    pub(super) async fn deliver(
        &self,
        step: &mut Step<'_, Self>,
        connector: &Connector,
        observed: &TokenObservation,
        planned: &PlannedToken,
    ) -> Result<(), ReconcileError> {
        let write = planned.plan.write;
        let token = match write {
            Write::Nothing if observed.error.is_some() => return Ok(()),
            Write::Nothing => {
                // A write that timed out has arrived after all, or is not wanted any more: no token in clear is kept for
                // longer.
                step.state.notes.note_delivery(None, None);
                return Ok(());
            }
            Write::Complete => None,
            Write::Create | Write::Replace => Some(&planned.token),
        };
        let _permit = self.call_permit(&step.entry.identity.key.namespace).await;
        // The permit of the step may have run out while this call waited, without another replica having led. To fail
        // then would put the object at the end of the same queue, and a fleet that is created at once would never get its
        // tokens.
        self.renew_permit(&step.permit)?;
        let found = if write == Write::Create { None } else { observed.secret.clone() };
        let mut record = TokenRecord::of(&planned.plan.status, step.now.wall);
        if token.is_some() {
            record.issued_time = record.written_time;
        }
        let content = SecretContent { url: self.public_url.as_deref(), record, token };
        let outcome = observed.secrets.write(connector, found, &content).await;
        let notes = &mut step.state.notes;
        let undelivered = token.filter(|_| outcome.is_err()).cloned();
        notes.note_delivery(undelivered, outcome.as_ref().err().map(ToString::to_string));
        if token.is_some() && outcome.is_ok() {
            notes.delivered = planned.plan.status.generation;
        }
        notes.observe_at = None;
        outcome.map_err(ReconcileError::Secret)
    }
}

/// Plans the token by the Secret as it was read. Pure.
pub(super) fn plan_token(step: &Step<'_, Context>, observed: &TokenObservation) -> PlannedToken {
    let (connector, notes) = (step.object, &step.state.notes);
    let outstanding = notes.outstanding.as_deref();
    let provisioned = ConditionValue::stored(connector.conditions(), ConditionType::Provisioned);
    let status = connector.status.as_ref().and_then(|status| status.token.as_ref());
    let annotations = connector.metadata.annotations.as_ref();
    let request = PlanInput {
        spec: &connector.spec.token,
        secret_name: &connector.credential_secret_name(),
        status,
        provisioned: provisioned.as_ref(),
        // A token that was used has been delivered, whatever else is known.
        delivered: status.is_some_and(|token| {
            let is_outstanding = token.held_generation.is_some() || !was_delivered(provisioned.as_ref());
            let (used, newest) = (step.live.used_generation, token.generation);
            !is_outstanding || notes.delivered == newest || used >= newest
        }),
        revoke: annotations.and_then(|all| all.get(super::REVOKE_REQUESTED)).map(String::as_str),
        used_generation: step.live.used_generation,
        retired_use: retired_use(connector, &step.live, step.now),
        undelivered: outstanding.and_then(|outstanding| outstanding.undelivered.as_ref()).map(Token::digest),
        last_error: outstanding.and_then(|outstanding| outstanding.last_error.as_deref()),
        seen: &observed.seen,
        failure: observed.failure,
        now: step.now.wall,
    };
    let plan = plan(&request, observed.fresh.digest());
    let undelivered = outstanding.and_then(|outstanding| outstanding.undelivered.as_ref());
    let token = undelivered.filter(|_| plan.reuses).unwrap_or(&observed.fresh).clone();
    PlannedToken { plan, token }
}
