//! The command line: the commands of a person, and the output that a script can rely on.

use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use crate::beats::said;
use crate::support::process::{Ran, run};
use crate::support::world::SOON;
use crate::support::{World, eventually, text, time};

/// Runs a command where a pod's service account lies, in a mount namespace of its own: `$0` is the CA in base64.
const IN_A_POD: &str = r#"set -e
mount -t tmpfs none "$(readlink -f /var/run)"
account=/var/run/secrets/kubernetes.io/serviceaccount
mkdir -p "$account"
printf default >"$account/namespace"
printf token >"$account/token"
printf %s "$0" | base64 -d >"$account/ca.crt"
exec "$@""#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_crds_that_it_prints_are_the_ones_that_are_committed() {
    let world = World::new("crd").await;
    let printed = world.vigie(&["crd"]).ok();
    let committed = ["connectors", "monitoredbackends"].map(|plural| {
        std::fs::read_to_string(format!("{}/crds/{plural}.vigie.dev.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap()
    });
    assert_eq!(printed.trim(), committed.join("---\n").trim());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help_is_there_and_wrong_usage_is_2_and_failure_is_1() {
    let world = World::new("usage").await;
    let help = world.vigie(&["--help"]).ok();
    for command in ["run", "get", "token", "crd"] {
        assert!(help.contains(command), "{help}");
    }
    for args in [
        &["run", "--help"][..],
        &["get", "--help"],
        &["token", "--help"],
        &["token", "rotate", "--help"],
        &["--version"],
    ] {
        let said = world.vigie(args).ok();
        assert!(said.contains("Usage") || said.starts_with("vigie "), "{args:?}: {said}");
    }
    let wrong = [
        &[][..],
        &["nothing"],
        &["run", "--listen", "nowhere"],
        &["run", "--checkpoint-seconds", "0"],
        &["run", "--checkpoint-seconds", "3601"],
        &["run", "--status-writes-per-second", "1001"],
        &["run", "--tls-cert-file", "x"],
        &["get", "--output", "xml"],
        &["token", "show"],
    ];
    for args in wrong {
        let ran = world.vigie(args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
    let failing = [
        &["get", "nobody", "-n", &world.ns, "--operator", "http://127.0.0.1:9"][..],
        &["token", "show", "nobody", "-n", &world.ns],
        &["token", "rotate", "nobody", "-n", &world.ns],
        &["run", "--kubeconfig", "/nonexistent/kubeconfig", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    ];
    for args in failing {
        let ran = world.vigie(args);
        assert_eq!(ran.code, 1, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(' ') && !ran.stderr.contains("panicked"), "{args:?}: {}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_asks_the_operator_and_else_shows_what_was_written_and_says_so() {
    let world = World::new("get").await;
    let operator = world.operator(&[]).await;
    let edge = world.connector("edge-1", json!({"site": "lyon"})).await;
    world.connector("edge-2", json!({})).await;
    edge.beat_with(operator.beats(), &json!({"version": "1.4.2"}));
    world.state(SOON, "edge-1", "Online").await;
    world.sees(SOON, "edge-2", "its token is delivered", |seen| said(seen, "Provisioned") == "True/Provisioned").await;
    let exact = edge.beat_with(operator.beats(), &json!({"version": "1.4.2"}));
    let url = operator.url();
    let ask = |more: &[&str]| world.vigie(&[&["get", "-n", &world.ns], more].concat());

    // The operator learns of its own write a moment after the API server has stored it.
    let table = eventually(SOON, "edge-2 is known as delivered", async || {
        let table = ask(&["--operator", &url]).ok();
        if table.contains("NeverSeen") { Ok(table) } else { Err(table) }
    })
    .await;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    for column in ["NAME", "STATE", "READY", "CAUSE", "LAST CONTACT", "VERSION", "RESTARTS", "AGE"] {
        assert!(lines[0].contains(column), "{table}");
    }
    assert!(lines[1].starts_with("edge-1") && lines[1].contains("Online") && lines[1].contains("1.4.2"), "{table}");
    assert!(
        lines[2].starts_with("edge-2") && lines[2].contains("Pending") && lines[2].contains("NeverSeen"),
        "{table}"
    );
    let wide = ask(&["-o", "wide", "--operator", &url]).ok();
    assert!(wide.contains("lyon") && wide.contains("127.0.0.1"), "{wide}");
    let json: Value = serde_json::from_str(&ask(&["-o", "json", "--operator", &url]).ok()).unwrap();
    assert_eq!(text(&json, "/source"), "operator");
    assert!(exact.is_at(time(&json, "/items/0/lastHeartbeatTime")), "{json:#}");
    assert!(ask(&["edge-1", "-o", "yaml", "--operator", &url]).ok().contains("state: Online"));

    let status = ask(&["-o", "json", "--operator", "http://127.0.0.1:9"]);
    assert!(status.stderr.contains("not reachable"), "it names its source: {}", status.stderr);
    let json: Value = serde_json::from_str(&status.ok()).unwrap();
    assert_eq!(text(&json, "/source"), "status");
    assert_eq!(text(&json, "/items/0/state"), "Online");
    assert_eq!(text(&json, "/items/1/state"), "Pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_pod_no_command_uses_the_pods_cluster_in_place_of_the_one_that_is_named() {
    let world = World::new("named").await;
    let pods_own = TcpListener::bind("127.0.0.1:0").unwrap();
    pods_own.set_nonblocking(true).unwrap();
    let port = pods_own.local_addr().unwrap().port().to_string();
    let ca = "jsonpath={.clusters[0].cluster.certificate-authority-data}";
    let ca = world.cluster.kubectl(&["config", "view", "--raw", "-o", ca]).ok();
    let in_a_pod = |seconds: &str, kubeconfig: &str, args: &[&str]| -> Ran {
        let mut command = Command::new("unshare");
        if run(Command::new("id").arg("-u")).ok().trim() != "0" {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "sh", "-c", IN_A_POD, &ca, "timeout", seconds, env!("CARGO_BIN_EXE_vigie")]);
        let pod = [("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", port.as_str())];
        run(command.args(args).envs(pod).env("KUBECONFIG", kubeconfig).env("HOME", "/nonexistent"))
    };
    let commands = [
        &["get"][..],
        &["get", "backends", "-A"],
        &["get", "--operator", "http://127.0.0.1:9"],
        &["diagnose", "backend", "orders"],
        &["diagnose", "connector", "edge-1"],
        &["token", "show", "edge-1"],
        &["token", "rotate", "edge-1"],
        &["token", "revoke", "edge-1", "--yes"],
        &["restart", "backend", "orders"],
        &["breaker", "show"],
        &["breaker", "reset"],
        &["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    ];
    for args in commands {
        for kubeconfig in ["/nonexistent/kubeconfig", "/nonexistent/one:/nonexistent/two", "/dev/null"] {
            let ran = in_a_pod("20", kubeconfig, args);
            assert_eq!(ran.code, 1, "{args:?} with {kubeconfig}: {ran:?}");
            assert!(ran.stderr.contains("cannot use kubeconfig /"), "{args:?} with {kubeconfig}: {}", ran.stderr);
            assert!(pods_own.accept().is_err(), "{args:?} with {kubeconfig} asked the pod's own cluster");
        }
    }
    // As with kubectl, a file that does not exist is passed over where another one of the list does.
    let missing_first = format!("/nonexistent/kubeconfig:{}", world.cluster.kubeconfig().display());
    let ran = in_a_pod("20", &missing_first, &["get", "-n", &world.ns]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(pods_own.accept().is_err(), "the cluster of the second file is named");
    // Where nothing is named, the pod's own cluster is meant.
    in_a_pod("2", "", &["token", "show", "edge-1"]);
    pods_own.accept().expect("the pod's own cluster is asked");
}
