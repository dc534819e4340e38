//! Unexpected behaviour of backends in real pods.

use super::scene::*;
use crate::api::Confidence::{Certain, Likely};
use crate::api::RestartHelps::{No, Once};
use crate::api::{Cause, ErrorClass};
use crate::diagnosis::evidence::{Actuator, Container, Ended, Evidence, Lookup};

/// Started recently, refuses, and was never healthy.
fn young() -> Evidence {
    with(bad(ErrorClass::Refused), |e| {
        e.history.last_healthy = None;
        container_of(e).running_since = Some(ago(20));
        (container_of(e).ready, pod_of(e).ready) = (false, false);
    })
}

fn failed_once(container: &mut Container) -> Ended {
    let end = Ended { reason: "Error".to_owned(), exit_code: 1, ended: Some(ago(25)), ..Ended::default() };
    container.restarts = 1;
    end
}

#[test]
fn a_second_start_says_how_the_first_one_ended() {
    let again = with(young(), |e| {
        let end = failed_once(container_of(e));
        container_of(e).last = Some(end);
    });
    let d = expect(&again, Cause::StillStarting, Likely, No);
    says(&d.message, &["does not answer yet (container app ended before: Error, exit 1 at 2026-11-05T09:59:35Z)"]);
}

#[test]
fn what_has_ended_is_not_starting_not_even_as_an_alternative() {
    let ended = with(young(), |e| {
        let end = failed_once(container_of(e));
        container_of(e).running_since = None;
        container_of(e).terminated = Some(end);
    });
    let d = expect(&ended, Cause::CrashLoop, Likely, No);
    assert!(d.alternatives.is_empty(), "{d:#?}");
    // The log belongs to the present container; `--previous` would find none.
    says(&d.advice, &["kubectl -n shop logs web-1 -c app`"]);
    let backs_off = with(crashed("Error", 1, None), |e| e.history.last_healthy = None);
    says(&expect_cause(&backs_off, Cause::CrashLoop).advice, &["kubectl -n shop logs web-1 -c app --previous`"]);
}

#[test]
fn who_answers_anything_has_started() {
    // A caller outside the cluster sees that bytes came, but no status.
    let answered = with(young(), |e| {
        e.vantages = vec![failing("target", ErrorClass::HTTPStatus)];
        e.actuator = Lookup::NotLooked;
    });
    assert_ne!(diagnosis(&answered).cause, Cause::StillStarting);
    let silent = with(young(), |e| {
        e.vantages = vec![failing("target", ErrorClass::FirstByteTimeout)];
        e.actuator = Lookup::Found(Actuator { health: None, health_status: None, ..actuator() });
    });
    assert_ne!(diagnosis(&silent).cause, Cause::StillStarting);
}

#[test]
fn a_health_page_that_waits_for_a_database_is_explained_without_an_answer() {
    let waits = with(bad(ErrorClass::FirstByteTimeout), |e| {
        e.subject.path = "/actuator/health".to_owned();
        e.subject.wants_metrics = false;
        *actuator_of(e) = Actuator { health: None, health_status: None, ..actuator() };
    });
    let d = expect(&waits, Cause::DependencyDown, Likely, No);
    says(&d.message, &["nothing within 5 s", "its database"]);
    says(&d.advice, &["set env deployment/web -c app SPRING_DATASOURCE_HIKARI_CONNECTIONTIMEOUT=1000`"]);
    // The metrics page has another path.
    let metrics = with(bad(ErrorClass::FirstByteTimeout), |_| {});
    expect_cause(&metrics, Cause::SlowMetrics);
}

/// Each pod is a target, and no vantage is named `target`.
fn of_pods(class: ErrorClass) -> Evidence {
    with(bad(class), |e| e.vantages = vec![failing("pod/web-1", class)])
}

#[test]
fn where_each_pod_is_a_target_they_are_judged_as_one_would_be() {
    let e = with(of_pods(ErrorClass::Refused), |e| set(e, "SERVER_ADDRESS", "127.0.0.1"));
    expect(&e, Cause::BoundToLoopback, Certain, No);
    let missing = with(of_pods(ErrorClass::HTTPStatus), |e| {
        e.vantages = vec![answered("pod/web-1", 404)];
        actuator_of(e).links = links(&[("self", "/actuator"), ("health", "/actuator/health")]);
    });
    let d = expect(&missing, Cause::EndpointNotExposed, Likely, No);
    says(&d.message, &[PAGE]);
    let broken = with(of_pods(ErrorClass::Exposition), |e| e.vantages[0].broken_at = Some((3, 120)));
    says(&expect(&broken, Cause::MalformedMetrics, Certain, No).message, &["line 3"]);
    // One passing pod is enough for the target, but not for the workload.
    let one = with(of_pods(ErrorClass::FirstByteTimeout), |e| {
        found(&mut e.pods).push(pod("web-2"));
        e.vantages.push(passing("pod/web-2"));
    });
    says(&expect(&one, Cause::OneReplicaBad, Certain, Once).message, &["web-1"]);
}

#[test]
fn a_health_page_at_a_port_that_the_service_lacks_is_no_dead_backend() {
    let e = with(well(), |e| {
        behind_service(e);
        e.subject.wants_actuator = true;
        let mut health = failing("health", ErrorClass::Refused);
        health.port = Some(9090);
        e.vantages.push(health);
    });
    let d = expect(&e, Cause::ServicePortMismatch, Certain, No);
    says(&d.message, &["Service web has no port 9090", "spec.probe.actuator.port", "management/8081"]);
    let has = with(e, |e| service_of(e).ports.push("actuator/9090".to_owned()));
    assert_ne!(diagnosis(&has).cause, Cause::ServicePortMismatch);
}

#[test]
fn an_actuator_behind_the_services_port_is_no_management_port_of_its_own() {
    // The Service's port is 80, the pods' port 8081.
    let behind = |e: &mut Evidence| {
        behind_service(e);
        (e.subject.path, e.subject.port) = ("/metrics".to_owned(), 80);
        service_of(e).port = Some((80, "management".to_owned()));
        e.vantages[0].port = Some(80);
        actuator_of(e).base = "http://web.shop.svc:80/actuator".to_owned();
    };
    let slow = with(bad(ErrorClass::FirstByteTimeout), behind);
    assert!(expect(&slow, Cause::SlowMetrics, Certain, No).alternatives.is_empty(), "{slow:#?}");
    let elsewhere = with(status(404), behind);
    expect_cause(&elsewhere, Cause::WrongPath);
}

#[test]
fn a_refusal_by_a_running_pod_names_the_pod_and_its_own_port() {
    let e = with(bad(ErrorClass::Refused), |e| {
        behind_service(e);
        e.subject.port = 80;
        e.history.last_healthy = None;
        container_of(e).restarts = 1;
    });
    let d = expect_cause(&e, Cause::Unexplained);
    says(&d.advice, &["Pod web-1 runs and nothing listens on its port 8081", "kubectl -n shop logs web-1"]);
    for word in ["firewall", "security group", "NetworkPolicy", "ss -ltnp"] {
        assert!(!format!("{d:?}").contains(word), "{word}: {d:#?}");
    }
}

#[test]
fn behind_a_service_the_port_of_the_process_is_named_and_the_service_to_change() {
    let elsewhere = with(status(404), |e| {
        behind_service(e);
        set(e, "MANAGEMENT_SERVER_PORT", "9090");
    });
    says(&expect_cause(&elsewhere, Cause::WrongPort).advice, &["Give Service web a port that leads to 9090"]);
    let dead = with(bad(ErrorClass::FirstByteTimeout), |e| {
        behind_service(e);
        (e.subject.path, e.subject.port, e.subject.wants_metrics) = ("/".to_owned(), 80, false);
        e.vantages =
            vec![failing("target", ErrorClass::FirstByteTimeout), failing("pod/web-1", ErrorClass::FirstByteTimeout)];
        (e.vantages[0].port, e.vantages[1].port) = (Some(80), Some(8080));
        e.actuator = Lookup::Found(actuator());
    });
    let d = expect(&dead, Cause::MainPortDead, Certain, Once);
    says(&d.message, &["main port 8080"]);
    says(&d.advice, &["kubectl -n shop exec web-1 -- jcmd 1 Thread.print"]);
}
