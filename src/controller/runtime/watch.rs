//! The watch of one kind, with a tap: entries, timers and reconcile states come and go with the objects.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
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

/// One item of the stream that drives the reconciles.
type Watched<K> = Result<Guarded<<K as Kind>::Object>, watcher::Error>;

/// Watches one scope; the stream feeds the store, the tap and the reconciles.
pub fn watched<K: Kind>(
    api: Api<Guarded<K::Object>>,
    tap: Tap<K>,
) -> (Store<Guarded<K::Object>>, impl Stream<Item = Watched<K>> + Send + 'static) {
    let (reader, writer) = store::<Guarded<K::Object>>();
    let mut listed = HashSet::new();
    let mut errors = WatchErrorLog::of(&K::Object::plural(&()));
    let stream = watch(api, watcher::Config::default().page_size(PAGE_SIZE))
        .modify(|object| trim(object.meta_mut()))
        .reflect(writer)
        .inspect(move |event| match event {
            Ok(event) => {
                errors.recovered();
                tap.handle(event, &mut listed);
            }
            Err(error) => errors.failed(error),
        })
        .applied_objects();
    (reader, stream)
}

impl<K: Kind> Tap<K> {
    fn handle(&self, event: &Event<Guarded<K::Object>>, listed: &mut HashSet<Key>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(Key::of(object.meta()));
                self.applied(object);
            }
            Event::Apply(object) => self.applied(object),
            Event::Delete(object) => {
                // An object created again under the same name may be there already: only the deleted one is removed.
                let entry = self.kind.entry(&Key::of(object.meta()));
                if let Some(entry) = entry.filter(|entry| Some(entry.uid()) == object.meta().uid.as_deref()) {
                    self.remove(&entry);
                }
            }
            Event::InitDone => {
                self.remove_unlisted(&std::mem::take(listed));
                self.kind.runtime().remediator.census.scope_listed();
                (self.filled)();
            }
        }
    }

    fn applied(&self, object: &Guarded<K::Object>) {
        let Ok(object) = &object.0 else { return };
        // Unwind safe: the locks do not poison. A defect that one object shows must not end the watch of all.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.upsert(object))) {
            let (error, Key { namespace, name }) = (panic_text(&*panic), Key::of(object.meta()));
            self.kind.runtime().metrics.panicked(PanickedTask::Reconcile);
            tracing::error!(kind = K::Object::KIND, %namespace, %name, error, "taking over an object panicked: please report this defect; it stays as it was known");
        }
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
        for entry in self.kind.entries() {
            let is_in_scope = self.scope.as_ref().is_none_or(|namespace| *namespace == entry.key().namespace);
            if is_in_scope && !listed.contains(entry.key()) {
                self.remove(&entry);
            }
        }
    }
}

#[cfg(test)]
mod tests;
