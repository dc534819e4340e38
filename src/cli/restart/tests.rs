use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::cluster::fake::{Fake, Mode};

const ASKED: &str = "2026-01-31T12:00:00Z";
const PATH: &str = "/apis/vigie.dev/v1alpha1/namespaces/shop/monitoredbackends/orders";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    time(ASKED) + SignedDuration::from_secs(seconds)
}

fn backend(status: Value) -> Value {
    json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend",
        "metadata": { "name": "orders", "namespace": "shop" },
        "spec": { "remediation": { "mode": "Restart" } }, "status": status })
}

fn denied(reason: &str) -> Value {
    backend(
        json!({ "conditions": [{ "type": "Remediating", "status": "False", "reason": reason, "message": "the figures" }] }),
    )
}

fn attempt(cause: &str, start: &str, outcome: &str, cured: bool) -> Value {
    json!({ "id": "a1", "cause": cause, "outcome": outcome, "restarted": true, "cured": cured, "startTime": start,
        "endTime": "2026-01-31T12:00:42Z", "message": "" })
}

fn step(object: &Value, seconds: i64) -> Progress {
    progress::progress(object, time(ASKED), after(seconds))
}

#[test]
fn what_is_healthy_is_told_by_kind() {
    let of = |kind: &str, state: &str| progress::health(&json!({ "kind": kind, "status": { "state": state } }));
    for (kind, state) in [("Connector", "Online"), ("MonitoredBackend", "Up"), ("MonitoredBackend", "Degraded")] {
        assert_eq!(of(kind, state), ShownHealth::Healthy(state.to_owned()), "{kind}");
    }
    for (kind, state) in [("Connector", "Offline"), ("Connector", "Degraded"), ("MonitoredBackend", "Down")] {
        assert_eq!(of(kind, state), ShownHealth::Unhealthy, "{kind} {state}");
    }
    for state in ["Late", "Unknown", "Pending"] {
        assert_eq!(of("Connector", state), ShownHealth::Unknown(state.to_owned()));
    }
    assert_eq!(progress::health(&json!({ "kind": "Connector" })), ShownHealth::Unknown("Pending".to_owned()));
}

#[test]
fn the_outcome_of_the_request_is_the_end_and_only_success_is_a_cure() {
    let with =
        |history: Value| backend(json!({ "remediation": { "observedRestartRequest": ASKED, "history": history } }));
    let done = with(json!([attempt("Requested", "2026-01-31T12:00:01Z", "Succeeded", true)]));
    let text = "Succeeded after 41 s: restarted, cured".to_owned();
    assert_eq!(step(&done, 50), Progress::Finished { is_cured: true, text });
    let failed = with(json!([attempt("Requested", ASKED, "NotCured", false)]));
    let text = "NotCured after 42 s: restarted, not cured".to_owned();
    assert_eq!(step(&failed, 50), Progress::Finished { is_cured: false, text });
    let slow_clock = with(json!([attempt("Requested", "2026-01-31T11:59:12Z", "Succeeded", true)]));
    assert!(
        matches!(step(&slow_clock, 50), Progress::Finished { is_cured: true, .. }),
        "the operator's clock is behind"
    );
    let other = with(json!([attempt("ProcessDown", "2026-01-31T12:00:01Z", "Succeeded", true)]));
    assert_eq!(step(&other, 50), Progress::Waiting(None));
}

#[test]
fn the_outcome_of_an_earlier_request_is_not_taken_for_ours() {
    let earlier = backend(json!({ "remediation": { "observedRestartRequest": "2026-01-31T11:50:00Z",
        "history": [attempt("Requested", "2026-01-31T12:00:30Z", "Succeeded", true)] } }));
    assert_eq!(step(&earlier, 50), Progress::Waiting(None), "our clock may be behind, too");
    let under_way = backend(json!({ "remediation": { "observedRestartRequest": ASKED,
        "current": { "id": "a2", "cause": "Requested", "phase": "Verifying", "startTime": ASKED },
        "history": [attempt("Requested", "2026-01-31T11:00:00Z", "NotCured", false)] } }));
    assert!(
        matches!(step(&under_way, 50), Progress::Waiting(Some(text)) if text.starts_with("Verifying: restarted; waiting"))
    );
}

#[test]
fn phases_and_passing_denials_are_said_and_waited_for() {
    let said = |object: &Value| match step(object, 20) {
        Progress::Waiting(said) => said.unwrap_or_default(),
        over => panic!("{over:?}"),
    };
    let current =
        json!({ "id": "a1", "cause": "ProcessHung", "phase": "Restarting", "startTime": "2026-01-31T11:59:00Z" });
    let earlier = backend(json!({ "remediation": { "current": current } }));
    let expected = "Restarting: it was told to restart (an earlier attempt, because of ProcessHung; the request waits)";
    assert_eq!(said(&earlier), expected);
    assert_eq!(said(&denied("RolloutInProgress")), "denied for now: RolloutInProgress: the figures");
    assert_eq!(said(&denied("FromTheFuture")), "denied for now: FromTheFuture: the figures");
    assert_eq!(said(&denied("Idle")), "");
    assert_eq!(said(&denied("CoolingDown")), "", "given before: it does not hold requests back");
}

#[test]
fn a_denial_that_never_passes_ends_the_wait_and_says_what_to_do() {
    for (reason, what) in [
        ("SuggestOnly", "set spec.remediation.mode to Restart"),
        ("RemediationOff", "--remediation on"),
        ("BreakerOpen", "vigie breaker reset"),
        ("Paused", "spec.paused"),
        ("NotYetSupported", "run an operator"),
    ] {
        let Progress::Finished { is_cured: false, text } = step(&denied(reason), 5) else { panic!("{reason}") };
        assert!(text.starts_with(&format!("not restarted: {reason}: the figures\nwhat to do: ")), "{text}");
        assert!(text.contains(what), "{text}");
        assert_eq!(step(&denied(reason), 4), Progress::Waiting(None), "it may be of before the request");
    }
    let mut off = backend(json!({}));
    off["spec"] = json!({});
    assert!(
        matches!(step(&off, 0), Progress::Finished { is_cured: false, text } if text.contains("has no remediation"))
    );
}

#[test]
fn a_request_lapses_after_ten_minutes_but_not_one_that_led_to_an_attempt() {
    assert_eq!(step(&backend(json!({})), 600), Progress::Waiting(None));
    let Progress::Finished { is_cured: false, text } = step(&denied("RateLimited"), 601) else { panic!("it lapsed") };
    assert_eq!(text, "not restarted: the request lapsed after 10 minutes; RateLimited: the figures");
    assert!(
        matches!(step(&backend(json!({})), 601), Progress::Finished { text, .. } if text.contains("does the operator run?"))
    );
    let current = json!({ "id": "a1", "cause": "Requested", "phase": "Verifying", "startTime": ASKED });
    let under_way = backend(json!({ "remediation": { "current": current, "observedRestartRequest": ASKED } }));
    assert!(matches!(step(&under_way, 601), Progress::Waiting(Some(_))));
}

#[test]
fn nothing_that_an_agent_said_is_obeyed_by_a_terminal() {
    let mut said = attempt("Requested", ASKED, "Refused", false);
    said["message"] = "no\u{1b}[31m unit\u{202e}".into();
    let object = backend(json!({ "remediation": { "observedRestartRequest": ASKED, "history": [said] } }));
    let Progress::Finished { text, .. } = step(&object, 50) else { panic!("it is over") };
    assert!(text.ends_with("; no [31m unit "), "{text:?}");
}

fn target(fake: &Fake) -> RestartTarget {
    let kind = ResourceKind::Backends;
    RestartTarget {
        objects: Api::namespaced_with(fake.client(), "shop", &kind.resource()),
        kind,
        called: "backend shop/orders".to_owned(),
        namespace: "shop".to_owned(),
        name: "orders".to_owned(),
    }
}

#[tokio::test]
async fn asking_is_an_annotation_with_the_time_in_whole_seconds() {
    let fake = Fake::new();
    fake.put(PATH, backend(json!({})));
    let asked = target(&fake).request(time("2026-01-31T12:00:00.75Z")).await.unwrap();
    assert_eq!(asked, time(ASKED));
    assert_eq!(fake.object(PATH).unwrap()["metadata"]["annotations"], json!({ "vigie.dev/restart-requested": ASKED }));
    assert_eq!(fake.take_log(), [format!("PATCH {PATH}?&fieldManager=vigie-cli")]);
    fake.set_mode(Mode::Refuses(403, "Forbidden"));
    let error = target(&fake).request(asked).await.unwrap_err().to_string();
    assert!(error.starts_with("asking for a restart of the backend shop/orders: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn waiting_outlives_a_look_that_fails_and_ends_with_the_outcome() {
    let fake = Fake::new();
    fake.put(PATH, backend(json!({})));
    fake.set_mode(Mode::Refuses(503, "ServiceUnavailable"));
    let (waiting_target, asked) = (target(&fake), Timestamp::from_second(Timestamp::now().as_second()).unwrap());
    let waiting = tokio::spawn(async move { waiting_target.wait(asked, 900).await });
    while fake.take_log().is_empty() {
        tokio::task::yield_now().await;
    }
    fake.set_mode(Mode::Up);
    let history = json!([attempt("Requested", &asked.to_string(), "NotCured", false)]);
    let status = json!({ "remediation": { "observedRestartRequest": asked.to_string(), "history": history } });
    fake.put(PATH, backend(status));
    assert!(waiting.await.unwrap().unwrap_err().is::<Unwell>());
    fake.put(PATH, Value::Null);
    let error = target(&fake).wait(asked, 900).await.unwrap_err().to_string();
    assert_eq!(error, "the backend shop/orders was deleted meanwhile");
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_its_time_is_over() {
    let fake = Fake::new();
    fake.put(PATH, backend(json!({})));
    assert!(target(&fake).wait(Timestamp::now(), 3).await.unwrap_err().is::<Unwell>());
}

#[tokio::test]
async fn who_does_not_wait_is_told_what_speaks_against_it() {
    let target = target(&Fake::new());
    let text = target.request_text(&backend(json!({})), time(ASKED), false);
    let expected = "\
asked for a restart of backend shop/orders at 2026-01-31T12:00:00Z
it is honoured within 10 minutes, unless something forbids it
see what came of it in status.remediation: kubectl get monitoredbackends orders -n shop -o yaml
";
    assert_eq!(text, expected);
    let mut suggest = backend(json!({}));
    suggest["spec"]["remediation"]["mode"] = "Suggest".into();
    assert!(target.request_text(&suggest, time(ASKED), false).contains("it will be denied: its spec.remediation.mode"));
    assert_eq!(target.request_text(&suggest, time(ASKED), true).lines().count(), 1);
}
