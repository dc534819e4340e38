use kube::api::{Api, DynamicObject, EvictParams};
use kube::core::Status;

use super::super::restart::{classify, patch_operations};
use super::*;

const POD: &str = "/api/v1/namespaces/ns/pods/web-3-x";
const LONG: Duration = Duration::from_secs(60);

fn order() -> RestartOrder {
    let started = "2026-11-20T10:00:00.75Z".parse().unwrap();
    RestartOrder { id: "a-7".to_owned(), started, uid: "d1".to_owned(), generation: 4 }
}

async fn restarted(fake: &Fake, order: &RestartOrder, lasts: Duration) -> CallResult {
    let clock = Clock::default();
    let permit = permit(clock, lasts);
    while lasts < LONG && permit.is_current(clock.now()) {}
    restart(&fake.client(), clock, &permit, "ns", &web(WorkloadKind::Deployment), order).await
}

async fn evicted(fake: &Fake, uid: &str, lasts: Duration) -> CallResult {
    let clock = Clock::default();
    let permit = permit(clock, lasts);
    while lasts < LONG && permit.is_current(clock.now()) {}
    evict(&fake.client(), clock, &permit, "ns", "web-3-x", uid).await
}

fn annotations(fake: &Fake) -> Value {
    fake.object(DEPLOYMENT).unwrap()["spec"]["template"]["metadata"]["annotations"].clone()
}

fn writes(fake: &Fake) -> Vec<String> {
    fake.take_log().into_iter().filter(|line| !line.starts_with("GET")).collect()
}

#[tokio::test]
async fn a_restart_adds_its_two_annotations_and_a_second_one_is_stale() {
    let fake = server();
    assert_eq!(restarted(&fake, &order(), LONG).await, CallResult::Applied);
    let want = json!({
        "team": "a", "kubectl.kubernetes.io/restartedAt": "2026-11-20T10:00:00Z", "vigie.dev/attempt": "a-7",
    });
    assert_eq!(annotations(&fake), want);
    assert_eq!(writes(&fake), [format!("PATCH {DEPLOYMENT}?&fieldManager=vigie")]);

    let stale = restarted(&fake, &order(), LONG).await;
    assert_eq!(stale, CallResult::Stale("Deployment ns/web was changed: its generation is 5, not 4".to_owned()));
    let another = RestartOrder { uid: "d0".to_owned(), ..order() };
    let stale = restarted(&fake, &another, LONG).await;
    assert_eq!(stale, CallResult::Stale("Deployment ns/web is another one now: its UID is d1, not d0".to_owned()));
    assert_eq!((annotations(&fake), writes(&fake).len()), (want, 0));
}

#[tokio::test]
async fn a_template_without_annotations_gets_its_first() {
    let fake = server();
    fake.put(DEPLOYMENT, deployment(Value::Null));
    assert_eq!(restarted(&fake, &order(), LONG).await, CallResult::Applied);
    assert_eq!(annotations(&fake)["vigie.dev/attempt"], "a-7");
}

#[tokio::test]
async fn what_changes_between_our_read_and_our_write_is_held_back_by_the_patch() {
    let fake = server();
    for order in [RestartOrder { generation: 3, ..order() }, RestartOrder { uid: "d0".to_owned(), ..order() }] {
        let resource = kube::api::ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(fake.client(), "ns", &resource);
        let patch = serde_json::from_value(patch_operations(&order, true)).unwrap();
        let refused = api.patch("web", &Default::default(), &kube::api::Patch::Json::<()>(patch)).await.unwrap_err();
        let kube::Error::Api(status) = refused else { panic!("{refused}") };
        let stale = classify("restarting Deployment ns/web", &status);
        assert_eq!(stale, CallResult::Stale("restarting Deployment ns/web: it was changed meanwhile".to_owned()));
        assert_eq!(annotations(&fake), json!({"team": "a"}));
    }
}

#[tokio::test]
async fn nothing_is_written_after_the_permit_ran_out() {
    let fake = server();
    assert_eq!(restarted(&fake, &order(), Duration::from_micros(1)).await, CallResult::NotLeader);
    assert_eq!(evicted(&fake, "uid-web-3-x", Duration::from_micros(1)).await, CallResult::NotLeader);
    assert_eq!((writes(&fake).len(), annotations(&fake)), (0, json!({"team": "a"})));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_answered_may_have_been_done() {
    let fake = server();
    fake.set_mode(Mode::Hangs);
    let later = restarted(&fake, &order(), LONG).await;
    assert_eq!(later, CallResult::Retry("reading Deployment ns/web: no answer within the time limit".to_owned()));
    let later = evicted(&fake, "uid-web-3-x", LONG).await;
    assert_eq!(later, CallResult::Retry("evicting pod ns/web-3-x: no answer within the time limit".to_owned()));

    fake.set_mode(Mode::Loses("deployments"));
    let later = restarted(&fake, &order(), LONG).await;
    assert_eq!(later, CallResult::Retry("restarting Deployment ns/web: the fake says Timeout (504)".to_owned()));
    assert_eq!(annotations(&fake)["vigie.dev/attempt"], "a-7");
}

#[tokio::test]
async fn a_workload_that_is_gone_is_stale_and_a_refusal_is_final() {
    let fake = server();
    fake.put(DEPLOYMENT, Value::Null);
    let stale = restarted(&fake, &order(), LONG).await;
    assert_eq!(stale, CallResult::Stale("reading Deployment ns/web: the fake says NotFound (404)".to_owned()));
    fake.set_mode(Mode::Forbids("deployments"));
    let refused = restarted(&fake, &order(), LONG).await;
    assert_eq!(refused, CallResult::Refused("reading Deployment ns/web: the fake says Forbidden (403)".to_owned()));
    fake.set_mode(Mode::Forbids("eviction"));
    let refused = evicted(&fake, "uid-web-3-x", LONG).await;
    assert_eq!(refused, CallResult::Refused("evicting pod ns/web-3-x: the fake says Forbidden (403)".to_owned()));
}

#[tokio::test]
async fn a_pod_is_evicted_only_with_its_uid() {
    let fake = server();
    let stale = evicted(&fake, "another", LONG).await;
    assert_eq!(stale, CallResult::Stale("evicting pod ns/web-3-x: the fake says Conflict (409)".to_owned()));
    assert!(fake.object(POD).is_some());
    assert_eq!(evicted(&fake, "uid-web-3-x", LONG).await, CallResult::Applied);
    assert!(fake.object(POD).is_none());
    assert!(matches!(evicted(&fake, "uid-web-3-x", LONG).await, CallResult::Stale(_)));
    let evict = "POST /api/v1/namespaces/ns/pods/web-3-x/eviction?&fieldManager=vigie";
    assert_eq!(writes(&fake), [evict; 3]);
}

/// The reason why `evict` makes its own request. When this test fails, kube has fixed it.
#[tokio::test]
async fn kubes_own_eviction_drops_the_precondition() {
    let fake = server();
    let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(fake.client(), "ns");
    let precondition = kube::api::Preconditions { uid: Some("another".to_owned()), ..Default::default() };
    let options = kube::api::DeleteParams::default().preconditions(precondition);
    let params = EvictParams { delete_options: Some(options), ..EvictParams::default() };
    api.evict("web-3-x", &params).await.unwrap();
    assert!(fake.object(POD).is_none());
}

#[derive(Debug, PartialEq)]
enum Means {
    Stale,
    Refused,
    Later,
}

/// Answers of an API server 1.36, word for word where it matters.
#[test]
fn every_refusal_has_its_meaning() {
    let named = json!({"name": "web", "group": "apps", "kind": "deployments"});
    let caused = json!({"name": "web", "causes": [{"reason": "FieldValueInvalid", "message": "…", "field": "spec"}]});
    let budget = json!({"causes": [{
        "reason": "DisruptionBudget", "message": "The disruption budget tight needs 2 healthy pods and has 2 currently",
    }]});
    let policy =
        "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
    for (code, reason, message, details, means) in [
        (422, "Invalid", "the server rejected our request due to an error in our request", json!({}), Means::Stale),
        (422, "Invalid", "Deployment.apps \"web\" is invalid: spec: …", caused, Means::Refused),
        (422, "Invalid", policy, named.clone(), Means::Refused),
        (403, "Forbidden", policy, named.clone(), Means::Refused),
        (403, "Forbidden", "User \"x\" cannot patch resource \"deployments\"", named.clone(), Means::Refused),
        (400, "", "admission webhook \"w\" denied the request: no", Value::Null, Means::Refused),
        (500, "", "admission webhook \"w\" denied the request: no", Value::Null, Means::Refused),
        (409, "", "admission webhook \"w\" denied the request: no", Value::Null, Means::Refused),
        (500, "InternalError", "Internal error occurred: failed calling webhook \"w\"", json!({}), Means::Later),
        (404, "NotFound", "deployments.apps \"web\" not found", named, Means::Stale),
        (404, "NotFound", "the server could not find the requested resource", json!({}), Means::Refused),
        (409, "Conflict", "the UID in the precondition (a) does not match …", json!({"name": "web"}), Means::Stale),
        (
            429,
            "TooManyRequests",
            "Cannot evict pod as it would violate the pod's disruption budget.",
            budget,
            Means::Later,
        ),
        (429, "TooManyRequests", "too many requests, please try again later", Value::Null, Means::Later),
        (500, "", "This pod has more than one PodDisruptionBudget, which …", Value::Null, Means::Refused),
        (401, "Unauthorized", "Unauthorized", Value::Null, Means::Later),
        (503, "ServiceUnavailable", "apiserver is shutting down", Value::Null, Means::Later),
        (413, "RequestEntityTooLarge", "…", Value::Null, Means::Refused),
    ] {
        let status = json!({"code": code, "reason": reason, "message": message, "details": details});
        let status: Status = serde_json::from_value(status).unwrap();
        let (seen, words) = match classify("restarting it", &status) {
            CallResult::Stale(words) => (Means::Stale, words),
            CallResult::Refused(words) => (Means::Refused, words),
            CallResult::Retry(words) => (Means::Later, words),
            other => panic!("{other:?}"),
        };
        assert_eq!(seen, means, "{code} {message}");
        assert!(words.starts_with("restarting it: ") && words.len() < 600, "{words}");
        assert!(!message.contains("disruption budget.") || words.contains("tight needs 2"), "{words}");
    }
}
