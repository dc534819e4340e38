//! Requests the reconcile of one object from the controller of its scope.

use std::collections::HashMap;

use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;

use crate::api::Key;

/// An object that may be unreadable: one bad object must not fail the whole list.
pub type Guarded<K> = DeserializeGuard<K>;

/// The receiving end of the requests of one scope.
pub type ReconcileRequests = mpsc::UnboundedReceiver<Key>;

/// A namespace, or all of them, and the requests for it.
pub type Scope = (Option<String>, ReconcileRequests);

/// Requests the reconcile of one object from the controller of its scope.
#[derive(Clone)]
pub struct ReconcileTrigger {
    all: Option<mpsc::UnboundedSender<Key>>,
    by_namespace: HashMap<String, mpsc::UnboundedSender<Key>>,
}

impl ReconcileTrigger {
    /// A sender for each scope, and the receiving ends in the order of the scopes. No namespaces: one scope for all.
    pub fn new(namespaces: &[String]) -> (Self, Vec<Scope>) {
        let mut trigger = Self { all: None, by_namespace: HashMap::new() };
        if namespaces.is_empty() {
            let (sender, receiver) = mpsc::unbounded_channel();
            trigger.all = Some(sender);
            return (trigger, vec![(None, receiver)]);
        }
        let mut ends = Vec::new();
        for namespace in namespaces {
            let (sender, receiver) = mpsc::unbounded_channel();
            trigger.by_namespace.insert(namespace.clone(), sender);
            ends.push((Some(namespace.clone()), receiver));
        }
        (trigger, ends)
    }

    /// Requests the reconcile of `key`.
    pub fn wake(&self, key: &Key) {
        if let Some(sender) = self.all.as_ref().or_else(|| self.by_namespace.get(&*key.namespace)) {
            // The controller is gone only while the process ends.
            let _ = sender.send(key.clone());
        }
    }
}

/// The reference by which a store knows an object.
pub fn reference<K: Resource<DynamicType = ()>>(key: &Key) -> ObjectRef<Guarded<K>> {
    ObjectRef::new(&key.name).within(&key.namespace)
}
