//! The watch of MonitoredBackends, tapped: entries, turns and notes come and go with the objects.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kube::Resource as _;
use kube::api::Api;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};

use crate::api::{Key, MonitoredBackend};
use crate::controller::runtime::wake;
use crate::controller::runtime::watch_log::WatchErrorLog;
use crate::monitor::context::{Command, Context};

/// A MonitoredBackend that may be unreadable.
pub type Guarded = wake::Guarded<MonitoredBackend>;

/// What the tap keeps up to date.
#[derive(Clone)]
pub struct Tap {
    /// Entries and notes.
    pub context: Arc<Context>,
    /// The one namespace that is watched; `None` = all.
    pub scope: Option<Arc<str>>,
    /// Called when all objects of this scope are known, the first time and after each relist.
    pub filled: Arc<dyn Fn() + Send + Sync>,
}

/// Watches one scope; the stream drives the store, the tap and the reconciles.
pub fn watched(
    api: Api<Guarded>,
    tap: Tap,
) -> (Store<Guarded>, impl Stream<Item = Result<Guarded, watcher::Error>> + Send + 'static) {
    let (reader, writer) = store::<Guarded>();
    let mut listed = HashSet::new();
    let mut trouble = WatchErrorLog::of(&MonitoredBackend::plural(&()));
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
                let known = self.context.backends.get(&Key::of(object.meta()));
                if let Some(backend) = known.filter(|known| Some(&known.uid) == object.meta().uid.as_ref()) {
                    self.context.forget(&backend);
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
        let Ok(backend) = &object.0 else { return };
        let context = &self.context;
        context.remedies.census.upsert_stored(backend);
        let upserted = context.backends.upsert(backend, context.clock.read());
        if let Some(before) = &upserted.removed {
            context.forget(before);
        }
        if upserted.is_new {
            context.checkpoints.add(upserted.backend.clone());
        }
        if upserted.changed {
            let _ = context.commands.send(Command::Look(upserted.backend));
        }
    }

    /// A relist tells no deletes: whoever is not in it is gone.
    fn forget_missing(&self, listed: &HashSet<Key>) {
        for backend in self.context.backends.all() {
            let ours = self.scope.as_ref().is_none_or(|namespace| *namespace == backend.key.namespace);
            if ours && !listed.contains(&backend.key) {
                self.context.forget(&backend);
            }
        }
    }
}
