//! Builders of evidence for the tests: a healthy backend and its failures.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::api::{Cause, Confidence, Diagnosis, ErrorClass, Phase, RestartHelps, WorkloadKind, WorkloadRef};
use crate::diagnosis::evidence::{
    Actuator, Container, Ended, EnvValue, Evidence, FORMAT, Lookup, Pod, Prometheus, ScrapeTarget, Service, Subject,
    Vantage, Warning, Workload,
};
use crate::diagnosis::rules::diagnose;

/// Time of gathering.
pub(super) fn now() -> Timestamp {
    "2026-11-05T10:00:00Z".parse().unwrap()
}

/// This many seconds before it was gathered.
pub(super) fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

pub(super) const PAGE: &str = "/actuator/prometheus";

/// A vantage that passes.
pub(super) fn passing(name: &str) -> Vantage {
    Vantage {
        name: name.to_owned(),
        ok: true,
        error_class: None,
        phase: Some(Phase::Body),
        milliseconds: 12,
        at: now(),
        message: String::new(),
        detail: None,
        address: Some("10.1.0.7".parse().unwrap()),
        port: Some(8081),
        source: None,
        http_status: Some(200),
        redirects_to_login: false,
        not_serving: false,
        grpc_status: None,
        any_byte: true,
        certificate_expires: None,
        missing_metrics: Vec::new(),
        broken_at: None,
        samples: Some(40),
        confirmed: None,
        last_passed: None,
    }
}

/// A vantage that fails with this class.
pub(super) fn failing(name: &str, class: ErrorClass) -> Vantage {
    let (phase, any_byte) = match class {
        ErrorClass::DNSNotFound | ErrorClass::DNSFailure | ErrorClass::DNSTimeout => (Phase::Resolve, false),
        ErrorClass::Denied => (Phase::Policy, false),
        ErrorClass::Refused | ErrorClass::ConnectTimeout | ErrorClass::Unreachable => (Phase::Connect, false),
        ErrorClass::FirstByteTimeout | ErrorClass::Reset => (Phase::FirstByte, false),
        ErrorClass::TLSExpired
        | ErrorClass::TLSHandshake
        | ErrorClass::TLSUnknownAuthority
        | ErrorClass::TLSNameMismatch
        | ErrorClass::NotTLS => (Phase::TLS, true),
        _ => (Phase::Body, true),
    };
    let timeout = matches!(class, ErrorClass::ConnectTimeout | ErrorClass::FirstByteTimeout | ErrorClass::BodyTimeout);
    Vantage {
        ok: false,
        milliseconds: if timeout { 5_001 } else { 12 },
        error_class: Some(class),
        phase: Some(phase),
        http_status: None,
        any_byte,
        samples: None,
        ..passing(name)
    }
}

/// A vantage that got this HTTP status.
pub(super) fn answered(name: &str, status: u16) -> Vantage {
    Vantage { http_status: Some(status), ..failing(name, ErrorClass::HTTPStatus) }
}

/// A pod that has been ready for two hours.
pub(super) fn pod(name: &str) -> Pod {
    let container = Container {
        name: "app".to_owned(),
        image: "registry.example.com/web:1".to_owned(),
        ready: true,
        started: Some(true),
        running_since: Some(ago(7200)),
        ports: vec![(Some("management".to_owned()), 8081)],
        probes: (false, true, true),
        memory_limit: Some("512Mi".to_owned()),
        ..Container::default()
    };
    Pod {
        name: name.to_owned(),
        phase: "Running".to_owned(),
        created: Some(ago(7210)),
        node: Some("node-a".to_owned()),
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        ready: true,
        containers: vec![container],
        ..Pod::default()
    }
}

/// A target that Prometheus scrapes, and that is up.
pub(super) fn scraped() -> ScrapeTarget {
    ScrapeTarget {
        url: "http://10.1.0.7:8081/actuator/prometheus".to_owned(),
        job: "web".to_owned(),
        health: "up".to_owned(),
        last_scrape: Some(ago(5)),
        last_milliseconds: 14,
        interval_milliseconds: 15_000,
        timeout_milliseconds: 10_000,
        samples: Some(40),
        ..ScrapeTarget::default()
    }
}

/// The same target, down with this error.
pub(super) fn down(error: &str) -> ScrapeTarget {
    ScrapeTarget { health: "down".to_owned(), last_error: error.to_owned(), samples: None, ..scraped() }
}

/// The links of an actuator: rel and path.
pub(super) fn links(links: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    Some(links.iter().map(|(rel, path)| ((*rel).to_owned(), (*path).to_owned())).collect())
}

/// An actuator that is UP and lists its metrics page.
pub(super) fn actuator() -> Actuator {
    Actuator {
        base: "http://10.1.0.7:8081/actuator".to_owned(),
        base_status: Some(200),
        links: links(&[("self", "/actuator"), ("health", "/actuator/health"), ("prometheus", PAGE)]),
        health_status: Some(200),
        health: Some("UP".to_owned()),
        liveness: Some(Ok(200)),
        ..Actuator::default()
    }
}

/// A healthy backend with complete evidence: its metrics page is the target.
pub(super) fn well() -> Evidence {
    let workload = Workload {
        wanted: 1,
        updated: 1,
        ready: 1,
        current: 1,
        observed: true,
        template_since: Some(ago(7210)),
        revision: Some((3, true)),
        ..Workload::default()
    };
    let prometheus = Prometheus { targets: vec![scraped()], asked_at: Some(now()), ..Prometheus::default() };
    Evidence {
        format: FORMAT,
        gathered_at: now(),
        subject: subject(),
        refused: None,
        blind: None,
        vantages: vec![passing("target")],
        history: Default::default(),
        workload: Lookup::Found(workload),
        pods: Lookup::Found(vec![pod("web-1")]),
        ended_pods: Vec::new(),
        nodes_not_ready: Lookup::Found(BTreeMap::new()),
        service: Lookup::NotLooked,
        certificate_secret: Lookup::NotLooked,
        policies: Lookup::Found(Vec::new()),
        events: Lookup::Found(Vec::new()),
        prometheus: Lookup::Found(prometheus),
        actuator: Lookup::Found(actuator()),
        agent: None,
        missing: Vec::new(),
    }
}

fn subject() -> Subject {
    Subject {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        url: format!("http://web.shop.svc:8081{PAGE}"),
        scheme: "http".to_owned(),
        host: "web.shop.svc".to_owned(),
        port: 8081,
        path: PAGE.to_owned(),
        workload: Some(WorkloadRef { kind: WorkloadKind::Deployment, name: "web".to_owned() }),
        wants_metrics: true,
        startup_seconds: 300,
        ..Subject::default()
    }
}

/// The same backend, bad for a minute: the probe and Prometheus fail with this class.
pub(super) fn bad(class: ErrorClass) -> Evidence {
    let mut e = failed(failing("target", class));
    if matches!(class, ErrorClass::Refused | ErrorClass::ConnectTimeout | ErrorClass::Unreachable) {
        // Without a connection the actuator does not answer either.
        e.actuator = Lookup::Found(Actuator { base: actuator().base, base_error: Some(class), ..Actuator::default() });
    }
    e
}

/// The same backend, which answers with this status.
pub(super) fn status(status: u16) -> Evidence {
    failed(answered("target", status))
}

/// Bad for a minute, with this vantage of the target.
pub(super) fn failed(target: Vantage) -> Evidence {
    let mut e = well();
    e.vantages = vec![target];
    e.history.bad_since = Some(ago(60));
    e.history.last_healthy = Some(ago(75));
    e.prometheus = Lookup::NotLooked;
    e
}

/// The probe passes, Prometheus reports this error.
pub(super) fn only_prometheus(error: &str) -> Evidence {
    with(well(), |e| prometheus_of(e).targets = vec![down(error)])
}

/// The evidence after a change.
pub(super) fn with(mut e: Evidence, change: impl FnOnce(&mut Evidence)) -> Evidence {
    change(&mut e);
    e
}

/// The found value, to be changed.
pub(super) fn found<T>(lookup: &mut Lookup<T>) -> &mut T {
    match lookup {
        Lookup::Found(found) => found,
        _ => panic!("the scene has it"),
    }
}

pub(super) fn workload_of(e: &mut Evidence) -> &mut Workload {
    found(&mut e.workload)
}

pub(super) fn prometheus_of(e: &mut Evidence) -> &mut Prometheus {
    found(&mut e.prometheus)
}

pub(super) fn actuator_of(e: &mut Evidence) -> &mut Actuator {
    found(&mut e.actuator)
}

/// The only pod.
pub(super) fn pod_of(e: &mut Evidence) -> &mut Pod {
    &mut found(&mut e.pods)[0]
}

/// The only container.
pub(super) fn container_of(e: &mut Evidence) -> &mut Container {
    &mut pod_of(e).containers[0]
}

/// Sets an environment variable of the container.
pub(super) fn set(e: &mut Evidence, name: &str, value: &str) {
    let container = container_of(e);
    container.environment.insert(name.to_owned());
    container.values.insert(name.to_owned(), EnvValue::Plain(value.to_owned()));
}

/// A container that waits; the pod is not ready.
pub(super) fn waits(e: &mut Evidence, reason: &str, message: &str) {
    let pod = pod_of(e);
    pod.ready = false;
    pod.containers[0].ready = false;
    pod.containers[0].running_since = None;
    pod.containers[0].waiting = Some((reason.to_owned(), message.to_owned()));
}

/// A container in CrashLoopBackOff with this termination.
pub(super) fn crashed(reason: &str, exit_code: i32, message: Option<&str>) -> Evidence {
    with(bad(ErrorClass::Refused), |e| {
        waits(e, "CrashLoopBackOff", "back-off 20s restarting failed container");
        let container = container_of(e);
        container.restarts = 4;
        container.last = Some(Ended {
            reason: reason.to_owned(),
            exit_code,
            began: Some(ago(45)),
            ended: Some(ago(40)),
            message: message.map(str::to_owned),
        });
    })
}

/// A warning about the pod.
pub(super) fn warn(e: &mut Evidence, reason: &str, note: &str) {
    let about = format!("Pod/{}", pod_of(e).name);
    let (reason, note) = (reason.to_owned(), note.to_owned());
    let warning = Warning { reason, about, note, at: Some(ago(30)), count: 3, ..Warning::default() };
    found(&mut e.events).push(warning);
}

/// A Service in front of the pod, with its endpoint.
pub(super) fn behind_service(e: &mut Evidence) {
    e.subject.service = Some(("web".to_owned(), "management".to_owned()));
    e.service = Lookup::Found(Service {
        name: "web".to_owned(),
        kind: "ClusterIP".to_owned(),
        selector: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        port: Some((8081, "management".to_owned())),
        ports: vec!["management/8081".to_owned()],
        selected: Some(1),
        endpoints: (1, 0),
        endpoint_port: Some(8081),
        ..Service::default()
    });
}

pub(super) fn service_of(e: &mut Evidence) -> &mut Service {
    found(&mut e.service)
}

/// The diagnosis; fails without one.
#[track_caller]
pub(super) fn diagnosis(e: &Evidence) -> Diagnosis {
    diagnose(e).expect("something is wrong")
}

/// Asserts cause, confidence and `restart_helps` of the diagnosis.
#[track_caller]
pub(super) fn expect(e: &Evidence, cause: Cause, confidence: Confidence, restart: RestartHelps) -> Diagnosis {
    let diagnosis = diagnosis(e);
    assert_eq!(
        (diagnosis.cause, diagnosis.confidence, diagnosis.restart_helps),
        (cause, confidence, restart),
        "{diagnosis:#?}"
    );
    diagnosis
}

/// Asserts the cause of the diagnosis.
#[track_caller]
pub(super) fn expect_cause(e: &Evidence, cause: Cause) -> Diagnosis {
    let diagnosis = diagnosis(e);
    assert_eq!(diagnosis.cause, cause, "{diagnosis:#?}");
    diagnosis
}

/// Asserts that the text contains all of these words.
#[track_caller]
pub(super) fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in {text:?}");
    }
}
