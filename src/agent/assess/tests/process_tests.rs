use serde_json::json;

use super::Scene;
use crate::api::CheckOutcome::{self, Fail, Pass, Unknown, Warn};
use crate::api::{CheckType, LocalProbe, TargetState};

const UNIT: &str = "/targets/ztna-connector.service/seen/unit";
const CONTAINER: &str = "/targets/compose:orders:backend/seen/container";

/// The verdict about the unit at once.
fn verdict(scene: &mut Scene) -> (CheckOutcome, String) {
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

/// A scene whose check is that of the container.
fn containers() -> Scene {
    let mut scene = Scene::well();
    scene.config.checks[0].unit = Some("compose:orders:backend".parse().unwrap());
    scene.config.checks[0].probe = None;
    scene
}

#[test]
fn a_container_is_judged_by_its_state() {
    let name = "compose:orders:backend";
    for (fields, outcome, message) in [
        (json!({}), Pass, "runs since 07:59:05 UTC"),
        (json!({"health": "healthy"}), Pass, "runs since 07:59:05 UTC"),
        (json!({"health": "starting"}), Pass, "runs since 07:59:05 UTC, its health check is starting"),
        (
            json!({"health": "unhealthy", "words": "panic"}),
            Fail,
            "runs, and its own health check fails: docker inspect orders-backend-1: panic",
        ),
        (
            json!({"status": "exited", "exit_code": 137, "oom_killed": true}),
            Fail,
            "ended (killed by the kernel for lack of memory) since 07:59:05 UTC",
        ),
        (
            json!({"status": "exited", "exit_code": 1, "stopped_on_purpose": false, "words": "panic"}),
            Fail,
            "ended (exit 1) since 07:59:05 UTC: panic",
        ),
        (
            json!({"status": "exited", "exit_code": 143, "stopped_on_purpose": true}),
            Fail,
            "is stopped on purpose since 07:59:05 UTC: docker start orders-backend-1",
        ),
        (json!({"status": "dead"}), Fail, "ended (exit 0) since 07:59:05 UTC"),
        (
            json!({"status": "created", "error": "port is already allocated"}),
            Fail,
            "was never started (port is already allocated): docker start orders-backend-1",
        ),
        (json!({"status": "paused"}), Fail, "is paused since 07:59:05 UTC: docker unpause orders-backend-1"),
        (
            json!({"status": "restarting", "exit_code": 1, "restarts": 1}),
            Warn,
            "ended (exit 1), and Docker restarts it by itself",
        ),
        (
            json!({"policy": "no"}),
            Warn,
            "runs, and nothing restarts it while vigie cannot be reached: docker update --restart unless-stopped orders-backend-1",
        ),
        (json!({"status": "removing"}), Warn, "is removing"),
        (json!({"status": "frozen"}), Unknown, "is in a state that is not known: frozen"),
    ] {
        let mut scene = containers();
        for (field, value) in fields.as_object().unwrap() {
            scene.set(&format!("{CONTAINER}/{field}"), value.clone());
        }
        assert_eq!(verdict(&mut scene), (outcome, format!("{name} {message}")), "{fields}");
    }
}

#[test]
fn a_container_that_is_gone_is_told_with_the_command_that_brings_it_back() {
    let absent = json!({"seen": {"absent": {"directory": null}}});
    let mut scene = containers();
    scene.set("/targets/compose:orders:backend", absent.clone());
    let (outcome, message) = verdict(&mut scene);
    assert_eq!(outcome, Fail);
    let unknown = "compose:orders:backend has no container: docker compose -p orders up -d backend, in the directory of its compose file";
    assert_eq!(message, unknown);
    let mut scene = containers();
    scene.look();
    scene.set("/targets/compose:orders:backend", absent);
    let known = "compose:orders:backend has no container: cd /srv/orders && docker compose up -d backend";
    for _ in 0..3 {
        assert_eq!(verdict(&mut scene).1, known, "its directory is remembered");
    }
    let report = scene.look();
    assert_eq!(report.backends[0].state, TargetState::Absent);
    assert_eq!(report.backends[0].message.as_deref(), Some(known));
    for hostile in ["/srv; rm -rf /", "/srv/$(id)", "/srv\n\u{1b}[2J"] {
        scene.set("/targets/compose:orders:backend", json!({"seen": {"absent": {"directory": hostile}}}));
        assert_eq!(verdict(&mut scene).1, unknown, "no part of a command to copy");
    }
}

#[test]
fn a_container_whose_restarts_grow_fails_and_recovers() {
    let mut scene = containers();
    let mut outcomes = Vec::new();
    for count in 1..=5 {
        scene.set(&format!("{CONTAINER}/status"), json!(if count % 2 == 0 { "running" } else { "restarting" }));
        scene.set(&format!("{CONTAINER}/restarts"), json!(count));
        scene.set(&format!("{CONTAINER}/started_at"), json!(format!("{count}")));
        outcomes.push(verdict(&mut scene).0);
    }
    assert_eq!(outcomes, [Warn, Pass, Warn, Fail, Fail]);
    scene.set(&format!("{CONTAINER}/status"), json!("running"));
    scene.set(&format!("{CONTAINER}/started_at"), json!("by hand"));
    assert_eq!(verdict(&mut scene).0, Pass);
}

#[test]
fn a_backend_is_told_as_it_is() {
    let mut scene = Scene::well();
    let report = scene.look();
    let told = serde_json::to_value(&report.backends[0]).unwrap();
    assert_eq!(
        told,
        json!({
            "name": "orders", "unit": "compose:orders:backend", "state": "Running", "since_seconds": 60, "restarts": 0,
            "recent_restarts": 0,
            "policy": "unless-stopped", "listens": ["0.0.0.0:8080"], "published": ["0.0.0.0:8081->8080/tcp"],
            "environment": {"DB_PASSWORD": null, "SERVER_PORT": "8080"},
        })
    );
    scene.set(&format!("{CONTAINER}/status"), json!("exited"));
    scene.set(&format!("{CONTAINER}/exit_code"), json!(143));
    scene.set(&format!("{CONTAINER}/stopped_on_purpose"), json!(true));
    let report = scene.look();
    let backend = &report.backends[0];
    assert_eq!((backend.state, backend.exit_code), (TargetState::Exited, Some(143)));
    assert_eq!((backend.stopped_on_purpose, backend.oom_killed), (Some(true), Some(false)));
    scene.set("/targets/compose:orders:backend", json!({"blind": "no socket"}));
    let backend = &scene.look().backends[0];
    assert_eq!(backend.state, TargetState::Unknown);
    assert_eq!(backend.message.as_deref(), Some("could not look: no socket"));
}

#[test]
fn the_restarts_of_the_last_quarter_of_an_hour_are_told_beside_those_of_all_time() {
    let mut scene = containers();
    let told = |scene: &mut Scene, seconds| {
        let backend = scene.look_after(seconds).backends[0].clone();
        (backend.restarts, backend.recent_restarts)
    };
    scene.set(&format!("{CONTAINER}/restarts"), json!(10));
    assert_eq!(told(&mut scene, 5), (Some(10), Some(0)), "they were before the first look");
    for count in 11..=13 {
        scene.set(&format!("{CONTAINER}/restarts"), json!(count));
        scene.set(&format!("{CONTAINER}/started_at"), json!(format!("{count}")));
        assert_eq!(told(&mut scene, 200), (Some(count), Some(count - 10)));
    }
    assert_eq!(verdict(&mut scene).0, Pass, "two of them in five minutes");
    assert_eq!(told(&mut scene, 500), (Some(13), Some(2)));
    assert_eq!(told(&mut scene, 900), (Some(13), Some(0)));
}

#[test]
fn a_container_that_waits_for_its_next_start_at_the_first_look_is_in_a_crash_loop() {
    for (status, restarts, recent) in [("restarting", 9, 3), ("restarting", 2, 0), ("running", 9, 0)] {
        let mut scene = containers();
        scene.set(&format!("{CONTAINER}/status"), json!(status));
        scene.set(&format!("{CONTAINER}/restarts"), json!(restarts));
        let backend = scene.look().backends[0].clone();
        assert_eq!((backend.restarts, backend.recent_restarts), (Some(restarts), Some(recent)), "{status}");
    }
}

#[test]
fn a_unit_behind_a_backend_is_told_too() {
    let mut scene = Scene::well();
    scene.config.backends[0].unit = "ztna-connector.service".parse().unwrap();
    for (fields, state, exit_code, on_purpose) in [
        (json!({"active": "active"}), TargetState::Running, None, None),
        (json!({"active": "failed", "result": "exit-code", "exit": {"code": 1}}), TargetState::Failed, Some(1), None),
        (
            json!({"active": "failed", "result": "oom-kill", "exit": {"signal": 9}}),
            TargetState::Failed,
            Some(137),
            None,
        ),
        (json!({"active": "inactive", "result": "success", "exit": null}), TargetState::Inactive, None, Some(true)),
        (json!({"invocation": ""}), TargetState::Inactive, None, Some(false)),
        (json!({"policy": "on-failure", "invocation": "a"}), TargetState::Inactive, None, Some(false)),
        (json!({"file_state": "disabled"}), TargetState::Inactive, None, Some(true)),
        (json!({"result": "exit-code"}), TargetState::Inactive, None, Some(false)),
        (json!({"active": "activating", "sub": "auto-restart"}), TargetState::Restarting, None, None),
        (json!({"sub": "start-pre"}), TargetState::Activating, None, None),
        (json!({"load": "not-found", "active": "inactive"}), TargetState::Absent, None, None),
        (json!({"active": "active", "sub": "running"}), TargetState::Running, None, None),
    ] {
        for (field, value) in fields.as_object().unwrap() {
            scene.set(&format!("{UNIT}/{field}"), value.clone());
        }
        let backend = &scene.look().backends[0];
        assert_eq!(
            (backend.state, backend.exit_code, backend.stopped_on_purpose),
            (state, exit_code, on_purpose),
            "{fields}"
        );
    }
}

#[test]
fn a_report_is_short_enough_for_a_heartbeat_and_keeps_what_matters_most() {
    let mut scene = Scene::well();
    let mut environment: serde_json::Map<_, _> =
        (0..32).map(|n| (format!("{}_{n}", "A".repeat(60)), json!(null))).collect();
    environment.insert("SERVER_PORT".into(), json!("8080"));
    scene.set(&format!("{CONTAINER}/environment"), environment.into());
    scene.set(&format!("{CONTAINER}/words"), json!("é".repeat(256)));
    let backend = scene.look().backends.remove(0);
    assert!(backend.text_len() <= 1024);
    assert!(backend.words.is_some() && backend.environment.contains_key("SERVER_PORT"));
    scene.set(&format!("{CONTAINER}/words"), json!("漢".repeat(512)));
    assert!(scene.look().backends[0].text_len() <= 1024);
}
