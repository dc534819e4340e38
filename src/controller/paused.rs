//! Whether the remediation of an object is paused.

use jiff::Timestamp;
use kube::core::ObjectMeta;

use crate::api::{AgentPause, Paused};

/// The annotation that pauses the remediation of an object until a time.
const PAUSED_UNTIL: &str = "vigie.dev/paused-until";

/// Whether the remediation of an object is paused at `now`, by its spec or by its annotation.
pub fn is_paused(meta: &ObjectMeta, spec: Option<&Paused>, now: Timestamp) -> bool {
    in_words(meta, spec, now).is_some()
}

/// The pause of the remediation of an object in words: by whom, why and until when; `None` when there is none at `now`.
pub fn in_words(meta: &ObjectMeta, spec: Option<&Paused>, now: Timestamp) -> Option<String> {
    let is_on = |paused: &&Paused| paused.until.as_ref().is_none_or(|until| until.0 > now);
    if let Some(Paused { by, reason, until }) = spec.filter(is_on) {
        let until =
            until.as_ref().map_or("until spec.paused is removed".to_owned(), |until| format!("until {}", until.0));
        return Some(format!("paused by {by} ({reason}) {until}"));
    }
    by_annotation(meta, now).map(|until| format!("paused by the annotation {PAUSED_UNTIL} until {until}"))
}

/// Until when the annotation pauses the remediation; `None` when there is none, or it is over at `now`.
pub fn by_annotation(meta: &ObjectMeta, now: Timestamp) -> Option<Timestamp> {
    let until: Timestamp = meta.annotations.as_ref()?.get(PAUSED_UNTIL)?.parse().ok()?;
    (until > now).then_some(until)
}

/// The pause of restarts on the host of an agent in words.
pub fn on_host(pause: &AgentPause) -> String {
    let AgentPause { by, reason, seconds: _ } = pause;
    let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("restarts are paused on the host of its agent{by}{reason}")
}
