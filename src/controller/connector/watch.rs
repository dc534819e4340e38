//! The watch of Connectors, tapped: registry, timers and notes come and go with the objects.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kube::Resource as _;
use kube::api::Api;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use tokio::sync::mpsc;

use super::deadlines::Command;
use super::reconcile::{Context, key};
use crate::api::{Connector, Key};
use crate::controller::runtime::wake;
use crate::controller::runtime::watch_log::WatchErrorLog;
use crate::heartbeat::entry::Entry;
use crate::schedule::checkpoints::Checkpoints;

/// A Connector that may be unreadable.
pub type Guarded = wake::Guarded<Connector>;

/// What the tap keeps up to date.
#[derive(Clone)]
pub struct Tap {
    /// Registry and notes.
    pub context: Arc<Context>,
    /// The deadlines.
    pub commands: mpsc::UnboundedSender<Command>,
    /// The checkpoints.
    pub checkpoints: Arc<Checkpoints<Entry>>,
    /// The one namespace that is watched; `None` = all.
    pub scope: Option<Arc<str>>,
    /// Called when all objects of this scope are known, the first time and after each relist.
    pub filled: Arc<dyn Fn() + Send + Sync>,
    /// Wakes the reconcile of an object whose claim to an id changed.
    pub wake: Arc<dyn Fn(&Key) + Send + Sync>,
}

/// Watches one scope; the stream drives the store, the tap and the reconciles.
pub fn watched(
    api: Api<Guarded>,
    tap: Tap,
) -> (Store<Guarded>, impl Stream<Item = Result<Guarded, watcher::Error>> + Send + 'static) {
    let (reader, writer) = store::<Guarded>();
    let mut listed = HashSet::new();
    let mut trouble = WatchErrorLog::of(&Connector::plural(&()));
    let stream = watch(api, watcher::Config::default())
        .backoff(crate::cluster::WatchBackoff::default())
        // Half of a stored object is who wrote which field: nobody here asks.
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .inspect(move |event| match event {
            Ok(event) => {
                trouble.over();
                tap.see(event, &mut listed);
            }
            Err(error) => trouble.say(error),
        })
        .applied_objects();
    (reader, stream)
}

impl Tap {
    fn see(&self, event: &Event<Guarded>, listed: &mut HashSet<Key>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(Key::of(object.meta()));
                self.applied(object);
            }
            Event::Apply(object) => self.applied(object),
            Event::Delete(object) => {
                // A new object of the same name may be there already: only this one goes.
                let entry = self.context.registry.get(&Key::of(object.meta()));
                if let Some(entry) = entry.filter(|entry| Some(&*entry.identity.uid) == object.meta().uid.as_deref()) {
                    self.gone(&entry);
                }
            }
            Event::InitDone => {
                self.forget_missing(&std::mem::take(listed));
                self.context.remedies.census.scope_listed();
                (self.filled)();
            }
        }
    }

    fn applied(&self, object: &Guarded) {
        let Ok(connector) = &object.0 else { return };
        let context = &self.context;
        context.remedies.census.upsert_stored(connector);
        let upserted = context.registry.upsert(connector, context.clock.read());
        if let Some(before) = upserted.removed {
            context.desks.remove(before.number);
            let _ = self.commands.send(Command::Gone(before));
        }
        for affected in &upserted.affected {
            (self.wake)(affected);
        }
        let entry = upserted.fresh.clone().or_else(|| context.registry.get(&key(connector)));
        if let Some(fresh) = upserted.fresh {
            self.checkpoints.add(fresh);
        }
        if let (true, Some(entry)) = (upserted.changed, entry) {
            let _ = self.commands.send(Command::Look(entry));
        }
    }

    fn gone(&self, entry: &Arc<Entry>) {
        for affected in self.context.registry.remove(entry) {
            (self.wake)(&affected);
        }
        self.context.desks.remove(entry.number);
        self.context.remedies.remove::<Connector>(&entry.identity.key);
        let _ = self.commands.send(Command::Gone(entry.clone()));
    }

    /// A relist tells no deletes: whoever is not in it is gone.
    fn forget_missing(&self, listed: &HashSet<Key>) {
        for entry in self.context.registry.all() {
            let ours = self.scope.as_ref().is_none_or(|namespace| *namespace == entry.identity.key.namespace);
            if ours && !listed.contains(&entry.identity.key) {
                self.gone(&entry);
            }
        }
    }
}

#[cfg(test)]
mod tests;
