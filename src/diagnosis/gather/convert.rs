//! Conversions that several kinds of evidence share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Maximum length of a message of the kubelet or the scheduler, in characters.
const MAX_MESSAGE: usize = 1024;

pub(super) fn time(time: Option<&Time>) -> Option<jiff::Timestamp> {
    time.map(|time| time.0)
}

/// A message of the kubelet or the scheduler, truncated.
pub(super) fn message(text: Option<&str>) -> String {
    crate::api::clip(text.unwrap_or_default(), MAX_MESSAGE)
}
