use std::collections::BTreeSet;

use super::scene::*;
use crate::api::Confidence::{Certain, Likely};
use crate::api::RestartHelps::No;
use crate::api::{Cause, ErrorClass, Reason};
use crate::diagnosis::evidence::Lookup;
use crate::diagnosis::rules::{RULES, diagnose, findings};

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert_eq!(findings(&well()), []);
    assert_eq!(diagnose(&well()), None);
}

#[test]
fn nothing_is_wrong_either_where_nobody_looked_and_our_probe_passes() {
    let e = with(well(), |e| {
        e.workload = Lookup::NotLooked;
        e.pods = Lookup::NotLooked;
        e.prometheus = Lookup::NotLooked;
        e.actuator = Lookup::NotLooked;
        e.policies = Lookup::NotLooked;
        e.events = Lookup::NotLooked;
        e.nodes_not_ready = Lookup::NotLooked;
    });
    assert_eq!(diagnose(&e), None);
}

#[test]
fn the_list_stands_in_the_order_of_the_causes_and_names_each_once() {
    let listed: Vec<Cause> = RULES.iter().map(|(cause, _)| *cause).collect();
    let of_backends: Vec<Cause> = listed.iter().copied().filter(|cause| *cause >= Cause::ProbeBlind).collect();
    let mut sorted = of_backends.clone();
    sorted.sort_unstable();
    assert_eq!(of_backends, sorted);
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());

    let missing: Vec<_> =
        Cause::ALL.iter().filter(|cause| **cause >= Cause::ProbeBlind && !listed.contains(cause)).collect();
    assert_eq!(missing, [&Cause::Unexplained], "every cause of a backend has a rule, and only the last has none");
}

#[test]
fn blindness_comes_before_everything_that_follows_from_it() {
    let e = with(bad(ErrorClass::ConnectTimeout), |e| e.blind = Some("the API server does not answer".to_owned()));
    let d = expect(&e, Cause::ProbeBlind, Likely, No);
    says(&d.message, &["the API server does not answer"]);
    // A single failing backend is an outage, not blindness.
    expect_cause(&bad(ErrorClass::ConnectTimeout), Cause::Unexplained);
}

#[test]
fn a_spec_that_cannot_be_acted_upon_is_named_before_what_was_seen() {
    for (reason, cause) in [
        (Reason::InvalidTarget, Cause::InvalidTarget),
        (Reason::TargetDenied, Cause::TargetDenied),
        (Reason::SecretNotFound, Cause::SecretNotFound),
        (Reason::WorkloadNotFound, Cause::WorkloadNotFound),
        (Reason::UnreadableStatus, Cause::UnreadableStatus),
    ] {
        let e =
            with(crashed("Error", 1, None), |e| e.refused = Some((reason, "the words of the condition".to_owned())));
        let d = expect(&e, cause, Certain, No);
        assert_eq!(d.message, "the words of the condition");
        assert_eq!(d.alternatives[0].cause, Cause::CrashLoop);
    }
    expect(&bad(ErrorClass::Denied), Cause::TargetDenied, Certain, No);
}

#[test]
fn what_the_spec_refers_to_and_does_not_exist_is_named() {
    let service = with(bad(ErrorClass::DNSNotFound), |e| {
        behind_service(e);
        e.service = Lookup::Absent;
    });
    says(&expect(&service, Cause::InvalidTarget, Certain, No).message, &["Service web", "namespace shop"]);
    let workload = with(well(), |e| e.workload = Lookup::Absent);
    says(&expect(&workload, Cause::WorkloadNotFound, Certain, No).message, &["Deployment web"]);
}

#[test]
fn what_was_never_probed_says_so() {
    expect_cause(&with(well(), |e| e.vantages.clear()), Cause::NotProbed);
}

#[test]
fn slowness_is_told_when_nothing_else_is_wrong() {
    let slow = with(well(), |e| e.history.slow = Some((900, 500)));
    says(&expect(&slow, Cause::Slow, Certain, No).message, &["500 ms"]);
}

#[test]
fn alternatives_are_the_later_matches_in_their_order_and_bounded() {
    let e = with(crashed("OOMKilled", 137, None), |e| e.history.flapping = Some((6, 600)));
    let d = expect_cause(&e, Cause::OutOfMemory);
    let alternatives: Vec<_> = d.alternatives.iter().map(|other| other.cause).collect();
    assert_eq!(alternatives, [Cause::Flapping]);
}

#[test]
fn a_refusal_that_nothing_explains_is_no_firewall_and_a_timeout_is_no_refusal() {
    let bare = |class| {
        with(bad(class), |e| {
            e.workload = Lookup::NotLooked;
            e.pods = Lookup::NotLooked;
            e.actuator = Lookup::NotLooked;
            e.subject.workload = None;
        })
    };
    let unnamed = |class| with(bare(class), |e| e.subject.host = String::new());
    let refused = expect_cause(&unnamed(ErrorClass::Refused), Cause::Unexplained);
    says(&refused.advice, &["nothing listens on port 8081"]);
    assert!(!refused.advice.contains("firewall") && !refused.message.contains("firewall"));
    says(
        &expect_cause(&unnamed(ErrorClass::ConnectTimeout), Cause::Unexplained).advice,
        &["drop TCP 8081", "security group"],
    );
}

#[test]
fn what_is_not_explained_lists_what_was_seen_and_what_was_not() {
    let e = with(bad(ErrorClass::Unreachable), |e| {
        e.policies = Lookup::Forbidden("list networkpolicies in shop".to_owned())
    });
    let d = expect_cause(&e, Cause::Unexplained);
    let evidence = d.evidence.join("\n");
    says(
        &evidence,
        &["target: Unreachable in Connect", "pod web-1: Running, Ready", "not seen: list networkpolicies in shop"],
    );
}
