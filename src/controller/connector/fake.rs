//! What unit tests of this room begin with: a leader over an API server in memory, and objects.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};

use super::reconcile::{CALLS_IN_FLIGHT, Context};
use super::state::ReconcileStates;
use super::watch::Guarded;
use crate::api::Connector;
use crate::cluster::StatusWriter;
use crate::cluster::fake::Fake;
use crate::controller::events::Reporter;
use crate::controller::remediation::{Census, Remediator};
use crate::controller::unreadable::Unreadable;
use crate::heartbeat::credentials::Digest;
use crate::heartbeat::listening::Role;
use crate::heartbeat::registry::{Notice, Registry};
use crate::leadership::{Leadership, Standing};
use crate::metrics::Metrics;
use crate::probe::{Policy, Prober};
use crate::remediation::Limits;
use crate::time::Clock;

/// What is to be kept while a [`Context`] is used.
pub(super) type Kept = (watch::Sender<Leadership>, mpsc::UnboundedReceiver<Notice>);

/// The context of a leader that listens.
pub(super) fn leader(fake: &Fake) -> (Context, Kept) {
    let clock = Clock::default();
    let (registry, told) = Registry::new(clock, &[7; 32]);
    let now = clock.now();
    registry
        .listening
        .update(now, |inputs| (inputs.role, inputs.synced, inputs.port_open) = (Role::Leader, true, true));
    let write_until = now + Duration::from_secs(3600);
    let leads =
        Leadership { standing: Standing::Leader, epoch: 1, write_until, confirmed: true, ..Leadership::follower() };
    let (sender, leadership) = watch::channel(leads);
    let metrics = Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default()));
    let context = Context {
        registry: Arc::new(registry),
        leadership: leadership.clone(),
        writer: StatusWriter::new(clock, metrics.clone()),
        client: fake.client(),
        reporter: Reporter { client: fake.client(), instance: "test".to_owned() },
        sites: Arc::default(),
        remedies: Arc::new(Remediator::new(
            fake.client(),
            clock,
            metrics.clone(),
            (Limits::default(), Census::new(Limits::default(), 0, leadership.clone(), clock)),
            None,
        )),
        prober: Arc::new(Prober::new(Policy::default())),
        desks: ReconcileStates::default(),
        metrics,
        public_url: None,
        clock,
        unreadable: Unreadable::new(fake.client(), leadership, clock),
        calls: Semaphore::new(CALLS_IN_FLIGHT),
    };
    (context, (sender, told))
}

/// A Connector in the namespace `edge`, whose token is its name and has been delivered.
pub(super) fn connector(name: &str, uid: &str, spec: Value, mut status: Value) -> Connector {
    status["token"] = json!({ "generation": 1, "hashes": [{ "generation": 1, "sha256": Digest::of(name).to_hex() }] });
    let delivered = json!({ "type": "Provisioned", "status": "True", "reason": "Provisioned", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    status["conditions"] = json!([delivered]);
    let meta = json!({ "name": name, "namespace": "edge", "uid": uid, "resourceVersion": "1" });
    let object = json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": spec, "status": status });
    serde_json::from_value(object).unwrap()
}

/// As a watch brings it.
pub(super) fn guarded(connector: &Connector) -> Guarded {
    serde_json::from_value(serde_json::to_value(connector).unwrap()).unwrap()
}

/// One whose stored form cannot be read.
pub(super) fn unreadable(name: &str) -> Guarded {
    let meta = json!({ "name": name, "namespace": "edge", "uid": name });
    let bad =
        json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": { "token": 7 } });
    let bad: Guarded = serde_json::from_value(bad).unwrap();
    assert!(bad.0.is_err());
    bad
}

/// A beat of `name`.
pub(super) fn beat(registry: &Registry, name: &str) {
    use crate::heartbeat::payload::parse;
    use crate::heartbeat::routes::{HeartbeatSink as _, Reply};
    let body = json!({ "connector_id": format!("edge/{name}"), "token": name }).to_string();
    let reply = registry.hear(&parse(body.as_bytes(), None).unwrap(), [192, 0, 2, 1].into());
    assert!(matches!(reply, Reply::Heard { .. }), "{reply:?}");
}
