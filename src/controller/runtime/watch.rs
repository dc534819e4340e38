//! The watch of one kind, with a tap: entries, timers and reconcile states come and go with the objects.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::{Stream, StreamExt as _, stream};
use kube::Resource as _;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::{self, Event};

use super::kind::{Kind, ObjectEntry as _};
use super::trim::trim;
use super::wake::Guarded;
use super::watch_log::WatchErrorLog;
use crate::api::Key;
use crate::cluster::watch;
use crate::controller::remediation::Remediable as _;
use crate::metrics::{PanickedTask, panic_text};
use crate::schedule::checkpoints::Checkpointed as _;

/// Keeps the entries of one scope up to date.
pub struct Tap<K: Kind> {
    /// The context of the reconciles.
    pub kind: Arc<K>,
    /// The one namespace that is watched; `None` = all.
    pub scope: Option<Arc<str>>,
    /// Called when all objects of this scope are known, the first time and after each relist.
    pub filled: Arc<dyn Fn() + Send + Sync>,
}

/// The objects of one page of a list. An object may have more than a megabyte, of which [`trim`] leaves little, and a page
/// is in memory as a whole before.
const PAGE_SIZE: u32 = 100;

/// Watches one scope: keeps its store and its entries up to date, and requests the reconciles.
pub fn watched<K: Kind>(
    api: Api<Guarded<K::Object>>,
    tap: Tap<K>,
) -> (Store<Guarded<K::Object>>, impl Stream<Item = Key> + Send + 'static) {
    let events = watch(api, watcher::Config::default().page_size(PAGE_SIZE));
    requests(events.modify(|object| trim(object.meta_mut())), tap)
}

/// The store that `events` fill, and the key of each object to reconcile.
///
/// The store takes the objects of a list when the list ends. Only then are their reconciles requested: an earlier one would
/// find the object of before, or none, and no later event would come.
fn requests<K: Kind>(
    events: impl Stream<Item = Result<Event<Guarded<K::Object>>, watcher::Error>> + Send + 'static,
    tap: Tap<K>,
) -> (Store<Guarded<K::Object>>, impl Stream<Item = Key> + Send + 'static) {
    let (reader, writer) = store::<Guarded<K::Object>>();
    let mut listed = HashSet::new();
    let mut errors = WatchErrorLog::of(&K::Object::plural(&()));
    let requests = events.reflect(writer).flat_map(move |event| {
        let requested = match &event {
            Ok(event) => {
                errors.recovered();
                tap.handle(event, &mut listed)
            }
            Err(error) => {
                errors.failed(error);
                Vec::new()
            }
        };
        stream::iter(requested)
    });
    (reader, requests)
}

impl<K: Kind> Tap<K> {
    /// Updates the entries; returns the keys of the objects to reconcile.
    fn handle(&self, event: &Event<Guarded<K::Object>>, listed: &mut HashSet<Key>) -> Vec<Key> {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(Key::of(object.meta()));
                self.applied(object);
            }
            Event::Apply(object) => {
                self.applied(object);
                return vec![Key::of(object.meta())];
            }
            Event::Delete(object) => {
                self.forget_marks(|key| *key == Key::of(object.meta()));
                // An object created again under the same name may be there already: only the deleted one is removed.
                let entry = self.kind.entry(&Key::of(object.meta()));
                if let Some(entry) =
                    entry.filter(|entry| object.meta().uid.as_deref().is_some_and(|uid| entry.has_uid(uid)))
                {
                    self.remove(&entry);
                }
            }
            Event::InitDone => {
                let listed = std::mem::take(listed);
                self.remove_unlisted(&listed);
                self.kind.runtime().remediator.census.scope_listed();
                (self.filled)();
                return listed.into_iter().collect();
            }
        }
        Vec::new()
    }

    fn applied(&self, object: &Guarded<K::Object>) {
        let Ok(object) = &object.0 else { return };
        self.forget_marks(|key| *key == Key::of(object.meta()));
        // Unwind safe: the locks do not poison. A defect that one object shows must not end the watch of all.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.upsert(object))) {
            let (error, Key { namespace, name }) = (panic_text(&*panic), Key::of(object.meta()));
            self.kind.runtime().metrics.panicked(PanickedTask::Reconcile);
            tracing::error!(kind = K::Object::KIND, %namespace, %name, error, "taking over an object panicked: please report this defect; it stays as it was known");
        }
    }

    fn forget_marks(&self, is_over: impl Fn(&Key) -> bool) {
        self.kind.runtime().unreadable.forget::<K::Object>(is_over);
    }

    fn upsert(&self, object: &K::Object) {
        if let Some(predecessor) = self.kind.upsert(object) {
            self.forget(&predecessor);
        }
        self.kind.runtime().remediator.census.upsert_stored(object);
    }

    fn remove(&self, entry: &Arc<K::Entry>) {
        self.kind.remove(entry);
        self.forget(entry);
    }

    fn forget(&self, entry: &K::Entry) {
        self.kind.runtime().forget(entry.number());
        self.kind.runtime().remediator.remove::<K::Object>(entry.key());
    }

    /// A relist reports no deletes: an object that is not in it was deleted.
    fn remove_unlisted(&self, listed: &HashSet<Key>) {
        let is_gone = |key: &Key| {
            let is_in_scope = self.scope.as_ref().is_none_or(|namespace| *namespace == key.namespace);
            is_in_scope && !listed.contains(key)
        };
        self.forget_marks(is_gone);
        for entry in self.kind.entries() {
            if is_gone(entry.key()) {
                self.remove(&entry);
            }
        }
    }
}

#[cfg(test)]
mod tests;
