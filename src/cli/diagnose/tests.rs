//! What a person is told, from evidence and objects as they come.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::backend::{last_healthy, operator};
use super::commands::commands;
use super::report::{Report, state};
use super::text::{ago, columns, harmless};
use super::token::token;
use super::vantages::{NetworkPosition, VantageView, agent_of_operator, of_operator, views};
use super::{ExitHealth, connector};
use crate::api::{BackendState, Cause, Connector, ConnectorState, ErrorClass, MonitoredBackendStatus, Phase};
use crate::cli::token::TokenSource;
use crate::diagnosis::evidence::{Evidence, Lookup, Vantage};
use crate::heartbeat::credentials::Digest;
use crate::probe::{Scheme, Target};

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn vantage(name: &str, class: Option<ErrorClass>) -> Vantage {
    let phase = class.map(|class| if class == ErrorClass::HTTPStatus { Phase::Body } else { Phase::Connect });
    Vantage {
        name: name.to_owned(),
        ok: class.is_none(),
        error_class: class,
        phase,
        milliseconds: 12,
        at: now(),
        message: class.map_or("answered 200".to_owned(), |class| format!("it failed: {class}")),
        detail: None,
        address: None,
        port: Some(8081),
        source: None,
        http_status: None,
        redirects_to_login: false,
        not_serving: false,
        grpc_status: None,
        any_byte: class.is_none_or(|class| class == ErrorClass::HTTPStatus),
        certificate_expires: None,
        missing_metrics: Vec::new(),
        broken_at: None,
        samples: None,
        confirmed: None,
        last_passed: None,
    }
}

/// Its pod.
fn crashing_pod() -> Value {
    json!({
        "name": "orders-6c9-x", "uid": "p1", "phase": "Running", "reason": null, "created": "2026-11-22T11:00:00Z",
        "deleting": false, "node": "node-1", "addresses": ["192.0.2.10"], "labels": {"app": "orders"},
        "ready": false, "unscheduled": null, "revision": "6c9", "hostNetwork": false, "init": [],
        "containers": [{
            "name": "app", "image": "orders:2", "ready": false, "started": false, "runningSince": null,
            "waiting": ["CrashLoopBackOff", "back-off 5m0s restarting failed container"], "terminated": null,
            "last": {
                "reason": "OOMKilled", "exitCode": 137, "began": "2026-11-22T11:58:00Z",
                "ended": "2026-11-22T11:58:30Z", "message": "going\u{1b}[2J down\nfor good",
            },
            "restarts": 7, "ports": [["http", 8080]], "environment": [], "values": {},
            "environmentIncomplete": null, "memoryLimit": "20Mi", "probes": [false, false, false],
            "startupBudget": null,
        }],
    })
}

/// A crash loop workload a Service, as a file of evidence holds it.
fn crashing() -> Evidence {
    let mut evidence: Evidence = serde_json::from_value(json!({
        "format": 1, "gatheredAt": now(),
        "subject": {
            "namespace": "shop", "name": "orders", "url": "http://orders.shop.svc:80/health", "scheme": "http",
            "host": "orders.shop.svc", "port": 80, "path": "/health", "service": ["orders", "80"],
            "workload": {"kind": "Deployment", "name": "orders"}, "wantsMetrics": false, "wantsActuator": false,
            "startupSeconds": 300, "prometheusSource": null, "hasAgent": false,
        },
        "workload": {"found": {
            "wanted": 1, "updated": 1, "ready": 0, "current": 1, "observed": true, "paused": false,
            "deadlineExceeded": false, "templateSince": "2026-11-01T00:00:00Z", "revision": [3, true],
            "minReadySeconds": 0, "selector": {"app": "orders"},
        }},
        "pods": {"found": [crashing_pod()]},
        "events": {"forbidden": "RBAC does not allow to list events in namespace shop"},
        "missing": ["RBAC does not allow to list replicasets.apps in namespace shop"],
    }))
    .unwrap();
    evidence.vantages = vec![vantage("target", Some(ErrorClass::Refused))];
    evidence.history.bad_since = Some("2026-11-22T11:57:00Z".parse().unwrap());
    evidence
}

fn told(evidence: &Evidence) -> (String, ExitHealth) {
    let views: Vec<VantageView> = evidence
        .vantages
        .iter()
        .map(|vantage| VantageView { from: "here", vantage: vantage.clone(), counts: true })
        .collect();
    let report = Report { evidence, views: &views, operator: None };
    assert_eq!(report.json()["state"], json!(state(evidence)));
    (report.text(now()), report.health())
}

#[test]
fn a_crash_loop_is_told_with_its_cause_its_evidence_and_what_to_run() {
    let (text, health) = told(&crashing());
    assert_eq!(health, ExitHealth::Unwell);
    assert!(text.starts_with("shop/orders is Down: OutOfMemory (certain)\n"), "{text}");
    for part in [
        "\nSEEN\n  target   here   Refused in Connect   12 ms   now   it failed: Refused\n",
        "  Deployment orders   0 of 1 ready, 1 updated\n",
        "  Pod orders-6c9-x    Running, not ready, CrashLoopBackOff, 7 restarts\n",
        "  - RBAC does not allow to list events in namespace shop\n",
        "  - RBAC does not allow to list replicasets.apps in namespace shop\n",
        "    | going\\u{1b}[2J down\n    | for good\n",
        "  kubectl -n shop describe pod orders-6c9-x\n",
        "  kubectl -n shop logs orders-6c9-x -c app --previous --tail=50\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn what_is_well_is_said_to_be_and_asks_for_nothing() {
    let mut evidence = crashing();
    evidence.vantages = vec![vantage("target", None)];
    evidence.pods = Lookup::NotLooked;
    evidence.workload = Lookup::NotLooked;
    evidence.events = Lookup::NotLooked;
    evidence.missing.clear();
    evidence.history.bad_since = None;
    let (text, health) = told(&evidence);
    assert_eq!((health, state(&evidence)), (ExitHealth::Well, BackendState::Up));
    assert!(text.starts_with("shop/orders is Up: nothing is wrong with http://orders.shop.svc:80/health\n"), "{text}");
    assert!(!text.contains("RUN NEXT") && !text.contains("NOT SEEN"), "{text}");
}

#[test]
fn what_nobody_could_probe_is_unknown_and_not_well() {
    let mut evidence = crashing();
    evidence.vantages.clear();
    assert_eq!(state(&evidence), BackendState::Unknown);
    assert_eq!(told(&evidence).1, ExitHealth::Unwell);
    evidence.refused = Some((crate::api::Reason::InvalidTarget, "there is no Service orders".to_owned()));
    assert_eq!(state(&evidence), BackendState::Down);
}

const OUTSIDE: NetworkPosition = NetworkPosition { in_cluster: false, reached: Vec::new() };

/// Whose views count, of what was seen here and of what the operator saw.
fn whose(own: Option<ErrorClass>, theirs: Option<Option<ErrorClass>>, position: &NetworkPosition) -> Vec<&'static str> {
    let theirs = theirs.map(|class| vantage("target", class)).into_iter().collect();
    let views = views(vec![vantage("target", own)], theirs, position);
    views.iter().filter(|view| view.counts).map(|view| view.from).collect()
}

#[test]
fn from_outside_the_operator_is_nearer_and_an_answer_tells_more() {
    let (timeout, status) = (Some(ErrorClass::ConnectTimeout), Some(ErrorClass::HTTPStatus));
    let inside = NetworkPosition { in_cluster: true, ..OUTSIDE };
    assert_eq!(whose(timeout, Some(None), &inside), ["here"]);
    assert_eq!(whose(timeout, None, &OUTSIDE), ["here"]);
    assert_eq!(whose(None, None, &OUTSIDE), ["here"]);
    assert_eq!(whose(timeout, Some(None), &OUTSIDE), ["operator"]);
    assert_eq!(whose(timeout, Some(Some(ErrorClass::Refused)), &OUTSIDE), ["operator"]);
    assert_eq!(whose(None, Some(Some(ErrorClass::Refused)), &OUTSIDE), ["operator"]);
    // An answer that was just had tells more than what it wrote of its own.
    assert_eq!(whose(status, Some(Some(ErrorClass::HTTPStatus)), &OUTSIDE), ["here"]);
    assert_eq!(whose(status, Some(None), &OUTSIDE), ["here"]);
    let alone = views(Vec::new(), vec![vantage("pod/a", None)], &OUTSIDE);
    assert!(alone[0].counts && alone[0].from == "operator");
}

#[test]
fn outside_the_cluster_its_addresses_mean_something_else_and_are_not_dialled() {
    let target = |host: &str, address: Option<&str>| Target {
        scheme: Scheme::Http,
        host: host.to_owned(),
        port: 80,
        path: "/".to_owned(),
        address: address.map(|address| address.parse().unwrap()),
        is_own: false,
    };
    let service = target("orders.shop.svc", Some("192.0.2.7"));
    assert!(!OUTSIDE.dials(&service) && !OUTSIDE.dials(&target("orders.shop.svc", None)));
    assert!(OUTSIDE.dials(&target("orders.example.com", None)), "a URL is anybody's");
    assert!(NetworkPosition { in_cluster: true, ..OUTSIDE }.dials(&service));
    let by_vpn = NetworkPosition { reached: vec!["192.0.2.0/24".parse().unwrap()], ..OUTSIDE };
    assert!(by_vpn.dials(&service) && !by_vpn.dials(&target("orders.shop.svc", Some("198.51.100.1"))));
}

#[test]
fn what_the_operator_saw_long_ago_is_not_now() {
    let status = |at: &str| {
        serde_json::from_value(json!({
            "lastProbeTime": at,
            "vantages": [
                {"name": "target", "ok": false, "errorClass": "HTTPStatus", "phase": "Body", "milliseconds": 3,
                 "message": "the status is 404, expected exactly 200"},
                {"name": "pod/a", "ok": true, "time": "2026-11-22T11:00:00Z"},
            ],
        }))
        .unwrap()
    };
    let fresh = of_operator(&status("2026-11-22T11:59:00.000000Z"), 15, now());
    assert_eq!(fresh.len(), 1, "that of the pod is an hour old");
    assert_eq!((fresh[0].ok, fresh[0].error_class, fresh[0].milliseconds), (false, Some(ErrorClass::HTTPStatus), 3));
    assert!(of_operator(&status("2026-11-22T11:57:00.000000Z"), 15, now()).is_empty());
    assert_eq!((fresh[0].http_status, fresh[0].any_byte), (Some(404), true), "our own words name what was answered");
    assert_eq!(
        of_operator(&status("2026-11-22T11:57:00.000000Z"), 300, now()).len(),
        1,
        "its rounds are that far apart"
    );
}

#[test]
fn where_the_operator_knows_better_its_words_are_told() {
    let status: MonitoredBackendStatus = serde_json::from_value(json!({
        "state": "Down",
        "diagnosis": {
            "cause": "Hung", "confidence": "Certain", "restartHelps": "Once", "advice": "Restart it once",
            "message": "it accepts connections and sends no byte",
        },
        "lastHealthyTime": "2026-11-22T11:50:00Z",
        "lastProbeTime": "2026-11-22T11:59:50.000000Z",
        "transitions": [{"from": "Up", "to": "Down", "cause": "Hung", "time": "2026-11-22T11:55:00.000000Z"}],
    }))
    .unwrap();
    let other = operator(&status, Some(Cause::StillStarting), 15, now());
    assert!(
        other.starts_with("(the operator says Down, Hung: it accepts connections and sends no byte; its"),
        "{other}"
    );
    let same = operator(&status, Some(Cause::Hung), 15, now());
    assert!(same.starts_with("(the operator says Down, Hung; its"), "{same}");
    // It was Up until it was Down, whenever that was written last.
    assert_eq!(last_healthy(&status), Some("2026-11-22T11:55:00Z".parse().unwrap()));
}

#[test]
fn commands_have_real_names_and_belong_to_the_cause() {
    let evidence = crashing();
    let of = |cause: Cause| commands(&evidence, cause).join("\n");
    assert!(of(Cause::BadSinceRollout).contains("kubectl -n shop rollout undo deployment/orders"));
    assert!(!of(Cause::RolloutInProgress).contains("undo"));
    assert!(of(Cause::ServiceSelectsNothing).contains("kubernetes.io/service-name=orders"));
    assert!(of(Cause::EndpointNotExposed).contains("kubectl -n shop set env deployment/orders --list"));
    assert!(of(Cause::DNSNotFound).contains("nslookup orders.shop.svc"));
    assert!(of(Cause::CertificateExpired).contains("-connect orders.shop.svc:80"));
    for cause in Cause::ALL {
        let commands = commands(&evidence, *cause);
        assert!(commands.len() <= 8 && commands.iter().all(|command| !command.contains('\n')), "{cause}");
    }
    let mut odd = crashing();
    odd.subject.url = "http://orders.shop.svc/a?b=c&d".to_owned();
    assert!(
        commands(&odd, Cause::Hung)
            .contains(&"vigie probe 'http://orders.shop.svc/a?b=c&d'   # inside the cluster".to_owned())
    );
}

#[test]
fn texts_are_made_fit_for_a_terminal() {
    assert_eq!(harmless("a\u{1b}[2J\u{202e}b\tc\r\n"), "a\\u{1b}[2J\\u{202e}b c\\u{d}\n");
    let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["long".to_owned(), String::new()]];
    assert_eq!(columns(&rows, " "), " a      b\n long\n");
    let ago = |text: &str| ago(text.parse().unwrap(), now());
    assert_eq!(ago("2026-11-22T11:59:30Z"), "30 s ago");
    assert_eq!(ago("2026-11-22T11:30:00Z"), "30 min ago");
    assert_eq!(ago("2026-11-22T07:55:00Z"), "4 h 5 min ago");
    assert_eq!(ago("2026-11-01T12:00:00Z"), "21 days ago");
    assert_eq!(ago("2026-11-22T13:00:00Z"), "0 s ago", "our clock may be behind");
}

fn edge(status: Value) -> Connector {
    serde_json::from_value(json!({
        "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector",
        "metadata": {"name": "edge-1", "namespace": "gw"}, "spec": {}, "status": status,
    }))
    .unwrap()
}

fn secret(token: &str) -> Lookup<Secret> {
    let data = json!({"metadata": {}, "stringData": {}});
    let mut secret: Secret = serde_json::from_value(data).unwrap();
    let bytes = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
    let data = [("token".to_owned(), bytes(token)), ("url".to_owned(), bytes("https://vigie.example.com/"))];
    secret.data = Some(data.into());
    Lookup::Found(secret)
}

#[test]
fn a_token_is_told_of_and_never_told() {
    let hashes = json!([
        {"generation": 3, "sha256": Digest::of("vgt_new").to_hex()},
        {"generation": 2, "sha256": Digest::of("vgt_old").to_hex(), "notAfter": "2026-11-22T11:00:00Z"},
    ]);
    let status = edge(json!({"token": {"generation": 3, "issuedTime": "2026-11-22T11:58:30Z", "hashes": hashes}}));
    let status = status.status.unwrap().token.unwrap();
    let source = TokenSource::Issued { secret_name: "s".to_owned() };
    let of = |secret: &Lookup<Secret>| {
        let token = token(&source, secret, &status, "u1", now());
        assert!(!format!("{token:?}").contains("vgt_"));
        (token.lines[0].clone(), token.is_wrong)
    };
    let slow = Digest::slow("0123456789abcdef", "u1", crate::heartbeat::credentials::ROUNDS).to_hex();
    let hashes = json!([{"generation": 1, "sha256": slow, "rounds": 10_000}]);
    let brought = edge(json!({"token": {"generation": 1, "hashes": hashes}})).status.unwrap().token.unwrap();
    let works =
        |uid| token(&source, &secret("0123456789abcdef"), &brought, uid, now()).lines[0].contains("which works");
    assert!(works("u1") && !works("u2"), "the hash of a token that a user brings is salted with the UID");
    assert_eq!(of(&secret("vgt_new")), ("Secret s holds token number 3, which works".to_owned(), false));
    assert_eq!(of(&secret("vgt_old")), ("Secret s holds token number 2, which has ended".to_owned(), true));
    assert!(of(&secret("vgt_other")).1 && of(&secret("")).1 && of(&Lookup::Absent).1);
    let forbidden = of(&Lookup::Forbidden("RBAC does not allow to get secrets".to_owned()));
    assert_eq!(forbidden, ("Secret s was not read: RBAC does not allow to get secrets".to_owned(), false));
    assert!(token(&TokenSource::Lease, &Lookup::NotLooked, &status, "u1", now()).lines[0].contains("Lease"));
}

fn seen(status: Value, runs: Option<bool>) -> (String, ExitHealth, ConnectorState) {
    let connector = edge(status);
    let status = connector.status.clone().unwrap();
    let source = TokenSource::Issued { secret_name: "edge-1-connector-token".to_owned() };
    let token = token(&source, &secret("vgt_x"), &Default::default(), "u1", now());
    let mut workload = crashing();
    workload.subject.namespace = "gw".to_owned();
    workload.subject.name = "edge-1".to_owned();
    let operator = connector::Operator { runs, line: "the operator".to_owned() };
    let view = connector::ConnectorReport { connector: &connector, status, token, operator, workload };
    (view.text(now()), view.health(now()), view.state(now()).0)
}

#[test]
fn a_connector_is_told_with_its_last_contact_and_a_test_by_hand() {
    let offline = json!({
        "state": "Offline", "connectorID": "gw/edge-1", "lastHeartbeatTime": "2026-11-22T10:00:00.000000Z",
        "agent": {"version": "1.4.2", "hostname": "gate", "address": "192.0.2.7"},
        "diagnosis": {
            "cause": "HeartbeatExpired", "confidence": "Certain", "message": "no heartbeat since 10:00",
            "advice": "Is its process running?", "restartHelps": "Once",
        },
    });
    let (text, health, _) = seen(offline, Some(true));
    assert_eq!(health, ExitHealth::Unwell);
    for part in [
        "gw/edge-1 is Offline: HeartbeatExpired (certain)\n  no heartbeat since 10:00\n",
        "2026-11-22T10:00:00Z, 2 h 0 min ago\n",
        "late after 90 s, offline after 300 s",
        "1.4.2 on gate from 192.0.2.7",
        "  curl -sS https://vigie.example.com/api/health",
        "vigie token show edge-1 -n gw) | curl -sS -H @- ",
        r#"'{"connector_id":"gw/edge-1","dry_run":true}' https://vigie.example.com/api/connector/heartbeat"#,
        "  kubectl -n gw logs orders-6c9-x --tail=50\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains("vgt_"), "{text}");
}

#[test]
fn an_online_that_nobody_would_have_turned_is_not_believed() {
    let online = |last: &str| json!({"state": "Online", "lastHeartbeatTime": last});
    let old = online("2026-11-22T10:00:00.000000Z");
    let (text, health, state) = seen(old.clone(), Some(false));
    assert_eq!((health, state), (ExitHealth::Unwell, ConnectorState::Unknown));
    assert!(text.contains("its status says Online, and no operator runs that would have turned it"), "{text}");
    // With an operator it is only an old checkpoint.
    assert_eq!(seen(old, Some(true)).2, ConnectorState::Online);
    let (_, health, state) = seen(online("2026-11-22T11:59:00.000000Z"), Some(false));
    assert_eq!((health, state), (ExitHealth::Well, ConnectorState::Online));
}

#[test]
fn the_view_of_the_agent_is_told_with_the_command_for_its_log() {
    let saved = include_str!("../../diagnosis/rules/golden/agent-container-stopped.json");
    let (text, health) = told(&serde_json::from_str(saved).unwrap());
    assert_eq!(health, ExitHealth::Unwell);
    for part in [
        "is Down: ContainerStopped (certain)\n",
        "A restart may help, once.",
        "\nON ITS HOST\n",
        "is Exited since 2026-11-05T09:58:50Z (exit 137, restart policy no)",
        "published",
        "0.0.0.0:8081->8081/tcp",
        "\nRUN NEXT\n  ssh vm-7 vigie agent logs compose:shop:orders\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn the_word_of_the_agent_in_a_status_is_no_probe_and_becomes_its_view() {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let status = |agent: Value| -> MonitoredBackendStatus {
        serde_json::from_value(json!({
            "observedGeneration": 1, "lastProbeTime": "2026-11-22T11:59:50.000000Z", "agent": agent,
            "vantages": [{"name": "target", "ok": false}, {"name": "agent", "ok": false, "message": "its agent is silent"}],
        }))
        .unwrap()
    };
    let seen = status(json!({"connector": "vm-7", "state": "Exited"}));
    let names: Vec<String> = of_operator(&seen, 15, now).into_iter().map(|vantage| vantage.name).collect();
    assert_eq!(names, ["target"]);
    let agent = agent_of_operator(&seen).unwrap();
    assert_eq!((agent.view.unwrap().state, agent.missing), (crate::api::TargetState::Exited, None));
    let silent = agent_of_operator(&status(Value::Null)).unwrap();
    assert_eq!((silent.view, silent.missing.as_deref()), (None, Some("its agent is silent")));
}

#[test]
fn a_connector_with_an_agent_is_told_with_the_agents_view_and_its_log() {
    let silent = json!({
        "state": "Degraded", "connectorID": "gw/edge-1", "lastHeartbeatTime": "2026-11-22T10:00:00.000000Z",
        "agent": {
            "version": "1.4.2", "hostname": "gate", "address": "192.0.2.7", "lastSeenTime": "2026-11-22T11:59:30.000000Z",
            "connectorHeard": true, "stopping": "Update",
            "paused": {"by": "ops", "reason": "kernel update", "until": "2026-11-22T14:00:00Z"},
        },
    });
    let (text, ..) = seen(silent.clone(), Some(true));
    for part in [
        "2026-11-22T11:59:30Z, 30 s ago\n",
        "paused on its host by ops until 2026-11-22T14:00:00Z: kernel update",
        "its agent said last that it makes place for another version",
        "  ssh gate vigie agent logs TARGET\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    // The agent is heard: without an operator that is no old status.
    assert_eq!(seen(silent.clone(), Some(false)).2, ConnectorState::Degraded);
    let mut alone = silent;
    alone["agent"]["connectorHeard"] = json!(null);
    alone["agent"]["hostname"] = json!("gate; reboot");
    let (text, ..) = seen(alone, Some(true));
    assert!(text.contains("never heard itself: its agent beats for it"), "{text}");
    assert!(
        text.contains("  ssh HOST vigie agent logs TARGET\n"),
        "a name that a sender chose is no part of a command"
    );
}
