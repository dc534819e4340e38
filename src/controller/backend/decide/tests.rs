//! Status and events of a backend, for every state and condition of docs/design/api.md.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::{
    Cause, Condition, ConditionType, ConditionValue, Confidence, Diagnosis, ErrorClass, Phase, Reason, RestartHelps,
    Truth, conditions,
};
use crate::controller::connector::fake::no_remedy;
use crate::controller::test_clock::{START, moment, now};
use crate::health::availability::{ProbeHistory, Sample};
use crate::monitor::entry::Snapshot;
use crate::monitor::findings::Findings;
use crate::monitor::live::limits;

/// That moment on the wall clock, to the microsecond.
fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn backend(probe: Value) -> MonitoredBackend {
    let meta = json!({"name": "shop", "namespace": "apps", "uid": "u1", "generation": 3, "resourceVersion": "7"});
    let spec = json!({"target": {"url": "http://192.0.2.1:8080/metrics"}, "probe": probe});
    let object =
        json!({"apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend", "metadata": meta, "spec": spec});
    serde_json::from_value(object).unwrap()
}

/// A backend whose page is asked for, judged after two failures.
fn shop() -> MonitoredBackend {
    backend(json!({"metrics": {}, "failureThreshold": 2, "degradedLatencyMilliseconds": 100}))
}

/// As the API server keeps it and gives it back.
fn stored(of: &MonitoredBackend, plan: &Plan<MonitoredBackendStatus>) -> MonitoredBackend {
    let next = MonitoredBackend { status: Some(plan.current.clone()), ..of.clone() };
    serde_json::from_value(serde_json::to_value(next).unwrap()).unwrap()
}

fn vantage(class: Option<ErrorClass>, at: Timestamp) -> Vantage {
    let target = json!({"name": "target", "ok": class.is_none(), "milliseconds": 20, "at": at, "message": "as seen"});
    let mut seen: Vantage = serde_json::from_value(target).unwrap();
    (seen.error_class, seen.phase) = (class, class.map(|_| Phase::Connect));
    seen
}

/// One probe each second, from the first on: how long it took, or what it failed with.
fn probed(of: &MonitoredBackend, results: &[Result<u64, ErrorClass>]) -> Snapshot {
    let mut record = ProbeHistory::new(moment(0));
    for (second, result) in (1..).zip(results) {
        let took = Duration::from_millis(result.unwrap_or(20));
        record.record(Sample { at: moment(second), passed: result.is_ok(), took }, &limits(of));
    }
    let last = i64::try_from(results.len()).unwrap();
    let at = results.iter().rposition(Result::is_ok).map(|at| moment(i64::try_from(at).unwrap() + 1));
    Snapshot {
        record,
        refused: None,
        target: Some("http://192.0.2.1:8080/metrics".to_owned()),
        scrape: None,
        vantages: results.last().map(|last_one| vantage(last_one.err(), wall(last))).into_iter().collect(),
        latency: at.map(|_| Duration::from_millis(20)),
        certificate_expires: None,
        probed_at: (last > 0).then(|| moment(last)),
        passed_at: at,
        findings: None,
        findings_until: None,
        blind: None,
        stands_until: None,
        unresolved: None,
    }
}

fn found(mut live: Snapshot, findings: Findings) -> Snapshot {
    live.findings = Some(Arc::new(findings));
    live
}

fn because(cause: Cause) -> Option<Diagnosis> {
    let (message, advice) = ("it is so".to_owned(), "do this".to_owned());
    let (confidence, restart_helps) = (Confidence::Likely, RestartHelps::No);
    let (evidence, alternatives) = (Vec::new(), Vec::new());
    Some(Diagnosis { cause, confidence, since: None, message, advice, restart_helps, evidence, alternatives })
}

fn is(truth: Truth, reason: Reason) -> Option<ConditionValue> {
    Some(ConditionValue::new(truth, reason, "as seen"))
}

fn at(of: &MonitoredBackend, live: &Snapshot, second: i64) -> Plan<MonitoredBackendStatus> {
    let input = Input { backend: of, live, now: now(second) };
    let assessment = input.assess();
    let stored = of.status.as_ref().and_then(|status| status.remediation.as_ref());
    let remedy = no_remedy(stored, &assessment.conditions);
    decide(&input, assessment, &remedy)
}

fn says(plan: &Plan<MonitoredBackendStatus>, type_: ConditionType) -> String {
    let found: Option<&Condition> = conditions::get(&plan.current.conditions, type_);
    found.map_or_else(|| "-".to_owned(), |found| format!("{}/{}", found.status, found.reason))
}

fn state(plan: &Plan<MonitoredBackendStatus>) -> BackendState {
    plan.current.state.unwrap()
}

fn cause(plan: &Plan<MonitoredBackendStatus>) -> Option<Cause> {
    plan.current.diagnosis.as_ref().map(|found| found.cause)
}

const OK: Result<u64, ErrorClass> = Ok(20);
const REFUSED: Result<u64, ErrorClass> = Err(ErrorClass::Refused);

#[test]
fn the_state_is_the_first_that_matches() {
    let shop = shop();
    let broken = Findings { metrics_exposed: is(Truth::False, Reason::NotMetrics), ..Default::default() };
    let unscraped = Findings { scraped: is(Truth::False, Reason::NotScraped), ..Default::default() };
    let unwell = Findings { workload_healthy: is(Truth::False, Reason::OneReplicaBad), ..Default::default() };
    let unsure = Findings { diagnosis: because(Cause::HealthUnknown), ..Default::default() };
    let blind = Snapshot { blind: Some("7 of 9 went dark".to_owned()), ..probed(&shop, &[OK, REFUSED, REFUSED]) };
    for (live, expected, ready) in [
        (probed(&shop, &[]), BackendState::Pending, "Unknown/NotProbed"),
        (probed(&shop, &[REFUSED]), BackendState::Pending, "Unknown/NotProbed"),
        (probed(&shop, &[REFUSED, REFUSED]), BackendState::Down, "False/Refused"),
        (probed(&shop, &[OK]), BackendState::Up, "True/Ready"),
        (probed(&shop, &[OK, REFUSED]), BackendState::Up, "True/Ready"),
        (probed(&shop, &[OK, REFUSED, REFUSED]), BackendState::Down, "False/Refused"),
        (probed(&shop, &[Ok(200), Ok(200)]), BackendState::Degraded, "True/Ready"),
        (blind, BackendState::Unknown, "Unknown/ProbeBlind"),
        (found(probed(&shop, &[OK]), broken), BackendState::Degraded, "False/NotMetrics"),
        (found(probed(&shop, &[OK]), unscraped), BackendState::Degraded, "False/NotScraped"),
        (found(probed(&shop, &[OK]), unwell), BackendState::Degraded, "False/OneReplicaBad"),
        (found(probed(&shop, &[OK]), unsure), BackendState::Degraded, "True/Ready"),
    ] {
        let plan = at(&shop, &live, 9);
        assert_eq!((state(&plan), says(&plan, ConditionType::Ready).as_str()), (expected, ready), "{live:#?}");
        assert_eq!(cause(&plan).is_none(), expected == BackendState::Up, "why, unless all is well: {plan:#?}");
    }
}

#[test]
fn what_cannot_be_probed_is_never_called_up_or_down() {
    let shop = shop();
    let refused = |reason| Snapshot { refused: Some((reason, "no such Service".to_owned())), ..probed(&shop, &[]) };
    let absent = at(&shop, &refused(Reason::InvalidTarget), 9);
    assert_eq!(state(&absent), BackendState::Pending);
    for (type_, expected) in [
        (ConditionType::Accepted, "False/InvalidTarget"),
        (ConditionType::Available, "Unknown/NotProbed"),
        (ConditionType::Ready, "False/InvalidTarget"),
        (ConditionType::Stalled, "True/InvalidTarget"),
    ] {
        assert_eq!(says(&absent, type_), expected);
    }
    let denied = at(&shop, &refused(Reason::TargetDenied), 9);
    assert_eq!(state(&denied), BackendState::Down, "what may not be dialled is Down, and never dialled");
    assert_eq!(says(&denied, ConditionType::Available), "False/Denied");
    let lost = at(&stored(&shop, &at(&shop, &probed(&shop, &[OK]), 2)), &refused(Reason::InvalidTarget), 9);
    assert_eq!(state(&lost), BackendState::Unknown, "what was judged once is not Pending again");
}

#[test]
fn one_failure_and_one_look_at_it_change_nothing() {
    let shop = shop();
    let page = |truth, reason| Findings { metrics_exposed: is(truth, reason), ..Default::default() };
    let well = found(probed(&shop, &[OK]), page(Truth::True, Reason::Exposed));
    let before = stored(&shop, &at(&shop, &well, 2));
    // The look at a failure that is being confirmed brings no word on the page.
    let blip = found(probed(&shop, &[OK, REFUSED]), Findings::default());
    let plan = at(&before, &blip, 3);
    assert_eq!(says(&plan, ConditionType::MetricsExposed), "True/Exposed", "what was said of it stands");
    assert_eq!((state(&plan), plan.events.len(), plan.due_at), (BackendState::Up, 0, None));
    // After a restart of ours nothing has been looked into yet.
    let fresh = at(&before, &probed(&shop, &[OK]), 4);
    assert_eq!(says(&fresh, ConditionType::MetricsExposed), "True/Exposed");
    assert!(fresh.status.is_none(), "{fresh:#?}");
    // The spec does not ask for the page any more.
    let mut plain = before.clone();
    plain.spec.probe.metrics = None;
    assert_eq!(says(&at(&plain, &blip, 5), ConditionType::MetricsExposed), "-");
}

#[test]
fn a_transition_is_dated_by_the_probe_that_made_it_and_told_once() {
    let shop = shop();
    let up = at(&shop, &probed(&shop, &[OK]), 2);
    assert_eq!(up.due_at, Some(wall(1)));
    assert_eq!(up.events.iter().map(|event| event.note.as_str()).collect::<Vec<_>>(), ["shop is Up"]);
    let was_up = stored(&shop, &up);
    let failing = found(
        probed(&shop, &[OK, REFUSED, REFUSED]),
        Findings { diagnosis: because(Cause::CrashLoop), ..Default::default() },
    );
    let down = at(&was_up, &failing, 9);
    let status = down.status.as_ref().expect("it is written");
    assert_eq!(status.state_since.as_ref().map(|at| at.0), Some(wall(3)), "the second failure made it Down");
    assert_eq!(says(&down, ConditionType::Available), "False/Refused");
    let turned = conditions::get(&status.conditions, ConditionType::Available).unwrap();
    assert_eq!(turned.last_transition_time.0.as_second(), wall(3).as_second());
    let [event] = down.events.as_slice() else { panic!("{:?}", down.events) };
    assert_eq!((event.reason, event.note.as_str()), ("Down", "CrashLoop: it is so. do this"));
    let since = status.diagnosis.as_ref().and_then(|found| found.since.as_ref()).map(|since| since.0.as_second());
    assert_eq!(since, Some(wall(2).as_second()), "its cause began with the first failure");
    let again = at(&stored(&shop, &down), &failing, 10);
    assert!(again.status.is_none() && again.events.is_empty(), "{again:#?}");
    let told_again = state_event(&shop, &stored(&shop, &down).status.unwrap()).unwrap();
    assert_eq!((told_again.occurrence.as_str(), told_again.at), (event.occurrence.as_str(), event.at));
}

#[test]
fn figures_alone_wait_for_the_next_checkpoint() {
    let shop = shop();
    let before = stored(&shop, &at(&shop, &probed(&shop, &[OK]), 2));
    let plan = at(&before, &probed(&shop, &[OK, OK, OK]), 5);
    assert!(plan.status.is_none(), "{plan:#?}");
    assert_eq!(plan.current.last_probe_time.map(|at| at.0.as_second()), Some(wall(3).as_second()));
    assert_eq!(plan.current.last_healthy_time.map(|at| at.0.as_second()), Some(wall(3).as_second()));
    let refused = Findings { scraped: is(Truth::False, Reason::NotScraped), ..Default::default() };
    assert!(at(&before, &found(probed(&shop, &[OK, OK]), refused), 5).status.is_some(), "a condition does not wait");
}

#[test]
fn a_recovery_says_how_long_it_lasted_and_how_bad_it_was() {
    let shop = shop();
    let sick = |state: BackendState, cause: Cause, second: i64| json!({"from": null, "to": state.as_str(), "cause": cause.as_str(), "time": wall(second).to_string()});
    let after = |transitions: Vec<Value>| {
        let status = json!({"state": "Down", "stateSince": wall(9).to_string(), "transitions": transitions});
        let mut known = shop.clone();
        known.status = Some(serde_json::from_value(status).unwrap());
        let mut record = ProbeHistory::resumed(crate::health::availability::Availability::Down, moment(9), false, None);
        record.record(Sample { at: moment(65), passed: true, took: Duration::from_millis(5) }, &limits(&shop));
        let live = Snapshot { record, probed_at: Some(moment(65)), ..probed(&shop, &[OK]) };
        at(&known, &live, 66).events[0].note.clone()
    };
    let refused = |second| sick(BackendState::Down, Cause::CrashLoop, second);
    let page = |second| sick(BackendState::Degraded, Cause::NotMetrics, second);
    let well = |second| sick(BackendState::Up, Cause::NotMetrics, second);
    assert_eq!(after(vec![refused(5), well(1)]), "shop is Up again after 1m (Down, CrashLoop)");
    assert_eq!(after(vec![page(50), refused(15), page(5), well(1)]), "shop is Up again after 1m (Down, CrashLoop)");
    assert_eq!(after(vec![page(5), well(1), refused(0)]), "shop is Up again after 1m (Degraded, NotMetrics)");
}

#[test]
fn a_slow_one_and_an_expiring_certificate_are_told_while_it_passes() {
    let secure = backend(json!({"failureThreshold": 1, "degradedLatencyMilliseconds": 100}));
    let slow = at(&secure, &probed(&secure, &[Ok(150)]), 2);
    assert_eq!((says(&slow, ConditionType::Available).as_str(), state(&slow)), ("True/Slow", BackendState::Degraded));
    let expires = |second| Snapshot { certificate_expires: Some(wall(second)), ..probed(&secure, &[OK]) };
    let fortnight = 14 * 86_400;
    let soon = at(&secure, &expires(fortnight), 9);
    assert_eq!(says(&soon, ConditionType::Available), "True/CertificateExpiring");
    assert_eq!(state(&soon), BackendState::Up, "it works");
    assert_eq!(says(&at(&secure, &expires(fortnight + 10), 9), ConditionType::Available), "True/ProbePassed");
}
