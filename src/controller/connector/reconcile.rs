//! One look at one connector: observe, decide, apply, when next.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use parking_lot::RwLock;
use serde_json::json;
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::assess::{Case, stored};
use super::decide::{Plan, decide, state_event};
use super::desk::Desks;
use super::secrets::{Secrets, Token};
use super::sites::Sites;
use super::token::{Request, Seen, TokenPlan, Write, plan, was_delivered};
use crate::api::{ConditionType, Connector, ConnectorStatus, Reason, Truth};
use crate::clock::{Clock, Now};
use crate::cluster::{CallError, StatusWriter, WriteError};
use crate::controller::events::{Event, Reporter};
use crate::heartbeat::entry::{Entry, Key, Snapshot};
use crate::heartbeat::registry::Registry;
use crate::leader::{Leadership, Permit};
use crate::metrics::Metrics;

/// How old the newest transition may be when it is told again after a restart of ours. Told once already, it is refused
/// as existing; older than this, the event may have been forgotten by the API server (an hour) and would come back.
const RETELL: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// How many Secrets and events are read or written at once; HTTP/1.1 takes a connection for each.
pub const CALLS_IN_FLIGHT: usize = 16;

/// What a reconcile works with.
pub struct Context {
    /// Last contacts.
    pub registry: Arc<Registry>,
    /// Our part in the election.
    pub leadership: watch::Receiver<Leadership>,
    /// The one writer of status.
    pub writer: StatusWriter,
    /// A client that sends each request once.
    pub client: kube::Client,
    /// Tells events.
    pub reporter: Reporter,
    /// Mass silence.
    pub sites: Arc<Sites>,
    /// Our notes.
    pub desks: Desks,
    /// Where lags are counted.
    pub metrics: Arc<Metrics>,
    /// What connectors reach us by.
    pub public_url: Option<String>,
    /// The clocks.
    pub clock: Clock,
    /// Objects whose status cannot be read, which have been told so: UIDs.
    pub unreadable: RwLock<std::collections::HashSet<String>>,
    /// Places for calls about Secrets and events: a fleet that is created at once would open a connection for each.
    pub calls: Semaphore,
}

/// Why a connector could not be dealt with now. It is tried again.
#[derive(Debug, Error)]
pub enum Failed {
    /// Its status was not written.
    #[error("its status was not written: {0}")]
    Status(#[from] WriteError),
    /// Its token Secret could not be read or written.
    #[error("its token was not delivered: {0}")]
    Secret(CallError),
    /// An event was not told.
    #[error("an event was not told: {0}")]
    Event(CallError),
}

/// What follows from one step.
enum Next {
    /// All is done until then.
    Done(Option<Duration>),
    /// There is more to do, with the object as it is now.
    Again(Box<Connector>),
}

impl Context {
    /// Deals with one connector. Level-based: it does not matter what woke it.
    ///
    /// # Errors
    /// What kept it from being dealt with; the caller tries again.
    pub async fn reconcile(&self, connector: &Connector) -> Result<Action, Failed> {
        let mut latest = self.younger(connector);
        // Three steps are the most that a change asks for: the state, the intent of a delivery, its outcome.
        for _ in 0..4 {
            match self.step(latest.as_ref().unwrap_or(connector)).await? {
                Next::Done(next) => return Ok(next.map_or_else(Action::await_change, Action::requeue)),
                Next::Again(written) => latest = Some(*written),
            }
        }
        Ok(Action::requeue(Duration::from_secs(1)))
    }

    fn younger(&self, connector: &Connector) -> Option<Connector> {
        let entry = self.registry.get(&key(connector))?;
        let epoch = self.leadership.borrow().epoch;
        self.desks.at(entry.number, epoch, |desk| desk.younger_than(connector))
    }

    async fn step(&self, connector: &Connector) -> Result<Next, Failed> {
        let Some(entry) = self.registry.get(&key(connector)).filter(|entry| is_same(entry, connector)) else {
            return Ok(Next::Done(None));
        };
        let now = self.clock.read();
        let Some(permit) = self.leadership.borrow().permit(now.moment) else { return Ok(Next::Done(None)) };
        self.retell(&permit, &entry, connector, now).await?;
        let live = entry.snapshot(self.registry.ear.listening(), now.moment);
        let look = self.look(&permit, &entry, connector, &live, now).await;
        let mass_silence = self.sites.mass_silence(&entry.identity.domain);
        let case =
            self.case(connector, &entry, &live, mass_silence.as_deref(), look.as_ref().map(|look| &look.plan), now);
        let plan = decide(&case, look.as_ref().map(|look| &look.plan));
        self.apply(&permit, &entry, connector, &live, plan, look, now).await
    }

    fn case<'a>(
        &self,
        connector: &'a Connector,
        entry: &Entry,
        live: &'a Snapshot,
        mass_silence: Option<&'a str>,
        token: Option<&TokenPlan>,
        now: Now,
    ) -> Case<'a> {
        let duplicate = self.registry.holder_instead_of(entry);
        observe(connector, live, mass_silence, duplicate, token, now)
    }

    /// Looks at the token Secret when that is due, and decides about it. A transition that waits to be written goes
    /// first: then the look is put off to the next step.
    async fn look(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        live: &Snapshot,
        now: Now,
    ) -> Option<Look> {
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
        let (due, undelivered, trouble) = self.desks.at(entry.number, permit.epoch(), |desk| {
            let due = desk.is_look_due(connector, live.used_generation, is_news, now.moment, spread);
            let (undelivered, trouble) = desk.undelivered();
            (due, undelivered, trouble)
        });
        if !due {
            return None;
        }
        Some(self.look_now(connector, live, rejected, undelivered, trouble, now).await)
    }

    async fn look_now(
        &self,
        connector: &Connector,
        live: &Snapshot,
        rejected: Option<Timestamp>,
        undelivered: Option<Token>,
        trouble: Option<String>,
        now: Now,
    ) -> Look {
        let slot = self.slot().await;
        let secrets = Secrets::new(self.client.clone(), &connector.namespace().unwrap_or_default());
        let found = match &connector.spec.token.existing_secret_ref {
            Some(from) => secrets.look_brought(from).await.map(|seen| (seen, None)),
            None => {
                secrets.look(connector, self.public_url.as_deref()).await.map(|found| (Some(found.seen), found.secret))
            }
        };
        drop(slot);
        let brought = connector.spec.token.existing_secret_ref.as_ref();
        let secret_name = connector.credential_secret_name();
        let (seen, secret, failure) = match found {
            Ok((Some(seen), secret)) => (seen, secret, None),
            Ok((None, _)) => {
                let key = brought.map(|from| from.key.as_str()).unwrap_or_default();
                (Seen::Brought(Err(format!("there is no Secret {secret_name} with a key {key}"))), None, None)
            }
            Err(error) => {
                (Seen::Brought(Err(format!("Secret {secret_name} cannot be read: {error}"))), None, Some(error))
            }
        };
        let is_missing =
            matches!((&seen, brought), (Seen::Brought(Err(_)), Some(_))) && secret.is_none() && failure.is_none();
        let request = Request {
            spec: &connector.spec.token,
            secret_name: &secret_name,
            status: connector.status.as_ref().and_then(|status| status.token.as_ref()),
            delivered: was_delivered(stored(connector, ConditionType::Provisioned).as_ref()),
            revoke: connector
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(super::REVOKE_REQUESTED))
                .map(String::as_str),
            used_generation: live.used_generation,
            retired_use: rejected,
            undelivered: undelivered.as_ref().map(Token::digest),
            seen: &seen,
            now: now.wall,
        };
        let fresh = Token::random();
        let mut plan = plan(&request, fresh.digest());
        let token = undelivered.filter(|_| plan.reuses).unwrap_or(fresh);
        if is_missing
            && let Seen::Brought(Err(problem)) = &seen
            && problem.starts_with("there is no")
        {
            plan.refused = Some((Reason::SecretNotFound, problem.clone()));
        }
        if let (Some(_), Some(said)) = (&failure, stored(connector, ConditionType::Provisioned))
            && was_delivered(Some(&said))
        {
            // Not being able to look is no evidence against what was seen last.
            plan.provisioned = said;
        }
        if let (Some(trouble), true) = (trouble, plan.write != Write::Nothing) {
            plan.provisioned.2 = format!("{}: {trouble}", plan.provisioned.2);
            plan.in_trouble = true;
        }
        Look { plan, secrets, secret, token, failure }
    }

    #[expect(clippy::too_many_arguments, reason = "the last step takes what all steps before it made")]
    async fn apply(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        live: &Snapshot,
        plan: Plan,
        look: Option<Look>,
        now: Now,
    ) -> Result<Next, Failed> {
        let Plan { status, current, secret, events, due_at } = plan;
        let checkpoint = self.desks.at(entry.number, permit.epoch(), |desk| std::mem::take(&mut desk.checkpoint));
        let mut written = None;
        if let Some(status) = status {
            written = Some(self.write(permit, entry, connector, status, live, due_at).await?);
        } else if checkpoint {
            written = Some(self.checkpoint(permit, entry, connector, &current, live).await?);
        }
        if let Some(look) = look {
            let sooner = look.plan.look_again.and_then(|after| Duration::try_from(after).ok());
            let delivered = self.deliver(permit, entry, written.as_ref().unwrap_or(connector), &look, secret).await;
            if let Some(failed) = delivered.err().or(look.failure.map(Failed::Secret)) {
                // The status says it already and will not say it again: what is to be told waits for the next try. So
                // does the look itself, which stays due.
                self.desks.at(entry.number, permit.epoch(), |desk| {
                    desk.keep_untold(events);
                    desk.look_at = None;
                });
                return Err(failed);
            }
            self.desks.at(entry.number, permit.epoch(), |desk| {
                // What was just written is looked at once more, to say that it is there.
                let sooner = if secret == Write::Nothing { sooner } else { Some(Duration::ZERO) };
                desk.note_look(connector, now.moment, sooner);
            });
        }
        self.tell(permit, entry, connector, events).await?;
        self.desks.at(entry.number, permit.epoch(), |desk| desk.failures = 0);
        if secret != Write::Nothing || due_at.is_some() {
            return Ok(Next::Again(Box::new(written.unwrap_or_else(|| connector.clone()))));
        }
        Ok(Next::Done(self.next_look(permit, entry, live, now)))
    }

    async fn write(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        status: ConnectorStatus,
        live: &Snapshot,
        due_at: Option<Timestamp>,
    ) -> Result<Connector, Failed> {
        let mut object = connector.clone();
        object.status = Some(status);
        let written = self.writer.replace(&self.renewed(permit)?, &self.api(connector), &object).await?;
        let now = self.clock.read();
        self.registry.wrote(entry, &written, live.last_contact, now);
        self.desks.at(entry.number, permit.epoch(), |desk| desk.latest = Some(Box::new(written.clone())));
        if let Some(due_at) = due_at {
            // What came due while nobody could know is not late: the lag counts from when we could.
            let since = self.registry.ear.listening().since.map_or(now.wall, |since| now.stamp(since));
            let lag = Duration::try_from(now.wall.duration_since(due_at.max(since))).unwrap_or_default();
            self.metrics.observe_transition_lag(lag);
            if let Some(status) = &written.status {
                log_transition(entry, status);
            }
        }
        Ok(written)
    }

    async fn checkpoint(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        current: &ConnectorStatus,
        live: &Snapshot,
    ) -> Result<Connector, Failed> {
        let patch = json!({
            "lastHeartbeatTime": current.last_heartbeat_time,
            "lastHealthyTime": current.last_healthy_time,
            "agent": current.agent,
            "checks": current.checks,
        });
        let version = connector.resource_version().unwrap_or_default();
        let written =
            self.writer.checkpoint(permit, &self.api(connector), &connector.name_any(), &version, patch).await?;
        self.registry.wrote(entry, &written, live.last_contact, self.clock.read());
        self.desks.at(entry.number, permit.epoch(), |desk| desk.latest = Some(Box::new(written.clone())));
        Ok(written)
    }

    /// Puts the token where the plan wants it. Its hash is stored already: from now on it is accepted.
    async fn deliver(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        look: &Look,
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
            desk.look_at = None;
        });
        outcome.map_err(Failed::Secret)
    }

    /// Tells what the last reconcile could not, and after a restart of ours the newest transition again: whoever wrote
    /// it may have been killed before it could tell.
    async fn retell(&self, permit: &Permit, entry: &Arc<Entry>, connector: &Connector, now: Now) -> Result<(), Failed> {
        let (untold, first) = self
            .desks
            .at(entry.number, permit.epoch(), |desk| (desk.take_untold(), !std::mem::replace(&mut desk.retold, true)));
        let mut events = untold;
        if let (true, Some(status)) = (first, &connector.status)
            && let Some(latest) = status.transitions.first()
            && now.wall.duration_since(latest.time.0) < RETELL
        {
            events.extend(state_event(connector, status));
        }
        self.tell(permit, entry, connector, events).await
    }

    async fn tell(
        &self,
        permit: &Permit,
        entry: &Arc<Entry>,
        connector: &Connector,
        events: Vec<Event>,
    ) -> Result<(), Failed> {
        if events.is_empty() {
            return Ok(());
        }
        let regarding = ObjectReference { resource_version: None, ..connector.object_ref(&()) };
        let _slot = self.slot().await;
        let mut events = events.into_iter();
        while let Some(event) = events.next() {
            if let Err(error) = self.reporter.tell(&regarding, &event).await {
                self.desks.at(entry.number, permit.epoch(), |desk| {
                    desk.keep_untold(std::iter::once(event).chain(events));
                });
                return Err(Failed::Event(error));
            }
        }
        Ok(())
    }

    /// Leave to write as it is now, if we have led without a break since `permit` was given.
    fn renewed(&self, permit: &Permit) -> Result<Permit, Failed> {
        let now = self.leadership.borrow().permit(self.clock.now());
        now.filter(|now| now.epoch() == permit.epoch()).ok_or(Failed::Status(WriteError::NotLeader))
    }

    async fn slot(&self) -> SemaphorePermit<'_> {
        self.calls.acquire().await.expect("it is never closed")
    }

    fn api(&self, connector: &Connector) -> Api<Connector> {
        Api::namespaced(self.client.clone(), &connector.namespace().unwrap_or_default())
    }

    fn next_look(&self, permit: &Permit, entry: &Arc<Entry>, live: &Snapshot, now: Now) -> Option<Duration> {
        let look_at = self.desks.at(entry.number, permit.epoch(), |desk| desk.look_at);
        let duplicate_until = live.duplicate.map(|(_, until)| until);
        let next = [look_at, duplicate_until].into_iter().flatten().min()?;
        Some(next.since(now.moment).max(Duration::from_millis(10)))
    }
}

/// What a look at the token Secret found, and what is to be done about it.
struct Look {
    plan: TokenPlan,
    secrets: Secrets,
    secret: Option<Secret>,
    token: Token,
    failure: Option<CallError>,
}

/// Puts together what is known of a connector. `token` is what a look at its Secret led to; without one, what is stored
/// stands.
pub fn observe<'a>(
    connector: &'a Connector,
    live: &'a Snapshot,
    mass_silence: Option<&'a str>,
    duplicate: Option<Key>,
    token: Option<&TokenPlan>,
    now: Now,
) -> Case<'a> {
    let refused = match (duplicate, token) {
        (Some(holder), _) => {
            let id = connector.effective_id();
            Some((
                Reason::DuplicateConnectorID,
                format!("connectorID {id} belongs to Connector {holder}, which is older"),
            ))
        }
        (None, Some(token)) => token.refused.clone(),
        (None, None) => stored(connector, ConditionType::Accepted)
            .filter(|said| said.0 == Truth::False && said.1 != Reason::DuplicateConnectorID)
            .map(|(_, reason, message)| (reason, message)),
    };
    let provisioned = match token {
        Some(token) => token.provisioned.clone(),
        None if connector.is_lease() => (Truth::True, Reason::Provisioned, "a Lease source needs no token".to_owned()),
        None => stored(connector, ConditionType::Provisioned).unwrap_or_else(|| {
            (Truth::False, Reason::TokenSecretInvalid, "no token has been delivered yet".to_owned())
        }),
    };
    let delivering = match token {
        Some(token) => token.write != Write::Nothing && !token.in_trouble,
        None => connector.status.as_ref().is_none_or(|status| status.token.is_none()),
    };
    Case {
        connector,
        live,
        mass_silence,
        refused,
        provisioned,
        delivering,
        retired_use: retired_use(connector, live, now),
        now,
    }
}

/// When a retired token was used last: by this process' own account, or by what is stored.
fn retired_use(connector: &Connector, live: &Snapshot, now: Now) -> Option<Timestamp> {
    let stored =
        connector.status.as_ref().and_then(|status| status.token.as_ref()?.last_rejected_time.as_ref()).map(|at| at.0);
    live.retired_use.map(|at| now.stamp(at)).max(stored)
}

/// Which entry an object has.
pub fn key(connector: &Connector) -> Key {
    Key { namespace: connector.namespace().unwrap_or_default().into(), name: connector.name_any().into() }
}

fn is_same(entry: &Entry, connector: &Connector) -> bool {
    connector.metadata.uid.as_deref() == Some(&entry.identity.uid)
}

fn log_transition(entry: &Entry, status: &ConnectorStatus) {
    let Some(latest) = status.transitions.first() else { return };
    tracing::info!(
        connector = %entry.identity.key,
        from = latest.from.as_deref().unwrap_or("-"),
        to = latest.to,
        cause = latest.cause.map_or("-", |cause| cause.as_str()),
        since = %latest.time.0,
        "transition"
    );
}
