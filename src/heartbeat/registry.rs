//! All connectors in memory: who holds which id, and when each was heard.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::mpsc;

use super::actions::{Action, Restart};
use super::compact::Seconds;
use super::credentials::{Digest, check};
use super::entry::{Change, Entry, Heard, Key, Taken};
use super::from_status;
use super::index::Index;
use super::listening::{ListeningState, Role};
use super::payload::Beat;
use super::routes::{Hearing, HeartbeatSink, Reply};
use crate::api::{Connector, ConnectorState};
use crate::health::liveness::next_heartbeat;
use crate::time::{Clock, Moment, Now};

/// The beats per second that one process is sized for: 100,000 connectors at 30 s are 3,333/s. Above it clients are
/// asked to beat less often.
const SIZED_FOR: f64 = 4_000.0;

/// What changed, of whom.
#[derive(Debug)]
pub struct Notice {
    /// The connector.
    pub entry: Arc<Entry>,
    /// The change.
    pub change: Change,
}

/// Every connector that we know, by id, by object and by Lease.
pub struct Registry {
    /// Whether we can hear.
    pub listening: ListeningState,
    clock: Clock,
    maps: RwLock<Index>,
    told: mpsc::UnboundedSender<Notice>,
    canary: Canary,
    beats: AtomicU64,
    heard_at: AtomicI64,
    load: AtomicU64,
    entries: AtomicU64,
}

/// How we beat to ourselves through the public URL: an id and a token of this process alone.
pub struct Canary {
    /// Its id, outside of what a Connector may be called.
    pub id: String,
    /// Its token.
    pub token: String,
    digest: Digest,
}

/// What enrolling a connector did.
#[derive(Debug, Default)]
pub struct Upserted {
    /// Entries that are no longer what they were: the predecessor of the same object.
    pub removed: Option<Arc<Entry>>,
    /// The entry, when it is a new one.
    pub fresh: Option<Arc<Entry>>,
    /// Its deadlines or its settings may have moved.
    pub changed: bool,
    /// Other objects whose claim to an id changed with it.
    pub affected: Vec<Key>,
}

impl Registry {
    /// An empty registry, and where it tells what changed. `secret` are random bytes for the canary.
    pub fn new(clock: Clock, secret: &[u8; 32]) -> (Self, mpsc::UnboundedReceiver<Notice>) {
        let (told, changes) = mpsc::unbounded_channel();
        let token = Digest::of(&format!("{secret:?}")).to_hex();
        let canary = Canary { id: format!("vigie:canary:{}", &token[..16]), digest: Digest::of(&token), token };
        let registry = Self {
            listening: ListeningState::default(),
            clock,
            maps: RwLock::default(),
            told,
            canary,
            beats: AtomicU64::new(0),
            heard_at: AtomicI64::new(i64::MIN),
            load: AtomicU64::new(0),
            entries: AtomicU64::new(0),
        };
        (registry, changes)
    }

    /// The clock that beats are dated with.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// How to beat to ourselves.
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// Takes in a connector as the API server has it. What its status says of the past is taken over when it is new
    /// here, and as long as another leads: then it is the only witness.
    pub fn upsert(&self, connector: &Connector, now: Now) -> Upserted {
        let mut identity = from_status::identity(connector);
        let timing = from_status::timing(connector);
        let known = self.get(&identity.key);
        let follows = matches!(self.listening.inputs().role, Role::Follower);
        match known {
            Some(entry) if entry.identity == identity => {
                let mut inner = entry.inner.lock();
                let timing = Seconds::of(timing);
                let changed = inner.timing != timing;
                inner.timing = timing;
                inner.severities = from_status::severities(connector);
                from_status::credentials(&mut inner, connector, now);
                if follows {
                    from_status::adopt(&mut inner, connector, now);
                }
                Upserted { changed: changed || follows, ..Upserted::default() }
            }
            predecessor => {
                let mut upserted = Upserted { changed: true, ..Upserted::default() };
                if let Some(predecessor) = predecessor {
                    upserted.affected = self.remove(&predecessor);
                    upserted.removed = Some(predecessor);
                }
                self.maps.write().share(&mut identity);
                let number = self.entries.fetch_add(1, Ordering::Relaxed);
                let entry = Entry::new(number, identity, timing);
                {
                    let mut inner = entry.inner.lock();
                    inner.severities = from_status::severities(connector);
                    from_status::credentials(&mut inner, connector, now);
                    from_status::adopt(&mut inner, connector, now);
                    // The same object under another site: what was heard of it goes along.
                    if let Some(before) =
                        upserted.removed.as_ref().filter(|before| before.identity.uid == entry.identity.uid)
                    {
                        inner.inherit(&before.inner.lock());
                    }
                }
                let entry = Arc::new(entry);
                upserted.affected.extend(self.maps.write().insert(&entry));
                upserted.fresh = Some(entry);
                upserted
            }
        }
    }

    /// The status of `entry` was written by us with `contact` as its last contact; what it says of tokens holds from now
    /// on, before the watch brings it back.
    pub fn wrote(&self, entry: &Entry, written: &Connector, contact: Option<Moment>, now: Now) {
        from_status::credentials(&mut entry.inner.lock(), written, now);
        entry.note_written(contact, now.moment);
    }

    /// Forgets a connector; gives the objects whose claim to its id changed.
    pub fn remove(&self, entry: &Arc<Entry>) -> Vec<Key> {
        self.maps.write().remove(entry)
    }

    /// The entry of one object.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.maps.read().get(key).cloned()
    }

    /// Whether this entry is still there: not its successor of the same name.
    pub fn has(&self, entry: &Entry) -> bool {
        self.get(&entry.identity.key).is_some_and(|known| known.number == entry.number)
    }

    /// All entries, in no particular order.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.maps.read().all().cloned().collect()
    }

    /// How many connectors are known.
    pub fn len(&self) -> usize {
        self.maps.read().len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who holds the id that `entry` wants, when it is somebody else.
    pub fn holder_instead_of(&self, entry: &Entry) -> Option<Key> {
        let maps = self.maps.read();
        let holder = maps.holder(&entry.identity.id)?;
        (holder.number != entry.number).then(|| holder.identity.key.clone())
    }

    /// Whether any connector beats through a Lease.
    pub fn uses_leases(&self) -> bool {
        self.maps.read().has_leases()
    }

    /// A renewal of a Lease was seen.
    pub fn lease_renewed(&self, namespace: &str, name: &str) {
        let entries = self.maps.read().users_of_lease(namespace, name);
        // Seen by a watch: it says nothing of the path that other connectors take to us, and is no load on our port.
        let now = self.clock.now();
        for entry in entries.iter().filter(|entry| self.holder_instead_of(entry).is_none()) {
            entry.renewed(self.listening.listening_to(entry), now, |change| self.tell(entry, change));
        }
    }

    /// Judges one connector and makes the verdict the established one; a change is told.
    pub fn evaluate(&self, entry: &Arc<Entry>, now: Moment) -> crate::health::liveness::Verdict {
        entry.evaluate(self.listening.listening_to(entry), now, |change| self.tell(entry, change))
    }

    /// Offers `action` to the agent of `entry` from its next beat on, or withdraws what was offered. The same action
    /// again changes nothing.
    pub fn offer(&self, entry: &Entry, action: Option<Action>) {
        Restart::offer(&mut entry.inner.lock().restart, action);
    }

    /// When anybody was heard last.
    pub fn anyone_heard_at(&self) -> Option<Moment> {
        match self.heard_at.load(Ordering::Relaxed) {
            i64::MIN => None,
            micros => Some(Moment::from_micros(micros)),
        }
    }

    /// Takes note of the load: to be called with the time since the last call, about once a second.
    pub fn measure(&self, elapsed: Duration) {
        let beats = self.beats.swap(0, Ordering::Relaxed) as f64;
        let rate = beats / elapsed.as_secs_f64().max(0.001) / SIZED_FOR;
        let before = f64::from_bits(self.load.load(Ordering::Relaxed));
        // A minute's memory: one burst of reconnecting clients is no reason to slow everybody down.
        let weight = (elapsed.as_secs_f64() / 60.0).min(1.0);
        self.load.store((before + (rate - before) * weight).to_bits(), Ordering::Relaxed);
    }

    fn note_heard(&self, now: Moment) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.heard_at.store(now.as_micros(), Ordering::Relaxed);
    }

    fn tell(&self, entry: &Arc<Entry>, change: Change) {
        // The receiver is gone only while the process ends.
        let _ = self.told.send(Notice { entry: entry.clone(), change });
    }

    fn unknown(&self, beat: &Beat<'_>, token: &Digest, now: Moment) -> Reply {
        // The same comparisons as for a known connector: the time taken does not tell which ids exist.
        let dummy = check(&[], token, now);
        debug_assert_eq!(dummy, super::credentials::Checked::Wrong);
        if beat.connector_id == self.canary.id && *token == self.canary.digest {
            return Reply::Heard { state: ConnectorState::Online, next_heartbeat_seconds: 10, action: None };
        }
        Reply::Rejected { known: false }
    }
}

impl HeartbeatSink for Registry {
    fn hearing(&self) -> Hearing {
        let inputs = self.listening.inputs();
        let no = |reason, message: &str, retry_after_seconds| Hearing::No {
            reason,
            message: message.to_owned(),
            retry_after_seconds,
        };
        match inputs.role {
            _ if !inputs.synced => no("not_synced", "the connectors have not been read from the API server yet", 2),
            Role::Follower => no("not_leader", "another replica leads; beats are heard there", 2),
            Role::Unconfirmed => no("not_confirmed", "this process was frozen and has not read its Lease since", 1),
            Role::Uncertain => {
                Hearing::Uncertain { message: "the API server cannot be reached; beats are heard, nothing is written" }
            }
            Role::Leader => Hearing::Yes,
        }
    }

    fn hear(&self, beat: &Beat<'_>, from: IpAddr) -> Reply {
        let token = Digest::of(&beat.token);
        let entry = self.maps.read().holder(&beat.connector_id).cloned();
        let Some(entry) = entry else { return self.unknown(beat, &token, self.clock.now()) };
        let now = self.clock.now();
        let heard = Heard { beat, token: &token, from, at: now };
        let taken = entry.take(heard, self.listening.listening(), Timestamp::now, |change| self.tell(&entry, change));
        match taken {
            Taken::Rejected => Reply::Rejected { known: true },
            Taken::NotLoaded => Reply::NotLoaded { retry_after_seconds: 1 },
            Taken::Heard { presence, degraded, too_often, action } => {
                if !beat.dry_run {
                    self.note_heard(now);
                }
                if let Some(retry_after_seconds) = too_often {
                    return Reply::TooOften { retry_after_seconds };
                }
                let load = f64::from_bits(self.load.load(Ordering::Relaxed));
                // Beats are spread only where they are stretched.
                let spread = if load > 1.0 { entry.hash() } else { 0 };
                Reply::Heard {
                    state: from_status::state(presence, degraded),
                    next_heartbeat_seconds: next_heartbeat(&entry.timing(), load, spread),
                    action,
                }
            }
        }
    }
}

#[cfg(test)]
mod actions_tests;
#[cfg(test)]
mod tests;
