//! Reads the status of the objects from the API server. It is read as plain JSON, so that an object of a newer or older
//! operator is shown as far as its fields are known.

use anyhow::Context;
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::kind::ListedKind;
use crate::cluster::ask;

/// Objects per request, as kubectl.
const PAGE: u32 = 500;
/// The annotation that pauses restarts until the time in its value (`docs/design/api.md`, Annotations).
const PAUSED_UNTIL: &str = "vigie.dev/paused-until";

/// Reads the objects of a namespace or of all namespaces, sorted, or the one of that name.
///
/// # Errors
/// When the API server cannot be read, or does not know the kind.
pub(super) async fn read<V: ListedKind>(
    client: &Client,
    namespace: Option<&str>,
    name: Option<&str>,
) -> anyhow::Result<Vec<V>> {
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &V::resource()),
        None => Api::all_with(client.clone(), &V::resource()),
    };
    let mut params = ListParams::default().limit(PAGE);
    if let Some(name) = name {
        params = params.fields(&format!("metadata.name={name}"));
    }
    let now = Timestamp::now();
    let mut views = Vec::new();
    loop {
        let list = async {
            match api.list(&params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                other => other.map(Some),
            }
        };
        let page = ask(&format!("listing {}.vigie.dev", V::PLURAL), list).await?;
        let missing = || format!("the cluster knows no {}.vigie.dev: are vigie's CRDs installed?", V::PLURAL);
        let page = page.with_context(missing)?;
        views.extend(page.items.iter().map(|object| V::of(object, now)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    views.sort_unstable_by(|a: &V, b| a.key().cmp(&b.key()));
    Ok(views)
}

/// The text at `pointer`, if there is one.
pub(super) fn text(json: &Value, pointer: &str) -> Option<String> {
    word(json.pointer(pointer))
}

/// A value of a closed set; a value that this version does not know counts as missing.
pub(super) fn word<T: std::str::FromStr>(value: Option<&Value>) -> Option<T> {
    value?.as_str()?.parse().ok()
}

/// One field of the condition of this type.
pub(super) fn condition<'a>(json: &'a Value, type_: &str, field: &str) -> Option<&'a Value> {
    let conditions = json.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == type_)?.get(field)
}

/// The number of restarts of the workload by vigie.
pub(super) fn restarts(json: &Value) -> i64 {
    json.pointer("/status/remediation/restarts").and_then(Value::as_i64).unwrap_or(0)
}

/// Whether the spec or the annotation of the object pauses it. The annotation of the Namespace is not read.
pub(super) fn paused(object: &DynamicObject, now: Timestamp) -> bool {
    let spec = object.data.pointer("/spec/paused").filter(|paused| !paused.is_null());
    let by_spec = spec.is_some_and(|paused| word(paused.get("until")).is_none_or(|until: Timestamp| now < until));
    let until = object.annotations().get(PAUSED_UNTIL).and_then(|until| until.parse::<Timestamp>().ok());
    by_spec || until.is_some_and(|until| now < until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(json: Value) -> DynamicObject {
        serde_json::from_value(json).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_pause_ends_at_its_time() {
        let with = |spec: Value, annotation: &str| {
            object(json!({
                "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector",
                "metadata": {"name": "e", "annotations": {PAUSED_UNTIL: annotation}}, "spec": spec,
            }))
        };
        let now = at("2026-11-22T12:00:00Z");
        assert!(paused(&with(json!({"paused": {"by": "me", "reason": "work"}}), ""), now));
        assert!(!paused(&with(json!({"paused": {"until": "2026-11-22T12:00:00Z"}}), ""), now));
        assert!(paused(&with(json!({}), "2026-11-22T12:00:01Z"), now));
        assert!(!paused(&with(json!({}), "2026-11-22T11:00:00Z"), now));
    }
}
