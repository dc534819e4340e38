//! Whether remedies are paused.

use jiff::Timestamp;
use kube::core::ObjectMeta;

use crate::api::Paused;

/// The annotation that pauses remedies until a time.
const PAUSED_UNTIL: &str = "vigie.dev/paused-until";

/// Whether remedies of an object are paused at `now`, by its spec or by its annotation.
pub fn is_paused(meta: &ObjectMeta, spec: Option<&Paused>, now: Timestamp) -> bool {
    let by_spec = |paused: &Paused| paused.until.as_ref().is_none_or(|until| until.0 > now);
    let by_annotation = || {
        let until = meta.annotations.as_ref()?.get(PAUSED_UNTIL)?;
        until.parse::<Timestamp>().ok().map(|until| until > now)
    };
    spec.is_some_and(by_spec) || by_annotation().unwrap_or(false)
}
