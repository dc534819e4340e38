//! Warning events as evidence, and the events that a container is killed.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;

use super::convert::{message, time};
use crate::diagnosis::evidence::Warning;

/// Older events are ignored: they do not explain a present failure. The API server keeps events for the same time by
/// default.
const RECENT: SignedDuration = SignedDuration::from_hours(1);
/// Maximum number of warnings that are kept.
const MAX: usize = 50;

/// The kubelet's event that it kills a container, with the reason in its note: an event of type Normal.
pub(super) const KILLING: &str = "Killing";

/// The recent warnings among `events`, and why containers were killed, the newest first.
pub(super) fn warnings(events: &[Event], now: Timestamp) -> Vec<Warning> {
    let is_recent = |warning: &Warning| warning.at.is_none_or(|at| now.duration_since(at) <= RECENT);
    let is_kept =
        |event: &&Event| event.type_.as_deref() == Some("Warning") || event.reason.as_deref() == Some(KILLING);
    let mut warnings: Vec<Warning> = events.iter().filter(is_kept).map(warning).filter(is_recent).collect();
    warnings.sort_by_key(|warning| std::cmp::Reverse(warning.at));
    warnings.truncate(MAX);
    warnings
}

/// Older clients set `count`, newer ones a series.
fn warning(event: &Event) -> Warning {
    let about = &event.involved_object;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let series = event.series.as_ref();
    let micro = |time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>| time.map(|time| time.0);
    let at = [
        micro(series.and_then(|series| series.last_observed_time.as_ref())),
        time(event.last_timestamp.as_ref()),
        micro(event.event_time.as_ref()),
        time(event.metadata.creation_timestamp.as_ref()),
    ];
    Warning {
        reason: part(&event.reason),
        about: format!("{}/{}", part(&about.kind), part(&about.name)),
        container: about.field_path.as_deref().and_then(container),
        note: message(event.message.as_deref()),
        at: at.into_iter().flatten().next(),
        count: series.and_then(|series| series.count).or(event.count).unwrap_or(1),
    }
}

/// The container in a field path: `spec.containers{app}`.
fn container(field_path: &str) -> Option<String> {
    let (_, name) = field_path.strip_suffix('}')?.split_once('{')?;
    Some(name.to_owned())
}
