//! All connectors in memory: which one holds an id, and when each had its last contact.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::mpsc;

use super::actions::Offer;
use super::compact::Seconds;
use super::credentials::{Digest, check};
use super::entry::{Change, Entry, HeartbeatOutcome, Identity, IncomingBeat, Key, Told};
use super::from_status;
pub use super::index::ClaimRefusal;
use super::index::Index;
use super::listening::ListeningState;
use super::payload::Beat;
use super::sink::{Acceptance, HeartbeatSink, Reply};
use super::slow_hash::Compared;
use crate::api::{Connector, ConnectorState};
use crate::health::liveness::{next_during_incident, next_heartbeat};
use crate::leadership::Role;
use crate::time::{Clock, Moment, Now};

/// The heartbeats per second that one process is sized for: 100,000 connectors at 30 s are 3,333/s. Above it the answers
/// ask clients to send heartbeats less often.
const RATED_HEARTBEATS_PER_SECOND: f64 = 4_000.0;

/// The change of one connector.
#[derive(Debug)]
pub struct Notice {
    /// The connector that changed.
    pub entry: Arc<Entry>,
    /// The change.
    pub change: Change,
}

/// Every known connector, by id, by object and by Lease.
pub struct Registry {
    /// Whether heartbeats can reach this process.
    pub listening: ListeningState,
    clock: Clock,
    index: RwLock<Index>,
    notices: mpsc::UnboundedSender<Notice>,
    canary: Canary,
    beats: AtomicU64,
    last_accepted_at: AtomicI64,
    load: AtomicU64,
    entries: AtomicU64,
}

/// The credentials by which this process sends heartbeats to itself through the public URL.
pub struct Canary {
    /// An id that no Connector can have.
    pub id: String,
    /// A token of this process alone.
    pub token: String,
    digest: Digest,
}

/// The result of an upsert.
#[derive(Debug, Default)]
pub struct Upserted {
    /// The former entry of the same object, when it was replaced.
    pub removed: Option<Arc<Entry>>,
    /// The entry, when it is a new one.
    pub fresh: Option<Arc<Entry>>,
    /// Whether its deadlines or its settings may have moved.
    pub changed: bool,
    /// Other objects whose claim to an id changed.
    pub affected: Vec<Key>,
}

impl Registry {
    /// An empty registry, and the channel on which it publishes changes. `secret` are random bytes for the canary.
    pub fn new(clock: Clock, secret: &[u8; 32]) -> (Self, mpsc::UnboundedReceiver<Notice>) {
        let (notices, changes) = mpsc::unbounded_channel();
        let token = Digest::of(&format!("{secret:?}")).to_hex();
        let canary = Canary { id: format!("vigie:canary:{}", &token[..16]), digest: Digest::of(&token), token };
        let registry = Self {
            listening: ListeningState::default(),
            clock,
            index: RwLock::default(),
            notices,
            canary,
            beats: AtomicU64::new(0),
            last_accepted_at: AtomicI64::new(i64::MIN),
            load: AtomicU64::new(0),
            entries: AtomicU64::new(0),
        };
        (registry, changes)
    }

    /// The clock that dates heartbeats.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The credentials of the canary.
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// Inserts or updates a connector as the API server has it. The past in its status is adopted for a new entry, and as
    /// long as another replica leads: then the status is the only source.
    pub fn upsert(&self, connector: &Connector, now: Now) -> Upserted {
        let identity = from_status::identity(connector);
        match self.get(&identity.key) {
            Some(entry) if entry.identity == identity => self.update(&entry, connector, now),
            predecessor => self.insert(identity, predecessor, connector, now),
        }
    }

    fn update(&self, entry: &Entry, connector: &Connector, now: Now) -> Upserted {
        let follows = self.listening.inputs().role == Role::Follower;
        let timing = Seconds::of(from_status::timing(connector));
        let mut inner = entry.inner.lock();
        let moved = inner.timing != timing;
        inner.timing = timing;
        from_status::severities(&mut inner, connector);
        from_status::credentials(&mut inner, connector, now);
        if follows {
            from_status::adopt(&mut inner, connector, now);
        }
        Upserted { changed: moved || follows, ..Upserted::default() }
    }

    fn insert(
        &self,
        mut identity: Identity,
        predecessor: Option<Arc<Entry>>,
        connector: &Connector,
        now: Now,
    ) -> Upserted {
        let mut affected = predecessor.as_ref().map(|predecessor| self.remove(predecessor)).unwrap_or_default();
        self.index.write().share(&mut identity);
        let number = self.entries.fetch_add(1, Ordering::Relaxed);
        let mut entry = Entry::new(number, identity, from_status::timing(connector));
        entry.may_hold |= from_status::was_served(connector);
        let uid = &entry.identity.uid;
        let inner = entry.inner.get_mut();
        from_status::severities(inner, connector);
        from_status::credentials(inner, connector, now);
        from_status::adopt(inner, connector, now);
        // The same object with another site or id keeps its state.
        if let Some(before) = predecessor.as_ref().filter(|before| before.identity.uid == *uid) {
            inner.inherit(&before.inner.lock());
        }
        let entry = Arc::new(entry);
        affected.extend(self.index.write().insert(&entry, now.moment));
        Upserted { removed: predecessor, fresh: Some(entry), changed: true, affected }
    }

    /// Records that this process wrote the status of `entry` with `contact` as its last contact. The tokens in it are valid
    /// from now on, before the watch returns them.
    pub fn wrote(&self, entry: &Entry, written: &Connector, contact: Option<Moment>, now: Now) {
        from_status::credentials(&mut entry.inner.lock(), written, now);
        entry.note_written(contact, now.moment);
    }

    /// Remembers the SHA-256 of the token that stands in a user's Secret, and has this stored hash.
    pub fn learn(&self, entry: &Entry, stored: Digest, plain: Digest) {
        entry.inner.lock().tokens.learn(stored, plain);
    }

    /// Removes a connector; returns the objects whose claim to its id changed.
    pub fn remove(&self, entry: &Arc<Entry>) -> Vec<Key> {
        self.index.write().remove(entry, self.clock.now())
    }

    /// The entry of one object.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.index.read().get(key).cloned()
    }

    /// Whether this entry, and not a successor of the same name, is in the registry.
    pub fn has(&self, entry: &Entry) -> bool {
        self.get(&entry.identity.key).is_some_and(|known| known.number == entry.number)
    }

    /// All entries, in no particular order.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.index.read().all().cloned().collect()
    }

    /// The number of connectors.
    pub fn len(&self) -> usize {
        self.index.read().len()
    }

    /// Whether there is no connector.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Why `entry` does not hold its id; `None` when it does. An id whose rest is over is given away.
    pub fn claim_refusal(&self, entry: &Entry) -> Option<ClaimRefusal> {
        let refusal = self.index.read().refusal(entry);
        match refusal {
            Some(ClaimRefusal::Resting(until)) if until <= self.clock.now() => {
                let mut index = self.index.write();
                index.settle(&entry.identity.id, self.clock.now());
                index.refusal(entry)
            }
            other => other,
        }
    }

    /// Whether any connector sends its heartbeats through a Lease.
    pub fn uses_leases(&self) -> bool {
        self.index.read().has_leases()
    }

    /// Whether any connector sends its heartbeats through a Lease of this namespace.
    pub fn uses_leases_in(&self, namespace: &str) -> bool {
        self.index.read().has_leases_in(namespace)
    }

    /// Counts a renewal of a Lease as contact of the connectors that use it.
    pub fn lease_renewed(&self, namespace: &str, name: &str) {
        let entries = self.index.read().users_of_lease(namespace, name);
        // A watch saw it: this proves nothing about the path to the heartbeat port, and is no load on it.
        let now = self.clock.now();
        for entry in entries.iter().filter(|entry| self.claim_refusal(entry).is_none()) {
            entry.renewed(self.listening.listening_to(entry, now), now, |change| self.notify(entry, change));
        }
    }

    /// Judges one connector and stores the verdict; a change is published.
    pub fn evaluate(&self, entry: &Arc<Entry>, now: Moment) -> crate::health::liveness::Verdict {
        entry.evaluate(self.listening.listening_to(entry, now), now, |change| self.notify(entry, change))
    }

    /// Offers the agent of `entry` a restart from its next heartbeat on, or withdraws the offer: of the unit behind a
    /// MonitoredBackend, or with `None` of the connector's own. The same action again changes nothing.
    pub fn offer(&self, entry: &Entry, backend: Option<&str>, offer: Offer) {
        entry.inner.lock().offer(backend, offer);
    }

    /// When the last heartbeat of any connector was accepted.
    pub fn last_heartbeat_at(&self) -> Option<Moment> {
        match self.last_accepted_at.load(Ordering::Relaxed) {
            i64::MIN => None,
            micros => Some(Moment::from_micros(micros)),
        }
    }

    /// Updates the load; call it about once a second with the time since the last call.
    pub fn measure(&self, elapsed: Duration) {
        let beats = self.beats.swap(0, Ordering::Relaxed) as f64;
        let rate = beats / elapsed.as_secs_f64().max(0.001) / RATED_HEARTBEATS_PER_SECOND;
        let before = f64::from_bits(self.load.load(Ordering::Relaxed));
        // An average over a minute: a burst of reconnecting clients must not slow all clients down.
        let weight = (elapsed.as_secs_f64() / 60.0).min(1.0);
        self.load.store((before + (rate - before) * weight).to_bits(), Ordering::Relaxed);
    }

    fn count(&self, now: Moment) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.last_accepted_at.store(now.as_micros(), Ordering::Relaxed);
    }

    fn notify(&self, entry: &Arc<Entry>, change: Change) {
        // The receiver is gone only while the process ends.
        let _ = self.notices.send(Notice { entry: entry.clone(), change });
    }

    fn unknown(&self, beat: &Beat<'_>, token: &Digest, now: Moment) -> Reply {
        // The same comparisons as for a known connector, so that the time of an answer does not reveal which ids exist.
        let dummy = check(&[], token, now);
        debug_assert_eq!(dummy, super::credentials::Checked::Wrong);
        if beat.connector_id == self.canary.id && *token == self.canary.digest {
            let told = Told::default();
            return Reply::Accepted { state: ConnectorState::Online, next_heartbeat_seconds: 10, told };
        }
        Reply::Rejected { known: false }
    }
}

impl HeartbeatSink for Registry {
    fn acceptance(&self) -> Acceptance {
        let inputs = self.listening.inputs_at(self.clock.now());
        let no = |reason, message: &str, retry_after_seconds| Acceptance::No {
            reason,
            message: message.to_owned(),
            retry_after_seconds,
        };
        match inputs.role {
            _ if !inputs.synced => no("not_synced", "the connectors have not been read from the API server yet", 2),
            Role::Follower => no("not_leader", "another replica leads; beats are heard there", 2),
            Role::Unconfirmed => no("not_confirmed", "this process was frozen and has not read its Lease since", 1),
            Role::Uncertain => Acceptance::Uncertain {
                message: "the API server cannot be reached; beats are heard, nothing is written",
            },
            Role::Leader => Acceptance::Yes,
        }
    }

    fn receive(&self, beat: &Beat<'_>, from: IpAddr) -> Reply {
        self.process(beat, from, None)
    }

    fn receive_compared(&self, beat: &Beat<'_>, from: IpAddr, compared: &Compared) -> Reply {
        self.process(beat, from, Some(compared))
    }
}

impl Registry {
    fn process(&self, beat: &Beat<'_>, from: IpAddr, compared: Option<&Compared>) -> Reply {
        let token = Digest::of(&beat.token);
        let entry = self.index.read().holder(&beat.connector_id).cloned();
        let Some(entry) = entry else { return self.unknown(beat, &token, self.clock.now()) };
        let now = self.clock.now();
        let received = IncomingBeat { beat, token: &token, from, at: now, compared };
        let notify = |change| self.notify(&entry, change);
        match entry.process(received, self.listening.listening(now), Timestamp::now, notify) {
            HeartbeatOutcome::Rejected => Reply::Rejected { known: true },
            HeartbeatOutcome::NotLoaded => Reply::NotLoaded { retry_after_seconds: 1 },
            HeartbeatOutcome::Uncompared(comparison) => Reply::Uncompared(comparison),
            HeartbeatOutcome::NotCompared(retry_after_seconds) => Reply::NotCompared { retry_after_seconds },
            HeartbeatOutcome::Accepted { state, too_often, told } => {
                if !beat.dry_run {
                    self.count(now);
                }
                if let Some(retry_after_seconds) = too_often {
                    return Reply::TooOften { retry_after_seconds };
                }
                let load = f64::from_bits(self.load.load(Ordering::Relaxed));
                // Spread only under load, when intervals are stretched.
                let spread = if load > 1.0 { entry.hash() } else { 0 };
                let timing = entry.timing();
                let next_heartbeat_seconds = match told.is_expected && load <= 1.0 {
                    true => next_during_incident(&timing),
                    false => next_heartbeat(&timing, load, spread),
                };
                Reply::Accepted { state, next_heartbeat_seconds, told }
            }
        }
    }
}

#[cfg(test)]
mod actions_tests;
#[cfg(test)]
mod agents_tests;
#[cfg(test)]
mod brought_tests;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;
