//! Fixtures for unit tests: the context of a leader, and an object.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::context::Context;
use crate::controller::runtime::wake::ReconcileTrigger;
use crate::controller::runtime::{Runtime, Shared};
use crate::heartbeat::registry::Registry;
use crate::monitor::context::ProbeSettings;
use crate::probe::Policy;
use crate::schedule::checkpoints::Checkpoints;

/// A context without backends.
pub(in crate::controller) fn context(shared: Arc<Shared>) -> Arc<Context> {
    let checkpoints = Arc::new(Checkpoints::new(Duration::from_secs(60)));
    let settings = ProbeSettings { policy: Policy::default(), probe_concurrency: 2, prometheus_url: None, pod: None };
    let (registry, _) = Registry::new(shared.clock, &[7; 32]);
    Context::new(Runtime::new(shared, checkpoints, ReconcileTrigger::new(&[]).0), settings, Arc::new(registry)).0
}

/// A MonitoredBackend `shop` in the namespace `apps`, which is Down after one failed probe.
pub(in crate::controller) fn backend() -> Value {
    let meta = json!({ "name": "shop", "namespace": "apps", "uid": "u1", "generation": 1 });
    let spec = json!({ "target": { "url": "http://192.0.2.1:8080/metrics" }, "probe": { "failureThreshold": 1 } });
    json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend", "metadata": meta, "spec": spec })
}
