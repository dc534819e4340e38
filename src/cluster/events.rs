//! Publishes Kubernetes events, each occurrence once. The event's name is derived from the occurrence, so the API server
//! refuses a second publication as already existing, also after a restart of the operator.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as KubeEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use sha2::{Digest as _, Sha256};

use super::{CALL_TIMEOUT, CallError, FIELD_MANAGER, within};
use crate::api::printable;

/// The longest note that the API server accepts, in bytes of UTF-8 (events.k8s.io: 1 kB).
const NOTE: usize = 1024;

/// The oldest occurrence that is published again after a restart: the previous process may have been killed between its
/// write of the status and its event. An event that was published is refused as already existing. The API server deletes
/// events after an hour; an occurrence that old would be published twice.
pub const REPUBLISH_WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// The type of an event, as Kubernetes defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Good news, or neutral information.
    Normal,
    /// A person may have to act.
    Warning,
}

/// One event about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Normal or Warning.
    pub kind: EventType,
    /// The reason, from the closed list of `docs/design/api.md`.
    pub reason: &'static str,
    /// The action that the operator took: `Judge` for a verdict.
    pub action: &'static str,
    /// The message for people.
    pub note: String,
    /// When it happened.
    pub at: Timestamp,
    /// Identifies the occurrence among those of the same reason: equal text means the same event.
    pub occurrence: String,
}

/// Publishes events under the name of this process, which `kubectl get events` shows.
#[derive(Clone)]
pub struct Reporter {
    /// A client that sends each request once.
    pub client: kube::Client,
    /// The name of this process, `reportingInstance` of its events.
    pub instance: String,
}

impl Reporter {
    /// Publishes `event` about `regarding`. An event that exists already counts as published.
    ///
    /// An event that the API server refuses (403, 404, 422) is logged and dropped: a namespace that is being deleted, or a
    /// missing right, refuses it again and again, and an event is news only for a while.
    ///
    /// # Errors
    /// The error of the API server; the caller tries again, as [`super::wait_after`] says.
    pub async fn publish(&self, regarding: &ObjectReference, event: &Event) -> Result<(), CallError> {
        // An event about a Namespace is created in that Namespace.
        let namespace = match (&regarding.namespace, regarding.kind.as_deref()) {
            (Some(namespace), _) => namespace.as_str(),
            (None, Some("Namespace")) => regarding.name.as_deref().unwrap_or("default"),
            (None, _) => "default",
        };
        let api: Api<KubeEvent> = Api::namespaced(self.client.clone(), namespace);
        let body = self.body(regarding, namespace, event);
        let what =
            format!("publishing {} about {namespace}/{}", event.reason, regarding.name.as_deref().unwrap_or_default());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match within(&what, CALL_TIMEOUT, api.create(&params, &body)).await {
            Ok(_) | Err(CallError::AlreadyExists) => Ok(()),
            Err(error) if error.is_refusal() => {
                let (reason, name) = (event.reason, regarding.name.as_deref().unwrap_or_default());
                tracing::warn!(%namespace, name, reason, %error, "an event was refused; it is not published again");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn body(&self, regarding: &ObjectReference, namespace: &str, event: &Event) -> KubeEvent {
        let Event { kind, reason, action, note, at, occurrence } = event;
        KubeEvent {
            metadata: ObjectMeta {
                name: Some(name(regarding, occurrence)),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            action: Some((*action).to_owned()),
            reason: Some((*reason).to_owned()),
            note: Some(clip_bytes(&printable(note), NOTE)),
            type_: Some(
                match kind {
                    EventType::Normal => "Normal",
                    EventType::Warning => "Warning",
                }
                .to_owned(),
            ),
            event_time: Some(MicroTime(*at)),
            // The API server requires both namespaces to be equal, also for a cluster-scoped object such as a Namespace.
            regarding: Some(ObjectReference { namespace: Some(namespace.to_owned()), ..regarding.clone() }),
            reporting_controller: Some("vigie.dev/operator".to_owned()),
            // The API server accepts 128 characters.
            reporting_instance: Some(self.instance.chars().take(128).collect()),
            ..KubeEvent::default()
        }
    }
}

/// A reference to a Namespace, for an event about all objects in it.
pub fn namespace_reference(namespace: impl Into<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Namespace".to_owned()),
        name: Some(namespace.into()),
        ..ObjectReference::default()
    }
}

fn name(regarding: &ObjectReference, occurrence: &str) -> String {
    let mut hash = Sha256::new();
    for part in [regarding.uid.as_deref(), regarding.name.as_deref(), Some(occurrence)] {
        hash.update(part.unwrap_or_default().as_bytes());
        hash.update([0]);
    }
    let mut name = regarding.name.clone().unwrap_or_default();
    name.push('.');
    for byte in &hash.finalize()[..8] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn clip_bytes(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_occurrence_has_the_same_name_and_another_has_another() {
        let of = |uid: &str, occurrence: &str| {
            let regarding =
                ObjectReference { name: Some("paris".into()), uid: Some(uid.into()), ..ObjectReference::default() };
            name(&regarding, occurrence)
        };
        assert_eq!(of("1", "Offline/t0"), of("1", "Offline/t0"));
        assert_ne!(of("1", "Offline/t0"), of("1", "Offline/t1"));
        assert_ne!(of("1", "Offline/t0"), of("2", "Offline/t0"));
        assert!(of("1", "Offline/t0").starts_with("paris."));
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(clip_bytes(&"é".repeat(1000), 1023).len(), 1022);
        assert_eq!(clip_bytes("short", 1024), "short");
    }
}
