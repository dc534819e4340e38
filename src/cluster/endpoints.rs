//! Watches the endpoints of the heartbeat Service. In a cluster, a replica is reachable when it is a ready endpoint.

use std::collections::HashMap;

use super::watch;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use tokio_util::sync::CancellationToken;

/// Watches the EndpointSlices of `service` until `stop`, and reports whether one of them has a ready endpoint whose pod name
/// `is_wanted`. The last report stands while the API server is unavailable.
pub async fn follow(
    api: Api<EndpointSlice>,
    service: &str,
    is_wanted: impl Fn(&str) -> bool,
    report: impl Fn(bool),
    stop: CancellationToken,
) {
    let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
    let mut slices: HashMap<String, bool> = HashMap::new();
    let mut listed: HashMap<String, bool> = HashMap::new();
    let mut failing = false;
    let mut events = watch(api, config).boxed();
    while let Some(event) = stop.run_until_cancelled(events.try_next()).await {
        match event {
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(slice))) => drop(listed.insert(slice.name_any(), is_ready(&slice, &is_wanted))),
            Ok(Some(Event::InitDone)) => slices = std::mem::take(&mut listed),
            Ok(Some(Event::Apply(slice))) => drop(slices.insert(slice.name_any(), is_ready(&slice, &is_wanted))),
            Ok(Some(Event::Delete(slice))) => drop(slices.remove(&slice.name_any())),
            Ok(None) => return,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(service, %error, "watching the endpoints of the heartbeat Service failed; trying again until it works");
                }
                continue;
            }
        }
        failing = false;
        report(slices.values().any(|ready| *ready));
    }
}

fn is_ready(slice: &EndpointSlice, is_wanted: impl Fn(&str) -> bool) -> bool {
    slice.endpoints.iter().any(|endpoint| {
        let name = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
        // A missing condition means ready (discovery/v1).
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        name.is_some_and(&is_wanted) && is_ready
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(
            json!({ "addressType": "IPv4", "metadata": { "name": "vigie-1" }, "endpoints": endpoints }),
        )
        .expect("a slice")
    }

    #[test]
    fn only_our_own_ready_endpoint_counts() {
        let of = |name: &str, ready| json!({ "addresses": ["192.0.2.1"], "conditions": { "ready": ready }, "targetRef": { "kind": "Pod", "name": name } });
        assert!(is_ready(&slice(json!([of("other", true), of("me", true)])), |name: &str| name == "me"));
        assert!(!is_ready(&slice(json!([of("other", true), of("me", false)])), |name: &str| name == "me"));
        assert!(!is_ready(&slice(json!([of("other", true)])), |name: &str| name == "me"));
        assert!(!is_ready(&slice(json!([])), |name: &str| name == "me"));
        let unsaid = json!([{ "addresses": ["192.0.2.1"], "targetRef": { "kind": "Pod", "name": "me" } }]);
        assert!(is_ready(&slice(unsaid), |name: &str| name == "me"));
    }
}
