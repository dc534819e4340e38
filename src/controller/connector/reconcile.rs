//! One look at one connector: observe, decide, apply, when next.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource as _, ResourceExt as _};
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::assess::{Input, stored};
use super::decide::{decide, state_event};
use super::remediation_input::{asked, verdict};
use super::sites::Sites;
use super::state::ReconcileStates;
use super::token::{TokenPlan, Write};
use crate::api::{ConditionType, Connector, Reason, Truth};
use crate::cluster::{CallError, StatusWriter, WriteError};
use crate::controller::events::{Event, RETELL, Reporter};
use crate::controller::remediation::Remediator;
use crate::controller::unreadable::Unreadable;
use crate::heartbeat::entry::{Entry, Key, Snapshot};
use crate::heartbeat::registry::Registry;
use crate::leadership::{Leadership, Permit};
use crate::metrics::Metrics;
use crate::probe::Prober;
use crate::time::{Clock, Now};

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
    /// Remedies, for both kinds.
    pub remedies: Arc<Remediator>,
    /// The dialler: what looks at pods takes one along.
    pub prober: Arc<Prober>,
    /// Our notes.
    pub desks: ReconcileStates,
    /// Where lags are counted.
    pub metrics: Arc<Metrics>,
    /// What connectors reach us by.
    pub public_url: Option<String>,
    /// The clocks.
    pub clock: Clock,
    /// Objects whose status cannot be read.
    pub unreadable: Unreadable,
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
    /// It cannot be read, and does not say so yet.
    #[error("it does not say that it cannot be read: {0}")]
    Unreadable(#[from] CallError),
    /// An event was not told.
    #[error("an event was not told: {0}")]
    Event(CallError),
}

impl Failed {
    /// Whether what was to be written may be written all the same.
    pub(super) fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Status(error) if error.outcome_unknown())
    }
}

/// What follows from one step.
pub(super) enum Next {
    /// All is done until then.
    Done(Option<Duration>),
    /// There is more to do, with the object as it is now.
    Again(Box<Connector>),
}

impl Next {
    /// The same, looking again after `wait` at the latest.
    fn sooner(self, wait: Option<Duration>) -> Self {
        match self {
            Self::Done(next) => Self::Done(next.into_iter().chain(wait).min()),
            Self::Again(connector) => Self::Again(connector),
        }
    }
}

impl Context {
    /// Deals with one connector. Level-based: it does not matter what woke it.
    ///
    /// # Errors
    /// What kept it from being dealt with; the caller tries again.
    pub async fn reconcile(&self, connector: &Connector) -> Result<Action, Failed> {
        let mut latest = self.younger(connector);
        // Three steps are the most that a change asks for: the state, the intent of a delivery, its outcome.
        // So do the steps of a remedy.
        for _ in 0..6 {
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
        let mut live = entry.snapshot(self.registry.listening.listening_to(&entry), now.moment);
        let look = self.look(&permit, &entry, connector, &live, now).await;
        let behind = self.look_behind(&permit, &entry, connector, &mut live, now).await;
        let mass_silence = self.sites.mass_silence(&entry.identity.domain);
        let token = look.as_ref().map(|look| &look.plan);
        let case = self.case(connector, &entry, &live, mass_silence.as_deref(), token, now);
        let verdict = verdict(&case, &case.assess());
        let course = self.remedies.step(&permit, asked(&case, &verdict)).await;
        let plan = decide(&Input { remedy: Some(&course), ..case }, token);
        let next = self.apply(&permit, &entry, connector, &live, plan, look, course, now).await?.sooner(behind);
        // Last: what cannot be told must not hold back what is to be written.
        self.retell(&permit, &entry, connector, now).await?;
        Ok(next)
    }

    pub(super) fn case<'a>(
        &self,
        connector: &'a Connector,
        entry: &Entry,
        live: &'a Snapshot,
        mass_silence: Option<&'a str>,
        token: Option<&TokenPlan>,
        now: Now,
    ) -> Input<'a> {
        let duplicate = self.registry.holder_instead_of(entry);
        observe(connector, live, mass_silence, duplicate, token, now)
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

    pub(super) async fn tell(
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
    pub(super) fn renewed(&self, permit: &Permit) -> Result<Permit, Failed> {
        let now = self.leadership.borrow().permit(self.clock.now());
        now.filter(|now| now.epoch() == permit.epoch()).ok_or(Failed::Status(WriteError::NotLeader))
    }

    pub(super) async fn slot(&self) -> SemaphorePermit<'_> {
        self.calls.acquire().await.expect("it is never closed")
    }

    pub(super) fn api(&self, connector: &Connector) -> Api<Connector> {
        Api::namespaced(self.client.clone(), &connector.namespace().unwrap_or_default())
    }

    pub(super) fn next_look(&self, permit: &Permit, entry: &Arc<Entry>, live: &Snapshot, now: Now) -> Option<Duration> {
        let look_at = self.desks.at(entry.number, permit.epoch(), |desk| desk.look_at);
        let duplicate_until = live.duplicate.map(|(_, until)| until);
        let next = [look_at, duplicate_until].into_iter().flatten().min()?;
        Some(next.since(now.moment).max(Duration::from_millis(10)))
    }
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
) -> Input<'a> {
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
    Input {
        connector,
        live,
        mass_silence,
        refused,
        provisioned,
        delivering,
        retired_use: retired_use(connector, live, now),
        remedy: None,
        now,
    }
}

/// When a retired token was used last: by this process' own account, or by what is stored.
pub(super) fn retired_use(connector: &Connector, live: &Snapshot, now: Now) -> Option<Timestamp> {
    let stored =
        connector.status.as_ref().and_then(|status| status.token.as_ref()?.last_rejected_time.as_ref()).map(|at| at.0);
    live.retired_use.map(|at| now.stamp(at)).max(stored)
}

/// Which entry an object has.
pub fn key(connector: &Connector) -> Key {
    Key::of(&connector.metadata)
}

fn is_same(entry: &Entry, connector: &Connector) -> bool {
    connector.metadata.uid.as_deref() == Some(&entry.identity.uid)
}

#[cfg(test)]
mod tests;
