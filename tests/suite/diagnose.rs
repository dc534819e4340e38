//! `vigie diagnose`: the diagnosis as a person runs it, from outside the cluster and without an operator. The test
//! plays the kubelet: it writes the status of the pods.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::process::Ran;
use crate::support::world::SOON;
use crate::support::{World, eventually, text};

/// A Deployment behind a Service; `template` is merged into its pods' spec.
async fn shop(world: &World, template: Value) {
    let mut pod = json!({"containers": [{
        "name": "app", "image": "example.com/shop:1", "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": "MANAGEMENT_SERVER_PORT", "value": "8081"}, {"name": "PASSWORD", "value": "hunter2"}],
    }]});
    pod.as_object_mut().unwrap().extend(template.as_object().unwrap().clone());
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "shop"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "shop"}}, "template": {
            "metadata": {"labels": {"app": "shop"}, "annotations": {"cluster.vigie.dev/play": "true"}}, "spec": pod,
        }},
    }))
    .unwrap();
    world.api::<Deployment>().create(&PostParams::default(), &deployment).await.expect("a Deployment is made");
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "shop"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }))
    .unwrap();
    world.api::<Service>().create(&PostParams::default(), &service).await.expect("a Service is made");
    let target = json!({"service": {"name": "shop", "port": "http"}});
    backend(world, "shop", json!({"target": target, "workloadRef": {"kind": "Deployment", "name": "shop"}})).await;
}

async fn backend(world: &World, name: &str, spec: Value) {
    let kind = GroupVersionKind::gvk("vigie.dev", "v1alpha1", "MonitoredBackend");
    let resource = ApiResource::from_gvk_with_plural(&kind, "monitoredbackends");
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.ns, &resource);
    let object = json!({
        "apiVersion": "vigie.dev/v1alpha1", "kind": "MonitoredBackend", "metadata": {"name": name}, "spec": spec,
    });
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.expect("a MonitoredBackend is admitted");
}

/// The pod of the Deployment, once it has a node, or without one, as `placed` says.
async fn pod(world: &World, placed: bool) -> Pod {
    eventually(SOON, "the pod of the Deployment", async || {
        let pods = world.api::<Pod>().list(&ListParams::default().labels("app=shop")).await;
        let pods = pods.map_err(|error| error.to_string())?.items;
        let pod = pods.into_iter().next().ok_or("none")?;
        let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        if has_node == placed { Ok(pod) } else { Err(format!("it has a node: {has_node}")) }
    })
    .await
}

/// Writes the status of the container `app` as a kubelet would.
async fn play(world: &World, state: Value, last: Value) -> String {
    let name = pod(world, true).await.metadata.name.unwrap();
    let status = json!({"status": {
        "phase": "Running", "podIP": "192.0.2.10", "podIPs": [{"ip": "192.0.2.10"}],
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}],
        "containerStatuses": [{
            "name": "app", "image": "example.com/shop:1", "imageID": "", "ready": false, "started": false,
            "restartCount": 7, "state": state, "lastState": last,
        }],
    }});
    let written = world.api::<Pod>().patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
    written.expect("the status of a pod is written");
    name
}

async fn crash(world: &World, reason: &str, code: i32, words: &str) -> String {
    let ended = jiff::Timestamp::now().to_string();
    let last = json!({"terminated": {"exitCode": code, "reason": reason, "finishedAt": ended, "message": words}});
    play(world, json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}), last).await
}

fn diagnose(world: &World, more: &[&str]) -> Ran {
    world.vigie(&[&["diagnose", "backend", "shop", "-n", &world.ns], more].concat())
}

/// The report as JSON, of a backend that is not healthy.
#[track_caller]
fn unwell(ran: &Ran) -> Value {
    assert_eq!(ran.code, 3, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loop_is_explained_with_the_commands_that_show_more() {
    let world = World::new("diagnose-crash").await;
    shop(&world, json!({})).await;
    let pod = crash(&world, "OOMKilled", 137, "").await;
    let ran = diagnose(&world, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let out = &ran.stdout;
    for part in ["OutOfMemory", "SEEN", "NOT SEEN", "RUN NEXT", &format!("logs {pod} -c app --previous")] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    // A Service cannot be reached from outside the cluster, and that is no finding.
    assert!(out.contains("is not dialled from here"), "{out}");
    assert!(!out.contains("\nSEEN\n"), "{out}");
    let report = unwell(&diagnose(&world, &["-o", "json"]));
    assert_eq!(text(&report, "/diagnosis/cause"), "OutOfMemory");
    assert_eq!(text(&report, "/name"), "shop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_do_not_run_are_told_apart() {
    let world = World::new("diagnose-pods").await;
    shop(&world, json!({})).await;
    let cause = |world: &World| text(&unwell(&diagnose(world, &["-o", "json"])), "/diagnosis/cause").to_owned();
    let waiting =
        |reason: &str| json!({"waiting": {"reason": reason, "message": format!("{reason}: it is not there")}});
    play(&world, waiting("ImagePullBackOff"), json!({})).await;
    assert_eq!(cause(&world), "ImagePullFailed");
    let missing =
        json!({"waiting": {"reason": "CreateContainerConfigError", "message": "configmap \"settings\" not found"}});
    play(&world, missing, json!({})).await;
    assert_eq!(cause(&world), "ConfigMissing");
    let words = "***************************\nAPPLICATION FAILED TO START\n***************************\n\nDescription:\n\n\
                 Failed to configure a DataSource: 'url' attribute is not specified\n\nAction:\n\nConsider the following\n";
    crash(&world, "Error", 1, words).await;
    assert_eq!(cause(&world), "CrashLoopConfig");
    world.kubectl(&["scale", "deployment/shop", "--replicas=0"]).ok();
    eventually(SOON, "scaled to zero", async || match cause(&world).as_str() {
        "ScaledToZero" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
}

/// Makes a pod of the Deployment that ended with this reason, as the kubelet leaves one that it evicted.
async fn leftover(world: &World, like: &Pod, name: &str, reason: &str) {
    let mut pod = like.clone();
    // Before it has ended it belongs to nothing: the ReplicaSet would delete one replica too many.
    let metadata = json!({"name": name, "annotations": {"cluster.vigie.dev/play": "true"}});
    pod.metadata = serde_json::from_value(metadata).unwrap();
    pod.status = None;
    world.api::<Pod>().create(&PostParams::default(), &pod).await.expect("a pod is made");
    let status = json!({"status": {
        "phase": "Failed", "reason": reason, "message": "The node was low on resource: ephemeral-storage.",
        "conditions": [{"type": "Ready", "status": "False", "reason": "PodFailed"}],
        "containerStatuses": [{
            "name": "app", "image": "example.com/shop:1", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"terminated": {"reason": "ContainerStatusUnknown", "exitCode": 137}}, "lastState": {},
        }],
    }});
    let written = world.api::<Pod>().patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await;
    written.expect("the status of a pod is written");
    let owned = json!({"metadata": {
        "labels": like.metadata.labels, "ownerReferences": like.metadata.owner_references,
    }});
    let written = world.api::<Pod>().patch(name, &PatchParams::default(), &Patch::Merge(&owned)).await;
    written.expect("an ended pod gets an owner");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_evicted_pods_neither_decide_nor_hide_the_one_that_runs() {
    let world = World::new("diagnose-evicted").await;
    shop(&world, json!({})).await;
    let running = crash(&world, "OOMKilled", 137, "").await;
    let like = pod(&world, true).await;
    // More than one list holds, with names that sort before the one of the running pod.
    for number in 0..60 {
        leftover(&world, &like, &format!("aaa-{number:03}"), "Evicted").await;
    }
    let file = world.file("seen.json", "").display().to_string();
    let report = unwell(&diagnose(&world, &["-o", "json", "--evidence", &file]));
    assert_eq!(text(&report, "/diagnosis/cause"), "OutOfMemory", "{report:#}");
    assert!(text(&report, "/diagnosis/message").contains(&running), "{report:#}");
    let evidence: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(evidence["pods"]["found"].as_array().map(Vec::len), Some(1), "{evidence:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_no_node_takes_quotes_the_real_scheduler() {
    let world = World::new("diagnose-pending").await;
    shop(&world, json!({"nodeSelector": {"nobody": "has-it"}})).await;
    pod(&world, false).await;
    let report = eventually(SOON, "the scheduler's word", async || {
        let report = unwell(&diagnose(&world, &["-o", "json"]));
        if text(&report, "/diagnosis/cause") == "Unschedulable" { Ok(report) } else { Err(format!("{report:#}")) }
    })
    .await;
    assert!(text(&report, "/diagnosis/message").contains("node"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saved_evidence_gives_the_same_diagnosis_without_a_cluster() {
    let world = World::new("diagnose-from").await;
    shop(&world, json!({})).await;
    crash(&world, "OOMKilled", 137, "").await;
    let file = world.file("seen.json", "");
    let path = file.display().to_string();
    let live = unwell(&diagnose(&world, &["-o", "json", "--evidence", &path]));
    let evidence = std::fs::read_to_string(&file).unwrap();
    assert!(!evidence.contains("hunter2"), "values that no rule reads are not kept");
    assert!(evidence.contains("\"PASSWORD\"") && evidence.contains("8081"), "{evidence}");
    let nowhere = ["diagnose", "backend", "--from", &path, "-o", "json", "--kubeconfig", "/nonexistent"];
    let saved = unwell(&world.vigie(&nowhere));
    for part in ["/diagnosis", "/state", "/commands", "/missing"] {
        assert_eq!(saved.pointer(part), live.pointer(part), "{part}");
    }
    let both = diagnose(&world, &["--evidence", "-"]);
    assert_eq!(both.code, 3);
    let printed: Value = serde_json::from_str(&both.stdout).expect("stdout holds the evidence and nothing else");
    assert_eq!(text(&printed, "/subject/name"), "shop");
    assert!(both.stderr.contains("OutOfMemory"), "{}", both.stderr);
    for (content, why) in [("{}", "no format"), ("{\"format\": 9}", "format 9"), ("x", "no JSON")] {
        let wrong = world.file("wrong.json", content).display().to_string();
        let ran = world.vigie(&["diagnose", "backend", "--from", &wrong]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(why), "{ran:?}");
    }
}

/// Answers every request with 200 until it is dropped.
struct Healthy(tokio::task::JoinHandle<()>, String);

impl Healthy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/health", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
            }
        });
        Self(task, url)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_is_probed_from_here_and_its_end_is_seen() {
    let world = World::new("diagnose-url").await;
    let Healthy(server, url) = Healthy::start().await;
    backend(&world, "shop", json!({"target": {"url": url}})).await;
    let healthy = diagnose(&world, &[]);
    assert_eq!(healthy.code, 0, "{healthy:?}");
    assert!(healthy.stdout.contains(" is Up: nothing is wrong"), "{}", healthy.stdout);
    server.abort();
    assert!(server.await.is_err_and(|error| error.is_cancelled()));
    let report = unwell(&diagnose(&world, &["-o", "json"]));
    assert_eq!(text(&report, "/state"), "Down");
    assert_eq!(text(&report, "/vantages/0/vantage/errorClass"), "Refused");
    let cause = text(&report, "/diagnosis/cause").to_owned();
    assert!(!cause.is_empty() && !cause.contains("Blocked"), "a refusal is no firewall: {report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_caller_may_not_read_is_named_and_never_guessed() {
    let world = World::new("diagnose-rbac").await;
    shop(&world, json!({})).await;
    let rule = json!({"apiGroups": ["vigie.dev"], "resources": ["monitoredbackends"], "verbs": ["get"]});
    world.person("reader", json!([rule])).await;
    let kubeconfig = world.file("reader.kubeconfig", &world.kubeconfig_of("reader").await).display().to_string();
    let report = unwell(&diagnose(&world, &["-o", "json", "--kubeconfig", &kubeconfig]));
    let missing = report["missing"].to_string();
    for permission in ["get deployments.apps", "get services"] {
        let sentence = format!("RBAC does not allow to {permission} in namespace {}", world.ns);
        assert!(missing.contains(&sentence), "{sentence:?} is not in {missing}");
    }
    assert_eq!(text(&report, "/state"), "Unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_looked_at_is_1_and_wrong_usage_is_2() {
    let world = World::new("diagnose-usage").await;
    for (args, code) in [
        (&["diagnose", "backend", "nobody", "-n", &world.ns][..], 1),
        (&["diagnose", "connector", "nobody", "-n", &world.ns], 1),
        (&["diagnose", "backend", "x", "--kubeconfig", "/nonexistent/kubeconfig"], 1),
        (&["diagnose", "backend", "--from", "/nonexistent/seen.json"], 1),
        (&["diagnose", "backend"], 2),
        (&["diagnose"], 2),
        (&["diagnose", "backend", "x", "--from", "y"], 2),
        (&["diagnose", "connector"], 2),
    ] {
        let ran = world.vigie(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(' ') && !ran.stderr.contains("panicked"), "{args:?}: {}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_is_explained_from_its_token_to_its_last_beat() {
    let world = World::new("diagnose-connector").await;
    let operator = world.operator(&["--public-url", "http://192.0.2.1:8080"]).await;
    let edge = world.connector("edge-1", json!({})).await;
    world.state(SOON, "edge-1", "Pending").await;
    let ask = |more: &[&str]| {
        let own = ["diagnose", "connector", "edge-1", "-n", &world.ns, "--operator-namespace", &world.ns];
        world.vigie(&[&own, more].concat())
    };
    let pending = ask(&[]);
    assert_eq!(pending.code, 3, "{pending:?}");
    for part in ["NeverSeen", "which works", "it renewed its Lease", "curl -sS -H @-", "http://192.0.2.1:8080"] {
        assert!(pending.stdout.contains(part), "{part:?} is not in\n{}", pending.stdout);
    }
    assert!(!pending.stdout.contains(&edge.token), "the token is never printed");
    edge.beat(operator.beats());
    world.state(SOON, "edge-1", "Online").await;
    let online = ask(&["-o", "json"]);
    assert_eq!(online.code, 0, "{online:?}");
    let report: Value = serde_json::from_str(&online.stdout).unwrap();
    assert_eq!(text(&report, "/state"), "Online");
    assert!(!online.stdout.contains(&edge.token));
}
