//! Pods that have ended for good: no witnesses of the present, and the only ones where no other pod lives.

use super::scene::*;
use crate::api::Confidence::Likely;
use crate::api::RestartHelps::No;
use crate::api::{Cause, ErrorClass};
use crate::diagnosis::evidence::{Ended, Evidence, Lookup, Pod};
use crate::diagnosis::rules::{conclude, diagnose, diagnose_pods};

/// A pod that has ended with this reason, so many seconds ago.
fn ended(name: &str, reason: &str, seconds: i64) -> Pod {
    let mut pod = pod(name);
    (pod.phase, pod.ready) = ("Failed".to_owned(), false);
    pod.reason = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
    pod.created = Some(ago(seconds));
    let container = &mut pod.containers[0];
    (container.ready, container.running_since) = (false, None);
    let reason = "ContainerStatusUnknown".to_owned();
    container.terminated = Some(Ended { reason, exit_code: 137, ..Ended::default() });
    pod
}

/// No pod lives, and these have ended.
fn only(ended: Vec<Pod>) -> Evidence {
    with(bad(ErrorClass::Refused), |e| {
        found(&mut e.pods).clear();
        e.ended_pods = ended;
        workload_of(e).ready = 0;
    })
}

#[test]
fn pods_that_have_ended_change_no_conclusion_while_another_one_lives() {
    let scenes = [
        well(),
        bad(ErrorClass::Refused),
        bad(ErrorClass::ConnectTimeout),
        bad(ErrorClass::FirstByteTimeout),
        status(401),
        status(503),
        crashed("OOMKilled", 137, None),
        crashed("Error", 1, None),
        only_prometheus("server returned HTTP status 404 Not Found"),
    ];
    for scene in scenes {
        for reason in ["Evicted", "NodeLost", "NodeShutdown", "Terminated", "OutOfcpu", ""] {
            let leftovers = vec![ended("web-0", reason, 60), ended("web-x", reason, 10)];
            // As evidence was saved before, and as it is now.
            let among = with(scene.clone(), |e| found(&mut e.pods).extend(leftovers.clone()));
            let apart = with(scene.clone(), |e| e.ended_pods = leftovers.clone());
            for e in [among, apart] {
                assert_eq!(diagnose(&e), diagnose(&scene), "{reason}");
                assert_eq!(conclude(&e), conclude(&scene), "{reason}");
            }
        }
    }
}

#[test]
fn where_no_pod_lives_the_reason_of_the_newest_one_is_the_cause() {
    for (reason, cause, words) in [
        ("Evicted", Cause::Unschedulable, "evicted it for lack of"),
        ("Preempting", Cause::Unschedulable, "critical pod"),
        ("OutOfcpu", Cause::Unschedulable, "not enough cpu is free"),
        ("OutOfmemory", Cause::Unschedulable, "not enough memory is free"),
        ("OutOfexample.com/gpu", Cause::Unschedulable, "not enough example.com/gpu is free"),
        ("NodeAffinity", Cause::Unschedulable, "labels do not match"),
        ("UnexpectedAdmissionError", Cause::Unschedulable, "could not allocate"),
        ("TopologyAffinityError", Cause::Unschedulable, "could not allocate"),
        ("NodePorts", Cause::Unschedulable, "host port"),
        ("NodeShutdown", Cause::NodeLost, "it ended with its node node-a"),
        ("Terminated", Cause::NodeLost, "it ended with its node node-a"),
        ("", Cause::NodeLost, "it ended with its node node-a"),
    ] {
        let pods = vec![ended("web-0", "Evicted", 900), ended("web-9", reason, 10), ended("web-5", "OutOfpods", 500)];
        let e = only(pods.clone());
        let d = expect(&e, cause, Likely, No);
        says(&d.message, &["Deployment web", "the newest one is web-9", words, reason]);
        says(&d.advice, &["kubectl -n shop describe deployment/web"]);
        assert!(!d.advice.contains("ss -ltnp"), "{d:#?}");
        let condition = conclude(&e).workload_healthy.expect("the workload was read");
        assert_eq!(condition.reason, cause.into());
        // The pods of a connector are judged by the same rules.
        assert_eq!(diagnose_pods(&e).map(|d| d.cause), Some(cause));
        let saved_before = with(e, |e| found(&mut e.pods).append(&mut e.ended_pods));
        expect(&saved_before, cause, Likely, No);
    }
}

#[test]
fn the_amounts_that_the_node_names_are_facts() {
    let said = "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 3900, capacity: 4000";
    let e = with(only(vec![ended("web-1", "OutOfcpu", 10)]), |e| e.ended_pods[0].message = Some(said.to_owned()));
    says(&diagnosis(&e).evidence.join("\n"), &["requested: 500, used: 3900"]);
}

#[test]
fn a_reason_that_is_not_known_names_the_pod_and_no_listening_socket() {
    let d = expect_cause(&only(vec![ended("web-1", "DeadlineExceeded", 10)]), Cause::Unexplained);
    says(&d.advice, &["kubectl -n shop describe pod web-1"]);
    assert!(!d.advice.contains("ss -ltnp"), "{d:#?}");
}

#[test]
fn a_workload_that_wants_no_pod_or_lacks_none_says_nothing_of_ended_ones() {
    let zero = with(only(vec![ended("web-1", "Evicted", 10)]), |e| workload_of(e).wanted = 0);
    assert_eq!(expect_cause(&zero, Cause::ScaledToZero).alternatives, []);
    // The pods may not be listed, and the target passes.
    let passes = with(well(), |e| {
        e.pods = Lookup::Forbidden("list pods".to_owned());
        e.ended_pods = vec![ended("web-1", "Evicted", 10)];
    });
    assert_eq!(diagnose(&passes), None);
}
