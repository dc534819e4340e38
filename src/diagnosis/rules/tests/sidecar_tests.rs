//! Native sidecars: init containers that run beside the pod's own containers.

use super::scene::*;
use crate::api::Confidence::{Certain, Likely};
use crate::api::RestartHelps::No;
use crate::api::{Cause, ErrorClass};
use crate::diagnosis::evidence::{Container, Ended, Evidence};
use crate::diagnosis::rules::diagnose;

fn end(reason: &str, exit_code: i32) -> Ended {
    Ended { reason: reason.to_owned(), exit_code, began: Some(ago(45)), ended: Some(ago(40)), message: None }
}

/// An init container in CrashLoopBackOff.
fn looping(reason: &str, exit_code: i32) -> Container {
    Container {
        name: "proxy".to_owned(),
        waiting: Some(("CrashLoopBackOff".to_owned(), "back-off 40s".to_owned())),
        last: Some(end(reason, exit_code)),
        restarts: 7,
        memory_limit: Some("128Mi".to_owned()),
        ..Container::default()
    }
}

/// The application runs, and this init container does not.
fn beside(init: Container) -> Evidence {
    with(bad(ErrorClass::Reset), |e| {
        pod_of(e).ready = false;
        pod_of(e).init = vec![init];
    })
}

/// The application waits for this init container.
fn before(init: Container) -> Evidence {
    with(bad(ErrorClass::Refused), |e| {
        waits(e, "PodInitializing", "");
        (pod_of(e).phase, pod_of(e).init) = ("Pending".to_owned(), vec![init]);
    })
}

#[test]
fn a_sidecar_that_crashes_beside_the_application_is_a_crash_loop_and_blocks_nothing() {
    for is_sidecar in [true, false] {
        // Evidence that was saved before does not say that it is one.
        let d = expect(&beside(Container { is_sidecar, ..looping("Error", 1) }), Cause::CrashLoop, Likely, No);
        says(&d.message, &["sidecar container proxy of pod web-1"]);
        assert!(!d.advice.contains("Nothing else"), "{d:#?}");
    }
}

#[test]
fn memory_is_told_of_sidecars_and_of_init_containers() {
    says(&expect(&beside(looping("OOMKilled", 137)), Cause::OutOfMemory, Certain, No).message, &["proxy", "128Mi"]);
    let d = expect(&before(looping("OOMKilled", 137)), Cause::OutOfMemory, Certain, No);
    says(&d.message, &["init container proxy of pod web-1", "128Mi"]);
    assert_eq!(d.alternatives, []);
}

#[test]
fn an_init_container_or_a_sidecar_that_does_not_start_blocks_the_others() {
    let d = expect(&before(looping("Error", 1)), Cause::InitContainerFailing, Certain, No);
    says(&d.advice, &["Nothing else of the pod starts before it succeeds"]);
    let d = expect_cause(&before(Container { is_sidecar: true, ..looping("Error", 1) }), Cause::InitContainerFailing);
    says(&d.advice, &["before it has started"]);
}

#[test]
fn a_sidecar_that_runs_well_explains_nothing() {
    let runs = Container {
        ready: true,
        started: Some(true),
        running_since: Some(ago(7200)),
        waiting: None,
        last: None,
        ..looping("", 0)
    };
    let crashes = with(crashed("OOMKilled", 137, None), |e| pod_of(e).init = vec![runs.clone()]);
    says(&expect_cause(&crashes, Cause::OutOfMemory).message, &["container app"]);
    assert_eq!(diagnose(&with(well(), |e| pod_of(e).init = vec![runs])), None);
}

#[test]
fn out_of_memory_is_a_word_and_no_exit_code() {
    expect(&crashed("OOMKilled", 137, None), Cause::OutOfMemory, Certain, No);
    // The kernel killed another process in the container, and the first one ended in its own way.
    for code in [0, 1, 2, 134, 139, 143, 255] {
        let d = expect(&crashed("OOMKilled", code, None), Cause::OutOfMemory, Likely, No);
        says(&d.message, &[&format!("OOMKilled, exit {code}")]);
    }
    let words = "org.postgresql.util.PSQLException: Connection to db.example.com:5432 refused";
    let d = expect_cause(&crashed("OOMKilled", 1, Some(words)), Cause::OutOfMemory);
    assert_eq!(d.alternatives.iter().map(|other| other.cause).collect::<Vec<_>>(), [Cause::CrashLoopDatabase]);
    expect_cause(&crashed("Error", 137, None), Cause::CrashLoop);
}
