//! A health page that was read: its word and its components decide, whatever its HTTP status is.

use super::scene::*;
use crate::api::Confidence::{Certain, Likely, Possible};
use crate::api::RestartHelps::{No, Once};
use crate::api::{Cause, ErrorClass};
use crate::diagnosis::evidence::{Actuator, Evidence, Lookup};

/// Statuses to which applications map their words, and which mean something else elsewhere.
const STATUSES: &[u16] = &[200, 302, 401, 403, 404, 429, 500, 502, 503];

/// The target is the health page, which answers with this status, this word and these components.
fn says_health(status: u16, word: &str, components: &[(&str, &str)]) -> Evidence {
    let class = if status == 200 { ErrorClass::Assertion } else { ErrorClass::HTTPStatus };
    let mut target = failing("target", class);
    target.http_status = Some(status);
    with(failed(target), |e| {
        (e.subject.path, e.subject.wants_metrics) = ("/actuator/health".to_owned(), false);
        let actuator = actuator_of(e);
        (actuator.health_status, actuator.health) = (Some(status), Some(word.to_owned()));
        actuator.components = links(components);
    })
}

/// The same, asked by `probe.actuator` while the target itself passes.
fn beside_the_target(status: u16, word: &str, components: &[(&str, &str)]) -> Evidence {
    with(says_health(status, word, components), |e| {
        e.subject.path = "/".to_owned();
        e.subject.wants_actuator = true;
        e.vantages[0].name = "health".to_owned();
        e.vantages.insert(0, passing("target"));
    })
}

#[test]
fn a_dependency_that_is_down_is_named_under_any_status_and_never_restarted() {
    for status in STATUSES {
        for of in [says_health, beside_the_target] {
            let d = expect(&of(*status, "DOWN", &[("db", "DOWN"), ("ping", "UP")]), Cause::DependencyDown, Certain, No);
            says(&d.message, &["component db", "its database"]);
            // The status says nothing beside the word.
            assert_eq!(d.alternatives, [], "{status}");
        }
    }
}

#[test]
fn a_backend_that_refuses_traffic_is_out_of_service_under_any_status() {
    for status in STATUSES {
        let e = says_health(*status, "OUT_OF_SERVICE", &[("readinessState", "OUT_OF_SERVICE")]);
        let d = expect(&e, Cause::OutOfService, Certain, No);
        assert_eq!(d.alternatives, [], "{status}");
    }
}

#[test]
fn a_health_page_without_components_is_possible_under_any_status() {
    for status in [200, 500] {
        let e = with(says_health(status, "DOWN", &[]), |e| actuator_of(e).components = None);
        let d = expect(&e, Cause::DependencyDown, Possible, No);
        says(&d.message, &[&format!("answers {status} without saying which")]);
    }
}

#[test]
fn no_finding_restarts_a_backend_whose_health_page_says_down_or_out_of_service() {
    for word in ["DOWN", "OUT_OF_SERVICE"] {
        // Its main port never listened, its management port answers.
        let never = with(bad(ErrorClass::Refused), |e| {
            (e.subject.port, e.subject.path) = (8080, "/".to_owned());
            (e.subject.wants_metrics, e.history.last_healthy) = (false, None);
            e.vantages[0].port = Some(8080);
            container_of(e).ports[0].1 = 8080;
            actuator_of(e).health = Some(word.to_owned());
            actuator_of(e).base_status = Some(200);
        });
        assert_eq!(expect_cause(&never, Cause::NeverStartedListening).restart_helps, No, "{word}");
        let error = with(status(500), |e| {
            (actuator_of(e).health, actuator_of(e).health_status) = (Some(word.to_owned()), Some(500));
        });
        assert_eq!(diagnosis(&error).restart_helps, No, "{word}");
        let silent = with(bad(ErrorClass::FirstByteTimeout), |e| {
            *actuator_of(e) =
                Actuator { health: Some(word.to_owned()), base_error: Some(ErrorClass::Reset), ..Actuator::default() };
        });
        assert_eq!(diagnosis(&silent).restart_helps, No, "{word}");
    }
}

#[test]
fn a_broken_liveness_state_is_still_restarted_unless_a_dependency_is_down_too() {
    expect(&says_health(503, "DOWN", &[("livenessState", "DOWN")]), Cause::LivenessBroken, Certain, Once);
    expect(&says_health(500, "DOWN", &[("livenessState", "DOWN")]), Cause::LivenessBroken, Certain, Once);
    let both = says_health(503, "DOWN", &[("livenessState", "DOWN"), ("redis", "DOWN")]);
    expect(&both, Cause::DependencyDown, Certain, No);
}

#[test]
fn an_error_of_a_health_page_whose_body_was_not_read_restarts_nothing() {
    let unread = with(says_health(500, "DOWN", &[]), |e| e.actuator = Lookup::NotLooked);
    expect(&unread, Cause::ServerError, Likely, No);
    // The page of a target that has an error of its own, beside a health page that was not read either.
    let beside = with(status(500), |e| {
        e.actuator = Lookup::Forbidden("the actuator was not read".to_owned());
        e.vantages.push(answered("health", 500));
    });
    expect(&beside, Cause::ServerError, Likely, No);
    // A health page that answers with no health at all is an error, too.
    let none = with(status(500), |e| {
        (actuator_of(e).health, actuator_of(e).health_status) = (None, Some(500));
    });
    expect(&none, Cause::ServerError, Likely, Once);
}

#[test]
fn a_pod_that_answers_on_its_health_page_is_not_replaced_unread() {
    let e = with(says_health(503, "UP", &[]), |e| {
        found(&mut e.pods).push(pod("web-2"));
        e.vantages = vec![answered("pod/web-1", 503), passing("pod/web-2")];
        e.actuator = Lookup::NotLooked;
    });
    expect(&e, Cause::OneReplicaBad, Likely, No);
    let hangs = with(e, |e| e.vantages[0] = failing("pod/web-1", ErrorClass::FirstByteTimeout));
    expect(&hangs, Cause::OneReplicaBad, Certain, Once);
}

#[test]
fn a_status_of_the_applications_own_names_its_component() {
    let custom = |status: u16| {
        with(says_health(status, "UP", &[("partner", "CUSTOM"), ("ping", "UP")]), |e| {
            (actuator_of(e).health, actuator_of(e).custom_health) = (None, true);
        })
    };
    says(&expect(&custom(503), Cause::DependencyDown, Likely, No).message, &["partner", "a status of its own"]);
    says(&expect(&custom(500), Cause::DependencyDown, Likely, No).message, &["partner"]);
    says(&expect(&custom(200), Cause::HealthUnknown, Likely, No).message, &["partner", "neither UP nor DOWN"]);
    let hidden = with(custom(500), |e| actuator_of(e).components = None);
    expect(&hidden, Cause::DependencyDown, Possible, No);
    let below = says_health(503, "DOWN", &[("partner", "CUSTOM")]);
    says(&expect(&below, Cause::DependencyDown, Likely, No).message, &["its health is DOWN", "partner"]);
}

#[test]
fn an_invalid_certificate_of_its_own_is_no_purpose() {
    let d = expect_cause(&says_health(503, "OUT_OF_SERVICE", &[("ssl", "OUT_OF_SERVICE")]), Cause::OutOfService);
    says(&d.message, &["component ssl", "certificate", "expired"]);
    says(&d.advice, &["Renew that certificate"]);
    assert!(!d.message.contains("on purpose") && !d.advice.contains("drained"), "{d:#?}");
}
