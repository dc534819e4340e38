//! The state of one connector in memory: its last contact, its tokens, the reports of its agent.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::actions::Action;
pub use super::agent_backends::AgentBackends;
use super::agent_config::AgentConfig;
use super::agent_report::Shown;
pub use super::agent_report::{AgentReport, is_skewed};
pub use super::agent_side::{AgentSaid, ContactVerdicts};
use super::agent_state::AgentState;
use super::compact::{CompactId, Seconds};
use super::contact::Contact;
use super::credentials::Digest;
use super::payload::Beat;
use super::pod_diagnosis::PodDiagnosis;
use super::slow_hash::{Compared, Comparison};
pub use super::snapshot::Snapshot;
use super::tokens::{Authentication, Tokens};
use crate::api::ConnectorState;
pub use crate::api::Key;
use crate::health::checks::state;
use crate::health::liveness::{Known, Listening, Presence, PreviousVerdict, Timing, Verdict, judge};
use crate::schedule::checkpoints::{Checkpointed, PendingWrite};
use crate::time::Moment;

/// The name of a Lease. Few connectors have one, so it is behind a pointer of 8 bytes.
pub type LeaseName = Box<str>;

/// The part of an entry that never changes: a connector with another UID, id or site gets another entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace and name of the object.
    pub key: Key,
    /// The UID of the object: an object that was deleted and created again is another connector.
    pub(super) uid: CompactId,
    /// The effective `connectorID`.
    pub id: Arc<str>,
    /// The failure domain, `<namespace>/<site>`.
    pub domain: Arc<str>,
    /// When the object was created, in seconds since the epoch: the oldest object holds a disputed id.
    pub created: i64,
    /// The name of the Lease whose renewals are the heartbeats; heartbeats by HTTP are refused then.
    pub lease: Option<Box<LeaseName>>,
}

impl Identity {
    /// The UID of the object.
    pub fn uid(&self) -> String {
        self.uid.to_string()
    }

    /// Whether the object has this UID.
    pub fn has_uid(&self, uid: &str) -> bool {
        self.uid.is(uid)
    }

    /// Whether the id begins with the name of another namespace, as the default id of a connector there does.
    pub(super) fn is_id_of_another_namespace(&self) -> bool {
        self.id.split_once('/').is_some_and(|(owner, _)| owner != &*self.key.namespace)
    }
}

/// The state of one connector.
#[derive(Debug)]
pub struct Entry {
    /// Counts entries; also the number of the member within its site.
    pub number: u64,
    /// The unchangeable part.
    pub identity: Identity,
    /// It may hold its id. An id of another namespace is kept only by a connector that was served with it before that was
    /// refused.
    pub(super) may_hold: bool,
    pub(super) inner: Mutex<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) timing: Seconds,
    pub(super) contact: Contact,
    pub(super) tokens: Tokens,
    pub(super) agent: AgentState,
    /// Filled by the reconcile while the connector is Offline.
    pub(super) pods: PodDiagnosis,
}

/// A change that is visible outside this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From one presence to another.
    Presence {
        /// The presence before.
        from: Presence,
        /// The presence now.
        to: Presence,
        /// When it changed.
        since: Moment,
    },
    /// The checks, the agent report, or the use of a new or a retired token.
    Facts,
    /// None yet: the facts will change at the next deadline, which is a new one.
    Deferred,
    /// None of the connector: what its agent says about backends.
    Backends,
}

/// One heartbeat as it was received.
pub(super) struct IncomingBeat<'a, 'b> {
    pub(super) beat: &'a Beat<'b>,
    /// The hash of its token.
    pub(super) token: &'a Digest,
    /// The address of the client.
    pub(super) from: IpAddr,
    /// When it was received.
    pub(super) at: Moment,
    /// The result of the comparison of its token with slow hashes, when that was done.
    pub(super) compared: Option<&'a Compared>,
}

/// What an answer tells an agent. A connector without an agent is told nothing.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The actions that the agent is asked to do, at most one for each target.
    pub actions: Vec<Arc<Action>>,
    /// The parameters of its checks, when it does not have them yet.
    pub config: Option<Arc<AgentConfig>>,
    /// A restart may be asked for at any time: the agent beats more often.
    pub is_expected: bool,
}

/// The result of a heartbeat.
#[derive(Clone, Debug)]
pub enum HeartbeatOutcome {
    /// Accepted, or only authenticated when it was a dry run.
    Accepted {
        /// The state of the connector after it.
        state: ConnectorState,
        /// The connector exceeded its rate: the seconds that are left of the minute.
        too_often: Option<u32>,
        /// What the sender is told.
        told: Told,
    },
    /// The token is not accepted.
    Rejected,
    /// The credentials have not been loaded.
    NotLoaded,
    /// The token is to be compared with slow hashes first.
    Uncompared(Box<Comparison>),
    /// The token was not compared, after too many wrong ones; the seconds until it is.
    NotCompared(u32),
}

impl Entry {
    pub(super) fn new(number: u64, identity: Identity, timing: Timing) -> Self {
        let inner = Inner {
            timing: Seconds::of(timing),
            contact: Contact::default(),
            tokens: Tokens::default(),
            agent: AgentState::default(),
            pods: PodDiagnosis::Unseen,
        };
        let may_hold = !identity.is_id_of_another_namespace();
        Self { number, identity, may_hold, inner: Mutex::new(inner) }
    }

    /// The contact that a checkpoint would write to the status.
    pub fn unwritten(&self) -> PendingWrite {
        let inner = self.inner.lock();
        let Contact { last, presence, written, written_at, .. } = &inner.contact;
        PendingWrite {
            contact: last.filter(|_| last > written),
            written_at: *written_at,
            is_checkpointed: *presence == Presence::Online,
            late: inner.timing.timing().late,
        }
    }

    /// Judges at `now` and stores the verdict. Calls `notify` while the entry is still locked, so that changes are
    /// published in the order in which they happened.
    pub(super) fn evaluate(&self, listening: Listening, now: Moment, notify: impl FnMut(Change)) -> Verdict {
        self.inner.lock().evaluate(listening, now, notify)
    }

    /// Processes one heartbeat, in memory only.
    pub(super) fn process(
        &self,
        received: IncomingBeat<'_, '_>,
        listening: Listening,
        wall: impl FnOnce() -> Timestamp,
        mut notify: impl FnMut(Change),
    ) -> HeartbeatOutcome {
        let IncomingBeat { beat, from, at: now, .. } = received;
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let generation = match self.authenticate(inner, &received, &mut notify) {
            Ok(generation) => generation,
            Err(refused) => return refused,
        };
        if beat.dry_run {
            return inner.tried(listening, now);
        }
        let is_of_agent = beat.is_of_agent();
        if is_of_agent {
            inner.side();
        }
        let mut visible = generation > inner.tokens.used_generation;
        inner.tokens.used_generation = inner.tokens.used_generation.max(generation);
        let interval = inner.timing.timing().interval;
        let is_latest = inner.agent.is_latest(beat, from, (interval, now), &mut visible);
        if is_latest {
            match inner.agent.store_report(beat, from, (interval, now), wall) {
                Shown::Immediately => visible = true,
                Shown::WithNextWrite => {}
                Shown::Later => notify(Change::Deferred),
            }
        }
        let news = inner.hear_agent(beat, is_latest, now);
        visible |= news.of_connector;
        if news.of_backends {
            notify(Change::Backends);
        }
        let presence = inner.record_contact(is_of_agent, listening, now, &mut notify).presence;
        let too_often = inner.agent.exceeds_rate(interval, now);
        // `is_latest` is false for an overtaken heartbeat and for duplicate instances. Nothing is told then, nor in answer
        // to a heartbeat that exceeds the rate.
        let may_act = is_latest && too_often.is_none();
        let is_degraded = inner.agent.is_degraded();
        let told = if may_act { inner.tell(beat, is_degraded, now, &mut visible) } else { Told::default() };
        if visible {
            notify(Change::Facts);
        }
        HeartbeatOutcome::Accepted { state: state(presence, is_degraded), too_often, told }
    }

    /// The delivery that the token of a heartbeat belongs to, or the refusal.
    fn authenticate(
        &self,
        inner: &mut Inner,
        received: &IncomingBeat<'_, '_>,
        notify: &mut impl FnMut(Change),
    ) -> Result<i64, HeartbeatOutcome> {
        let (tokens, now) = (&mut inner.tokens, received.at);
        let by_lease = self.identity.lease.is_some();
        if !by_lease && tokens.brought.is_some() {
            tokens.compare_brought(&self.identity, received)?;
        }
        let authentication = tokens.authenticate(by_lease, received.token, now);
        tokens.count_brought(matches!(authentication, Authentication::Accepted(_)), received);
        match authentication {
            Authentication::Accepted(generation) => Ok(generation),
            Authentication::NotLoaded => Err(HeartbeatOutcome::NotLoaded),
            Authentication::Rejected { is_news } => {
                if is_news {
                    notify(Change::Facts);
                }
                Err(HeartbeatOutcome::Rejected)
            }
        }
    }

    /// Counts a renewal of its Lease as contact.
    pub(super) fn renewed(&self, listening: Listening, now: Moment, mut notify: impl FnMut(Change)) {
        self.inner.lock().record_contact(false, listening, now, &mut notify);
    }

    /// A hash of the id.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.identity.id.hash(&mut hasher);
        hasher.finish()
    }

    /// The names of the MonitoredBackends that its agent reported last.
    pub fn reported_backends(&self) -> Vec<String> {
        let inner = self.inner.lock();
        let said = inner.agent.side.as_deref().and_then(|side| side.said.backends.as_ref());
        said.map(|said| said.reports.iter().map(|report| report.name.clone()).collect()).unwrap_or_default()
    }

    /// The settings that its deadlines follow.
    pub fn timing(&self) -> Timing {
        self.inner.lock().timing.timing()
    }

    /// Stores the diagnosis of its pods.
    pub fn set_pod_diagnosis(&self, pods: PodDiagnosis) {
        self.inner.lock().pods = pods;
    }

    /// Whether the stored status attributes its silence to mass silence.
    pub fn was_mass_silent(&self) -> bool {
        self.inner.lock().contact.was_mass_silent
    }

    /// Records that the stored status has `contact` as its last contact since `now`.
    pub fn note_written(&self, contact: Option<Moment>, now: Moment) {
        let mut inner = self.inner.lock();
        inner.contact.written = contact;
        inner.contact.written_at = now;
    }
}

impl Inner {
    /// Takes over the state of a former entry of the same object.
    pub(super) fn inherit(&mut self, before: &Self) {
        self.contact.last = self.contact.last.max(before.contact.last);
        self.contact.set_previous(before.contact.previous());
        self.agent.inherit(&before.agent);
        let tokens = &mut self.tokens;
        tokens.brought.clone_from(&before.tokens.brought);
        tokens.used_generation = tokens.used_generation.max(before.tokens.used_generation);
        // The watch may be behind the operator's own writes: a token that was revoked must stay revoked.
        if before.tokens.as_of > tokens.as_of {
            tokens.credentials.clone_from(&before.tokens.credentials);
            tokens.as_of = before.tokens.as_of;
        }
    }

    /// The outcome of a heartbeat that only tries the way and the token.
    fn tried(&self, listening: Listening, now: Moment) -> HeartbeatOutcome {
        let state = state(self.judge(listening, now).presence, self.agent.is_degraded());
        HeartbeatOutcome::Accepted { state, too_often: None, told: Told::default() }
    }

    pub(super) fn judge(&self, listening: Listening, now: Moment) -> Verdict {
        let (last_contact, previous) = (self.contact.last, self.contact.previous());
        judge(&self.timing.timing(), &Known { last_contact, previous, listening }, now)
    }

    pub(super) fn evaluate(&mut self, listening: Listening, now: Moment, mut notify: impl FnMut(Change)) -> Verdict {
        let interval = self.timing.timing().interval;
        if self.agent.store_deferred(interval, now) {
            notify(Change::Facts);
        }
        let of_contacts = self.evaluate_contacts(listening, now, &mut notify);
        let mut verdict = self.judge(listening, now);
        let due = [verdict.next_check_at, of_contacts, self.agent.deferred_until(interval)];
        verdict.next_check_at = due.into_iter().flatten().min();
        let from = self.contact.presence;
        if from != verdict.presence {
            self.contact.set_previous(PreviousVerdict { presence: verdict.presence, since: verdict.since });
            notify(Change::Presence { from, to: verdict.presence, since: verdict.since });
        }
        verdict
    }

    /// Judges the contacts of the connector itself and of its agent. Returns when silence alone changes one of them.
    fn evaluate_contacts(
        &mut self,
        listening: Listening,
        now: Moment,
        notify: &mut impl FnMut(Change),
    ) -> Option<Moment> {
        let side = self.agent.side.as_mut().filter(|side| side.contacts.agent.is_some())?;
        let (verdicts, is_news) = side.contacts.evaluate(&self.timing.timing(), listening, now);
        if is_news {
            notify(Change::Facts);
        }
        [verdicts.own.next_check_at, verdicts.agent.next_check_at].into_iter().flatten().min()
    }

    fn record_contact(
        &mut self,
        is_of_agent: bool,
        listening: Listening,
        now: Moment,
        notify: &mut impl FnMut(Change),
    ) -> Verdict {
        if let Some(side) = &mut self.agent.side {
            side.contacts.heard(is_of_agent, now);
        }
        let Contact { last, presence, .. } = &mut self.contact;
        if *presence == Presence::Online {
            *last = Some(last.map_or(now, |last| last.max(now)));
            self.evaluate_contacts(listening, now, notify);
            return self.judge(listening, now);
        }
        *last = Some(now);
        self.evaluate(listening, now, notify)
    }
}

impl Checkpointed for Entry {
    fn number(&self) -> u64 {
        self.number
    }

    fn namespace(&self) -> &Arc<str> {
        &self.identity.key.namespace
    }

    fn unwritten(&self) -> PendingWrite {
        Self::unwritten(self)
    }
}
