//! Status and events of a backend, for every state and condition of docs/design/api.md.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::remediation_input::verdict;
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
use crate::remediation::{InsideView, ObjectHealth};

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
        agent: None,
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
fn no_verdict_and_no_figure_outlives_its_evidence() {
    let shop = shop();
    let page = Findings { metrics_exposed: is(Truth::True, Reason::Exposed), ..Default::default() };
    for results in [&[OK][..], &[REFUSED, REFUSED], &[Ok(200), Ok(200)]] {
        let live = Snapshot { stands_until: Some(moment(62)), ..found(probed(&shop, results), page.clone()) };
        let before = stored(&shop, &at(&shop, &live, 61));
        assert_ne!(before.status.as_ref().unwrap().state, Some(BackendState::Unknown));
        let plan = at(&before, &live, 62);
        assert_eq!((state(&plan), cause(&plan)), (BackendState::Unknown, Some(Cause::NotProbed)), "{results:?}");
        for type_ in [ConditionType::Ready, ConditionType::Available, ConditionType::MetricsExposed] {
            assert_eq!(says(&plan, type_), "Unknown/NotProbed");
        }
        assert!(plan.status.is_some() && plan.events.len() == 1, "it is written and told");
        let diagnosis = plan.current.diagnosis.unwrap();
        assert!(diagnosis.message.contains("its last probe ended at"), "{}", diagnosis.message);
        let why = Snapshot { unresolved: Some("reading Service apps/web: 503".to_owned()), ..live };
        let message = at(&before, &why, 62).current.diagnosis.unwrap().message;
        assert!(message.ends_with("reading Service apps/web: 503"), "{message}");
    }
    let never = Snapshot { unresolved: Some("listing pods: 403".to_owned()), ..probed(&shop, &[]) };
    let plan = at(&shop, &never, 9);
    assert_eq!(state(&plan), BackendState::Pending);
    assert_eq!(plan.current.diagnosis.unwrap().message, "it has not been probed yet: listing pods: 403");
}

#[test]
fn findings_that_no_investigation_renews_are_unknown_and_explain_nothing() {
    let shop = shop();
    let all = Findings {
        diagnosis: because(Cause::CrashLoop),
        scraped: is(Truth::True, Reason::TargetUp),
        workload_healthy: is(Truth::False, Reason::CrashLoop),
        ..Default::default()
    };
    let live = Snapshot { findings_until: Some(moment(300)), ..found(probed(&shop, &[REFUSED, REFUSED]), all) };
    let before = stored(&shop, &at(&shop, &live, 299));
    assert_eq!(before.status.as_ref().unwrap().diagnosis.as_ref().unwrap().cause, Cause::CrashLoop);
    // The conditions of a former leader age in the same way.
    for live in [live.clone(), Snapshot { findings: None, ..live }] {
        let plan = at(&before, &live, 300);
        assert_eq!(
            (state(&plan), cause(&plan)),
            (BackendState::Down, Some(Cause::Unexplained)),
            "the probes still fail"
        );
        for type_ in [ConditionType::Scraped, ConditionType::WorkloadHealthy] {
            assert_eq!(says(&plan, type_), "Unknown/Stale");
        }
    }
}

/// Beside a URL, where the target is probed all the same.
#[test]
fn a_workload_that_does_not_exist_is_told_while_the_target_passes() {
    let mut shop = shop();
    let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "typo"});
    shop.spec.workload_ref = Some(serde_json::from_value(reference).unwrap());
    let live = probed(&shop, &[OK]);
    let seen = |cause| Findings { diagnosis: because(cause), ..Findings::default() };
    let plan = at(&shop, &found(live.clone(), seen(Cause::WorkloadNotFound)), 2);
    assert_eq!(says(&plan, ConditionType::Accepted), "False/WorkloadNotFound");
    assert_eq!(says(&plan, ConditionType::Ready), "False/WorkloadNotFound");
    assert_eq!(says(&plan, ConditionType::Available), "True/ProbePassed", "it is probed all the same");
    assert_eq!((state(&plan), cause(&plan)), (BackendState::Degraded, Some(Cause::WorkloadNotFound)));
    // Another leader has not investigated yet: what is stored about this spec stands.
    let before = stored(&shop, &plan);
    assert_eq!(says(&at(&before, &live, 3), ConditionType::Accepted), "False/WorkloadNotFound");
    let mut corrected = before.clone();
    corrected.metadata.generation = Some(4);
    assert_eq!(says(&at(&corrected, &live, 3), ConditionType::Accepted), "True/Accepted");
    let plan = at(&before, &found(live, Findings::default()), 4);
    assert_eq!((says(&plan, ConditionType::Accepted), state(&plan)), ("True/Accepted".to_owned(), BackendState::Up));
}

#[test]
fn a_timeout_above_the_limit_is_told_where_the_spec_is_accepted() {
    let patient = backend(json!({"intervalSeconds": 3600, "timeoutSeconds": 3600}));
    let plan = at(&patient, &probed(&patient, &[OK]), 2);
    let accepted = conditions::get(&plan.current.conditions, ConditionType::Accepted).unwrap();
    assert_eq!(accepted.status, "True");
    assert!(accepted.message.contains("spec.probe.timeoutSeconds 3600 counts as 60"), "{}", accepted.message);
}

#[test]
fn a_certificate_is_forgotten_when_the_target_passes_without_one() {
    let shop = shop();
    let secure = Snapshot { certificate_expires: Some(wall(90)), ..probed(&shop, &[OK]) };
    let before = stored(&shop, &at(&shop, &secure, 2));
    assert!(before.status.as_ref().unwrap().certificate_expiry_time.is_some());
    assert!(
        at(&before, &probed(&shop, &[]), 3).current.certificate_expiry_time.is_some(),
        "not probed by this leader yet"
    );
    assert_eq!(at(&before, &probed(&shop, &[OK]), 3).current.certificate_expiry_time, None);
}

#[test]
fn one_bad_replica_is_an_incident_and_begins_with_its_cause() {
    let shop = shop();
    let bad = |cause, reason| Findings {
        diagnosis: because(cause),
        workload_healthy: is(Truth::False, reason),
        ..Default::default()
    };
    let verdict_at = |of: &MonitoredBackend, live: &Snapshot, second| {
        let input = Input { backend: of, live, now: now(second) };
        verdict(&input, &input.assess())
    };
    let rolling = found(probed(&shop, &[OK]), bad(Cause::RolloutInProgress, Reason::RolloutInProgress));
    let before = stored(&shop, &at(&shop, &rolling, 5));
    assert_eq!(verdict_at(&before, &rolling, 6).intervals[0].health, ObjectHealth::Healthy, "it serves");
    let mut one = found(probed(&shop, &[OK]), bad(Cause::OneReplicaBad, Reason::OneReplicaBad));
    let replica = |name: &str, class, confirmed| {
        let seen = vantage(class, wall(1));
        Vantage { name: name.to_owned(), confirmed, ..seen }
    };
    one.vantages = vec![
        replica("pod/web-1", None, None),
        replica("pod/web-2", Some(ErrorClass::FirstByteTimeout), Some(true)),
        replica("pod/web-3", Some(ErrorClass::Refused), Some(false)),
    ];
    // The cause changes within Degraded, which is no transition.
    let during = stored(&before, &at(&before, &one, 20));
    for second in [20, 80] {
        let seen = verdict_at(&during, &one, second);
        let first = &seen.intervals[0];
        assert_eq!(
            (first.health, first.since.as_second()),
            (ObjectHealth::Unhealthy, wall(20).as_second()),
            "{seen:#?}"
        );
        assert_eq!(seen.healthy_at, None, "two that pass cure no third");
        let InsideView::Pods { failing, passing, .. } = seen.inside else { panic!("{:?}", seen.inside) };
        assert_eq!((failing, passing), (vec!["web-2".to_owned()], vec!["web-1".to_owned()]), "one failure is none");
    }
    let cured = verdict_at(&during, &probed(&shop, &[OK, OK]), 90);
    assert_eq!(cured.intervals[0].health, ObjectHealth::Healthy);
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
