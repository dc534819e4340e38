use serde_json::json;

use super::Scene;
use super::container_tests::{CONTAINER, containers};
use crate::api::CheckOutcome::{self, Fail, Pass, Unknown, Warn};
use crate::api::{CheckType, LocalProbe};

pub(super) const UNIT: &str = "/targets/ztna-connector.service/seen/unit";

/// The verdict about the unit at once.
pub(super) fn verdict(scene: &mut Scene) -> (CheckOutcome, String) {
    let report = scene.look();
    let check = report.checks.into_iter().find(|check| check.type_ == CheckType::Process).unwrap();
    (check.outcome, check.message)
}

fn unit(fields: serde_json::Value) -> (CheckOutcome, String) {
    let mut scene = Scene::well();
    for (field, value) in fields.as_object().unwrap() {
        scene.set(&format!("{UNIT}/{field}"), value.clone());
    }
    verdict(&mut scene)
}

#[test]
fn a_unit_is_judged_by_its_state() {
    let name = "ztna-connector.service";
    let failed = json!({"active": "failed", "sub": "failed", "result": "exit-code", "exit": {"code": 1},
        "since_seconds": 2, "restarts": 5, "words": "java.net.ConnectException; db:5432"});
    for (fields, outcome, message) in [
        (json!({}), Pass, "is active (running) since 07:59:05 UTC"),
        (json!({"since_seconds": 86_400}), Pass, "is active (running) since 2027-01-14 08:00 UTC"),
        (json!({"since_seconds": null}), Pass, "is active (running)"),
        (json!({"active": "reloading", "sub": "reload"}), Pass, "is active (reload) since 07:59:05 UTC"),
        (json!({"sub": "exited", "policy": "no"}), Pass, "is active (exited) since 07:59:05 UTC"),
        (failed, Fail, "failed (exit 1) since 08:00:03 UTC, restarted 5 times: java.net.ConnectException; db:5432"),
        (
            json!({"active": "failed", "result": "signal", "exit": {"signal": 9}}),
            Fail,
            "failed (signal 9) since 07:59:05 UTC",
        ),
        (
            json!({"active": "failed", "result": "oom-kill", "exit": {"signal": 9}, "restarts": 1}),
            Fail,
            "failed (killed by the kernel for lack of memory) since 07:59:05 UTC, restarted once",
        ),
        (
            json!({"active": "failed", "result": "start-limit-hit", "since_seconds": null}),
            Fail,
            "failed (start-limit-hit)",
        ),
        (
            json!({"active": "inactive", "sub": "dead"}),
            Fail,
            "is stopped on purpose since 07:59:05 UTC: systemctl start ztna-connector.service",
        ),
        (
            json!({"active": "inactive", "sub": "dead", "policy": "on-failure", "exit": {"code": 0}}),
            Fail,
            "does not run (exit 0) since 07:59:05 UTC: systemctl start ztna-connector.service",
        ),
        (
            json!({"active": "inactive", "sub": "dead", "invocation": "", "since_seconds": null}),
            Fail,
            "was not started since the boot: a condition of it does not hold, or a unit that it requires failed: \
             systemctl status ztna-connector.service",
        ),
        (
            json!({"active": "inactive", "sub": "dead", "invocation": "", "since_seconds": null, "file_state": "static"}),
            Fail,
            "is stopped on purpose: systemctl start ztna-connector.service",
        ),
        (
            json!({"load": "not-found", "active": "inactive"}),
            Fail,
            "does not exist on this host: systemctl status ztna-connector.service",
        ),
        (json!({"load": "masked", "active": "inactive"}), Fail, "is masked: systemctl unmask ztna-connector.service"),
        (
            json!({"load": "masked"}),
            Warn,
            "runs, and is masked, so it does not start again: systemctl unmask ztna-connector.service",
        ),
        (
            json!({"load": "not-found"}),
            Warn,
            "runs, and cannot be started again (not-found): systemctl status ztna-connector.service",
        ),
        (
            json!({"load": "bad-setting", "active": "inactive"}),
            Fail,
            "cannot be loaded (bad-setting): systemctl status ztna-connector.service",
        ),
        (
            json!({"active": "activating", "sub": "auto-restart", "result": "exit-code", "exit": {"code": 3}, "restarts": 1}),
            Warn,
            "ended (exit 3), and systemd restarts it by itself",
        ),
        (json!({"active": "activating", "sub": "start"}), Warn, "is starting (start) since 07:59:05 UTC"),
        (
            json!({"active": "deactivating", "sub": "stop-sigterm"}),
            Warn,
            "is stopping (stop-sigterm) since 07:59:05 UTC",
        ),
        (
            json!({"policy": "no"}),
            Warn,
            "runs, and nothing restarts it while vigie cannot be reached: set Restart=always",
        ),
        (json!({"active": "hibernating", "sub": "x"}), Unknown, "is in a state that is not known: hibernating (x)"),
    ] {
        assert_eq!(unit(fields.clone()), (outcome, format!("{name} {message}")), "{fields}");
    }
}

#[test]
fn three_restarts_in_five_minutes_are_a_crash_loop_also_while_it_runs_in_between() {
    let mut scene = Scene::well();
    let mut outcomes = Vec::new();
    for count in 0..=4 {
        scene.set(&format!("{UNIT}/restarts"), json!(count));
        scene.set(&format!("{UNIT}/invocation"), json!(format!("run {count}")));
        scene.set(&format!("{UNIT}/exit"), json!({"code": 1}));
        scene.set(&format!("{UNIT}/words"), json!("java.net.ConnectException"));
        outcomes.push(verdict(&mut scene).0);
    }
    assert_eq!(outcomes, [Pass, Pass, Pass, Fail, Fail]);
    assert_eq!(
        verdict(&mut scene).1,
        "ztna-connector.service ends again and again (exit 1), restarted 4 times in the last 5 min: java.net.ConnectException"
    );
    scene.look_after(280);
    assert_eq!(verdict(&mut scene).0, Pass, "it has run for five minutes");
}

#[test]
fn a_unit_that_a_person_starts_again_is_no_crash_loop_any_more() {
    for after in [json!(0), json!(4)] {
        let mut scene = Scene::well();
        for count in 0..=4 {
            scene.set(&format!("{UNIT}/restarts"), json!(count));
            scene.set(&format!("{UNIT}/invocation"), json!(format!("run {count}")));
            scene.look();
        }
        assert_eq!(verdict(&mut scene).0, Fail);
        scene.set(&format!("{UNIT}/restarts"), after);
        scene.set(&format!("{UNIT}/invocation"), json!("by hand"));
        assert_eq!(verdict(&mut scene).0, Pass);
    }
}

#[test]
fn a_stop_by_a_person_is_told_beside_the_checks() {
    let mut scene = Scene::well();
    assert!(!scene.look().stopped_on_purpose);
    for (field, value) in [("active", json!("inactive")), ("result", json!("success")), ("exit", json!(null))] {
        scene.set(&format!("{UNIT}/{field}"), value);
    }
    assert!(scene.look().stopped_on_purpose);
    scene.set(&format!("{UNIT}/result"), json!("exit-code"));
    assert!(!scene.look().stopped_on_purpose, "it ended by itself");
    let mut scene = containers();
    scene.set(&format!("{CONTAINER}/stopped_on_purpose"), json!(true));
    assert!(!scene.look().stopped_on_purpose, "it runs again");
    scene.set(&format!("{CONTAINER}/status"), json!("exited"));
    assert!(scene.look().stopped_on_purpose);
}

#[test]
fn restarts_that_were_never_seen_do_not_count() {
    assert_eq!(unit(json!({"restarts": 47})).0, Pass);
}

#[test]
fn the_time_of_a_change_is_told_the_same_in_every_look() {
    let mut scene = Scene::well();
    let told = verdict(&mut scene).1;
    for (after, since) in [(5, 65), (5, 71), (5, 74), (5, 80)] {
        scene.set(&format!("{UNIT}/since_seconds"), json!(since));
        let report = scene.look_after(after);
        assert_eq!(report.checks[0].message, told);
    }
}

#[test]
fn a_process_that_runs_and_does_not_answer_fails_at_the_second_probe() {
    let mut scene = Scene::well();
    let probe = |ok| LocalProbe {
        ok,
        error_class: (!ok).then(|| "FirstByteTimeout".to_owned()),
        phase: None,
        status: None,
        milliseconds: Some(2_000),
    };
    let url = "http://127.0.0.1:9000/".to_owned();
    scene.probes.insert(url.clone(), probe(true));
    assert_eq!(verdict(&mut scene).0, Pass);
    scene.probes.insert(url.clone(), probe(false));
    assert_eq!(verdict(&mut scene).0, Pass, "one probe may be lost");
    let (outcome, message) = verdict(&mut scene);
    assert_eq!(outcome, Fail);
    assert_eq!(message, "ztna-connector.service runs, and does not answer: FirstByteTimeout on 127.0.0.1:9000/");
    scene.set(&format!("{UNIT}/active"), json!("failed"));
    assert!(verdict(&mut scene).1.contains("failed"), "the cause before its consequence");
    for (active, sub, message) in [
        ("activating", "auto-restart", "ended (success), and systemd restarts it by itself"),
        ("activating", "start", "is starting (start)"),
        ("deactivating", "stop-sigterm", "is stopping (stop-sigterm)"),
    ] {
        scene.set(&format!("{UNIT}/active"), json!(active));
        scene.set(&format!("{UNIT}/sub"), json!(sub));
        let (outcome, told) = verdict(&mut scene);
        assert!(outcome == Warn && told.contains(message), "it does not run: {told}");
    }
    scene.set(&format!("{UNIT}/sub"), json!("running"));
    scene.set(&format!("{UNIT}/active"), json!("active"));
    scene.probes.insert(url, probe(true));
    assert_eq!(verdict(&mut scene).0, Pass);
}
