//! The readers, with recorded output of the real thing: systemd 252, Docker 20.10, nft 1.0.6, iptables 1.8.9, wireguard-go.

use std::net::SocketAddr;

use jiff::Timestamp;

use super::docker::parse;
use super::firewall::{iptables, nft, reachable};
use super::{environment, limited, listeners, systemd, wireguard};
use crate::agent::facts::{Action, Chain, Condition, Exit, Family, Hook, Rule};

const SHOW: &str = include_str!("recorded/systemctl-show.txt");
const RUNNING: &[u8] = include_bytes!("recorded/inspect-running.json");
const CRASH: &[u8] = include_bytes!("recorded/inspect-crash.json");
const OOM: &[u8] = include_bytes!("recorded/inspect-oom.json");
const UNHEALTHY: &[u8] = include_bytes!("recorded/inspect-unhealthy.json");
const CONTAINERS: &[u8] = include_bytes!("recorded/containers.json");
const STOPPED: &[u8] = include_bytes!("recorded/events-stop.jsonl");
const OOM_EVENTS: &[u8] = include_bytes!("recorded/events-oom.jsonl");
const LOG: &[u8] = include_bytes!("recorded/container.log");
const NFT_SETS: &[u8] = include_bytes!("recorded/nft-sets.json");
const NFT_VMAP: &[u8] = include_bytes!("recorded/nft-vmap.json");
const NFT_IPTABLES: &[u8] = include_bytes!("recorded/nft-iptables.json");
const NFT_DOCKER: &[u8] = include_bytes!("recorded/nft-docker.json");
const LEGACY: &[u8] = include_bytes!("recorded/iptables-legacy.txt");
const UAPI: &str = include_str!("recorded/uapi.txt");
const LISTENERS: &str = include_str!("recorded/listeners.txt");

fn wall() -> Timestamp {
    "2026-11-30T07:37:00Z".parse().unwrap()
}

#[test]
fn systemctl_shows_one_block_for_each_unit() {
    let shown = systemd::parse(SHOW, 30_143_553_079);
    let [well, failed, gone, crash, other] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!((&*well.facts.active, &*well.facts.sub, &*well.facts.policy), ("active", "running", "always"));
    assert_eq!((well.main_pid, well.facts.exit, well.facts.since_seconds), (202, None, Some(6)));
    let environment: Vec<_> = well.facts.environment.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
    assert_eq!(environment, [("DB_PASSWORD", None), ("SERVER_PORT", Some("8099"))]);
    assert_eq!((failed.facts.exit, &*failed.facts.result), (Some(Exit::Code(7)), "exit-code"));
    assert_eq!((&*gone.facts.load, gone.facts.since_seconds), ("not-found", None));
    assert_eq!((&*crash.facts.sub, crash.facts.restarts), ("auto-restart", 30));
    assert!(!other.facts.has_job && other.facts.file_state == "enabled");
}

#[test]
fn a_container_is_read_from_its_inspection() {
    let container = parse::inspected(RUNNING, wall()).unwrap();
    let facts = &container.facts;
    assert_eq!((&*facts.status, &*facts.name, &*facts.policy), ("running", "orders-backend-1", "unless-stopped"));
    assert_eq!(facts.published, ["127.0.0.1:8081->8080/tcp"]);
    assert_eq!(facts.directory.as_deref(), Some("/srv/orders"));
    assert_eq!(facts.environment.get("DB_PASSWORD"), Some(&None));
    assert_eq!(facts.environment.get("SERVER_PORT"), Some(&Some("8080".to_owned())));
    assert!(container.pid != 0 && container.started.is_some() && facts.since_seconds.is_some());
    let crash = parse::inspected(CRASH, wall()).unwrap().facts;
    assert_eq!((&*crash.status, crash.exit_code, crash.restarts), ("restarting", 3, 9));
    assert_eq!(crash.since_seconds, Some(33), "since it ended");
    let oom = parse::inspected(OOM, wall()).unwrap().facts;
    assert!(oom.oom_killed && oom.status == "exited" && oom.policy == "no");
    let unhealthy = parse::inspected(UNHEALTHY, wall()).unwrap().facts;
    assert_eq!(unhealthy.health.as_deref(), Some("unhealthy"));
    let written = serde_json::to_string(&[&container.facts, &crash, &oom, &unhealthy]).unwrap();
    assert!(!written.contains("geheim"), "{written}");
}

#[test]
fn never_is_no_time_and_null_is_nothing() {
    let created = br#"{"Id": "a", "Name": null, "RestartCount": null, "State": {"Status": "created", "Error": "",
        "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z", "Health": null},
        "HostConfig": {"RestartPolicy": {"Name": ""}}, "Config": {"Env": null, "Labels": null}, "NetworkSettings": null}"#;
    let container = parse::inspected(created, wall()).unwrap();
    assert_eq!((container.started, container.finished, container.facts.since_seconds), (None, None, None));
    assert_eq!((container.facts.policy.as_str(), container.facts.error), ("no", None));
}

#[test]
fn a_service_is_its_first_container_that_does_not_run() {
    let listed = parse::listed(CONTAINERS).unwrap();
    assert!(parse::of_service(&listed, "backend", None).is_some());
    assert!(parse::of_service(&listed, "gone", None).is_none());
    assert_eq!(parse::directory(&listed), Some("/srv/orders"));
    let labels =
        |one_off: &str| serde_json::json!({"com.docker.compose.service": "a", "com.docker.compose.oneoff": one_off});
    let list = serde_json::json!([
        {"Id": "1", "State": "running", "Labels": labels("False")},
        {"Id": "2", "State": "exited", "Labels": labels("True")},
        {"Id": "3", "State": "exited", "Labels": labels("False")},
        {"Id": "4", "State": "exited", "Labels": null},
    ]);
    let listed = parse::listed(list.to_string().as_bytes()).unwrap();
    assert_eq!(parse::of_service(&listed, "a", None).map(|one| &*one.id), Some("3"));
    assert_eq!(parse::of_service(&listed[..2], "a", None).map(|one| &*one.id), Some("1"));
}

#[test]
fn a_stop_is_told_from_an_end_by_the_events() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let end = |events: &[u8]| {
        let text = String::from_utf8_lossy(events);
        let die = text.lines().rev().find(|line| line.contains("\"Action\":\"die\"")).unwrap().to_owned();
        let event: serde_json::Value = serde_json::from_str(&die).unwrap();
        Timestamp::from_second(event["time"].as_i64().unwrap()).unwrap()
    };
    assert_eq!(parse::was_stopped(STOPPED, end(STOPPED)), Some(true));
    assert_eq!(parse::was_stopped(OOM_EVENTS, end(OOM_EVENTS)), Some(false));
    assert_eq!(parse::was_stopped(STOPPED, at("2027-01-01T00:00:00Z")), None, "a later end");
    assert_eq!(parse::was_stopped(b"", wall()), None);
    let event = |action: &str, time: i64| format!(r#"{{"Action":"{action}","time":{time}}}"#);
    let second = wall().as_second();
    let before =
        [event("kill", second - 9), event("die", second - 9), event("start", second - 8), event("die", second)];
    assert_eq!(parse::was_stopped(before.join("\n").as_bytes(), wall()), Some(false), "an earlier run was stopped");
    let podman = [event("start", second - 8), event("kill", second), event("died", second)];
    assert_eq!(parse::was_stopped(podman.join("\n").as_bytes(), wall()), Some(true));
}

#[test]
fn a_log_loses_its_headers() {
    let line = "Exception in thread \"main\" java.net.ConnectException: Connection refused (geheim)\n";
    assert_eq!(parse::log_text(LOG, false), line.repeat(2));
    for end in 0..LOG.len() {
        assert!(parse::log_text(&LOG[..end], false).len() <= LOG.len());
    }
    assert_eq!(parse::log_text(b"as it is", true), "as it is");
    assert_eq!(parse::log_text(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'a'], false), "a");
}

fn one<'a>(chains: &'a [Chain], name: &str) -> &'a Chain {
    chains.iter().find(|chain| chain.name == name).unwrap_or_else(|| panic!("{name}: {chains:?}"))
}

#[test]
fn nft_shows_sets_ranges_jumps_and_policies() {
    let chains = reachable(nft::parse(NFT_SETS).unwrap()).unwrap();
    assert_eq!(one(&chains, "post").hook, Some(Hook::Postrouting));
    assert_eq!(
        one(&chains, "post").rules,
        [Rule { conditions: vec![Condition::Family(Family::V4)], action: Action::Jump("out".into()) }]
    );
    let [rule] = &one(&chains, "out").rules[..] else { panic!() };
    assert_eq!(rule.action, Action::Translate);
    let [Condition::Source { of, not: false }, Condition::Out { of: names, not: false }] = &rule.conditions[..] else {
        panic!("{rule:?}")
    };
    let of: Vec<String> = of.iter().map(ToString::to_string).collect();
    assert_eq!(of, ["10.9.0.1/32", "10.9.0.2/31", "10.9.0.4/30", "10.9.0.8/31", "100.64.0.0/10"]);
    assert_eq!(names, &["eth*", "eth0"]);
    let forward = one(&chains, "forward");
    assert!(forward.drops && forward.hook == Some(Hook::Forward));
    assert_eq!(forward.rules[0], Rule { conditions: vec![Condition::Established], action: Action::Accept });
}

#[test]
fn each_element_of_a_verdict_map_is_a_rule() {
    let chains = reachable(nft::parse(NFT_VMAP).unwrap()).unwrap();
    let out = |name: &str| vec![Condition::Out { of: vec![name.to_owned()], not: false }];
    assert_eq!(
        one(&chains, "post").rules,
        [
            Rule { conditions: out("eth1"), action: Action::Jump("own".into()) },
            Rule { conditions: out("eth2"), action: Action::Goto("out".into()) },
            Rule { conditions: out("eth0"), action: Action::Jump("out".into()) },
        ]
    );
    assert_eq!(one(&chains, "out").rules[0].action, Action::Translate);
    let forward = &one(&chains, "f").rules;
    let established =
        [Action::Drop, Action::Accept, Action::Accept].map(|action| (vec![Condition::Established], action));
    let told: Vec<_> = forward.iter().map(|rule| (rule.conditions.clone(), rule.action.clone())).collect();
    assert_eq!(told[..3], established);
    assert_eq!(told[3], (vec![Condition::Other("concat".into())], Action::Accept));
    let tunnel = vec![Condition::In { of: vec!["wg0".into()], not: false }];
    assert_eq!(told[4..], [(tunnel, Action::Jump("fromwg".into()))]);
}

#[test]
fn the_rules_of_iptables_are_read_through_nft_and_from_its_own_output() {
    let chains = nft::parse(NFT_IPTABLES).unwrap();
    let out = Condition::Out { of: vec!["l*".into()], not: false };
    assert_eq!(chains[0].rules, [Rule { conditions: vec![out], action: Action::Translate }]);
    let chains = reachable(nft::parse(NFT_DOCKER).unwrap()).unwrap();
    let post = one(&chains, "POSTROUTING");
    assert_eq!(post.rules[0].action, Action::Translate);
    let [Condition::Out { of: names, not: true }, Condition::Source { of, not: false }] = &post.rules[0].conditions[..]
    else {
        panic!("{post:?}")
    };
    assert_eq!((of[0].to_string(), &*names[0]), ("172.17.0.0/16".to_owned(), "docker0"));
    assert!(one(&chains, "FORWARD").drops && one(&chains, "DOCKER").hook.is_none());
    let chains = reachable(iptables::parse(LEGACY, Family::V4)).unwrap();
    assert_eq!(chains.len(), 1);
    let [rule] = &chains[0].rules[..] else { panic!("{chains:?}") };
    assert_eq!((rule.conditions.len(), &rule.action), (2, &Action::Translate));
}

#[test]
fn more_rules_than_are_told_are_an_error() {
    let rules = "-A POSTROUTING -j MASQUERADE\n".repeat(3_000);
    let text = format!("*nat\n:POSTROUTING ACCEPT [0:0]\n{rules}");
    let told = reachable(iptables::parse(text.as_bytes(), Family::V4)).unwrap_err();
    assert_eq!(told, "the firewall has 3000 rules for forwarded packets; at most 2048 are read");
    let aside = text.replace("POSTROUTING", "ELSEWHERE");
    assert_eq!(reachable(iptables::parse(aside.as_bytes(), Family::V4)), Ok(vec![]));
}

#[test]
fn a_userspace_tunnel_tells_its_peers_without_a_secret() {
    let peers = wireguard::userspace(UAPI).unwrap();
    let [peer] = &peers[..] else { panic!("{peers:?}") };
    assert_eq!(peer.key, "Z9uUjcl4XbHJMKFIa/rIX7Z7MumKpqRq9WrOp+IL5jc=");
    assert_eq!((peer.keepalive, peer.received, peer.sent), (5, 8212, 7536));
    assert_eq!(peer.endpoint.unwrap().to_string(), "192.0.2.2:51820");
    for end in 0..UAPI.len() - 1 {
        assert!(wireguard::userspace(&UAPI[..end]).is_err(), "{end}");
    }
    assert_eq!(wireguard::userspace("errno=0\n\n"), Ok(vec![]));
    assert!(wireguard::userspace("errno=1\n\n").is_err());
    assert!(wireguard::userspace("public_key=é\n\n").is_err());
    let many = format!("public_key={}\nrx_bytes=1\n", "0".repeat(64)).repeat(1_000);
    assert_eq!(wireguard::userspace(&format!("{many}errno=0\n\n")).map(|peers| peers.len()), Ok(256));
}

#[test]
fn listeners_are_those_of_the_owner() {
    let all = |owner| listeners::parse(LISTENERS, owner);
    let expected: SocketAddr = "127.0.0.1:8099".parse().unwrap();
    assert_eq!(all(None), [expected]);
    assert_eq!(all(Some(65_534)), [expected]);
    assert_eq!(all(Some(0)), []);
    let six = "head\n 0: 00000000000000000000000000000000:1F90 0:0 0A 0 0 0 0\n 1: 0000000000000000FFFF00000100007F:0050 0:0 0A 0 0 0 0\n";
    let told: Vec<String> = listeners::parse(six, None).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["[::]:8080", "127.0.0.1:80"]);
    assert_eq!(listeners::parse("head\n 0: é:1 x 0A 0 0 0 0\n 0: 00000000:FFFFF x 0A 0 0 0 0\n", None), []);
}

#[test]
fn of_an_environment_only_the_settings_of_management_have_values() {
    let of = |line: &str| environment::of(environment::split(line));
    let told = of(r#"SERVER_PORT=8080 "A B=1" TOKEN=x 'MANAGEMENT_SERVER_ADDRESS=127.0.0.1' BARE =x"#);
    let told: Vec<_> = told.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
    let expected = [
        ("BARE", None),
        ("MANAGEMENT_SERVER_ADDRESS", Some("127.0.0.1")),
        ("SERVER_PORT", Some("8080")),
        ("TOKEN", None),
    ];
    assert_eq!(told, expected);
    let many = (0..1_000).map(|n| format!("A{n}=secret")).chain(["SERVER_PORT=1".to_owned()]);
    let told = environment::of(many);
    assert!(told.len() == 32 && told.contains_key("SERVER_PORT"));
}

#[test]
fn bad_output_is_an_error_or_nothing_and_never_a_panic() {
    let nothing = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        systemd::parse(&text, u64::MAX);
        let _ = parse::inspected(bytes, wall());
        let _ = parse::listed(bytes);
        parse::was_stopped(bytes, wall());
        parse::log_text(bytes, false);
        let _ = nft::parse(bytes).and_then(reachable);
        let _ = reachable(iptables::parse(bytes, Family::V6));
        let _ = wireguard::userspace(&text);
        listeners::parse(&text, None);
        environment::split(&text);
    };
    for recorded in [SHOW.as_bytes(), RUNNING, CONTAINERS, STOPPED, LOG, NFT_SETS, LEGACY, UAPI.as_bytes()] {
        for end in (0..recorded.len()).step_by(7) {
            nothing(&recorded[..end]);
            let mut changed = recorded.to_vec();
            changed[end] ^= 0x5a;
            nothing(&changed);
        }
    }
    let deep = "[".repeat(100_000);
    let huge = format!("MainPID={}\nNRestarts=-1\nExecMainCode=1\nExecMainStatus=99999999999\n\n\n=\n", u64::MAX);
    for text in
        [&*deep, &*huge, "", "\n\n\n", "-A", "*nat\n:", "*nat\n:X\n-A X -s\n-A X !\n-A X -j", "{\"nftables\":[{}]}"]
    {
        nothing(text.as_bytes());
    }
    let unit = systemd::parse(&huge, 0).remove(0);
    assert_eq!((unit.main_pid, unit.facts.exit), (0, None));
    assert!(systemd::parse(&format!("Result={}\n", "x".repeat(1 << 20)), 0)[0].facts.result.len() == 64);
}

#[tokio::test(start_paused = true)]
async fn a_userspace_tunnel_that_never_answers_keeps_no_thread_and_is_named() {
    let socket = std::env::temp_dir().join(format!("vigie-uapi-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&socket);
    let silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answer = limited("wg0.sock", wireguard::of_userspace(&socket)).await;
    assert_eq!(answer.unwrap_err(), "wg0.sock did not answer within 2 s");
    drop(silent);
    std::fs::remove_file(socket).unwrap();
}
