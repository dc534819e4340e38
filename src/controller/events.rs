//! Events, each once per occurrence: the name is made from the occurrence, so that telling it again, also after a
//! restart of ours, is refused by the API server as existing already.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as KubeEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use sha2::{Digest as _, Sha256};

use crate::cluster::{CALL_TIMEOUT, CallError, within};

/// The longest note that the API server takes, in characters of UTF-8 bytes (events.k8s.io: 1 kB).
const NOTE: usize = 1024;

/// How old something may be that is told again after a restart of ours, because whoever wrote it down may have been killed
/// before he could tell. Told already, it is refused as existing; older than this, the event may have been forgotten by the
/// API server (an hour) and would come back.
pub const RETELL: SignedDuration = SignedDuration::from_mins(10);

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Good news, or neutral.
    Normal,
    /// Somebody may have to act.
    Warning,
}

/// One thing to tell about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Good news or bad.
    pub kind: Kind,
    /// The reason, from the closed list of api.md.
    pub reason: &'static str,
    /// What was done or judged.
    pub action: &'static str,
    /// What happened, in words.
    pub note: String,
    /// When it happened.
    pub at: Timestamp,
    /// What tells this occurrence from another of the same reason: the same text is the same event.
    pub occurrence: String,
}

/// Who tells: shown by `kubectl get events`.
#[derive(Clone)]
pub struct Reporter {
    /// A client that sends each request once.
    pub client: kube::Client,
    /// This process.
    pub instance: String,
}

impl Reporter {
    /// Tells `event` about `regarding`. That it was told before is success.
    ///
    /// # Errors
    /// What the API server said; the caller tries again.
    pub async fn tell(&self, regarding: &ObjectReference, event: &Event) -> Result<(), CallError> {
        // An event about a Namespace lies in it.
        let namespace = match (&regarding.namespace, regarding.kind.as_deref()) {
            (Some(namespace), _) => namespace.as_str(),
            (None, Some("Namespace")) => regarding.name.as_deref().unwrap_or("default"),
            (None, _) => "default",
        };
        let api: Api<KubeEvent> = Api::namespaced(self.client.clone(), namespace);
        let body = self.body(regarding, namespace, event);
        let what =
            format!("telling {} about {namespace}/{}", event.reason, regarding.name.as_deref().unwrap_or_default());
        let params =
            PostParams { field_manager: Some(crate::cluster::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match within(&what, CALL_TIMEOUT, api.create(&params, &body)).await {
            Ok(_) | Err(CallError::AlreadyExists) => Ok(()),
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
            note: Some(clip_bytes(note, NOTE)),
            type_: Some(
                match kind {
                    Kind::Normal => "Normal",
                    Kind::Warning => "Warning",
                }
                .to_owned(),
            ),
            event_time: Some(MicroTime(*at)),
            // The API server wants both namespaces the same, also where what it is about has none: a Namespace.
            regarding: Some(ObjectReference { namespace: Some(namespace.to_owned()), ..regarding.clone() }),
            reporting_controller: Some("vigie.dev/operator".to_owned()),
            // The API server takes 128 characters.
            reporting_instance: Some(self.instance.chars().take(128).collect()),
            ..KubeEvent::default()
        }
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
