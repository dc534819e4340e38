use serde_json::json;

use super::Scene;
use super::process_tests::{UNIT, verdict};
use crate::api::CheckOutcome::{Fail, Pass, Unknown, Warn};
use crate::api::TargetState;

pub(super) const CONTAINER: &str = "/targets/compose:orders:backend/seen/container";

/// A scene whose check is that of the container.
pub(super) fn containers() -> Scene {
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
