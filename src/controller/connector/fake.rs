//! Fixtures for unit tests: a leader with an API server in memory, and objects.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::deadlines::Command;
use super::reconcile::Context;
use crate::api::{Condition, ConditionType, ConditionValue, Connector, RemediationStatus};
use crate::cluster::StatusWriter;
use crate::cluster::events::Reporter;
use crate::cluster::fake::Fake;
use crate::controller::remediation::{Census, Remediator};
use crate::controller::runtime::wake::{self, ReconcileTrigger, Scope};
use crate::controller::runtime::{Runtime, Shared};
use crate::controller::unreadable::Unreadable;
use crate::heartbeat::credentials::Digest;
use crate::heartbeat::registry::{Notice, Registry};
use crate::leadership::{Leadership, Role};
use crate::metrics::Metrics;
use crate::probe::{Policy, Prober};
use crate::remediation::Limits;
use crate::remediation::attempt::StepResult;
use crate::schedule::Watchdog;
use crate::schedule::checkpoints::Checkpoints;
use crate::time::Clock;

/// A Connector as a watch delivers it.
pub(in crate::controller) type Guarded = wake::Guarded<Connector>;

/// The other ends of the channels of a [`Context`]; they must live as long as it.
pub(in crate::controller) struct Ends {
    pub(in crate::controller) _leadership: watch::Sender<Leadership>,
    pub(in crate::controller) _notices: mpsc::UnboundedReceiver<Notice>,
    pub(in crate::controller) commands: mpsc::UnboundedReceiver<Command>,
    pub(in crate::controller) scopes: Vec<Scope>,
}

/// The shared parts of a leader.
pub(in crate::controller) fn shared(fake: &Fake) -> (Arc<Shared>, watch::Sender<Leadership>) {
    let clock = Clock::default();
    let write_until = clock.now() + Duration::from_secs(3600);
    let leads = Leadership { role: Role::Leader, epoch: 1, write_until, ..Leadership::follower() };
    let (sender, leadership) = watch::channel(leads);
    let metrics = Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default()));
    let census = Census::new(Limits::default(), 0, leadership.clone(), clock);
    let shared = Shared {
        client: fake.client(),
        writer: StatusWriter::new(clock, metrics.clone()),
        reporter: Reporter { client: fake.client(), instance: "test".to_owned() },
        leadership: leadership.clone(),
        clock,
        metrics: metrics.clone(),
        watchdog: Watchdog::new(clock),
        remediator: Arc::new(Remediator::new(fake.client(), clock, metrics, Limits::default(), census, None)),
        unreadable: Unreadable::new(fake.client(), leadership, clock),
    };
    (Arc::new(shared), sender)
}

/// The context of a leader that listens.
pub(in crate::controller) fn leader(fake: &Fake) -> (Context, Ends) {
    let (shared, leadership) = shared(fake);
    let (registry, notices) = Registry::new(shared.clock, &[7; 32]);
    let now = shared.clock.now();
    registry
        .listening
        .update(now, |inputs| (inputs.role, inputs.synced, inputs.port_open) = (Role::Leader, true, true));
    let (trigger, scopes) = ReconcileTrigger::new(&[]);
    let (sender, commands) = mpsc::unbounded_channel();
    let checkpoints = Arc::new(Checkpoints::new(Duration::from_secs(60)));
    let context = Context {
        runtime: Runtime::new(shared, checkpoints, trigger),
        registry: Arc::new(registry),
        sites: Arc::default(),
        prober: Arc::new(Prober::new(Policy::default())),
        public_url: None,
        commands: sender,
    };
    (context, Ends { _leadership: leadership, _notices: notices, commands, scopes })
}

/// A Connector in the namespace `edge`, whose token is its name and has been delivered.
pub(in crate::controller) fn connector(name: &str, uid: &str, spec: Value, mut status: Value) -> Connector {
    status["token"] = json!({ "generation": 1, "hashes": [{ "generation": 1, "sha256": Digest::of(name).to_hex() }] });
    let delivered = json!({ "type": "Provisioned", "status": "True", "reason": "Provisioned", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    status["conditions"] = json!([delivered]);
    let meta = json!({ "name": name, "namespace": "edge", "uid": uid, "resourceVersion": "1" });
    let object = json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": spec, "status": status });
    serde_json::from_value(object).unwrap()
}

/// The result of a remediation step that changes nothing: the `stored` status, and the assessed condition.
pub(in crate::controller) fn no_remedy(stored: Option<&RemediationStatus>, conditions: &[Condition]) -> StepResult {
    StepResult {
        status: stored.cloned().unwrap_or_default(),
        condition: ConditionValue::stored(conditions, ConditionType::Remediating).unwrap(),
        events: Vec::new(),
        remedy: None,
        ended: None,
        reserved: None,
        denial: None,
        check_again_at: None,
    }
}

/// The object as a watch delivers it.
pub(in crate::controller) fn guarded(connector: &Connector) -> Guarded {
    serde_json::from_value(serde_json::to_value(connector).unwrap()).unwrap()
}

/// An object whose stored form cannot be read.
pub(in crate::controller) fn unreadable(name: &str) -> Guarded {
    let meta = json!({ "name": name, "namespace": "edge", "uid": name });
    let bad =
        json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": { "token": 7 } });
    let bad: Guarded = serde_json::from_value(bad).unwrap();
    assert!(bad.0.is_err());
    bad
}

/// A heartbeat of `name`.
pub(in crate::controller) fn beat(registry: &Registry, name: &str) {
    use crate::heartbeat::payload::parse;
    use crate::heartbeat::routes::{HeartbeatSink as _, Reply};
    let body = json!({ "connector_id": format!("edge/{name}"), "token": name }).to_string();
    let reply = registry.receive(&parse(body.as_bytes(), None).unwrap(), [192, 0, 2, 1].into());
    assert!(matches!(reply, Reply::Accepted { .. }), "{reply:?}");
}
