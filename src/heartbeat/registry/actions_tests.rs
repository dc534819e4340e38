//! Restarts by agents, from the offer to the answer, through the port as curl would see it.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;

use super::super::actions::Action;
use super::super::entry::Snapshot;
use super::super::routes::{BeatMetrics, BeatResult, Options, router};
use super::tests::{DAY, Town, connector, coordinator, tokens};
use super::*;
use serde_json::{Value, json};

const NOTHING: &str = r#""actions":[]}"#;

struct Uncounted;

impl BeatMetrics for Uncounted {
    fn counted(&self, _: BeatResult) {}
}

fn paris() -> Town {
    let coordinator = coordinator(Role::Leader);
    let spec = json!({ "agentRef": { "unit": "wg-gateway.service" } });
    coordinator.upsert(&connector("paris", DAY, 1, spec, tokens(&[("right", 1, None)])));
    coordinator
}

fn action(registry: &Registry, id: &str) -> Action {
    let now = registry.clock().read();
    let not_after = now.wall + jiff::SignedDuration::from_mins(10);
    Action::new(id, Some("wg-gateway.service"), not_after, false, now)
}

fn asked(action: Action) -> Offer {
    Offer { action: Some(action), is_expected: true }
}

fn body(more: Value) -> Value {
    let mut body = json!({ "connector_id": "edge/paris", "token": "right" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn sick() -> Value {
    json!({ "checks": [{ "type": "WireGuardInterface", "status": "Fail" }] })
}

fn sick_and(more: Value) -> Value {
    let mut beat = sick();
    beat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    beat
}

async fn post(registry: &Arc<Registry>, more: Value) -> (u16, String) {
    let options = Options { trusted_proxies: Vec::new(), counters: Arc::new(Uncounted), clock: registry.clock() };
    let request = Request::post("/api/connector/heartbeat").body(Body::from(body(more).to_string())).unwrap();
    let response = tower::ServiceExt::oneshot(router(Arc::clone(registry), options), request).await.unwrap();
    let status = response.status().as_u16();
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(answer.into()).unwrap())
}

#[tokio::test]
async fn an_agent_that_sends_too_often_is_handed_no_action() {
    let Town { registry, .. } = paris();
    let registry = Arc::new(registry);
    let entry = registry.get(&Key { namespace: "edge".into(), name: "paris".into() }).unwrap();
    // An incident that is open already: with it the limit is higher.
    registry.offer(&entry, None, Offer { action: None, is_expected: true });
    let mut status = 200;
    while status == 200 {
        status = post(&registry, sick()).await.0;
    }
    registry.offer(&entry, None, asked(action(&registry, "a1")));
    assert_eq!(post(&registry, sick()).await.0, 429);
    assert!(snapshot(&registry, &entry).offered.unwrap().handed_at.is_none(), "it was not in the answer");
}

fn snapshot(registry: &Registry, entry: &Entry) -> Snapshot {
    entry.snapshot(registry.listening.listening(registry.clock().now()), registry.clock().now())
}

#[tokio::test]
async fn an_agent_is_asked_until_it_answers_and_its_answer_is_kept() {
    let Town { registry, .. } = paris();
    let registry = Arc::new(registry);
    let entry = registry.get(&Key { namespace: "edge".into(), name: "paris".into() }).unwrap();
    assert!(post(&registry, sick()).await.1.ends_with(NOTHING));

    let offered = action(&registry, "a1");
    let not_after = offered.not_after;
    registry.offer(&entry, None, asked(offered));
    assert!(snapshot(&registry, &entry).offered.unwrap().handed_at.is_none());
    let asked = format!(
        r#"{{"status":"ok","state":"Degraded","next_heartbeat_seconds":30,"actions":[{{"id":"a1","type":"Restart","target":"wg-gateway.service","notAfter":"{not_after}"}}]}}"#
    );
    for _ in 0..2 {
        let (status, answer) = post(&registry, sick()).await;
        assert_eq!((status, &answer), (200, &asked));
    }
    assert!(snapshot(&registry, &entry).offered.unwrap().handed_at.is_some());

    let answer = sick_and(json!({ "restart": { "id": "a1", "result": "Failed", "message": "no such unit" } }));
    assert!(post(&registry, answer).await.1.ends_with(NOTHING));
    assert!(post(&registry, sick()).await.1.ends_with(NOTHING), "answered is answered");
    let [restarted] = &snapshot(&registry, &entry).restarted[..] else { panic!("one answer") };
    assert_eq!(
        (&*restarted.id, restarted.succeeded, restarted.message.as_deref()),
        ("a1", false, Some("no such unit"))
    );

    registry.offer(&entry, None, Offer::default());
    assert!(snapshot(&registry, &entry).offered.is_none());
}

#[tokio::test]
async fn an_answer_in_words_that_we_do_not_know_is_refused_and_its_field_is_named() {
    let Town { registry, .. } = paris();
    let (status, answer) = post(&Arc::new(registry), json!({ "restart": { "id": "a1", "result": "Maybe" } })).await;
    assert_eq!(status, 400);
    assert!(answer.contains(r#"field \"restart.result\" must be Succeeded or Failed"#), "{answer}");
}

#[tokio::test]
async fn neither_the_beat_that_ends_the_incident_nor_a_dry_run_is_asked_anything() {
    let Town { registry, .. } = paris();
    let registry = Arc::new(registry);
    let entry = registry.get(&Key { namespace: "edge".into(), name: "paris".into() }).unwrap();
    registry.offer(&entry, None, asked(action(&registry, "a1")));
    assert!(post(&registry, json!({})).await.1.ends_with(NOTHING), "Online by this beat");
    assert!(post(&registry, sick_and(json!({ "dry_run": true }))).await.1.ends_with(NOTHING));
    let warning = json!({ "checks": [{ "type": "ControlPlane", "status": "Fail" }] });
    assert!(post(&registry, warning).await.1.ends_with(NOTHING), "a warning is no incident");
    assert!(snapshot(&registry, &entry).offered.unwrap().handed_at.is_none());
    let mut requested = action(&registry, "a2");
    requested.is_requested = true;
    registry.offer(&entry, None, asked(requested));
    assert!(post(&registry, json!({})).await.1.contains(r#""id":"a2""#), "a person may restart what is well");
}

#[test]
fn a_beat_that_was_overtaken_is_asked_nothing_and_its_answer_counts() {
    let coordinator = paris();
    let entry = coordinator.entry("paris");
    let offer = |id| coordinator.registry.offer(&entry, None, asked(action(&coordinator.registry, id)));
    let say = |sequence: u64, more: Value| {
        let mut beat = sick_and(json!({ "boot_id": "b", "sequence": sequence }));
        beat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        match coordinator.say(body(beat)) {
            Reply::Accepted { told, .. } => told.actions.first().map(|action| action.id.to_string()),
            other => panic!("{other:?}"),
        }
    };
    offer("a1");
    assert_eq!(say(2, json!({})).as_deref(), Some("a1"));
    assert_eq!(say(1, json!({ "restart": { "id": "a1", "result": "Succeeded" } })), None);
    assert_eq!(say(3, json!({})), None, "the result in its request counts");
    assert!(snapshot(&coordinator.registry, &entry).restarted[0].succeeded);
}

#[test]
fn the_first_handing_out_and_the_answer_are_told_once_each() {
    let mut coordinator = paris();
    let entry = coordinator.entry("paris");
    coordinator.say(body(sick()));
    coordinator.changes();
    coordinator.registry.offer(&entry, None, asked(action(&coordinator.registry, "a1")));
    coordinator.say(body(sick()));
    assert_eq!(coordinator.changes(), 1, "handed out");
    coordinator.say(body(sick()));
    assert_eq!(coordinator.changes(), 0);
    let answer = sick_and(json!({ "restart": { "id": "a1", "result": "Succeeded" } }));
    coordinator.say(body(answer.clone()));
    assert_eq!(coordinator.changes(), 1, "answered");
    coordinator.say(body(answer));
    assert_eq!(coordinator.changes(), 0);
}

#[test]
fn what_was_offered_before_another_led_is_not_handed_out_after() {
    let coordinator = paris();
    let entry = coordinator.entry("paris");
    coordinator.registry.offer(&entry, None, asked(action(&coordinator.registry, "a1")));
    let lead =
        |role| coordinator.registry.listening.update(coordinator.registry.clock().now(), |inputs| inputs.role = role);
    lead(Role::Follower);
    coordinator.upsert(&connector("paris", DAY, 2, json!({ "agentRef": {} }), tokens(&[("right", 1, None)])));
    lead(Role::Leader);
    assert!(matches!(coordinator.say(body(sick())), Reply::Accepted { told, .. } if told.actions.is_empty()));
}
