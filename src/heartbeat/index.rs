//! The index of connectors: by object, by id and by Lease.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, Identity, Key};
use super::interner::Interner;
use crate::time::Moment;

/// For how long the id of a deleted holder is kept for its own namespace: an object that is deleted and created again, also
/// by a restore, finds its id free.
const REST: Duration = Duration::from_secs(600);

/// Every connector, by each of its keys. The sets hold only the entry, which contains the keys.
#[derive(Default)]
pub(super) struct Index {
    /// The holder of each id.
    ids: HashSet<ById>,
    /// Other entries with the same id.
    rivals: HashMap<Arc<str>, Vec<Arc<Entry>>>,
    keys: HashSet<ByKey>,
    /// The ids of deleted holders.
    resting: HashMap<Arc<str>, Rest>,
    leases: HashMap<LeaseKey, Vec<Arc<Entry>>>,
    interner: Interner<str>,
}

/// The rest of an id whose holder was deleted.
struct Rest {
    namespace: Arc<str>,
    until: Moment,
}

/// Why a connector does not hold its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimRefusal {
    /// Another object holds it.
    HeldBy(Key),
    /// It begins with the name of another namespace, and belongs there.
    NotOwn,
    /// Its holder, of another namespace, was deleted; until when it is kept for that namespace.
    Resting(Moment),
}

/// Namespace and name of a Lease.
type LeaseKey = (Arc<str>, Box<str>);

/// An entry that is looked up by its id.
struct ById(Arc<Entry>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.identity.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<str>::borrow(self).hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.identity.id == other.0.identity.id
    }
}

impl Eq for ById {}

/// An entry that is looked up by its object.
struct ByKey(Arc<Entry>);

impl Borrow<Key> for ByKey {
    fn borrow(&self) -> &Key {
        &self.0.identity.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<Key>::borrow(self).hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.identity.key == other.0.identity.key
    }
}

impl Eq for ByKey {}

/// An object of the namespace that an id begins with comes before all others. Then the oldest holds the id; of two as old,
/// the one whose key comes first.
fn rank(entry: &Entry) -> (bool, i64, &Key) {
    (entry.identity.is_id_of_another_namespace(), entry.identity.created, &entry.identity.key)
}

impl Index {
    /// The entry of this object.
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.keys.get(key).map(|ByKey(entry)| entry)
    }

    /// All entries, in no particular order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.keys.iter().map(|ByKey(entry)| entry)
    }

    /// The number of objects.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The holder of `id`.
    pub(super) fn holder(&self, id: &str) -> Option<&Arc<Entry>> {
        self.ids.get(id).map(|ById(entry)| entry)
    }

    /// Whether any connector sends its heartbeats through a Lease.
    pub(super) fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Whether any connector sends its heartbeats through a Lease of this namespace.
    pub(super) fn has_leases_in(&self, namespace: &str) -> bool {
        self.leases.keys().any(|(of, _)| **of == *namespace)
    }

    /// The connectors that send their heartbeats through this Lease.
    pub(super) fn users_of_lease(&self, namespace: &str, name: &str) -> Vec<Arc<Entry>> {
        self.leases.get(&(Arc::from(namespace), Box::from(name))).cloned().unwrap_or_default()
    }

    /// Shares the strings that many connectors have in common.
    pub(super) fn share(&mut self, identity: &mut Identity) {
        for word in [&mut identity.key.namespace, &mut identity.domain] {
            *word = self.interner.share(word, || word.clone());
        }
    }

    /// Whether `entry` may hold its id while no other object does.
    fn may_take(&self, entry: &Entry, now: Moment) -> bool {
        let rest = self.resting.get(&entry.identity.id).filter(|rest| rest.namespace != entry.identity.key.namespace);
        entry.may_hold && rest.is_none_or(|rest| now >= rest.until)
    }

    /// Why `entry` does not hold its id; `None` when it does.
    pub(super) fn refusal(&self, entry: &Entry) -> Option<ClaimRefusal> {
        let id = &entry.identity.id;
        match self.holder(id) {
            Some(holder) if holder.number == entry.number => None,
            _ if !entry.may_hold => Some(ClaimRefusal::NotOwn),
            Some(holder) => Some(ClaimRefusal::HeldBy(holder.identity.key.clone())),
            None => self.resting.get(id).map(|rest| ClaimRefusal::Resting(rest.until)),
        }
    }

    /// Gives an id whose rest is over to the first of those that wait for it.
    pub(super) fn settle(&mut self, id: &Arc<str>, now: Moment) {
        if self.holder(id).is_some() {
            return;
        }
        let mut rivals = self.rivals.remove(id).unwrap_or_default();
        let waiting = (0..rivals.len()).filter(|at| self.may_take(&rivals[*at], now));
        if let Some(first) = waiting.min_by(|a, b| rank(&rivals[*a]).cmp(&rank(&rivals[*b]))) {
            self.ids.replace(ById(rivals.swap_remove(first)));
            self.resting.remove(id);
        }
        if !rivals.is_empty() {
            self.rivals.insert(id.clone(), rivals);
        }
    }

    fn rest(&mut self, id: &Arc<str>, namespace: &Arc<str>, now: Moment) {
        // Removed when the map has doubled, so that the cost stays small.
        if self.resting.len().is_power_of_two() {
            self.resting.retain(|_, rest| rest.until > now);
        }
        self.resting.insert(id.clone(), Rest { namespace: namespace.clone(), until: now + REST });
    }

    /// Returns the objects whose claim changed: the holder that was displaced by one that comes before it.
    pub(super) fn insert(&mut self, entry: &Arc<Entry>, now: Moment) -> Vec<Key> {
        self.keys.replace(ByKey(entry.clone()));
        if let Some(lease) = &entry.identity.lease {
            let of = (entry.identity.key.namespace.clone(), (**lease).clone());
            self.leases.entry(of).or_default().push(entry.clone());
        }
        let comes_first = self.holder(&entry.identity.id).is_none_or(|holder| rank(entry) < rank(holder));
        let wins = comes_first && self.may_take(entry, now);
        if wins {
            self.resting.remove(&entry.identity.id);
        }
        let loser =
            if wins { self.ids.replace(ById(entry.clone())).map(|ById(loser)| loser) } else { Some(entry.clone()) };
        let Some(loser) = loser else { return Vec::new() };
        let displaced = (loser.number != entry.number).then(|| loser.identity.key.clone());
        self.rivals.entry(entry.identity.id.clone()).or_default().push(loser);
        displaced.into_iter().collect()
    }

    /// Returns the objects whose claim changed: the next holder, or all that wait while the id rests.
    pub(super) fn remove(&mut self, entry: &Arc<Entry>, now: Moment) -> Vec<Key> {
        let Identity { key, id, .. } = &entry.identity;
        if self.get(key).is_some_and(|known| known.number == entry.number) {
            self.keys.remove(key);
        }
        if let Some(lease) = &entry.identity.lease {
            let of = (key.namespace.clone(), (**lease).clone());
            if let Some(users) = self.leases.get_mut(&of) {
                users.retain(|user| user.number != entry.number);
                if users.is_empty() {
                    self.leases.remove(&of);
                }
            }
        }
        let rivals = self.rivals.remove(id).unwrap_or_default();
        let rivals: Vec<_> = rivals.into_iter().filter(|rival| rival.number != entry.number).collect();
        let waiting: Vec<Key> = rivals.iter().map(|rival| rival.identity.key.clone()).collect();
        if !rivals.is_empty() {
            self.rivals.insert(id.clone(), rivals);
        }
        if self.holder(id).is_none_or(|holder| holder.number != entry.number) {
            return Vec::new();
        }
        self.ids.remove(&**id);
        self.rest(id, &key.namespace, now);
        self.settle(id, now);
        match self.holder(id) {
            Some(next) => vec![next.identity.key.clone()],
            None => waiting,
        }
    }
}
