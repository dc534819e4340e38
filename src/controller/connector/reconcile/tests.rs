//! Whole steps against an API server in memory: what was left undone is done by the next try.

use serde_json::{Value, json};

use super::super::fake::{Ends, leader};
use super::*;
use crate::api::{ConditionType, ConditionValue, Reason, Truth};
use crate::cluster::fake::{Fake, Mode};
use crate::controller::remediation::Remediable as _;
use crate::controller::runtime::calls::CallKind;
use crate::controller::runtime::queue::Action;
use crate::controller::runtime::run;
use crate::controller::runtime::state::TakenState;
use crate::heartbeat::credentials::Digest;
use crate::heartbeat::payload::parse;
use crate::heartbeat::routes::HeartbeatSink as _;
use crate::metrics::PanickedTask;

mod token_tests;

use token_tests::half_delivered;

const CONNECTOR: &str = "/apis/vigie.dev/v1alpha1/namespaces/edge/connectors/paris";
const SECRET: &str = "/api/v1/namespaces/edge/secrets/paris-connector-token";

struct Rig {
    fake: Fake,
    context: Context,
    _ends: Ends,
}

impl Rig {
    /// A leader, and one Connector in the API server.
    fn new(status: Value) -> Self {
        let fake = Fake::new();
        let (context, ends) = leader(&fake);
        let meta = json!({ "name": "paris", "namespace": "edge", "uid": "u1", "generation": 1 });
        fake.put(CONNECTOR, json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": {}, "status": status }));
        let rig = Self { fake, context, _ends: ends };
        rig.context.registry.upsert(&rig.connector(), rig.context.clock.read());
        rig
    }

    fn connector(&self) -> Connector {
        serde_json::from_value(self.fake.object(CONNECTOR).unwrap()).unwrap()
    }

    async fn reconcile(&self) -> Result<Action, ReconcileError> {
        run::reconcile(&self.context, &self.connector()).await
    }

    fn provisioned(&self) -> String {
        let provisioned = ConditionValue::stored(self.connector().conditions(), ConditionType::Provisioned);
        provisioned.map(|value| value.status.to_string()).unwrap_or_default()
    }

    /// How many events were told since this was asked last.
    fn told(&self) -> usize {
        self.fake
            .take_log()
            .iter()
            .filter(|remediation_input| remediation_input.starts_with("POST") && remediation_input.contains("/events"))
            .count()
    }

    fn break_secret(&self) {
        self.fake.put(SECRET, json!({ "metadata": { "name": 5 } }));
    }
}

/// The reconcile state of an entry, as after a reconcile.
fn state(context: &Context, number: u64) -> TakenState<'_, Context> {
    let mut state = context.states.take(number);
    state.begin(context.leadership.borrow().epoch);
    state
}

#[tokio::test]
async fn a_new_connector_gets_its_token_in_one_go_and_then_there_is_peace() {
    let rig = Rig::new(json!({ "observedGeneration": -1 }));
    rig.reconcile().await.unwrap();
    assert_eq!(rig.provisioned(), "True");
    let secret = rig.fake.object(SECRET).unwrap();
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "u1");
    rig.fake.take_log();
    rig.reconcile().await.unwrap();
    assert_eq!(rig.fake.take_log(), Vec::<String>::new(), "not even a look, before ten minutes are over");
}

#[tokio::test]
async fn a_workload_that_does_not_exist_is_named_until_it_does_and_looked_up_when_that_is_due() {
    let rig = Rig::new(json!({ "observedGeneration": -1 }));
    let names = |name: &str| {
        let mut connector = rig.fake.object(CONNECTOR).unwrap();
        connector["spec"] = json!({ "workloadRef": { "kind": "Deployment", "name": name } });
        rig.fake.put(CONNECTOR, connector);
        rig.context.registry.upsert(&rig.connector(), rig.context.clock.read());
    };
    let exists = |name: &str| {
        let meta = json!({ "name": name, "namespace": "edge", "uid": name });
        rig.fake.put(&format!("/apis/apps/v1/namespaces/edge/deployments/{name}"), json!({ "metadata": meta }));
    };
    let accepted = || {
        let found = ConditionValue::stored(rig.connector().conditions(), ConditionType::Accepted).unwrap();
        (found.status, found.reason)
    };
    let looked = || rig.fake.take_log().iter().filter(|request| request.contains("/deployments/")).count();
    let missing = (Truth::False, Reason::WorkloadNotFound);
    names("wg-gatway");
    rig.reconcile().await.unwrap();
    assert_eq!((accepted(), looked()), (missing, 1));
    rig.reconcile().await.unwrap();
    assert_eq!((accepted(), looked()), (missing, 0), "it stays so until the next look");
    // Another name is looked up at once.
    exists("wg-gateway");
    names("wg-gateway");
    rig.reconcile().await.unwrap();
    assert_eq!((accepted().0, looked()), (Truth::True, 1));
    rig.reconcile().await.unwrap();
    assert_eq!((accepted().0, looked()), (Truth::True, 0));
    state(&rig.context, 0).notes.workload.as_mut().unwrap().look_at = rig.context.clock.now();
    rig.fake.put("/apis/apps/v1/namespaces/edge/deployments/wg-gateway", Value::Null);
    rig.reconcile().await.unwrap();
    assert_eq!((accepted(), looked()), (missing, 1));
}

#[tokio::test]
async fn a_secret_that_could_not_be_read_is_read_again_with_the_next_try() {
    let rig = Rig::new(json!({ "observedGeneration": -1 }));
    rig.break_secret();
    rig.reconcile().await.unwrap();
    assert_eq!(rig.provisioned(), "False");
    rig.fake.put(SECRET, Value::Null);
    rig.fake.take_log();
    rig.reconcile().await.unwrap();
    assert_eq!(rig.fake.take_log(), Vec::<String>::new(), "whatever wakes it, it is not read before its time");
    rig.context.states.open(0);
    rig.reconcile().await.unwrap();
    assert_eq!(rig.provisioned(), "True", "no ten minutes later");
}

#[tokio::test]
async fn a_secret_that_fails_holds_no_event_back() {
    let hash = |token, generation| json!({ "generation": generation, "sha256": Digest::of(token).to_hex() });
    let token = json!({ "generation": 2, "rotation": "Pending", "hashes": [hash("new", 2), hash("old", 1)], "secretName": "paris-connector-token" });
    let delivered = json!({ "type": "Provisioned", "status": "True", "reason": "Provisioned", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let rig = Rig::new(json!({ "observedGeneration": 1, "token": token, "conditions": [delivered] }));
    let beat = br#"{"connector_id": "edge/paris", "token": "new"}"#;
    rig.context.registry.receive(&parse(beat, None).unwrap(), std::net::Ipv4Addr::LOCALHOST.into());
    rig.break_secret();
    rig.reconcile().await.unwrap();
    let confirmed = rig.connector().status.and_then(|status| status.token).unwrap();
    // That it is online, and that the token was rotated.
    assert_eq!((confirmed.rotation, rig.told()), (crate::api::Rotation::Confirmed, 2));
    rig.fake.put(SECRET, Value::Null);
    rig.context.states.open(0);
    rig.reconcile().await.unwrap();
    assert_eq!(rig.told(), 1, "that its Secret had to be made anew");
}

#[tokio::test]
async fn what_was_written_without_our_knowing_is_told_with_the_next_try() {
    let hash = |token, generation| json!({ "generation": generation, "sha256": Digest::of(token).to_hex() });
    let token = json!({ "generation": 2, "rotation": "Pending", "hashes": [hash("new", 2), hash("old", 1)], "secretName": "paris-connector-token" });
    let delivered = json!({ "type": "Provisioned", "status": "True", "reason": "Provisioned", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let rig = Rig::new(json!({ "observedGeneration": 1, "token": token, "conditions": [delivered] }));
    // As after any reconcile before.
    state(&rig.context, 0).published = true;
    let beat = br#"{"connector_id": "edge/paris", "token": "new"}"#;
    rig.context.registry.receive(&parse(beat, None).unwrap(), std::net::Ipv4Addr::LOCALHOST.into());
    let lost = async || {
        rig.fake.set_mode(Mode::Loses("/connectors/"));
        rig.reconcile().await.unwrap_err();
        assert_eq!(rig.told(), 0);
        rig.fake.set_mode(Mode::Forbids("/connectors/"));
        rig.reconcile().await.unwrap_err();
        rig.fake.set_mode(Mode::Up);
    };
    lost().await;
    assert_eq!(rig.connector().status.unwrap().state, Some(crate::api::ConnectorState::Online));
    lost().await;
    assert_eq!(rig.connector().status.and_then(|status| status.token).unwrap().generation, 3);
    rig.reconcile().await.unwrap();
    // That it is online, that the token was rotated, and that its Secret had to be made anew.
    assert_eq!(rig.told(), 3);
}

#[tokio::test]
async fn an_event_that_cannot_be_told_holds_no_transition_back() {
    let rig = Rig::new(json!({ "observedGeneration": -1 }));
    rig.reconcile().await.unwrap();
    let token = rig.fake.object(SECRET).unwrap()["data"]["token"].clone();
    let token: k8s_openapi::ByteString = serde_json::from_value(token).unwrap();
    let beat = json!({ "connector_id": "edge/paris", "token": String::from_utf8(token.0).unwrap() }).to_string();
    let receive =
        |beat: &str| rig.context.registry.receive(&parse(beat.as_bytes(), None).unwrap(), [192, 0, 2, 1].into());
    rig.fake.set_mode(Mode::Fails("/events"));
    receive(&beat);
    rig.reconcile().await.unwrap();
    let state = |rig: &Rig| rig.connector().status.and_then(|status| status.state);
    assert_eq!(state(&rig), Some(crate::api::ConnectorState::Online));
    // The next transition does not wait for the event of the last one.
    let failing = beat.replace('}', r#","checks":[{"type":"Process","status":"Fail"}]}"#);
    receive(&failing);
    rig.reconcile().await.unwrap();
    assert_eq!(state(&rig), Some(crate::api::ConnectorState::Degraded));
    assert_eq!(rig.told(), 1, "one try, and no other before its time");
    rig.fake.set_mode(Mode::Up);
    rig.context.states.open(0);
    rig.reconcile().await.unwrap();
    assert_eq!(rig.told(), 2, "both are told in the end");
}

#[tokio::test]
async fn an_event_that_is_refused_is_not_published_again() {
    let rig = Rig::new(half_delivered("used"));
    let beat = br#"{"connector_id": "edge/paris", "token": "used"}"#;
    rig.context.registry.receive(&parse(beat, None).unwrap(), std::net::Ipv4Addr::LOCALHOST.into());
    rig.fake.set_mode(Mode::Forbids("/events"));
    rig.reconcile().await.unwrap();
    assert!(rig.told() > 0);
    rig.context.states.open(0);
    rig.reconcile().await.unwrap();
    assert_eq!(rig.told(), 0);
}

#[tokio::test]
async fn an_attempt_that_another_recorded_is_told_once_also_when_the_state_changes_with_the_first_look() {
    let now = jiff::Timestamp::now().to_string();
    let past = json!({ "id": "a1", "cause": "WireGuardDown", "outcome": "Succeeded", "restarted": true, "cured": true, "startTime": now, "endTime": now, "message": "" });
    let mut told = Vec::new();
    for history in [json!([]), json!([past])] {
        let mut status = half_delivered("used");
        status["remediation"] = json!({ "restarts": 1, "history": history });
        let rig = Rig::new(status);
        let beat = br#"{"connector_id": "edge/paris", "token": "used"}"#;
        rig.context.registry.receive(&parse(beat, None).unwrap(), std::net::Ipv4Addr::LOCALHOST.into());
        rig.reconcile().await.unwrap();
        told.push(rig.told());
        rig.reconcile().await.unwrap();
        assert_eq!(rig.told(), 0, "and not again");
    }
    assert_eq!(told[1], told[0] + 2, "its beginning and its outcome, beside that it is online");
}

#[tokio::test]
async fn a_step_that_panics_is_counted_and_its_object_is_scheduled_again() {
    let rig = Rig::new(json!({ "observedGeneration": -1 }));
    let panics = |is_on| rig.context.panics.store(is_on, std::sync::atomic::Ordering::Relaxed);
    panics(true);
    let failed = rig.reconcile().await.unwrap_err();
    assert_eq!(failed.to_string(), "a step panicked: a defect of a step");
    assert_eq!(rig.context.metrics.panics(PanickedTask::Reconcile), 1);
    let number = rig.context.entries()[0].number;
    rig.context.call_failed(&rig.context.entries()[0], CallKind::Status, failed.retry_after());
    assert!(rig.context.states.write_wait(number, rig.context.clock.now()).is_some());
    panics(false);
    rig.context.states.open(number);
    rig.reconcile().await.unwrap();
    assert!(rig.fake.take_log().iter().any(|request| request.starts_with("PUT")), "its status is written");
}

/// Another operator, whose Lease is another one, writes the same status.
#[tokio::test]
async fn an_operator_that_knows_less_than_another_writer_holds_back_and_says_so() {
    let rig = Rig::new(half_delivered("used"));
    rig.context
        .registry
        .receive(&parse(br#"{"connector_id": "edge/paris", "token": "used"}"#, None).unwrap(), [192, 0, 2, 1].into());
    rig.reconcile().await.unwrap();
    // The other one hears it now.
    let heard = |ahead: i64| {
        let mut object = rig.fake.object(CONNECTOR).unwrap();
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
        object["status"]["lastHeartbeatTime"] = json!(at.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string());
        object["status"]["state"] = json!("Late");
        rig.fake.put(CONNECTOR, object);
    };
    heard(10);
    rig.fake.take_log();
    rig.reconcile().await.unwrap();
    let said = rig.fake.take_log();
    assert!(said.iter().all(|request| !request.starts_with("PUT") && !request.starts_with("PATCH")), "{said:?}");
    let events = said.iter().filter(|request| request.starts_with("POST") && request.contains("/events")).count();
    assert_eq!(events, 1, "{said:?}");
    heard(11);
    rig.reconcile().await.unwrap();
    assert_eq!(rig.fake.take_log(), Vec::<String>::new(), "said once");
    // This one has heard it since: what is stored is older, and it goes on.
    heard(-20);
    rig.reconcile().await.unwrap();
    let state = rig.connector().status.and_then(|status| status.state);
    assert_eq!(state, Some(crate::api::ConnectorState::Online));
}

#[tokio::test]
async fn an_agent_that_the_spec_names_no_more_is_asked_for_nothing() {
    use crate::heartbeat::actions::Offer;
    use crate::heartbeat::routes::Reply;
    let token = json!({ "generation": 1, "hashes": [{ "generation": 1, "sha256": Digest::of("t").to_hex() }], "secretName": "paris-connector-token" });
    let rig = Rig::new(json!({ "observedGeneration": 1, "token": token }));
    let registry = &rig.context.registry;
    let entry = registry.get(&crate::api::Key { namespace: "edge".into(), name: "paris".into() }).unwrap();
    // As while the spec named it, during an incident.
    registry.offer(&entry, None, Offer { action: None, is_expected: true });
    let is_expected = || {
        let beat = br#"{"connector_id": "edge/paris", "token": "t", "agent": true}"#;
        let reply = registry.receive(&parse(beat, None).unwrap(), std::net::Ipv4Addr::LOCALHOST.into());
        let Reply::Accepted { told, .. } = reply else { panic!("{reply:?}") };
        told.is_expected
    };
    assert!(is_expected());
    rig.reconcile().await.unwrap();
    assert!(!is_expected(), "it would be asked to beat every 5 s without end");
}
