use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::agent::facts::{Family, Firewall, Look};
use crate::agent::look::firewall::{iptables, reachable};
use crate::time::Moment;

mod container_tests;
mod nat_tests;
mod process_tests;
mod tunnel_tests;

/// A host that is well, and the rounds that were made of it.
pub(super) struct Scene {
    pub(super) config: Config,
    pub(super) facts: Facts,
    pub(super) probes: BTreeMap<String, LocalProbe>,
    pub(super) attempts: Attempts,
    assessment: Assessment,
    seconds: u64,
}

const CONFIG: &str = "
url: https://vigie.example.com
connector: gateways/edge-1
unit: ztna-connector.service
checks: [{type: Process, probe: 'http://127.0.0.1:9000/'}, {type: WireGuardInterface}, {type: WireGuardHandshake},
  {type: OverlayRoute}, {type: IPForwarding}, {type: NATRules}, {type: ControlPlane}, {type: ClockSkew}]
backends:
- {name: orders, unit: 'compose:orders:backend', probe: 'http://127.0.0.1:8081/actuator/health'}
";

/// The time at the first look.
const START: u64 = 1_800_000_000;

impl Scene {
    pub(super) fn well() -> Self {
        let facts: Facts = serde_json::from_value(json!({
            "wall_seconds": START,
            "targets": {
                "ztna-connector.service": {"seen": {"unit": {
                    "load": "loaded", "active": "active", "sub": "running", "result": "success", "exit": null,
                    "restarts": 0, "invocation": "a", "since_seconds": 60, "has_job": false, "policy": "always",
                    "file_state": "enabled", "listens": [], "environment": {}, "words": null,
                }}},
                "compose:orders:backend": {"seen": {"container": {
                    "id": "c1", "name": "orders-backend-1", "status": "running", "health": null, "exit_code": 0,
                    "oom_killed": false, "error": null, "restarts": 0, "started_at": "2027-01-15T07:59:00Z",
                    "since_seconds": 60, "policy": "unless-stopped", "stopped_on_purpose": null,
                    "directory": "/srv/orders", "listens": ["0.0.0.0:8080"],
                    "published": ["0.0.0.0:8081->8080/tcp"], "environment": {"SERVER_PORT": "8080", "DB_PASSWORD": null},
                    "words": null,
                }}},
            },
            "network": {"seen": {
                "links": [
                    {"name": "lo", "is_up": true, "kind": null, "addresses": ["127.0.0.1/8"]},
                    {"name": "eth0", "is_up": true, "kind": null, "addresses": ["192.0.2.10/24"]},
                    {"name": "wg0", "is_up": true, "kind": "wireguard", "addresses": ["100.64.0.1/32"]},
                ],
                "routes": [
                    {"to": "0.0.0.0/0", "links": ["eth0"], "drops": null, "table": 254},
                    {"to": "192.0.2.0/24", "links": ["eth0"], "drops": null, "table": 254},
                    {"to": "100.64.0.0/10", "links": ["wg0"], "drops": null, "table": 254},
                ],
            }},
            "tunnels": {"wg0": {"seen": [{
                "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAZz2=", "endpoint": "192.0.2.2:51820",
                "handshake": START - 20, "received": 4096, "sent": 4096, "keepalive": 25,
            }]}},
            "forwarding": {"seen": {"v4": true, "v6": false, "links": {"wg0": [true, false], "eth0": [true, false]}}},
            "firewall": {"nft": {"seen": []}, "legacy": null},
        }))
        .unwrap();
        let mut attempts = Attempts::default();
        attempts.record(Moment::default(), None);
        let mut scene = Self {
            config: Config::parse(CONFIG, "agent.yaml").unwrap(),
            facts,
            probes: BTreeMap::new(),
            attempts,
            assessment: Assessment::default(),
            seconds: 0,
        };
        scene.rules("-A POSTROUTING -s 100.64.0.0/10 -o eth0 -j MASQUERADE");
        scene
    }

    /// Replaces the rules of the nat table.
    pub(super) fn rules(&mut self, rules: &str) {
        let text = format!("*nat\n:POSTROUTING ACCEPT [0:0]\n:OWN - [0:0]\n{rules}\nCOMMIT\n");
        self.facts.firewall =
            Some(Firewall { nft: reachable(iptables::parse(text.as_bytes(), Family::V4)).into(), legacy: None });
    }

    /// One look, 5 seconds after the one before.
    pub(super) fn look(&mut self) -> Report {
        self.look_after(5)
    }

    pub(super) fn look_after(&mut self, seconds: u64) -> Report {
        self.seconds += seconds;
        let moment = Moment::default() + Duration::from_secs(self.seconds);
        let wall = Timestamp::from_second(i64::try_from(START + self.seconds).unwrap()).unwrap();
        self.facts.wall_seconds = START + self.seconds;
        let own = Own { probes: &self.probes, attempts: &self.attempts, clock_offset_seconds: Some(0) };
        self.assessment.update(&self.config, &self.facts, &own, Now { moment, wall })
    }

    /// Two looks, and the verdict of one check after them.
    #[track_caller]
    pub(super) fn settled(&mut self, type_: CheckType) -> (CheckOutcome, String) {
        self.look();
        let report = self.look();
        let check = report.checks.into_iter().find(|check| check.type_ == type_).unwrap();
        (check.outcome, check.message)
    }

    #[track_caller]
    pub(super) fn expect(&mut self, type_: CheckType, outcome: CheckOutcome, message: &str) {
        assert_eq!(self.settled(type_), (outcome, message.to_owned()));
    }

    /// Changes a part of the facts, named by its path in the JSON.
    pub(super) fn set(&mut self, path: &str, value: Value) {
        let mut facts = serde_json::to_value(&self.facts).unwrap();
        *facts.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        self.facts = serde_json::from_value(facts).unwrap();
    }
}

#[test]
fn a_host_that_is_well_passes_every_check() {
    let mut scene = Scene::well();
    for _ in 0..3 {
        let report = scene.look();
        assert_eq!(report.checks.len(), CheckType::ALL.len());
        for check in &report.checks {
            assert_eq!((check.outcome, check.advice), (CheckOutcome::Pass, None), "{check:?}");
        }
    }
}

#[test]
fn a_verdict_needs_two_looks_except_that_of_the_process() {
    let mut scene = Scene::well();
    scene.look();
    scene.set("/forwarding/seen/v4", json!(false));
    scene.set("/targets/ztna-connector.service/seen/unit/active", json!("failed"));
    let status = |report: &Report, type_| report.checks.iter().find(|check| check.type_ == type_).unwrap().outcome;
    let first = scene.look();
    assert_eq!(status(&first, CheckType::Process), CheckOutcome::Fail);
    assert_eq!(status(&first, CheckType::IPForwarding), CheckOutcome::Pass);
    scene.set("/forwarding/seen/v4", json!(true));
    assert_eq!(status(&scene.look(), CheckType::IPForwarding), CheckOutcome::Pass, "one look says nothing");
    scene.set("/forwarding/seen/v4", json!(false));
    assert_eq!(status(&scene.look(), CheckType::IPForwarding), CheckOutcome::Pass);
    assert_eq!(status(&scene.look(), CheckType::IPForwarding), CheckOutcome::Fail);
    scene.set("/forwarding/seen/v4", json!(true));
    assert_eq!(status(&scene.look(), CheckType::IPForwarding), CheckOutcome::Fail);
    assert_eq!(status(&scene.look(), CheckType::IPForwarding), CheckOutcome::Pass);
}

#[test]
fn one_look_that_fails_changes_no_verdict() {
    let mut scene = Scene::well();
    scene.set("/targets/ztna-connector.service/seen/unit/active", json!("failed"));
    let process = |report: Report| report.checks.into_iter().find(|check| check.type_ == CheckType::Process).unwrap();
    assert_eq!(process(scene.look()).outcome, CheckOutcome::Fail);
    let seen = scene.facts.clone();
    for _ in 0..2 {
        scene.set("/targets/ztna-connector.service", json!({"blind": "systemctl did not answer within 2 s"}));
        assert_eq!(process(scene.look()).outcome, CheckOutcome::Fail);
        scene.facts = seen.clone();
        assert_eq!(process(scene.look()).outcome, CheckOutcome::Fail);
    }
    scene.set("/targets/ztna-connector.service", json!({"blind": "systemctl did not answer within 2 s"}));
    assert_eq!(scene.settled(CheckType::Process).0, CheckOutcome::Unknown);
}

#[test]
fn what_could_not_be_looked_at_is_unknown_with_the_reason() {
    for (path, type_) in [
        ("/targets/ztna-connector.service", CheckType::Process),
        ("/network", CheckType::WireGuardInterface),
        ("/network", CheckType::WireGuardHandshake),
        ("/tunnels/wg0", CheckType::WireGuardHandshake),
        ("/network", CheckType::OverlayRoute),
        ("/forwarding", CheckType::IPForwarding),
        ("/firewall/nft", CheckType::NATRules),
    ] {
        let mut scene = Scene::well();
        scene.look();
        scene.set(path, json!({"blind": "it did not answer within 2 s"}));
        if type_ == CheckType::NATRules {
            scene.set("/network", serde_json::to_value(Scene::well().facts.network).unwrap());
        }
        scene.expect(type_, CheckOutcome::Unknown, "could not look: it did not answer within 2 s");
        scene.facts = Facts::default();
        let (status, message) = scene.settled(type_);
        assert_eq!(status, CheckOutcome::Unknown, "{message}");
        scene.facts = Scene::well().facts;
        assert_eq!(scene.settled(type_).0, CheckOutcome::Pass);
    }
}

#[test]
fn the_advice_is_the_operators() {
    let mut scene = Scene::well();
    scene.set("/forwarding/seen/v4", json!(false));
    let report = scene.look();
    let check = report.checks.iter().find(|check| check.type_ == CheckType::IPForwarding).unwrap();
    assert_eq!(check.advice, Some("run `sysctl -w net.ipv4.ip_forward=1` on its host, and make it permanent"));
    for type_ in CheckType::ALL {
        assert!(known_fault(cause_of(*type_)).is_some(), "{type_}");
    }
}

#[test]
fn the_way_to_the_operator_is_judged_by_five_minutes_of_attempts() {
    let at = |seconds| Moment::default() + Duration::from_secs(seconds);
    let failed = || Some(Attempt { class: "ConnectTimeout".into(), phase: "Connect".into() });
    let mut attempts = Attempts::default();
    let first = attempts.judge(at(0));
    assert_eq!(
        first,
        Finding::pass("no other heartbeat was sent in the last 5 min"),
        "the first heartbeat has no cause"
    );
    for second in 0..8 {
        attempts.record(at(second), None);
    }
    attempts.record(at(8), failed());
    attempts.record(at(9), failed());
    assert_eq!(attempts.judge(at(9)).outcome, CheckOutcome::Pass, "20 percent");
    attempts.record(at(10), failed());
    let finding = attempts.judge(at(10));
    assert_eq!(finding.outcome, CheckOutcome::Warn);
    let told =
        "3 of 11 heartbeats of the last 5 min were not accepted, the last one by ConnectTimeout in phase Connect";
    assert_eq!(finding.message, told);
    attempts.record(at(315), None);
    assert_eq!(attempts.judge(at(315)).message, "all 1 heartbeats of the last 5 min were accepted");
    for second in 0..10_000 {
        attempts.record(at(400), failed().filter(|_| second % 2 == 0));
    }
    assert_eq!(attempts.judge(at(400)).outcome, CheckOutcome::Warn);
}

#[test]
fn a_clock_that_is_off_is_told_on_its_host_too() {
    for (offset, outcome, message) in [
        (None, CheckOutcome::Unknown, "the operator has not answered yet"),
        (Some(30), CheckOutcome::Pass, "the clock agrees with the operator's"),
        (Some(-30), CheckOutcome::Pass, "the clock agrees with the operator's"),
        (Some(31), CheckOutcome::Warn, "the clock is 31 s ahead of the operator's"),
        (Some(-3_600), CheckOutcome::Warn, "the clock is 60 min behind the operator's"),
        (Some(i64::MIN), CheckOutcome::Warn, "the clock is 106751991167300 d behind the operator's"),
    ] {
        let finding = clock_skew(offset);
        assert_eq!((finding.outcome, finding.message.as_str()), (outcome, message), "{offset:?}");
    }
}

#[test]
fn nothing_that_the_helper_sends_panics() {
    let texts = ["", "active", "failed", "\u{202e}wg0", "é", "\0\u{1b}[2J", &"x".repeat(10_000)];
    for text in texts {
        for number in [0_u64, 1, u64::MAX] {
            let mut scene = Scene::well();
            scene.look();
            let unit = "/targets/ztna-connector.service/seen/unit";
            for field in ["load", "active", "sub", "result", "invocation", "policy", "file_state", "words"] {
                scene.set(&format!("{unit}/{field}"), json!(text));
            }
            scene.set(&format!("{unit}/restarts"), json!(number));
            scene.set(&format!("{unit}/since_seconds"), json!(number));
            let container = "/targets/compose:orders:backend/seen/container";
            for field in ["id", "name", "status", "started_at", "policy", "health", "words", "error"] {
                scene.set(&format!("{container}/{field}"), json!(text));
            }
            scene.set(&format!("{container}/since_seconds"), json!(number));
            scene.set("/tunnels/wg0/seen/0/key", json!(text));
            for field in ["handshake", "received", "sent"] {
                scene.set(&format!("/tunnels/wg0/seen/0/{field}"), json!(number));
            }
            scene.set("/network/seen/links/1/name", json!(text));
            for report in [scene.look(), scene.look(), scene.look()] {
                for check in &report.checks {
                    assert!(check.message.chars().count() <= 256 && !check.message.contains(char::is_control));
                }
                assert!(report.backends.iter().all(|backend| backend.text_len() <= 1024));
            }
        }
    }
    let blind: Look<u8> = Err("x".to_owned()).into();
    assert_eq!(blind.seen(), Err("x"));
}
