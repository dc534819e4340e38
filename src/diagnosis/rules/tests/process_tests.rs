use std::collections::BTreeMap;

use super::scene::*;
use crate::api::Confidence::{Certain, Likely, Possible};
use crate::api::RestartHelps::{No, Once};
use crate::api::{Cause, ErrorClass};
use crate::diagnosis::evidence::{Actuator, Agent, EnvValue, Evidence, Lookup};

fn refused() -> Evidence {
    bad(ErrorClass::Refused)
}

fn through_service(class: ErrorClass) -> Evidence {
    with(bad(class), behind_service)
}

#[test]
fn the_local_agent_is_believed_while_our_probe_fails() {
    let says_stopped = |e: &mut Evidence, container: bool| {
        e.agent = Some(Agent { container_stopped: container, process_stopped: !container, ..Agent::default() });
    };
    expect(&with(refused(), |e| says_stopped(e, true)), Cause::ContainerStopped, Certain, Once);
    expect(&with(refused(), |e| says_stopped(e, false)), Cause::ProcessStopped, Certain, Once);
    assert_eq!(crate::diagnosis::rules::diagnose(&with(well(), |e| says_stopped(e, false))), None);
}

#[test]
fn a_service_that_selects_nothing_shows_both_sides() {
    let e = with(through_service(ErrorClass::Refused), |e| {
        let service = service_of(e);
        service.selector = BTreeMap::from([("app".to_owned(), "webb".to_owned())]);
        (service.selected, service.endpoints, service.endpoint_port) = (Some(0), (0, 0), None);
    });
    let d = expect(&e, Cause::ServiceSelectsNothing, Certain, No);
    says(&d.message, &["Service web", "app=webb", "app=web"]);
    let selected = |e: &mut Evidence| {
        workload_of(e).selector = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        pod_of(e).labels.insert("pod-template-hash".to_owned(), "66c9ccbfb9".to_owned());
    };
    let d = expect_cause(&with(e.clone(), selected), Cause::ServiceSelectsNothing);
    says(&d.advice, &["kubectl -n shop set selector service/web app=web"]);
    assert!(!d.message.contains("pod-template-hash"), "{}", d.message);
    // Scaled to zero, its selector would still match the right pods.
    let none = with(e.clone(), |e| {
        selected(e);
        service_of(e).selector = workload_of(e).selector.clone();
        (workload_of(e).wanted, e.pods) = (0, Lookup::Found(Vec::new()));
    });
    assert!(expect_cause(&none, Cause::ScaledToZero).alternatives.is_empty());
    // If the count is unknown, the labels of the workload's pods decide; without pods the finding is less certain.
    let uncounted = with(e.clone(), |e| service_of(e).selected = None);
    expect(&uncounted, Cause::ServiceSelectsNothing, Certain, No);
    let unseen = with(uncounted, |e| e.pods = Lookup::Forbidden("list pods".to_owned()));
    expect(&unseen, Cause::ServiceSelectsNothing, Possible, No);
}

#[test]
fn a_service_port_that_leads_nowhere_is_named() {
    let named = with(through_service(ErrorClass::Refused), |e| {
        let service = service_of(e);
        service.port = Some((80, "http".to_owned()));
        (service.endpoints, service.endpoint_port) = ((0, 0), None);
    });
    let d = expect(&named, Cause::ServicePortMismatch, Certain, No);
    says(&d.message, &["port 80", "targetPort http", "management/8081"]);
    says(&d.advice, &["to management/8081", "kubectl -n shop edit service web", "name that port http"]);
    let number = with(through_service(ErrorClass::Refused), |e| {
        service_of(e).port = Some((80, "9999".to_owned()));
        service_of(e).endpoint_port = Some(9999);
    });
    says(&expect(&number, Cause::ServicePortMismatch, Likely, No).advice, &["have the pods listen on 9999"]);
    let none = with(through_service(ErrorClass::Internal), |e| service_of(e).port = None);
    says(&expect_cause(&none, Cause::ServicePortMismatch).message, &["no port management"]);
    // A declared port that is refused is not a mismatch.
    assert_ne!(diagnosis(&through_service(ErrorClass::Refused)).cause, Cause::ServicePortMismatch);
}

#[test]
fn no_ready_endpoint_is_said_when_nothing_tells_why() {
    let unready = |e: &mut Evidence| {
        service_of(e).endpoints = (0, 1);
        pod_of(e).ready = false;
        container_of(e).ready = false;
    };
    let e = with(through_service(ErrorClass::Refused), |e| {
        unready(e);
        e.vantages.push(passing("pod/web-1"));
    });
    let d = expect(&e, Cause::NoReadyEndpoints, Certain, No);
    says(&d.message, &["no ready endpoint", "answer at their own address"]);
    // A Service without endpoints refuses: that says nothing about the process, and a restart does not help.
    let unknown = with(through_service(ErrorClass::Refused), unready);
    expect(&unknown, Cause::NoReadyEndpoints, Certain, No);
    // The reason why they are not ready takes precedence.
    let database = with(through_service(ErrorClass::Refused), |e| {
        unready(e);
        down_because(e, &[("db", "DOWN")]);
    });
    expect_cause(&database, Cause::DependencyDown);
    let starting = with(through_service(ErrorClass::Refused), |e| {
        unready(e);
        container_of(e).running_since = Some(ago(20));
        e.history.last_healthy = None;
        e.actuator = Lookup::NotLooked;
    });
    expect_cause(&starting, Cause::StillStarting);
}

#[test]
fn a_server_on_loopback_needs_the_refusal_and_the_setting() {
    let e = with(refused(), |e| set(e, "MANAGEMENT_SERVER_ADDRESS", "127.0.0.1"));
    let d = expect(&e, Cause::BoundToLoopback, Certain, No);
    says(&d.message, &["port 8081", "MANAGEMENT_SERVER_ADDRESS=127.0.0.1", "container app"]);
    says(&d.advice, &["kubectl -n shop set env deployment/web -c app MANAGEMENT_SERVER_ADDRESS=0.0.0.0"]);
    for address in ["localhost", "::1"] {
        expect_cause(&with(refused(), |e| set(e, "SERVER_ADDRESS", address)), Cause::BoundToLoopback);
    }
    let open = with(refused(), |e| set(e, "SERVER_ADDRESS", "0.0.0.0"));
    assert_ne!(diagnosis(&open).cause, Cause::BoundToLoopback);
    let timeout = with(bad(ErrorClass::ConnectTimeout), |e| set(e, "SERVER_ADDRESS", "127.0.0.1"));
    assert_ne!(diagnosis(&timeout).cause, Cause::BoundToLoopback);
    // The main server's address is not the management server's.
    let other = with(refused(), |e| {
        set(e, "SERVER_ADDRESS", "127.0.0.1");
        set(e, "MANAGEMENT_SERVER_PORT", "8081");
    });
    assert_ne!(diagnosis(&other).cause, Cause::BoundToLoopback);
}

#[test]
fn a_setting_that_stands_in_a_config_map_is_changed_there() {
    let e = with(refused(), |e| {
        set(e, "SERVER_ADDRESS", "127.0.0.1");
        let place = "ConfigMap web-env, key SERVER_ADDRESS".to_owned();
        container_of(e).value_sources.insert("SERVER_ADDRESS".to_owned(), place);
    });
    let d = expect_cause(&e, Cause::BoundToLoopback);
    says(&d.advice, &["set SERVER_ADDRESS=0.0.0.0 in ConfigMap web-env, key SERVER_ADDRESS"]);
}

#[test]
fn another_management_port_is_named_whether_this_one_refuses_or_answers_404() {
    let refuses = with(refused(), |e| set(e, "MANAGEMENT_SERVER_PORT", "9090"));
    let d = expect(&refuses, Cause::WrongPort, Certain, No);
    says(&d.message, &["port 8081 is refused", "on port 9090", "MANAGEMENT_SERVER_PORT=9090"]);
    let answers = with(status(404), |e| set(e, "MANAGEMENT_SERVER_PORT", "9090"));
    says(&expect_cause(&answers, Cause::WrongPort).message, &["answers 404", "9090"]);
    // The probed port is the configured one: then the port is not wrong.
    let same = with(refused(), |e| set(e, "MANAGEMENT_SERVER_PORT", "8081"));
    assert_ne!(diagnosis(&same).cause, Cause::WrongPort);
    // The application's own properties moved it: its list is there.
    let moved = |e: &mut Evidence| {
        e.actuator = Lookup::Found(Actuator { base: "http://10.1.0.7:9090/actuator".to_owned(), ..actuator() });
    };
    for e in [with(refused(), moved), with(status(404), moved)] {
        says(&expect(&e, Cause::WrongPort, Certain, No).message, &["http://10.1.0.7:9090/actuator", "9090"]);
    }
    let off = with(refused(), |e| set(e, "MANAGEMENT_SERVER_PORT", "-1"));
    says(&expect_cause(&off, Cause::WrongPort).message, &["switches the management server off"]);
}

#[test]
fn a_port_that_its_pods_do_not_declare_is_likely_wrong_and_less_so_in_a_hidden_environment() {
    let other = |e: &mut Evidence| {
        container_of(e).ports = vec![(None, 8080)];
        e.history.last_healthy = None;
    };
    let d = expect(&with(refused(), other), Cause::WrongPort, Likely, No);
    says(&d.message, &["nothing listens on port 8081", "declare port 8080"]);
    let hidden = with(refused(), |e| {
        other(e);
        container_of(e).environment_incomplete = Some("Secret web-env is not read".to_owned());
    });
    says(&expect_cause(&hidden, Cause::WrongPort).evidence.join("\n"), &["not seen: MANAGEMENT_SERVER_PORT"]);
    // It was healthy while this container ran: so it did listen there.
    let served = with(refused(), |e| container_of(e).ports = vec![(None, 8080)]);
    assert_ne!(diagnosis(&served).cause, Cause::WrongPort);
    // And it may still be starting.
    let young = with(refused(), |e| {
        other(e);
        container_of(e).running_since = Some(ago(20));
        (container_of(e).ready, pod_of(e).ready) = (false, false);
    });
    expect_cause(&young, Cause::StillStarting);
}

#[test]
fn a_port_that_only_prometheus_asks_is_a_wrong_port_before_a_rejecting_device() {
    let e = with(
        only_prometheus("Get \"http://10.1.0.7:9090/metrics\": dial tcp 10.1.0.7:9090: connect: connection refused"),
        |e| {
            prometheus_of(e).targets[0].url = "http://10.1.0.7:9090/metrics".to_owned();
        },
    );
    let d = expect_cause(&e, Cause::WrongPort);
    says(&d.message, &["port 9090", "port 8081 answers us"]);
    assert_eq!(d.alternatives[0].cause, Cause::RejectedForPrometheus);
}

fn starting(seconds: i64) -> Evidence {
    with(refused(), |e| {
        e.history.last_healthy = None;
        container_of(e).running_since = Some(ago(seconds));
        (container_of(e).ready, pod_of(e).ready) = (false, false);
    })
}

#[test]
fn what_starts_is_waited_for_and_what_never_listened_is_restarted_once() {
    let d = expect(&starting(299), Cause::StillStarting, Likely, No);
    says(&d.message, &["web-1", "until 2026-11-05T10:00:01Z"]);
    expect(&starting(301), Cause::NeverStartedListening, Likely, Once);
    let probed = with(starting(301), |e| e.vantages.push(failing("pod/web-1", ErrorClass::Refused)));
    expect(&probed, Cause::NeverStartedListening, Certain, Once);
    // It was restarted, or it did listen: then the cause is another one.
    let restarted = with(starting(301), |e| container_of(e).restarts = 1);
    expect_cause(&restarted, Cause::Unexplained);
    let listened = with(starting(301), |e| e.history.last_healthy = Some(ago(100)));
    expect_cause(&listened, Cause::MainPortDead);
}

#[test]
fn an_answer_is_no_start_unless_the_startup_probe_still_waits() {
    let answering = |started: bool| {
        with(starting(20), |e| {
            e.vantages = vec![answered("target", 500)];
            e.actuator = Lookup::NotLooked;
            container_of(e).started = Some(started);
        })
    };
    expect_cause(&answering(true), Cause::ServerError);
    expect_cause(&answering(false), Cause::StillStarting);
}

/// The actuator's health page answers 503 DOWN with these components.
fn down_because(e: &mut Evidence, components: &[(&str, &str)]) {
    let actuator = actuator_of(e);
    (actuator.health_status, actuator.health) = (Some(503), Some("DOWN".to_owned()));
    actuator.components = links(components);
}

fn health(components: &[(&str, &str)]) -> Evidence {
    with(status(503), |e| {
        e.subject.path = "/actuator/health".to_owned();
        e.subject.wants_metrics = false;
        down_because(e, components);
    })
}

#[test]
fn a_dependency_that_is_down_is_named_and_never_restarted() {
    let d = expect(&health(&[("db", "DOWN"), ("ping", "UP")]), Cause::DependencyDown, Certain, No);
    says(&d.message, &["db", "its database"]);
    let nested = health(&[("db", "DOWN"), ("db/orders", "DOWN"), ("db/users", "UP"), ("redis", "DOWN")]);
    says(&expect_cause(&nested, Cause::DependencyDown).message, &["db/orders and redis"]);
    let odd = health(&[("db \u{1b}[31mboo", "DOWN"), ("redis", "DOWN")]);
    assert!(!format!("{:?}", diagnosis(&odd)).contains("boo"));
}

#[test]
fn a_health_page_that_names_nothing_is_possible_and_says_how_to_let_it() {
    let e = with(health(&[]), |e| actuator_of(e).components = None);
    let d = expect(&e, Cause::DependencyDown, Possible, No);
    says(&d.advice, &["MANAGEMENT_ENDPOINT_HEALTH_SHOW_COMPONENTS=always"]);
    let unread = with(e, |e| e.actuator = Lookup::Failed("the actuator was not read".to_owned()));
    expect(&unread, Cause::DependencyDown, Possible, No);
}

#[test]
fn a_503_of_anything_but_the_actuator_is_no_dependency() {
    let plain = with(status(503), |e| {
        e.subject.path = "/".to_owned();
        e.subject.wants_metrics = false;
        e.actuator = Lookup::Absent;
    });
    expect(&plain, Cause::ServerError, Possible, No);
}

#[test]
fn its_own_components_are_no_dependencies() {
    expect(&health(&[("diskSpace", "DOWN"), ("db", "UP")]), Cause::DiskFull, Certain, No);
    expect(&health(&[("livenessState", "DOWN")]), Cause::LivenessBroken, Certain, Once);
    // A dependency's fault first: a restart would spread it.
    let both = health(&[("db", "DOWN"), ("diskSpace", "DOWN"), ("livenessState", "DOWN")]);
    let d = expect(&both, Cause::DependencyDown, Certain, No);
    let alternatives: Vec<_> = d.alternatives.iter().map(|other| other.cause).collect();
    assert_eq!(alternatives, [Cause::DiskFull, Cause::LivenessBroken]);
}

#[test]
fn out_of_service_is_on_purpose_and_unknown_is_not_well() {
    let out = with(health(&[("readinessState", "OUT_OF_SERVICE")]), |e| {
        actuator_of(e).health = Some("OUT_OF_SERVICE".to_owned());
    });
    says(&expect(&out, Cause::OutOfService, Certain, No).message, &["readinessState"]);
    let unknown = with(well(), |e| {
        e.subject.wants_actuator = true;
        actuator_of(e).health = Some("UNKNOWN".to_owned());
    });
    expect(&unknown, Cause::HealthUnknown, Certain, No);
    // Without `probe.actuator` nothing is reported about it while the target passes.
    let unasked = with(unknown, |e| e.subject.wants_actuator = false);
    assert_eq!(crate::diagnosis::rules::diagnose(&unasked), None);
}

#[test]
fn what_says_that_it_does_not_serve_is_out_of_service() {
    let grpc = |not_serving| {
        with(bad(ErrorClass::GRPCStatus), |e| {
            (e.vantages[0].not_serving, e.subject.scheme) = (not_serving, "grpc".to_owned());
            (e.subject.wants_metrics, e.actuator) = (false, Lookup::NotLooked);
        })
    };
    says(&expect(&grpc(true), Cause::OutOfService, Likely, No).message, &["NOT_SERVING"]);
    expect_cause(&grpc(false), Cause::UnexpectedAnswer);
}

#[test]
fn a_dead_main_port_beside_a_living_management_port_is_restarted_once() {
    for class in [ErrorClass::Refused, ErrorClass::FirstByteTimeout, ErrorClass::ConnectTimeout] {
        let e = with(bad(class), |e| {
            (e.subject.path, e.subject.port, e.subject.wants_metrics) = ("/".to_owned(), 8080, false);
            e.vantages[0].port = Some(8080);
            e.actuator = Lookup::Found(actuator());
            container_of(e).ports = vec![(None, 8080), (None, 8081)];
        });
        says(&expect(&e, Cause::MainPortDead, Certain, Once).message, &["8080"]);
        let down = with(e, |e| actuator_of(e).health = Some("DOWN".to_owned()));
        assert_ne!(diagnosis(&down).cause, Cause::MainPortDead);
    }
    let beside = with(well(), |e| e.vantages.push(failing("main", ErrorClass::FirstByteTimeout)));
    expect_cause(&beside, Cause::MainPortDead);
}

fn silent() -> Evidence {
    with(bad(ErrorClass::FirstByteTimeout), |e| {
        *actuator_of(e) = Actuator {
            base: "http://10.1.0.7:8081/actuator".to_owned(),
            base_error: Some(ErrorClass::FirstByteTimeout),
            liveness: Some(Err(ErrorClass::FirstByteTimeout)),
            ..Actuator::default()
        };
    })
}

#[test]
fn a_hang_needs_a_second_silent_witness() {
    expect(&silent(), Cause::Hung, Certain, Once);
    let list_only = with(silent(), |e| actuator_of(e).liveness = None);
    expect(&list_only, Cause::Hung, Certain, Once);
    // A health page that waits for a database is not a hang: liveness answers.
    let waits = with(silent(), |e| {
        e.subject.path = "/actuator/health".to_owned();
        e.subject.wants_metrics = false;
        actuator_of(e).liveness = Some(Ok(200));
    });
    expect(&waits, Cause::DependencyDown, Likely, No);
    let unasked = with(silent(), |e| e.actuator = Lookup::NotLooked);
    expect(&unasked, Cause::Hung, Possible, Once);
    // A connect timeout alone is not a hang.
    expect_cause(&bad(ErrorClass::ConnectTimeout), Cause::Unexplained);
}

#[test]
fn a_hang_behind_unseen_pods_is_less_sure() {
    let external = with(silent(), |e| {
        (e.pods, e.workload, e.subject.workload) = (Lookup::NotLooked, Lookup::NotLooked, None);
    });
    expect(&external, Cause::Hung, Likely, Once);
    let forbidden = with(silent(), |e| e.pods = Lookup::Forbidden("list pods in shop".to_owned()));
    expect(&forbidden, Cause::Hung, Possible, Once);
}

#[test]
fn a_metrics_page_that_alone_is_slow_is_no_hang() {
    let own = with(bad(ErrorClass::BodyTimeout), |_| {});
    expect(&own, Cause::SlowMetrics, Certain, No);
    let beside = with(well(), |e| {
        e.subject.path = "/actuator/health".to_owned();
        e.vantages.push(failing("metrics", ErrorClass::FirstByteTimeout));
        e.actuator = Lookup::NotLooked;
    });
    expect(&beside, Cause::SlowMetrics, Certain, No);
    let theirs =
        with(only_prometheus("Get \"http://10.1.0.7:8081/actuator/prometheus\": context deadline exceeded"), |e| {
            e.vantages[0].milliseconds = 9_500;
        });
    expect(&theirs, Cause::SlowMetrics, Certain, No);
    let body = only_prometheus("context deadline exceeded");
    expect(&body, Cause::SlowMetrics, Certain, No);
}

#[test]
fn a_setting_in_a_secret_is_never_guessed() {
    let e = with(refused(), |e| {
        container_of(e).environment.insert("SERVER_ADDRESS".to_owned());
        container_of(e).values.insert("SERVER_ADDRESS".to_owned(), EnvValue::FromSecret);
    });
    assert_ne!(diagnosis(&e).cause, Cause::BoundToLoopback);
}
