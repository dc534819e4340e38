//! The token of a Connector, step by step.

use super::*;
use crate::heartbeat::credentials::{ROUNDS, SLOW_HASHES};

#[tokio::test]
async fn a_token_that_a_user_brings_is_hashed_on_a_blocking_thread_and_accepted_at_once() {
    let rig = Rig::new(json!({ "observedGeneration": -1 }));
    let mut connector = rig.fake.object(CONNECTOR).unwrap();
    connector["spec"] = json!({ "token": { "existingSecretRef": { "name": "mine", "key": "token" } } });
    rig.fake.put(CONNECTOR, connector);
    rig.context.registry.upsert(&rig.connector(), rig.context.clock.read());
    let labels = json!({ "vigie.dev/connector-credentials": "true" });
    let meta = json!({ "name": "mine", "namespace": "edge", "labels": labels });
    let data = json!({ "token": "MDEyMzQ1Njc4OWFiY2RlZg==" });
    rig.fake.put("/api/v1/namespaces/edge/secrets/mine", json!({ "metadata": meta, "data": data }));
    let on_this_thread = SLOW_HASHES.get();
    rig.reconcile().await.unwrap();
    assert_eq!(SLOW_HASHES.get(), on_this_thread, "reconciles run where heartbeats are heard");
    assert_eq!(rig.provisioned(), "True");
    let stored = rig.connector().status.unwrap().token.unwrap().hashes.remove(0);
    assert_eq!(stored.sha256, Digest::slow("0123456789abcdef", "u1", ROUNDS).to_hex());
    let beat = br#"{"connector_id": "edge/paris", "token": "0123456789abcdef"}"#;
    let reply = rig.context.registry.receive(&parse(beat, None).unwrap(), std::net::Ipv4Addr::LOCALHOST.into());
    assert!(matches!(reply, crate::heartbeat::routes::Reply::Accepted { .. }), "it need not be compared: {reply:?}");
}

/// A CRD that is older than the operator: the object's revocation, or all of its token, is forgotten.
#[tokio::test]
async fn a_token_whose_request_is_not_kept_is_not_delivered_until_it_is() {
    for dropped in ["/status/token/observedRevokeRequest", "/status/token"] {
        let rig = Rig::new(json!({ "observedGeneration": -1 }));
        rig.reconcile().await.unwrap();
        let secret = rig.fake.object(SECRET).unwrap();
        let mut object = rig.fake.object(CONNECTOR).unwrap();
        object["metadata"]["annotations"] = json!({ "vigie.dev/revoke-requested": jiff::Timestamp::now().to_string() });
        rig.fake.put(CONNECTOR, object);
        rig.fake.set_mode(Mode::Prunes(dropped));
        rig.fake.take_log();
        for _ in 0..20 {
            rig.reconcile().await.unwrap();
        }
        let said = rig.fake.take_log();
        let writes = said.iter().filter(|request| request.starts_with("PUT")).count();
        assert!((1..=2).contains(&writes), "{dropped}: {said:?}");
        assert_eq!(rig.fake.object(SECRET), Some(secret), "{dropped}");
        rig.context.states.open(0);
        rig.reconcile().await.unwrap();
        let stalled = || ConditionValue::stored(rig.connector().conditions(), ConditionType::Stalled);
        let said = stalled().unwrap();
        assert_eq!((said.status, said.reason), (Truth::True, Reason::StatusNotKept));
        assert!(said.message.contains("vigie crd | kubectl apply -f -"), "{said:?}");

        rig.fake.set_mode(Mode::Up);
        rig.context.states.open(0);
        rig.reconcile().await.unwrap();
        rig.reconcile().await.unwrap();
        assert_eq!((rig.provisioned().as_str(), stalled()), ("True", None), "{dropped}");
        let token = rig.connector().status.and_then(|status| status.token).unwrap();
        let held = rig.fake.object(SECRET).unwrap()["data"]["token"].clone();
        let held: k8s_openapi::ByteString = serde_json::from_value(held).unwrap();
        let newest = token.hashes.iter().find(|hash| hash.not_after.is_none()).unwrap();
        assert_eq!(newest.sha256, Digest::of(std::str::from_utf8(&held.0).unwrap()).to_hex(), "{dropped}");
    }
}

/// The status between the write of the Secret and the write that confirms it: the token may be in use already.
pub(super) fn half_delivered(rig_token: &str) -> Value {
    let outstanding = json!({ "type": "Provisioned", "status": "False", "reason": "TokenSecretInvalid", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let hash = json!({ "generation": 1, "sha256": Digest::of(rig_token).to_hex() });
    let token = json!({ "generation": 1, "hashes": [hash], "secretName": "paris-connector-token" });
    json!({ "observedGeneration": 1, "token": token, "conditions": [outstanding] })
}

#[tokio::test]
async fn a_token_that_was_used_is_not_ended_by_a_secret_deleted_before_the_status_said_that_it_was_there() {
    let rig = Rig::new(half_delivered("used"));
    let beat = br#"{"connector_id": "edge/paris", "token": "used"}"#;
    rig.context.registry.receive(&parse(beat, None).unwrap(), std::net::Ipv4Addr::LOCALHOST.into());
    rig.reconcile().await.unwrap();
    let token = rig.connector().status.and_then(|status| status.token).unwrap();
    assert_eq!((token.generation, token.rotation), (2, crate::api::Rotation::Pending));
    let used = token.hashes.iter().find(|hash| hash.sha256 == Digest::of("used").to_hex()).expect("it lives on");
    assert!(used.not_after.as_ref().is_some_and(|end| end.0 > jiff::Timestamp::now()), "through its grace");
}

#[tokio::test]
async fn a_token_that_we_put_into_its_secret_counts_as_delivered_before_the_status_says_so() {
    let rig = Rig::new(half_delivered("taken"));
    state(&rig.context, 0).notes.delivered = 1;
    rig.reconcile().await.unwrap();
    let token = rig.connector().status.and_then(|status| status.token).unwrap();
    assert_eq!((token.generation, token.hashes.len()), (2, 2), "whoever read it may be using it");
}
