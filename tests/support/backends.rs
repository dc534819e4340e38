//! The MonitoredBackends of a world.

use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};

use super::{World, eventually, text};

impl World {
    /// The MonitoredBackends of this namespace, as plain JSON.
    pub(crate) fn backends(&self) -> Api<DynamicObject> {
        self.backends_of(&self.client)
    }

    /// The same, with the rights of `client`.
    pub(crate) fn backends_of(&self, client: &kube::Client) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("vigie.dev", "v1alpha1", "MonitoredBackend");
        let kind = ApiResource::from_gvk_with_plural(&kind, "monitoredbackends");
        Api::namespaced_with(client.clone(), &self.ns, &kind)
    }

    pub(crate) async fn backend(&self, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend", "metadata": {"name": name}, "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let made = self.backends().create(&PostParams::default(), &object).await;
        made.unwrap_or_else(|error| panic!("MonitoredBackend {name} is not admitted: {error}"));
    }

    /// Reads a whole MonitoredBackend.
    pub(crate) async fn get_backend(&self, name: &str) -> Value {
        let object = self.backends().get(name).await.unwrap_or_else(|error| panic!("reading {name}: {error}"));
        serde_json::to_value(object).unwrap()
    }

    /// Waits until `wanted` is true for a MonitoredBackend.
    pub(crate) async fn sees_backend(
        &self,
        within: Duration,
        name: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(within, &format!("{name}: {what}"), async || {
            let found = self.backends().get(name).await.map_err(|error| error.to_string())?;
            let found = serde_json::to_value(found).unwrap();
            if wanted(&found) { Ok(found) } else { Err(format!("{:#}", found["status"])) }
        })
        .await
    }

    /// Waits until a MonitoredBackend is in this state, for this cause; an empty cause means none.
    pub(crate) async fn backend_is(&self, within: Duration, name: &str, state: &str, cause: &str) -> Value {
        let wanted =
            |found: &Value| text(found, "/status/state") == state && text(found, "/status/diagnosis/cause") == cause;
        self.sees_backend(within, name, &format!("{state} {cause}"), wanted).await
    }
}

/// `status` and `reason` of a condition; empty when it is absent.
pub(crate) fn condition<'a>(of: &'a Value, type_: &str) -> (&'a str, &'a str) {
    let all = of.pointer("/status/conditions").and_then(Value::as_array);
    let found = all.into_iter().flatten().find(|condition| text(condition, "/type") == type_);
    found.map_or(("", ""), |condition| (text(condition, "/status"), text(condition, "/reason")))
}

/// `spec` of a backend that is probed every two seconds, and judged after two failures.
pub(crate) fn probed(url: &str, probe: Value) -> Value {
    let mut whole = json!({"intervalSeconds": 2, "timeoutSeconds": 1, "failureThreshold": 2});
    for (key, value) in probe.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    json!({"target": {"url": url}, "probe": whole})
}
