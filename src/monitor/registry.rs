//! The registry of backends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::entry::Backend;
use super::live::without_status;
use crate::api::{Key, MonitoredBackend};
use crate::time::Now;

/// The registry of all backends.
#[derive(Debug, Default)]
pub struct Backends {
    map: RwLock<HashMap<Key, Arc<Backend>>>,
    count: AtomicU64,
}

/// The result of applying an object.
#[derive(Debug)]
pub struct Upserted {
    /// The entry of the object.
    pub backend: Arc<Backend>,
    /// The entry was created.
    pub is_new: bool,
    /// The spec changed, or the entry is new.
    pub changed: bool,
    /// The entry of a deleted object of the same name, which this one replaces.
    pub removed: Option<Arc<Backend>>,
}

impl Backends {
    /// Creates or updates the entry of an object that was applied.
    pub fn upsert(&self, object: &MonitoredBackend, now: Now) -> Upserted {
        let key = Key::of(&object.metadata);
        let known = self.get(&key);
        if let Some(backend) = known.clone().filter(|known| Some(&known.uid) == object.metadata.uid.as_ref()) {
            let changed = backend.with(|live| {
                let changed = live.object.spec != object.spec;
                if changed {
                    (live.resolved, live.refused, live.unresolved) = (None, None, None);
                    live.replicas.clear();
                    live.investigate_from(now.moment);
                }
                live.object = Arc::new(without_status(object));
                changed
            });
            return Upserted { backend, is_new: false, changed, removed: None };
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let backend = Arc::new(Backend::new(number, object, now));
        self.map.write().insert(key, backend.clone());
        Upserted { backend, is_new: true, changed: true, removed: known }
    }

    /// Removes an entry, unless another one has replaced it.
    pub fn remove(&self, backend: &Backend) {
        let mut map = self.map.write();
        if map.get(&backend.key).is_some_and(|known| known.number == backend.number) {
            map.remove(&backend.key);
        }
    }

    /// The entry of one object.
    pub fn get(&self, key: &Key) -> Option<Arc<Backend>> {
        self.map.read().get(key).cloned()
    }

    /// Whether this very entry is still in the registry.
    pub fn has(&self, backend: &Backend) -> bool {
        self.get(&backend.key).is_some_and(|known| known.number == backend.number)
    }

    /// All entries, in no particular order.
    pub fn all(&self) -> Vec<Arc<Backend>> {
        self.map.read().values().cloned().collect()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.map.read().len()
    }

    /// Whether the registry is empty.
    pub fn is_empty(&self) -> bool {
        self.map.read().is_empty()
    }
}
