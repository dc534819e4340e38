//! What we know of one connector, in memory: its last contact, its credentials, what its agent said.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::actions::{Acknowledged, Action, Offered, Restart};
use super::agent_report::Rate;
pub use super::agent_report::{AgentReport, is_skewed};
use super::compact::{Checks, Seconds};
use super::credentials::{Checked, Credential, Digest, check};
use super::instances::{Freshness, Instances};
use super::payload::{Beat, ReportedCheck};
use super::pod_diagnosis::PodDiagnosis;
pub use crate::api::Key;
use crate::api::{CheckType, Severity};
use crate::health::liveness::{Known, Listening, Presence, Settled, Timing, Verdict, judge};
use crate::schedule::checkpoints::{Checkpointed, PendingWrite};
use crate::time::Moment;

/// A retired token in use is taken note of at most this often.
const REJECTION_NOTED: Duration = Duration::from_secs(60);

/// What never changes during an entry's life: another UID, id or site is another entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The object.
    pub key: Key,
    /// Its UID: deleted and created again is somebody else.
    pub uid: Box<str>,
    /// The effective `connectorID`.
    pub id: Arc<str>,
    /// The failure domain, `<namespace>/<site>`.
    pub domain: Arc<str>,
    /// Seconds of the epoch at which the object was created: the oldest holds a disputed id.
    pub created: i64,
    /// Beats come from a Lease: HTTP ones are refused.
    pub lease: Option<Box<str>>,
}

/// One connector.
#[derive(Debug)]
pub struct Entry {
    /// Counts entries: the member number within its site.
    pub number: u64,
    /// Who it is.
    pub identity: Identity,
    pub(super) inner: Mutex<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) timing: Seconds,
    pub(super) last_contact: Option<Moment>,
    pub(super) settled: Settled,
    pub(super) credentials: Box<[Credential]>,
    /// The resourceVersion that the credentials were read from; `None` = never loaded.
    pub(super) credentials_as_of: Option<u64>,
    /// The youngest delivery whose token was used.
    pub(super) used_generation: i64,
    pub(super) retired_use: Option<Moment>,
    /// Only of those that send boot ids.
    pub(super) instances: Option<Box<Instances>>,
    pub(super) agent: Option<Box<AgentReport>>,
    pub(super) checks: Option<Checks>,
    /// Only of those whose agent was asked to restart something.
    pub(super) restart: Option<Box<Restart>>,
    pub(super) rate: Rate,
    /// What its pods say; looked at while it is Offline only.
    pods: PodDiagnosis,
    /// The last contact that stands in the stored status.
    pub(super) written: Option<Moment>,
    /// When it was written, by us.
    pub(super) written_at: Moment,
    pub(super) was_mass_silent: bool,
    /// What the spec says of single checks; most say nothing.
    pub(super) severities: Box<[(CheckType, Severity)]>,
}

/// What changed and is visible to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From one presence to another.
    Presence {
        /// What it was.
        from: Presence,
        /// What it is.
        to: Presence,
        /// Since when.
        since: Moment,
    },
    /// Checks, agent facts, or the use of a new or a retired token.
    Facts,
}

/// One beat, as it came in.
pub(super) struct Heard<'a, 'b> {
    /// What it says.
    pub(super) beat: &'a Beat<'b>,
    /// The hash of its token.
    pub(super) token: &'a Digest,
    /// Where it came from.
    pub(super) from: IpAddr,
    /// When it came.
    pub(super) at: Moment,
}

/// How a beat was taken.
#[derive(Clone, Debug)]
pub enum Taken {
    /// Heard, or only authenticated when it was a dry run.
    Heard {
        /// What we can say of it now.
        presence: Presence,
        /// A check that matters fails.
        degraded: bool,
        /// It exceeded its rate; how many seconds are left of the minute.
        too_often: Option<u32>,
        /// What the agent is asked to do.
        action: Option<Arc<Action>>,
    },
    /// The token is none that is accepted.
    Rejected,
    /// Its credentials have not been loaded.
    NotLoaded,
}

/// A copy of what is known of one connector at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The settings that its deadlines follow.
    pub timing: Timing,
    /// The last authenticated beat.
    pub last_contact: Option<Moment>,
    /// The verdict at that moment.
    pub verdict: Verdict,
    /// The youngest delivery whose token was used; 0 = none.
    pub used_generation: i64,
    /// When a retired token was used last.
    pub retired_use: Option<Moment>,
    /// Since when two hosts beat with one token, and until when that is remembered.
    pub duplicate: Option<(Moment, Moment)>,
    /// What the agent said about itself; `None` until it was heard by this process.
    pub agent: Option<AgentReport>,
    /// What the agent reported, in the order of its types; `None` until this process heard a beat.
    pub checks: Option<Vec<ReportedCheck>>,
    /// The restart that the agent is offered.
    pub offered: Option<Offered>,
    /// What the agent said last of a restart that it was asked for.
    pub restarted: Option<Acknowledged>,
    /// What its pods say.
    pub pods: PodDiagnosis,
    /// The last contact that stands in the stored status.
    pub written: Option<Moment>,
}

impl Entry {
    pub(super) fn new(number: u64, identity: Identity, timing: Timing) -> Self {
        let inner = Inner {
            timing: Seconds::of(timing),
            last_contact: None,
            settled: Settled::default(),
            credentials: Box::default(),
            credentials_as_of: None,
            used_generation: 0,
            retired_use: None,
            instances: None,
            agent: None,
            checks: None,
            restart: None,
            rate: Rate::default(),
            pods: PodDiagnosis::Unseen,
            written: None,
            written_at: Moment::default(),
            was_mass_silent: false,
            severities: Box::default(),
        };
        Self { number, identity, inner: Mutex::new(inner) }
    }

    /// Everything that is known, judged at `now`.
    pub fn snapshot(&self, listening: Listening, now: Moment) -> Snapshot {
        let inner = self.inner.lock();
        let timing = inner.timing.timing();
        Snapshot {
            timing,
            last_contact: inner.last_contact,
            verdict: inner.judge(listening, now),
            used_generation: inner.used_generation,
            retired_use: inner.retired_use,
            duplicate: inner.instances.as_deref().and_then(|instances| {
                let since = instances.duplicate_since(timing.interval, now)?;
                Some((since, instances.duplicate_until(timing.interval)))
            }),
            agent: inner.agent.as_deref().cloned(),
            checks: inner.checks.as_ref().map(Checks::to_vec),
            offered: inner.restart.as_ref().and_then(|restart| restart.offered()).cloned(),
            restarted: inner.restart.as_ref().and_then(|restart| restart.acknowledged()).cloned(),
            pods: inner.pods.clone(),
            written: inner.written,
        }
    }

    /// What a checkpoint would bring to the stored status.
    pub fn unwritten(&self) -> PendingWrite {
        let inner = self.inner.lock();
        PendingWrite {
            contact: inner.last_contact.filter(|_| inner.last_contact > inner.written),
            written_at: inner.written_at,
            beats: inner.settled.presence == Presence::Online,
            late: inner.timing.timing().late,
        }
    }

    /// Judges at `now` and makes the verdict the established one. `tell` learns of a change while the entry is still
    /// locked, so that changes are told in the order in which they happened.
    pub(super) fn evaluate(&self, listening: Listening, now: Moment, tell: impl FnOnce(Change)) -> Verdict {
        self.inner.lock().evaluate(listening, now, tell)
    }

    /// Takes one beat. Touches memory only.
    pub(super) fn take(
        &self,
        heard: Heard<'_, '_>,
        listening: Listening,
        wall: impl FnOnce() -> Timestamp,
        mut tell: impl FnMut(Change),
    ) -> Taken {
        let Heard { beat, token, from, at: now } = heard;
        let mut inner = self.inner.lock();
        let generation = match inner.authenticate(self.identity.lease.is_some(), token, now, &mut tell) {
            Ok(generation) => generation,
            Err(refused) => return refused,
        };
        let degraded = inner.is_degraded(beat);
        if beat.dry_run {
            let presence = inner.judge(listening, now).presence;
            return Taken::Heard { presence, degraded, too_often: None, action: None };
        }
        let mut visible = generation > inner.used_generation;
        inner.used_generation = inner.used_generation.max(generation);
        let interval = inner.timing.timing().interval;
        let had_duplicate = inner.is_duplicate(interval, now);
        let freshness = match &beat.boot_id {
            Some(boot) => inner.instances.get_or_insert_default().heard(boot, beat.sequence, interval, now),
            None => Freshness::Fresh,
        };
        let has_duplicate = inner.is_duplicate(interval, now);
        visible |= had_duplicate != has_duplicate;
        // Two hosts that alternate would rewrite each other's facts with every beat: the first stay.
        let is_latest = freshness == Freshness::Fresh && !has_duplicate;
        if is_latest {
            visible |= inner.learn(beat, from, wall);
        }
        if let Some(said) = &beat.restart {
            visible |= Restart::acknowledge(&mut inner.restart, said);
        }
        let presence = inner.contact(listening, now, &mut tell).presence;
        let too_often = inner.exceeds_rate(now);
        let action = inner.hand_out(is_latest && too_often.is_none(), degraded, now, &mut visible);
        if visible {
            tell(Change::Facts);
        }
        Taken::Heard { presence, degraded, too_often, action }
    }

    /// A renewal of its Lease was seen.
    pub(super) fn renewed(&self, listening: Listening, now: Moment, mut tell: impl FnMut(Change)) {
        self.inner.lock().contact(listening, now, &mut tell);
    }

    /// Stable for one id, spread over all of them.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.identity.id.hash(&mut hasher);
        hasher.finish()
    }

    /// The settings that its deadlines follow.
    pub fn timing(&self) -> Timing {
        self.inner.lock().timing.timing()
    }

    /// What its pods say of its silence.
    pub fn explain(&self, pods: PodDiagnosis) {
        self.inner.lock().pods = pods;
    }

    /// Whether its stored status calls its silence mass silence.
    pub fn was_mass_silent(&self) -> bool {
        self.inner.lock().was_mass_silent
    }

    /// The stored status says `contact` as its last contact, since `now`.
    pub fn note_written(&self, contact: Option<Moment>, now: Moment) {
        let mut inner = self.inner.lock();
        inner.written = contact;
        inner.written_at = now;
    }
}

impl Inner {
    /// Takes over what a former entry of the same object knew.
    pub(super) fn inherit(&mut self, before: &Self) {
        self.last_contact = self.last_contact.max(before.last_contact);
        self.settled = before.settled;
        self.used_generation = self.used_generation.max(before.used_generation);
        self.instances.clone_from(&before.instances);
        self.agent.clone_from(&before.agent);
        self.checks.clone_from(&before.checks);
        self.restart.clone_from(&before.restart);
        self.rate = before.rate;
        // The watch may be behind our own writes: what was revoked does not come back by another name.
        if before.credentials_as_of > self.credentials_as_of {
            self.credentials.clone_from(&before.credentials);
            self.credentials_as_of = before.credentials_as_of;
        }
    }

    /// Of which delivery the token is, or why it is not let in. The comparison comes first, so that the time taken says
    /// nothing of the source.
    fn authenticate(
        &mut self,
        by_lease: bool,
        token: &Digest,
        now: Moment,
        tell: &mut impl FnMut(Change),
    ) -> Result<i64, Taken> {
        match check(&self.credentials, token, now) {
            _ if by_lease => Err(Taken::Rejected),
            Checked::Accepted(generation) => Ok(generation),
            Checked::Retired => {
                if self.retired_use.is_none_or(|noted| now.since(noted) >= REJECTION_NOTED) {
                    self.retired_use = Some(now);
                    tell(Change::Facts);
                }
                Err(Taken::Rejected)
            }
            Checked::Wrong if self.credentials_as_of.is_none() => Err(Taken::NotLoaded),
            Checked::Wrong => Err(Taken::Rejected),
        }
    }

    /// What the agent is asked to do in the answer to a beat. Beats that were overtaken, come too often, or come from
    /// two hosts by turns are asked nothing.
    fn hand_out(&mut self, may: bool, is_bad: bool, now: Moment, is_news: &mut bool) -> Option<Arc<Action>> {
        let (action, is_first) = self.restart.as_mut().filter(|_| may)?.hand_out(is_bad, now)?;
        *is_news |= is_first;
        Some(action)
    }

    fn is_duplicate(&self, interval: Duration, now: Moment) -> bool {
        self.instances.as_deref().is_some_and(|instances| instances.duplicate_since(interval, now).is_some())
    }

    fn judge(&self, listening: Listening, now: Moment) -> Verdict {
        judge(&self.timing.timing(), &Known { last_contact: self.last_contact, settled: self.settled, listening }, now)
    }

    pub(super) fn evaluate(&mut self, listening: Listening, now: Moment, tell: impl FnOnce(Change)) -> Verdict {
        let verdict = self.judge(listening, now);
        let from = self.settled.presence;
        if from != verdict.presence {
            self.settled = Settled { presence: verdict.presence, since: verdict.since };
            tell(Change::Presence { from, to: verdict.presence, since: verdict.since });
        }
        verdict
    }

    fn contact(&mut self, listening: Listening, now: Moment, tell: &mut impl FnMut(Change)) -> Verdict {
        // What came before this beat happened before it: an expiry that was due is settled first.
        if self.settled.presence == Presence::Online {
            self.last_contact = Some(self.last_contact.map_or(now, |last| last.max(now)));
            return self.judge(listening, now);
        }
        self.last_contact = Some(now);
        self.evaluate(listening, now, tell)
    }
}
impl Checkpointed for Entry {
    fn number(&self) -> u64 {
        self.number
    }

    fn unwritten(&self) -> PendingWrite {
        Self::unwritten(self)
    }
}
