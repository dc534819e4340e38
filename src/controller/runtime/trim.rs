//! Drops the parts of an object that the operator does not read. Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use kube::core::ObjectMeta;

/// The annotations that the operator reads begin with this.
const OWN_ANNOTATIONS: &str = "vigie.dev/";

/// The longest value of such an annotation that is kept, in bytes: a time has 30, and a longer text is as malformed when
/// it is cut.
const LONGEST_VALUE: usize = 256;

/// The key of the hash of everything that was dropped. No annotation of the API server has an empty key.
const OTHERS: &str = "";

/// Drops the metadata that the operator does not read, and that any client with the right to edit an object can make large:
/// managed fields, labels, owners, and all annotations but its own. `kubectl apply` leaves the whole object in one of them.
///
/// A hash of the labels and annotations stays, so that a change of them is still a change of the object. The API server
/// takes nothing but the status from a status write, so an object that was trimmed can be written.
pub(super) fn trim(meta: &mut ObjectMeta) {
    (meta.managed_fields, meta.owner_references, meta.finalizers) = (None, None, None);
    let mut annotations = meta.annotations.take().unwrap_or_default();
    let labels = meta.labels.take();
    let is_kept = |key: &str| key.starts_with(OWN_ANNOTATIONS) || key == OTHERS;
    let mut hasher = DefaultHasher::new();
    let mut has_others = labels.is_some();
    labels.hash(&mut hasher);
    for other in annotations.iter().filter(|(key, _)| !is_kept(key)) {
        has_others = true;
        other.hash(&mut hasher);
    }
    annotations.retain(|key, _| is_kept(key));
    for value in annotations.values_mut().filter(|value| value.len() > LONGEST_VALUE) {
        value.truncate((0..=LONGEST_VALUE).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0));
        value.shrink_to_fit();
    }
    if has_others {
        annotations.insert(OTHERS.to_owned(), format!("{:016x}", hasher.finish()));
    }
    meta.annotations = (!annotations.is_empty()).then_some(annotations);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn trimmed(meta: Value) -> ObjectMeta {
        let mut meta: ObjectMeta = serde_json::from_value(meta).unwrap();
        trim(&mut meta);
        meta
    }

    fn size(meta: &ObjectMeta) -> usize {
        serde_json::to_vec(meta).unwrap().len()
    }

    #[test]
    fn a_megabyte_of_metadata_leaves_the_own_annotations() {
        let much = "x".repeat(250_000);
        let labels: serde_json::Map<String, Value> =
            (0..5_000).map(|i| (format!("l{i}"), json!("x".repeat(60)))).collect();
        let meta = trimmed(json!({
            "name": "paris", "namespace": "edge", "uid": "u", "resourceVersion": "7", "generation": 2,
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": much, "note": much,
                "vigie.dev/paused-until": "2026-11-01T10:00:00Z", "vigie.dev/restart-requested": format!("é{much}"),
            },
            "labels": labels, "finalizers": vec![much.clone(); 4],
            "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": much}}],
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": much, "uid": "o"}],
        }));
        assert!(size(&meta) < 1_000, "{}", size(&meta));
        let annotations = meta.annotations.as_ref().unwrap();
        assert_eq!(annotations["vigie.dev/paused-until"], "2026-11-01T10:00:00Z");
        assert_eq!(annotations["vigie.dev/restart-requested"].len(), 256);
        assert_eq!(
            (meta.name.as_deref(), meta.resource_version.as_deref(), meta.generation),
            (Some("paris"), Some("7"), Some(2))
        );
    }

    #[test]
    fn a_change_of_other_annotations_and_labels_is_still_a_change() {
        let plain = trimmed(json!({"annotations": {"a": "1"}, "labels": {"l": "1"}}));
        for other in [
            json!({"annotations": {"a": "2"}, "labels": {"l": "1"}}),
            json!({"annotations": {"a": "1"}, "labels": {"l": "2"}}),
            json!({"annotations": {"a": "1"}}),
            json!({"annotations": {"a": "1", "b": ""}, "labels": {"l": "1"}}),
            json!({}),
        ] {
            assert_ne!(trimmed(other.clone()).annotations, plain.annotations, "{other}");
        }
    }

    #[test]
    fn trimming_again_changes_nothing() {
        let once = trimmed(json!({"annotations": {"a": "1", "vigie.dev/paused-until": "soon"}, "labels": {"l": "1"}}));
        let mut twice = once.clone();
        trim(&mut twice);
        assert_eq!(twice, once);
        assert_eq!(trimmed(json!({"name": "bare"})), trimmed(json!({"name": "bare", "managedFields": []})));
    }
}
