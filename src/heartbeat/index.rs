//! The index of connectors: by object, by id and by Lease.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::entry::{Entry, Identity, Key};

/// Every connector, by each of its keys. The sets hold only the entry, which contains the keys.
#[derive(Default)]
pub(super) struct Index {
    /// The holder of each id.
    ids: HashSet<ById>,
    /// Other entries with the same id.
    rivals: HashMap<Arc<str>, Vec<Arc<Entry>>>,
    keys: HashSet<ByKey>,
    leases: HashMap<LeaseKey, Vec<Arc<Entry>>>,
    interner: Interner,
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

/// The oldest holds an id; of two as old, the one whose key comes first.
fn rank(entry: &Entry) -> (i64, &Key) {
    (entry.identity.created, &entry.identity.key)
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
        self.interner.share(&mut identity.key.namespace);
        self.interner.share(&mut identity.domain);
    }

    /// Returns the objects whose claim changed: the holder that was displaced by an older one.
    pub(super) fn insert(&mut self, entry: &Arc<Entry>) -> Vec<Key> {
        self.keys.replace(ByKey(entry.clone()));
        if let Some(lease) = &entry.identity.lease {
            let of = (entry.identity.key.namespace.clone(), lease.clone());
            self.leases.entry(of).or_default().push(entry.clone());
        }
        let wins = self.holder(&entry.identity.id).is_none_or(|holder| rank(entry) < rank(holder));
        let loser =
            if wins { self.ids.replace(ById(entry.clone())).map(|ById(loser)| loser) } else { Some(entry.clone()) };
        let Some(loser) = loser else { return Vec::new() };
        let displaced = (loser.number != entry.number).then(|| loser.identity.key.clone());
        self.rivals.entry(entry.identity.id.clone()).or_default().push(loser);
        displaced.into_iter().collect()
    }

    /// Returns the objects whose claim changed: the next holder.
    pub(super) fn remove(&mut self, entry: &Arc<Entry>) -> Vec<Key> {
        let Identity { key, id, .. } = &entry.identity;
        if self.get(key).is_some_and(|known| known.number == entry.number) {
            self.keys.remove(key);
        }
        if let Some(lease) = &entry.identity.lease {
            let of = (key.namespace.clone(), lease.clone());
            if let Some(users) = self.leases.get_mut(&of) {
                users.retain(|user| user.number != entry.number);
                if users.is_empty() {
                    self.leases.remove(&of);
                }
            }
        }
        let rivals = self.rivals.remove(id).unwrap_or_default();
        let mut rivals: Vec<_> = rivals.into_iter().filter(|rival| rival.number != entry.number).collect();
        let mut affected = Vec::new();
        if self.holder(id).is_some_and(|holder| holder.number == entry.number) {
            match (0..rivals.len()).min_by(|a, b| rank(&rivals[*a]).cmp(&rank(&rivals[*b]))) {
                Some(next) => {
                    let next = rivals.swap_remove(next);
                    affected.push(next.identity.key.clone());
                    self.ids.replace(ById(next));
                }
                None => {
                    self.ids.remove(&**id);
                }
            }
        }
        if !rivals.is_empty() {
            self.rivals.insert(id.clone(), rivals);
        }
        affected
    }
}

/// Interns the strings that many connectors have in common: namespaces and sites.
#[derive(Default)]
struct Interner {
    known: HashSet<Arc<str>>,
    /// How many were left after the last removal of unused strings.
    left: usize,
}

impl Interner {
    fn share(&mut self, word: &mut Arc<str>) {
        if let Some(known) = self.known.get(word) {
            *word = known.clone();
            return;
        }
        // Removed when the set has doubled, so that former sites do not accumulate and the cost stays small.
        if self.known.len() > 2 * self.left + 16 {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.left = self.known.len();
        }
        self.known.insert(word.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shared_and_forgotten_when_nobody_uses_them() {
        let mut words = Interner::default();
        let (mut one, mut other): (Arc<str>, Arc<str>) = ("site".into(), "site".into());
        words.share(&mut one);
        words.share(&mut other);
        assert!(Arc::ptr_eq(&one, &other));
        for i in 0..1_000 {
            words.share(&mut Arc::from(format!("gone-{i}")));
        }
        assert!(words.known.len() < 100, "{} words for one that is used", words.known.len());
        assert!(words.known.contains("site"));
    }
}
