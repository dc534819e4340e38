//! Mutating policies beside the chart's own: they mark every object that is written with the writer or the time, as
//! Kyverno, cost allocation and "last modified by" webhooks do. vigie goes on with its work.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::operations;
use crate::remedies::{healthy, tunnel};
use crate::support::admission::{HEEDED, Policies, refusal};
use crate::support::audit::Request;
use crate::support::workloads::ATTEMPT;
use crate::support::world::SOON;
use crate::support::{World, eventually, text};

/// A policy that stamps Secrets, Pods, ConfigMaps and workloads of this namespace whenever they are written.
fn stamping(ns: &str, mutation: &str) -> [Value; 2] {
    let name = format!("stamp.{ns}");
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
                "resourceRules": [{
                    "apiGroups": ["", "apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["secrets", "pods", "configmaps", "deployments", "statefulsets", "daemonsets"],
                }],
            },
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": mutation}}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name},
    });
    [policy, binding]
}

/// The writer as an annotation, which differs from writer to writer, and a label.
const WRITER: &str = "Object{metadata: Object.metadata{
    annotations: {'stamp.example.com/by': request.userInfo.username},
    labels: {'stamp.example.com/cost': 'shared'}}}";

/// Puts the stamps in force, and waits until an object of this world has them.
async fn stamp(world: &World, policies: &Policies<'_>, mutation: &str, mark: &str) {
    policies.beside(&stamping(&world.ns, mutation));
    eventually(SOON, "objects are stamped", async || {
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "stamped"}})).unwrap();
        let dry = PostParams { dry_run: true, ..Default::default() };
        let made = world.api::<ConfigMap>().create(&dry, &map).await.map_err(|error| error.to_string())?;
        let made = serde_json::to_value(made).unwrap().to_string();
        if made.contains(mark) { Ok(()) } else { Err(made) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_every_written_object_is_stamped_vigie_does_all_of_its_work() {
    let world = World::new("stamped").await;
    let policies = world.enforce().await;
    let own: Pod = serde_json::from_value(json!({
        "metadata": {"name": "vigie-a", "annotations": {"cluster.vigie.dev/play": "here"}},
        "spec": {"containers": [{"name": "vigie", "image": "vigie:1"}]},
    }))
    .unwrap();
    world.api().create(&PostParams::default(), &own).await.expect("a pod is made");
    stamp(&world, &policies, WRITER, "stamp.example.com/by").await;

    let operator = world.replica_in("vigie-a", &["--brake-min", "1000", "--breaker-min", "1000"]).await;
    operator.hearing().await;
    eventually(SOON, "its pod is the leader's", async || {
        let found: Pod = world.api().get("vigie-a").await.map_err(|error| error.to_string())?;
        let is_leader = found.labels().get("vigie.dev/role").is_some_and(|role| role == "leader");
        if is_leader { Ok(()) } else { Err(format!("{:?}", found.labels())) }
    })
    .await;
    eventually(SOON, "the metric says so", async || {
        let labelled = operator.scrape().sum("vigie_leader_pod_labelled", &[]);
        if labelled == 1.0 { Ok(()) } else { Err(labelled.to_string()) }
    })
    .await;
    let connector = healthy(&world, &operator, "paris", json!({})).await;
    let secret: Secret = world.api().get("paris-connector-token").await.unwrap();
    assert!(secret.annotations().contains_key("stamp.example.com/by"), "{:?}", secret.metadata);
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    let is_restarted = |seen: &Value| text(seen, "/status/remediation/current/phase") == "Verifying";
    world.sees(SOON, "paris", "it is restarted", is_restarted).await;
    let token = world.installed("paris").await.token;
    world.vigie(&["token", "rotate", "paris", "-n", &world.ns]).ok();
    eventually(SOON, "its token is another", async || {
        if world.installed("paris").await.token == token { Err("the same".to_owned()) } else { Ok(()) }
    })
    .await;
    let refused = |request: &Request| {
        request.code == 403
            && ["pods", "secrets", "deployments"].contains(&&*request.resource)
            && !request.reads_addresses()
    };
    let refused: Vec<_> =
        world.requests().into_iter().filter(|request| request.name != HEEDED).filter(refused).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stamp_that_instructs_the_cluster_is_refused_and_named() {
    let world = World::new("stamped-deep").await;
    let policies = world.enforce().await;
    let mutation = "Object{metadata: Object.metadata{annotations: {'sidecar.istio.io/inject': 'true'}}}";
    stamp(&world, &policies, mutation, "sidecar.istio.io/inject").await;
    let params = PatchParams::default();
    let role = Patch::Merge(json!({"metadata": {"labels": {"vigie.dev/role": "leader"}}}));
    let refused = refusal(policies.ours::<Pod>().patch(HEEDED, &params, &role).await).unwrap();
    assert!(refused.ends_with("this would change metadata.annotations.sidecar.istio.io/inject"), "{refused}");
    let at = "/spec/template/metadata/annotations";
    let restart = operations(json!([{"op": "add", "path": at, "value": {ATTEMPT: "a1"}}]));
    let refused =
        refusal(policies.ours::<k8s_openapi::api::apps::v1::Deployment>().patch(HEEDED, &params, &restart).await)
            .unwrap();
    assert!(refused.ends_with("this would change metadata.annotations.sidecar.istio.io/inject"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_pod_cannot_be_labelled_says_so() {
    let world = World::new("unlabelled").await;
    let policies = world.enforce().await;
    let own: Pod = serde_json::from_value(json!({
        "metadata": {"name": "vigie-a", "annotations": {"cluster.vigie.dev/play": "here"}},
        "spec": {"containers": [{"name": "vigie", "image": "vigie:1"}]},
    }))
    .unwrap();
    world.api().create(&PostParams::default(), &own).await.expect("a pod is made");
    let mutation = "Object{metadata: Object.metadata{annotations: {'sidecar.istio.io/inject': 'true'}}}";
    stamp(&world, &policies, mutation, "sidecar.istio.io/inject").await;
    let operator = world.replica_in("vigie-a", &[]).await;
    let readyz = || crate::support::http::get(operator.admin(), "/readyz").expect("the admin port answers");
    eventually(SOON, "it says that it has no label", async || {
        let answer = readyz();
        let labelled = operator.scrape().sum("vigie_leader_pod_labelled", &[]);
        let is_said = answer.status == 200 && answer.body.contains("vigie.dev/role") && labelled == 0.0;
        if is_said { Ok(()) } else { Err(format!("{answer:?}, {labelled}")) }
    })
    .await;
    assert!(
        operator.log().contains("this would change metadata.annotations.sidecar.istio.io/inject"),
        "{}",
        operator.log()
    );
    let _ = world.cluster.kubectl(&["delete", "mutatingadmissionpolicybinding", &format!("stamp.{}", world.ns)]);
    eventually(SOON, "it has its label, and says so", async || {
        let answer = readyz();
        if answer.status == 200 && answer.body == "ok\n" { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}
