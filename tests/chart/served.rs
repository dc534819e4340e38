//! Whether a real API server would accept the rendered objects: all of them, by a dry run of server-side apply, which
//! refuses unknown fields; and the pods, in a namespace that enforces the Pod Security Standard `restricted`.
//!
//! The cluster is that of KUBECONFIG (scripts/chart). The definitions of other projects come from the modules that ship
//! them.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::cases::{self, ALL, Case, NAMESPACES};
use crate::helm::{HELMS, Scratch, objects, only};

/// A module, its sum as in go.sum, and the definitions that it ships.
const FOREIGN: [(&str, &str, &[&str]); 3] = [
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        &[
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        ],
    ),
    (
        "sigs.k8s.io/gateway-api@v1.4.1",
        "h1:NPxFutNkKNa8UfLd2CMlEuhIPMQgDQ6DXNKG9sHbJU8=",
        &["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
    ),
    (
        "github.com/cert-manager/cert-manager@v1.20.3",
        "h1:7zgThbjfRBNjN2/cM/Wdo/vl/oeFQybIMNzxd1Ocipc=",
        &["deploy/crds/cert-manager.io_certificates.yaml"],
    ),
];

/// The directory of a module, downloaded once, with the sum that was recorded when it was chosen.
fn module(name: &str, sum: &str) -> PathBuf {
    let nowhere = Scratch::new(); // where no go.mod is
    let go = Command::new("go")
        .args(["mod", "download", "-json", name])
        .current_dir(&nowhere.0)
        .env("GOWORK", "off")
        .output();
    let go = go.expect("go can be started");
    assert!(
        go.status.success(),
        "downloading {name}: {}{}",
        String::from_utf8_lossy(&go.stdout),
        String::from_utf8_lossy(&go.stderr)
    );
    let said: Value = serde_json::from_slice(&go.stdout).expect("go writes JSON");
    assert_eq!(said["Sum"], sum, "{name} has the recorded sum");
    said["Dir"].as_str().expect("a directory").into()
}

/// The output of kubectl, or its error.
fn kubectl(args: &[&str], input: Option<&Value>) -> Result<String, String> {
    let mut child = Command::new("kubectl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl can be started");
    if let Some(input) = input {
        child.stdin.take().expect("a pipe").write_all(input.to_string().as_bytes()).expect("kubectl reads");
    }
    let output = child.wait_with_output().expect("kubectl ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Prepares the cluster, once: as `make e2e` finds it, plus the definitions of other projects and the namespaces. They
/// are left in place.
static PREPARED: LazyLock<()> = LazyLock::new(|| {
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=chart-tests"];
    let mut names = Vec::new();
    for (name, sum, files) in FOREIGN {
        let directory = module(name, sum);
        for file in files {
            let path = directory.join(file).display().to_string();
            names.push(
                kubectl(&[&apply[..], &["-f", &path, "-o", "name"]].concat(), None).expect("a definition of others"),
            );
        }
    }
    for name in NAMESPACES {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        });
        kubectl(&[&apply[..], &["-f", "-"]].concat(), Some(&namespace)).expect("a namespace");
    }
    for name in &names {
        established(name.trim());
    }
});

/// Repeated: kubectl wait gives up on a definition that is too new to have conditions.
fn established(name: &str) {
    let began = std::time::Instant::now();
    while let Err(error) = kubectl(&["wait", "--for=condition=Established", name, "--timeout=5s"], None) {
        assert!(began.elapsed().as_secs() < 60, "{name} is not established: {error}");
    }
}

/// The API server's answer to these objects; none of them is created.
fn dry_run(objects: &[Value]) -> Result<String, String> {
    LazyLock::force(&PREPARED);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let args = ["apply", "--server-side", "--force-conflicts", "--field-manager=helm", "--dry-run=server", "-f", "-"];
    kubectl(&args, Some(&list))
}

#[test]
fn the_api_server_takes_every_case() {
    for case in &ALL {
        let objects = objects(case);
        let said = dry_run(&objects).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(said.lines().count(), objects.len(), "{}: {said}", case.name);
    }
}

#[test]
fn it_would_not_take_a_field_that_it_does_not_know() {
    let mut objects = objects(&cases::EVERYTHING);
    for kind in ["Deployment", "ServiceMonitor", "HTTPRoute", "PrometheusRule", "Certificate"] {
        let one = objects.iter_mut().find(|one| one["kind"] == kind).unwrap();
        one["spec"]["tyop"] = json!(1);
        let error = dry_run(std::slice::from_ref(one)).expect_err(kind);
        assert!(error.contains("tyop"), "{kind}: {error}");
    }
}

/// The pod of a case, as the ReplicaSet controller would create it.
fn pod(case: &Case) -> Value {
    let objects = objects(case);
    let template = &only(&objects, "Deployment")["spec"]["template"];
    let mut pod = template.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("vigie-0");
    pod["metadata"]["namespace"] = json!(case.namespace);
    // The pod's ServiceAccount need not exist: admission requires one, and this test does not cover it.
    pod["spec"]["serviceAccountName"] = json!("default");
    pod
}

#[test]
fn a_namespace_that_enforces_restricted_takes_the_pods_of_every_case() {
    for case in &ALL {
        let taken = dry_run(&[pod(case)]);
        assert!(taken.is_ok(), "{}: {taken:?}", case.name);
    }
}

#[test]
fn it_would_not_take_a_pod_that_may_do_more() {
    let loose = "securityContext: {allowPrivilegeEscalation: true}";
    let error = dry_run(&[pod(&Case { values: loose, ..cases::DEFAULT })]).unwrap_err();
    assert!(error.contains("violates PodSecurity \"restricted"), "{error}");
}

#[test]
fn the_notes_hold_a_connector_that_the_api_server_takes_and_warn_of_what_is_insecure() {
    LazyLock::force(&PREPARED);
    for helm in HELMS.iter() {
        // Helm does not own the definitions that the suite installed.
        let notes = |case: &Case| helm.notes(case, &["--set", "crds.enabled=false"]).expect(case.name);
        let told = notes(&Case {
            values: "{namespaces: [chart-edge], heartbeat: {publicURL: 'https://vigie.example.com'}}",
            ..cases::DEFAULT
        });
        let manifest =
            told.split_once("<<'END'\n").and_then(|(_, rest)| rest.split_once("\nEND\n")).expect("a manifest").0;
        let manifest: Value = serde_saphyr::from_str(manifest).expect("YAML");
        assert_eq!(
            (&manifest["kind"], &manifest["metadata"]["namespace"]),
            (&json!("Connector"), &json!("chart-edge"))
        );
        dry_run(&[manifest]).expect("the connector is taken");
        for words in [
            "https://vigie.example.com/api/connector/heartbeat",
            "vigie token show edge-1 --namespace chart-edge",
            "rbac.networks: true",
        ] {
            assert!(told.contains(words), "helm {}: {words} in {told}", helm.version);
        }
        let plain = notes(&cases::DEFAULT);
        assert!(plain.contains("heartbeat.publicURL is not set") && !plain.contains("WARNING"), "{plain}");
        let insecure =
            notes(&Case { values: "{heartbeat: {allowInsecure: true}, adminAuth: 'off'}", ..cases::DEFAULT });
        for words in ["WARNING: heartbeat.allowInsecure is set", "WARNING: adminAuth is off"] {
            assert!(insecure.contains(words), "helm {}: {words} in {insecure}", helm.version);
        }
    }
}
