//! Marks objects whose stored form cannot be read, once each; other objects are not affected.

use std::collections::HashMap;
use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams};
use kube::core::{NamespaceResourceScope, ObjectMeta};
use kube::{Client, Resource};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::watch;

use super::runtime::wake::Guarded;
use crate::api::{ConditionType, Key, Reason, Time, Truth, condition};
use crate::cluster::{CALL_TIMEOUT, CallError, FIELD_MANAGER, within};
use crate::leadership::Leadership;
use crate::time::Clock;

/// Marks objects whose stored form cannot be read.
pub struct Unreadable {
    client: Client,
    leadership: watch::Receiver<Leadership>,
    clock: Clock,
    /// The UIDs of the objects that have been marked, by kind and key, until they can be read or are deleted.
    marked: RwLock<HashMap<(String, Key), String>>,
}

impl Unreadable {
    /// No object is marked yet. `client` sends each request once.
    pub fn new(client: Client, leadership: watch::Receiver<Leadership>, clock: Clock) -> Self {
        Self { client, leadership, clock, marked: RwLock::default() }
    }

    /// Writes `Stalled/UnreadableStatus` and the state `unknown` to the object, unless that was done or this replica does
    /// not lead.
    ///
    /// # Errors
    /// The write failed.
    pub async fn mark<K>(&self, meta: &ObjectMeta, error: &str, unknown: &str) -> Result<(), CallError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let now = self.clock.read();
        if self.is_marked::<K>(meta) || self.leadership.borrow().permit(now.moment).is_none() {
            return Ok(());
        }
        let key = Key::of(meta);
        let Key { namespace, name } = &key;
        let kind = K::kind(&());
        tracing::error!(%kind, %namespace, %name, error, "its stored form cannot be read; nothing is done about it until it can");
        let message = format!("the stored status cannot be read: {error}");
        let generation = meta.generation.unwrap_or(0);
        let values = [
            (ConditionType::Ready, Truth::False),
            (ConditionType::Accepted, Truth::False),
            (ConditionType::Stalled, Truth::True),
        ];
        let conditions = values.map(|(type_, truth)| {
            let mut condition = condition(type_, truth, Reason::UnreadableStatus, message.clone(), generation);
            condition.last_transition_time = Time(now.wall);
            condition
        });
        let patch = json!({ "metadata": { "resourceVersion": meta.resource_version }, "status": { "state": unknown, "conditions": conditions } });
        let api: Api<Guarded<K>> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let what = format!("writing the status of {kind} {namespace}/{name}");
        within(&what, CALL_TIMEOUT, api.patch_status(name, &params, &Patch::Merge(patch))).await?;
        self.marked.write().insert((kind.into_owned(), key), meta.uid.clone().unwrap_or_default());
        Ok(())
    }

    /// Whether the object with this UID has been marked.
    pub fn is_marked<K: Resource<DynamicType = ()>>(&self, meta: &ObjectMeta) -> bool {
        let marked = self.marked.read();
        let uid = marked.get(&(K::kind(&()).into_owned(), Key::of(meta)));
        uid.is_some_and(|uid| *uid == *meta.uid.as_deref().unwrap_or_default())
    }

    /// Forgets the objects of a kind for which `is_over` is true: they can be read again, or were deleted.
    pub fn forget<K: Resource<DynamicType = ()>>(&self, is_over: impl Fn(&Key) -> bool) {
        // Almost always there is none, and this is called for each object.
        if self.marked.read().is_empty() {
            return;
        }
        let kind = K::kind(&());
        self.marked.write().retain(|(of, key), _| **of != *kind || !is_over(key));
    }
}
