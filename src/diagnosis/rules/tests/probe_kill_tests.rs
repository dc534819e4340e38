//! Containers that a probe kills: the kubelet's events are the witness, not the exit code.

use super::scene::*;
use crate::api::Cause;
use crate::api::Confidence::{Certain, Likely, Possible};
use crate::api::RestartHelps::No;
use crate::diagnosis::evidence::Evidence;

const LIVENESS: &str = "Liveness probe failed: Get \"http://10.1.0.7:8081/\": context deadline exceeded";
const STARTUP: &str = "Startup probe failed: Get \"http://10.1.0.7:8081/\": connection refused";

/// Exit codes of processes that were asked to end: none, their own, and those of signals.
const CODES: &[i32] = &[0, 1, 2, 3, 130, 137, 143, 255];

fn ends(code: i32, message: Option<&str>) -> Evidence {
    with(crashed(if code == 0 { "Completed" } else { "Error" }, code, message), |e| {
        container_of(e).probes = (true, true, true);
    })
}

#[test]
fn a_kill_that_the_kubelet_tells_is_certain_whatever_the_exit_code_and_the_last_words_are() {
    for code in CODES {
        for probe in ["liveness", "startup"] {
            let note = format!("Container app failed {probe} probe, will be restarted");
            let e = with(ends(*code, Some("java.lang.IllegalStateException: shutting down")), |e| {
                warn(e, "Killing", &note)
            });
            let d = expect(&e, Cause::CrashLoopKilledByLiveness, Certain, No);
            says(&d.message, &[&format!("the {probe} probe of container app"), &format!("exit {code}")]);
            assert_eq!(d.alternatives, [], "{code}");
        }
    }
}

#[test]
fn a_probe_that_fails_is_certain_only_with_a_signal_and_likely_with_other_codes() {
    for code in CODES {
        for note in [LIVENESS, STARTUP] {
            let confidence = if matches!(code, 137 | 143) { Certain } else { Likely };
            let d = expect(
                &with(ends(*code, None), |e| warn(e, "Unhealthy", note)),
                Cause::CrashLoopKilledByLiveness,
                confidence,
                No,
            );
            let beside: Vec<_> = d.alternatives.iter().map(|other| (other.cause, other.confidence)).collect();
            let clean = [(Cause::ExitedCleanly, Possible)];
            assert_eq!(beside, if *code == 0 { &clean[..] } else { &[] }, "{code}");
        }
    }
}

#[test]
fn a_process_that_says_why_it_ended_was_not_killed_and_the_probe_is_a_fact() {
    let said = Some("java.lang.IllegalStateException: no\n\tat x.Y.z(Y.java:1)");
    let d = expect(&with(ends(1, said), |e| warn(e, "Unhealthy", LIVENESS)), Cause::CrashLoop, Certain, No);
    says(&d.evidence.join("\n"), &["event Unhealthy: the liveness probe of pod web-1 failed too"]);
    let database = Some("org.postgresql.util.PSQLException: Connection to db.example.com:5432 refused");
    expect_cause(&with(ends(1, database), |e| warn(e, "Unhealthy", LIVENESS)), Cause::CrashLoopDatabase);
}

#[test]
fn events_about_something_else_kill_nothing() {
    let not_killed = |change: fn(&mut Evidence)| {
        let e = with(ends(1, None), change);
        expect_cause(&e, Cause::CrashLoop);
    };
    not_killed(|e| warn(e, "Unhealthy", "Readiness probe failed: statuscode: 503"));
    // A pod that is deleted, and another container.
    not_killed(|e| warn(e, "Killing", "Stopping container app"));
    not_killed(|e| warn(e, "Killing", "Container proxy failed liveness probe, will be restarted"));
    not_killed(|e| {
        warn(e, "Unhealthy", LIVENESS);
        found(&mut e.events)[0].container = Some("proxy".to_owned());
    });
    // Long before this run of the container.
    not_killed(|e| {
        warn(e, "Unhealthy", LIVENESS);
        found(&mut e.events)[0].at = Some(ago(3000));
    });
    // Without such a probe the event is about an earlier template.
    not_killed(|e| {
        warn(e, "Unhealthy", LIVENESS);
        container_of(e).probes = (false, false, true);
    });
}

#[test]
fn a_kill_for_memory_is_told_before_the_probe_that_fails_with_it() {
    let e = with(crashed("OOMKilled", 137, None), |e| warn(e, "Unhealthy", LIVENESS));
    expect(&e, Cause::OutOfMemory, Certain, No);
}
