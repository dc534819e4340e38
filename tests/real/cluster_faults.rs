//! Faults that the cluster causes in a backend: the reported words, and a check that the advice helps.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::app::{App, running};
use crate::person::{advice, diagnose, kubectl, message, next, obey, says};
use crate::place;
use crate::support::cluster::Cluster;
use crate::support::rights::rule;
use crate::support::world::SOON;
use crate::support::{World, eventually, text};

/// Deploys it, with a backend at its Service.
async fn watched(world: &World, app: App) {
    app.deploy(world).await;
    world.backend(&app.name, app.backend(app.at_service("/healthz"), json!({}))).await;
}

/// Down for this cause, which the condition of the workload reports as well.
async fn is_down(world: &World, name: &str, cause: &str) -> Value {
    let found = world.backend_is(3 * SOON, name, "Down", cause).await;
    assert_eq!(crate::support::backends::condition(&found, "WorkloadHealthy"), ("False", cause), "{found:#}");
    assert_eq!(text(&found, "/status/diagnosis/confidence"), "Certain", "{found:#}");
    assert_eq!(text(&found, "/status/diagnosis/restartHelps"), "No", "{found:#}");
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_pod_from_running_is_named_and_what_is_advised_cures_it() {
    let world = place::world("real-pods").await;
    let _operator = world.operator(&[]).await;
    let ns = &world.ns;
    let settings: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "settings"}, "data": {"other": "1"}})).unwrap();
    world.api::<ConfigMap>().create(&PostParams::default(), &settings).await.expect("a ConfigMap is made");
    let from = json!({"name": "settings", "key": "mode"});
    let env = json!([{"name": "MISBEHAVE_MODE", "valueFrom": {"configMapKeyRef": from}}]);
    watched(&world, App::misbehave("zero", &[]).spec(json!({"replicas": 0}))).await;
    watched(&world, App::of("image", "registry.example.com/shop:9")).await;
    watched(&world, App::misbehave("config", &[]).container(json!({"env": env}))).await;
    watched(&world, App::misbehave("disk", &[]).pod(json!({"nodeSelector": {"disk": "fast"}}))).await;

    let zero = is_down(&world, "zero", "ScaledToZero").await;
    says(message(&zero), &["Deployment zero is scaled to zero"]);
    says(advice(&zero), &[&format!("`kubectl -n {ns} scale deployment/zero --replicas=1`")]);

    is_down(&world, "image", "ImagePullFailed").await;
    // The first resolver may have been busy.
    let unknown = |found: &Value| message(found).contains("its registry does not exist");
    let image = world.sees_backend(3 * SOON, "image", "its registry is unknown", unknown).await;
    says(
        message(&image),
        &["container app of pod image-", "registry.example.com/shop:9", "its registry does not exist"],
    );
    says(advice(&image), &["the registry in the image name registry.example.com/shop:9"]);

    let config = is_down(&world, "config", "ConfigMissing").await;
    says(message(&config), &["container app of pod config-", "ConfigMap settings has no key mode"]);
    says(advice(&config), &["Add the key mode to ConfigMap settings"]);

    let disk = is_down(&world, "disk", "Unschedulable").await;
    says(
        message(&disk),
        &["no node takes pod disk-", "nodes are available", "didn't match Pod's node affinity/selector"],
    );
    assert!(!message(&disk).contains("preemption"), "{disk:#}");
    says(advice(&disk), &["correct its node selector"]);

    obey(&world, &zero);
    let key = Patch::Merge(json!({"data": {"mode": "ok"}}));
    world.api::<ConfigMap>().patch("settings", &PatchParams::default(), &key).await.expect("a ConfigMap is patched");
    world.backend_is(SOON, "zero", "Up", "").await;
    // The advice says "The kubelet tries again by itself."
    world.backend_is(SOON, "config", "Up", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_does_not_lead_to_its_pods_is_named_and_can_be_mended_by_the_advice() {
    let world = place::world("real-service").await;
    let _operator = world.operator(&[]).await;
    let ns = &world.ns;
    let nothing = App::misbehave("nothing", &[]).service(json!({"selector": {"app": "nohting"}}));
    let ports = |to: Value| json!({"ports": [{"name": "http", "port": 80, "targetPort": to}]});
    watched(&world, nothing).await;
    watched(&world, App::misbehave("name", &[]).service(ports(json!("htpp")))).await;
    watched(&world, App::misbehave("number", &[]).service(ports(json!(8081)))).await;
    running(&world, "nothing", 1).await;

    let found = world.backend_is(SOON, "nothing", "Down", "ServiceSelectsNothing").await;
    says(
        message(&found),
        &["Service nothing selects no pod", "app=nohting", "the pods of Deployment nothing carry app=nothing"],
    );
    assert!(!message(&found).contains("pod-template-hash"), "{found:#}");
    says(advice(&found), &[&format!("`kubectl -n {ns} set selector service/nothing app=nothing`")]);
    // The cause is known before the pod has an address that can be probed.
    let dialled = |found: &Value| found["status"]["vantages"].to_string().contains("pod/nothing-");
    world.sees_backend(SOON, "nothing", "its pod is asked itself", dialled).await;
    let ran = diagnose(&world, "nothing");
    assert_eq!(ran.code, 3, "{ran:?}");
    says(&ran.stdout, &["is Down: ServiceSelectsNothing (certain)", "Refused in Connect"]);
    let commands = next(&ran.stdout);
    assert!(commands.len() >= 3, "{ran:?}");
    for command in commands {
        assert!(!kubectl(&world, &command).trim().is_empty(), "{command} says nothing");
    }
    obey(&world, &found);
    world.backend_is(SOON, "nothing", "Up", "").await;

    let found = world.backend_is(SOON, "name", "Down", "ServicePortMismatch").await;
    says(message(&found), &["port 80 of Service name goes to targetPort htpp", "they declare http/8080"]);
    says(advice(&found), &["Set targetPort of Service name to http/8080", "name that port htpp in the pod template"]);
    let found = world.backend_is(SOON, "number", "Down", "ServicePortMismatch").await;
    says(message(&found), &["port 80 of Service number goes to targetPort 8081", "they declare http/8080"]);
    says(advice(&found), &["Set targetPort of Service number to http/8080", "have the pods listen on 8081"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_whose_pods_never_get_ready_is_stuck_and_undoing_it_helps() {
    let world = place::world("real-rollout").await;
    let _operator = world.operator(&[]).await;
    let ready = |path: &str| json!({"readinessProbe": {"periodSeconds": 1, "httpGet": {"path": path, "port": 8080}}});
    let app = App::misbehave("shop", &[]).container(ready("/healthz"));
    watched(&world, app.spec(json!({"progressDeadlineSeconds": 5}))).await;
    world.backend_is(SOON, "shop", "Up", "").await;
    // It is Up, and its workload is read once a minute: the next read finds the rollout.
    let container = json!([{"name": "app", "readinessProbe": {"httpGet": {"path": "/status/503"}}}]);
    let template = json!({"spec": {"template": {"spec": {"containers": container}}}});
    let changed = world.api::<Deployment>().patch("shop", &PatchParams::default(), &Patch::Strategic(&template)).await;
    changed.expect("a Deployment is patched");
    // If the deadline passes before the kubelet has probed the new pod, the next read finds the probe failure.
    let probed = |found: &Value| {
        text(found, "/status/diagnosis/cause") == "RolloutStuck"
            && message(found).contains("1 ready, 2 exist")
            && text_of(found, "/status/diagnosis/evidence").contains("the kubelet's probe of it fails")
    };
    let found = world.sees_backend(4 * SOON, "shop", "RolloutStuck, for its probe fails", probed).await;
    assert_eq!(text(&found, "/status/state"), "Degraded", "{found:#}");
    says(
        message(&found),
        &["the rollout of Deployment shop does not get on, its pod shop-", "does not get ready", "1 ready, 2 exist"],
    );
    let undo = format!("`kubectl -n {} rollout undo deployment/shop`", world.ns);
    says(advice(&found), &["Go back to the template before", &undo, "describe pod shop-"]);
    says(
        &text_of(&found, "/status/diagnosis/evidence"),
        &["ProgressDeadlineExceeded", "the kubelet's probe of it fails"],
    );
    let ran = diagnose(&world, "shop");
    assert_eq!(ran.code, 3, "{ran:?}");
    says(&ran.stdout, &["is Degraded: RolloutStuck (certain)"]);
    for command in next(&ran.stdout).iter().filter(|command| !command.contains("rollout status")) {
        // The last of them rolls back.
        kubectl(&world, command);
    }
    world.backend_is(2 * SOON, "shop", "Up", "").await;
}

fn text_of(found: &Value, pointer: &str) -> String {
    found.pointer(pointer).cloned().unwrap_or_default().to_string()
}

/// An object of the whole cluster; deleted when it is dropped.
struct Global(Arc<Cluster>, &'static str, String);

impl Drop for Global {
    fn drop(&mut self) {
        let _ = self.0.kubectl(&["delete", self.1, &self.2, "--wait=false", "--ignore-not-found"]);
    }
}

/// A node that KWOK simulates; only pods that request it are scheduled on it.
async fn node(world: &World) -> (Global, Api<Node>) {
    let name = format!("lost-{}", world.ns);
    let node: Node = serde_json::from_value(json!({
        "metadata": {
            "name": name, "labels": {"vigie.dev/test": world.ns, "kubernetes.io/hostname": name},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
    }))
    .unwrap();
    let nodes: Api<Node> = Api::all(world.client.clone());
    let guard = Global(world.cluster.clone(), "node", name);
    nodes.create(&PostParams::default(), &node).await.expect("a Node is made");
    (guard, nodes)
}

/// Lets the operator read nodes, with the rights of `vigie-evidence-cluster`.
fn may_read_nodes(world: &World) -> [Global; 2] {
    let (ns, kubectl) = (&world.ns, |args: &[&str]| world.cluster.kubectl(args).ok());
    let guard = |kind| Global(world.cluster.clone(), kind, ns.clone());
    let guards = [guard("clusterrolebinding"), guard("clusterrole")];
    kubectl(&["create", "clusterrole", ns, "--verb=get", "--resource=nodes"]);
    let (role, account) = (format!("--clusterrole={ns}"), format!("--serviceaccount={ns}:vigie"));
    kubectl(&["create", "clusterrolebinding", ns, &role, &account]);
    guards
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_node_that_is_gone_are_explained_by_the_node() {
    let world = place::world("real-node").await;
    let _rights = may_read_nodes(&world);
    world.heeded("vigie", &rule(json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}))).await;
    let (node, nodes) = node(&world).await;
    let _operator = world.operator(&[]).await;
    let tolerates = json!([{"operator": "Exists"}]);
    let there = json!({"nodeSelector": {"vigie.dev/test": world.ns}, "tolerations": tolerates});
    watched(&world, App::of("shop", "example.com/shop:1").pod(there).pod(json!({"terminationGracePeriodSeconds": 0})))
        .await;
    running(&world, "shop", 1).await;
    // A simulated pod answers nothing.
    let before = world.sees_backend(SOON, "shop", "it is Down", |found| text(found, "/status/state") == "Down").await;
    assert_ne!(text(&before, "/status/diagnosis/cause"), "NodeLost", "{before:#}");
    // As the node controller writes it when the node's Lease is not renewed; KWOK leaves the node unchanged from now
    // on.
    let left = Patch::Merge(json!({"metadata": {"annotations": {"kwok.x-k8s.io/node": null}}}));
    nodes.patch(&node.2, &PatchParams::default(), &left).await.expect("a Node is patched");
    let lost = json!({"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    eventually(SOON, "the node is not Ready", async || {
        let status = Patch::Strategic(json!({"status": {"conditions": [lost]}}));
        let node =
            nodes.patch_status(&node.2, &PatchParams::default(), &status).await.map_err(|error| error.to_string())?;
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready").map(|ready| ready.status.clone());
        if ready.as_deref() == Some("Unknown") { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
    let found = is_down(&world, "shop", "NodeLost").await;
    says(message(&found), &[&format!("node {} is not Ready since ", node.2), "on it: pod shop-"]);
    says(advice(&found), &[&format!("`kubectl describe node {}`", node.2)]);
    says(&kubectl(&world, &format!("kubectl describe node {}", node.2)), &["NodeStatusUnknown"]);
}
