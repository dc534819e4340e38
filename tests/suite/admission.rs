//! The chart's admission policies: the uses of vigie's token, and the users that may have vigie restart a workload.
//!
//! The requests carry the tokens of ServiceAccounts. Each test installs its own policies: they match its own namespace
//! and its own operator.

mod asking;
mod operator;
mod stamps;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::admission::{HEEDED, refusal};
use crate::support::workloads::ATTEMPT;
use crate::support::world::{ACCOUNTS, SOON};
use crate::support::{World, eventually, text};

const KINDS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
const TEMPLATE: &str = "/spec/template/metadata/annotations";

/// Workloads of this kind, with the rights of `client`.
fn workloads(client: &kube::Client, ns: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
    Api::namespaced_with(client.clone(), ns, &resource)
}

/// A workload that sets every field a forbidden patch changes.
async fn workload(world: &World, kind: &str, name: &str) {
    let labels = json!({"app": name});
    let mut workload = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": name, "labels": labels, "annotations": {"example.com/team": "shop"}},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels, "annotations": {"example.com/kept": "yes", RESTARTED_AT: "2026-01-01T00:00:00Z"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "app", "image": "example.com/app:1", "env": [{"name": "LEVEL", "value": "info"}]}],
            },
        }},
    });
    if kind == "StatefulSet" {
        workload["spec"]["serviceName"] = json!(name);
    }
    let workload = serde_json::from_value(workload).unwrap();
    let made = workloads(&world.client, &world.ns, kind).create(&PostParams::default(), &workload).await;
    made.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
}

fn operations(operations: Value) -> Patch<Value> {
    Patch::Json(serde_json::from_value(operations).unwrap())
}

/// Patches that change more than the two annotations: a name, the patch, and the field that the refusal must name.
fn forbidden() -> Vec<(&'static str, Patch<Value>, &'static str)> {
    let merge = |spec: Value| Patch::Merge(json!({"spec": spec}));
    let strategic = |spec: Value| Patch::Strategic(json!({"spec": {"template": {"spec": spec}}}));
    let container = |more: Value| {
        let mut container = json!({"name": "app"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        strategic(json!({"containers": [container]}))
    };
    let annotation = |name: &str| format!("{TEMPLATE}/{}", name.replace('/', "~1"));
    let applied = json!({"spec": {"template": {"spec": {"serviceAccountName": "default"}}}});
    vec![
        ("an image", container(json!({"image": "example.com/evil:1"})), "spec.template.spec"),
        (
            "an image, beside a true restart",
            operations(json!([
                {"op": "add", "path": annotation(RESTARTED_AT), "value": "2026-01-31T12:00:00Z"},
                {"op": "add", "path": annotation(ATTEMPT), "value": "a1"},
                {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "example.com/evil:1"},
            ])),
            "spec.template.spec",
        ),
        ("an environment", container(json!({"env": [{"name": "LEVEL", "value": "debug"}]})), "spec.template.spec"),
        ("a command", container(json!({"command": ["sh"]})), "spec.template.spec"),
        ("a sidecar", strategic(json!({"containers": [{"name": "b", "image": "b"}]})), "spec.template.spec"),
        (
            "an init container",
            strategic(json!({"initContainers": [{"name": "b", "image": "b"}]})),
            "spec.template.spec",
        ),
        ("an account", strategic(applied["spec"]["template"]["spec"].clone()), "spec.template.spec"),
        (
            "a label of the pods",
            merge(json!({"template": {"metadata": {"labels": {"b": "c"}}}})),
            "spec.template.metadata.labels",
        ),
        (
            "another annotation of the pods",
            merge(json!({"template": {"metadata": {"annotations": {"example.com/b": "c"}}}})),
            "spec.template.metadata.annotations.example.com/b",
        ),
        (
            "an annotation of the pods taken out",
            operations(json!([{"op": "remove", "path": annotation("example.com/kept")}])),
            "spec.template.metadata.annotations.example.com/kept",
        ),
        (
            "a restart forgotten",
            operations(json!([{"op": "remove", "path": annotation(RESTARTED_AT)}])),
            "spec.template.metadata.annotations.kubectl.kubernetes.io/restartedAt",
        ),
        ("all annotations", operations(json!([{"op": "remove", "path": TEMPLATE}])), "example.com/kept"),
        ("a field that was not there", merge(json!({"minReadySeconds": 7})), "spec.minReadySeconds"),
        (
            "a label of the cluster's",
            Patch::Merge(json!({"metadata": {"labels": {"app.kubernetes.io/name": "c"}}})),
            "metadata.labels.app.kubernetes.io/name",
        ),
        (
            "an annotation of the cluster's",
            Patch::Merge(json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "7"}}})),
            "metadata.annotations.deployment.kubernetes.io/revision",
        ),
        (
            "an annotation taken out",
            Patch::Merge(json!({"metadata": {"annotations": {"example.com/team": null}}})),
            "metadata.annotations.example.com/team",
        ),
        ("a finalizer", Patch::Merge(json!({"metadata": {"finalizers": ["example.com/b"]}})), "metadata.finalizers"),
        (
            "an owner",
            Patch::Merge(json!({"metadata": {"ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": "b"},
            ]}})),
            "metadata.ownerReferences",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_vigies_token_a_workload_is_restarted_and_nothing_else_of_it_is_changed() {
    let world = World::new("admit-workloads").await;
    let policies = world.enforce().await;
    let params = PatchParams::default();
    for kind in KINDS {
        workload(&world, kind, "shop").await;
        let ours = workloads(&policies.vigie, &world.ns, kind);
        let mut cases = forbidden();
        if kind != "DaemonSet" {
            cases.push(("replicas", Patch::Merge(json!({"spec": {"replicas": 7}})), "spec.replicas"));
        }
        for (what, patch, changes) in cases {
            let refused = refusal(ours.patch("shop", &params, &patch).await);
            let refused = refused.unwrap_or_else(|answer| panic!("{what} of a {kind}: {answer}"));
            let called = format!("{kind} {}/shop, and nothing else; this would change ", world.ns);
            let told = refused.split_once(&called).map(|(_, told)| told);
            assert!(told.is_some_and(|told| told.contains(changes)), "{what} of a {kind}: {refused}");
        }
        let applied = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "shop"},
            "spec": {"template": {"spec": {"hostNetwork": true}}}});
        let by_force = ours.patch("shop", &PatchParams::apply("vigie").force(), &Patch::Apply(applied)).await;
        assert!(refusal(by_force).unwrap().contains("spec.template.spec"), "server-side apply is refused, too");
        // The administrator may do all of it meanwhile.
        let theirs = workloads(&world.client, &world.ns, kind);
        theirs.patch("shop", &params, &Patch::Merge(json!({"metadata": {"labels": {"b": "c"}}}))).await.unwrap();
        restarts(&ours, &theirs).await;
    }
}

/// The patches of a restart are admitted, for a template with annotations and for one without.
async fn restarts(ours: &Api<DynamicObject>, theirs: &Api<DynamicObject>) {
    let params = PatchParams::default();
    let none = operations(json!([{"op": "remove", "path": TEMPLATE}]));
    for (id, attempt) in [("one", "a1"), ("two", "a2"), ("anew", "a3")] {
        let at = "2026-01-31T12:00:00Z";
        let found = theirs.get("shop").await.unwrap();
        let mut all = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": found.metadata.uid}),
            json!({"op": "test", "path": "/metadata/generation", "value": found.metadata.generation}),
        ];
        if id == "anew" {
            let changed = theirs.patch("shop", &params, &none).await.unwrap();
            all[1]["value"] = json!(changed.metadata.generation);
            all.push(json!({"op": "add", "path": TEMPLATE, "value": {RESTARTED_AT: at, ATTEMPT: attempt}}));
        } else {
            let path = |name: &str| format!("{TEMPLATE}/{}", name.replace('/', "~1"));
            all.push(json!({"op": "add", "path": path(RESTARTED_AT), "value": at}));
            all.push(json!({"op": "add", "path": path(ATTEMPT), "value": attempt}));
        }
        let done = ours.patch("shop", &params, &operations(all.into())).await;
        let done = serde_json::to_value(done.unwrap_or_else(|error| panic!("{id}: {error}"))).unwrap();
        assert_eq!(text(&done[&"spec"]["template"]["metadata"]["annotations"], "/vigie.dev~1attempt"), attempt);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_vigie_is_allowed_besides_it_neither_makes_nor_scales_nor_deletes() {
    let world = World::new("admit-rights").await;
    let everything = json!([{"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["*"]}]);
    world.allow(ACCOUNTS[0], "everything", everything).await;
    let policies = world.enforce().await;
    let params = PatchParams::default();
    let neither = "vigie may restart workloads, and neither create, delete nor scale them";
    for kind in KINDS {
        workload(&world, kind, "shop").await;
        let ours = workloads(&policies.vigie, &world.ns, kind);
        let mut made = ours.get("shop").await.unwrap();
        made.metadata = kube::core::ObjectMeta { name: Some("other".to_owned()), ..Default::default() };
        assert_eq!(refusal(ours.create(&PostParams::default(), &made).await).as_deref(), Ok(neither), "{kind}");
        // A status update can change annotations, too.
        let status = Patch::Merge(json!({"metadata": {"annotations": {"b": "c"}}}));
        assert_eq!(refusal(ours.patch_status("shop", &params, &status).await).as_deref(), Ok(neither), "{kind}");
        assert_eq!(refusal(ours.delete("shop", &Default::default()).await).as_deref(), Ok(neither), "{kind}");
        let all = ours.delete_collection(&Default::default(), &ListParams::default()).await;
        assert_eq!(refusal(all.map(|_| ())).as_deref(), Ok(neither), "{kind}");
    }
    let scale = Patch::Merge(json!({"spec": {"replicas": 7}}));
    let scaled = policies.ours::<Deployment>().patch_scale("shop", &params, &scale).await;
    assert_eq!(refusal(scaled).as_deref(), Ok(neither));

    let pods = policies.ours::<Pod>();
    assert!(refusal(pods.delete(HEEDED, &Default::default()).await).unwrap().contains("neither create nor delete"));
    let secret = world.api::<Secret>().create(&PostParams::default(), &secret("mine", "Opaque", json!({}))).await;
    secret.expect("a Secret is made");
    assert!(refusal(policies.ours::<Secret>().delete("mine", &Default::default()).await).is_ok());
    eventually(SOON, "the cluster's own ConfigMap", async || {
        let found = world.api::<ConfigMap>().get_opt("kube-root-ca.crt").await.map_err(|error| error.to_string())?;
        found.map(drop).ok_or_else(|| "none".to_owned())
    })
    .await;
    assert!(refusal(policies.ours::<ConfigMap>().delete("kube-root-ca.crt", &Default::default()).await).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cluster_stands_on_is_not_restarted_whatever_rbac_says() {
    let world = World::new("admit-kube").await;
    let policies = world.enforce().await;
    let place = Elsewhere(&world, format!("kube-{}", world.ns));
    let kubectl = |args: &[&str]| world.cluster.kubectl(&[&["-n", &place.1], args].concat()).ok();
    kubectl(&["create", "namespace", &place.1]);
    kubectl(&["create", "deployment", "proxy", "--image=example.com/proxy:1", "--replicas=0"]);
    kubectl(&["create", "role", "restart", "--verb=get,patch", "--resource=deployments.apps"]);
    let account = format!("--serviceaccount={}:{}", world.ns, ACCOUNTS[0]);
    kubectl(&["create", "rolebinding", "restart", "--role=restart", &account]);
    let there: Api<Deployment> = Api::namespaced(policies.vigie.clone(), &place.1);
    let restart = Patch::Strategic(json!({"spec": {"template": {"metadata": {"annotations": {ATTEMPT: "a1"}}}}}));
    eventually(SOON, "the policy refuses it", async || {
        let said = refusal(there.patch("proxy", &PatchParams::default(), &restart).await)?;
        if said.ends_with("begin with kube-") { Ok(()) } else { Err(said) }
    })
    .await;
}

/// A second namespace; deleted when it is dropped.
struct Elsewhere<'a>(&'a World, String);

impl Drop for Elsewhere<'_> {
    fn drop(&mut self) {
        let _ = self.0.cluster.kubectl(&["delete", "namespace", &self.1, "--wait=false"]);
    }
}

fn secret(name: &str, type_: &str, metadata: Value) -> Secret {
    let mut secret = json!({"metadata": {"name": name}, "type": type_, "stringData": {"token": "0123456789abcdef"}});
    secret["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    serde_json::from_value(secret).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_vigies_token_no_secret_is_written_but_a_connectors_token() {
    let world = World::new("admit-secrets").await;
    let policies = world.enforce().await;
    let ours = policies.ours::<Secret>();
    let params = PostParams::default();
    // The garbage collector deletes an object whose owner does not exist, so the owner must exist.
    let uid = world.create("edge", json!({})).await.metadata.uid;
    let owner = |kind: &str, api: &str| {
        json!({"ownerReferences": [
            {"apiVersion": api, "kind": kind, "name": "edge", "uid": uid, "controller": true},
        ]})
    };
    let token = "vigie.dev/connector-token";
    let connector = owner("Connector", "vigie.dev/v1alpha1");
    // A user that may create the second one can read what Kubernetes fills in: a token of any ServiceAccount.
    let account = json!({"annotations": {"kubernetes.io/service-account.name": "editor"}});
    for (what, made) in [
        ("any Secret", secret("a", "Opaque", json!({}))),
        ("a token of a ServiceAccount", secret("b", "kubernetes.io/service-account-token", account)),
        ("a Connector's, of another type", secret("c", "Opaque", connector.clone())),
        ("a token without an owner", secret("d", token, json!({}))),
        ("a token of another API's Connector", secret("e", token, owner("Connector", "example.com/v1"))),
        ("a workload's token", secret("f", token, owner("Deployment", "vigie.dev/v1alpha1"))),
    ] {
        let refused = refusal(ours.create(&params, &made).await).unwrap_or_else(|answer| panic!("{what}: {answer}"));
        assert!(refused.contains("of type vigie.dev/connector-token that a Connector owns"), "{what}: {refused}");
    }

    // vigie renews a token Secret of its own.
    let mut held =
        ours.create(&params, &secret("edge", token, connector.clone())).await.expect("a token Secret is created");
    held.string_data =
        serde_json::from_value(json!({"token": "fedcba9876543210", "connector_id": "a", "url": "b"})).unwrap();
    let held = ours.replace("edge", &params, &held).await.expect("a token is renewed");
    // It records the delivery, and takes over a Secret of a Connector that was deleted.
    let successor = world.create("edge-2", json!({})).await.metadata.uid;
    let mut taken = serde_json::to_value(&held).unwrap();
    merge(
        &mut taken,
        &json!({"metadata": {
            "annotations": {"vigie.dev/token-record": "1"},
            "labels": {"vigie.dev/connector": "edge-2", "app.kubernetes.io/managed-by": "vigie"},
            "ownerReferences": [{
                "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "name": "edge-2", "uid": successor,
                "controller": true,
            }],
        }}),
    );
    let dry = PostParams { dry_run: true, ..Default::default() };
    let taken = serde_json::from_value::<Secret>(taken).unwrap();
    ours.replace("edge", &dry, &taken).await.expect("a Secret is taken over");
    let mut cases = Vec::new();
    for (what, more) in [
        ("metadata.labels.vigie.dev/b", json!({"metadata": {"labels": {"vigie.dev/b": "c"}}})),
        ("metadata.finalizers", json!({"metadata": {"finalizers": ["example.com/b"]}})),
        ("metadata.ownerReferences", json!({"metadata": with_another(&connector)})),
        ("immutable", json!({"immutable": true})),
        ("data.other", json!({"data": {"other": "b3RoZXI="}})),
    ] {
        let mut changed = serde_json::to_value(&held).unwrap();
        merge(&mut changed, &more);
        cases.push((what, serde_json::from_value::<Secret>(changed).unwrap()));
    }
    for (what, changed) in cases {
        let refused = refusal(ours.replace("edge", &params, &changed).await);
        let refused = refused.unwrap_or_else(|answer| panic!("{what}: {answer}"));
        assert!(refused.ends_with(&format!("this would change {what}")), "{what}: {refused}");
    }
    // A restored token Secret has no owner: vigie gives it one, and writes its record.
    let restored = world.api::<Secret>().create(&params, &secret("restored", token, json!({}))).await.unwrap();
    let mut taken = serde_json::to_value(&restored).unwrap();
    merge(&mut taken, &json!({"metadata": connector.clone()}));
    merge(&mut taken, &json!({"metadata": {"annotations": {"vigie.dev/token-record": "{}"}}}));
    let taken: Secret = serde_json::from_value(taken).unwrap();
    ours.replace("restored", &params, &taken).await.expect("a restored token Secret is taken over");
    // A Secret of another type is refused, even when its owner is a Connector.
    let made = world.api::<Secret>().create(&params, &secret("mine", "Opaque", connector)).await.unwrap();
    assert!(refusal(ours.replace("mine", &params, &made).await).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_vigie_makes_holds_a_token_and_nothing_for_other_programs() {
    let world = World::new("admit-keys").await;
    let policies = world.enforce().await;
    let uid = world.create("edge", json!({})).await.metadata.uid;
    let owned = json!({"ownerReferences": [
        {"apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "name": "edge", "uid": uid, "controller": true},
    ]});
    let made = |more: &Value| {
        let mut made = serde_json::to_value(secret("edge", "vigie.dev/connector-token", owned.clone())).unwrap();
        merge(&mut made, more);
        serde_json::from_value::<Secret>(made).unwrap()
    };
    let dry = PostParams { dry_run: true, ..Default::default() };
    let ours = policies.ours::<Secret>();
    for (what, more) in [
        ("data..dockerconfigjson", json!({"stringData": {".dockerconfigjson": "{}"}})),
        ("data.tls.key", json!({"stringData": {"tls.key": "x", "url": "https://vigie.example.com"}})),
        ("metadata.finalizers", json!({"metadata": {"finalizers": ["example.com/b"]}})),
        ("immutable", json!({"immutable": true})),
    ] {
        let refused = refusal(ours.create(&dry, &made(&more)).await);
        let refused = refused.unwrap_or_else(|answer| panic!("{what}: {answer}"));
        assert!(refused.ends_with(&format!("/edge would have {what}")), "{what}: {refused}");
    }
    let whole = json!({"stringData": {"connector_id": "a", "url": "https://vigie.example.com"}});
    ours.create(&dry, &made(&whole)).await.expect("a token's own keys are admitted");

    // In the namespaces of the cluster itself it makes none.
    let place = Elsewhere(&world, format!("kube-{}", world.ns));
    let kubectl = |args: &[&str]| world.cluster.kubectl(&[&["-n", &place.1], args].concat()).ok();
    kubectl(&["create", "namespace", &place.1]);
    kubectl(&["create", "role", "tokens", "--verb=create", "--resource=secrets"]);
    let account = format!("--serviceaccount={}:{}", world.ns, ACCOUNTS[0]);
    kubectl(&["create", "rolebinding", "tokens", "--role=tokens", &account]);
    let there: Api<Secret> = Api::namespaced(policies.vigie.clone(), &place.1);
    eventually(SOON, "the policy refuses it", async || {
        let said = refusal(there.create(&dry, &made(&json!({}))).await)?;
        if said.contains("begin with kube-") { Ok(()) } else { Err(said) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vigie_evicts_a_pod_by_its_uid_and_none_of_the_cluster_itself() {
    let world = World::new("admit-evict").await;
    let policies = world.enforce().await;
    let uid = world.api::<Pod>().get(HEEDED).await.unwrap().metadata.uid.unwrap();
    for options in [
        json!({}),
        json!({"preconditions": {"resourceVersion": "1"}}),
        json!({"preconditions": {"uid": uid}, "gracePeriodSeconds": 0}),
        json!({"preconditions": {"uid": uid}, "propagationPolicy": "Orphan"}),
    ] {
        let refused = refusal(policies.evict(HEEDED, &options).await);
        let refused = refused.unwrap_or_else(|answer| panic!("{options}: {answer}"));
        assert!(refused.starts_with("vigie evicts a pod by its UID"), "{options}: {refused}");
    }
    policies.evict(HEEDED, &json!({"preconditions": {"uid": uid}})).await.expect("this is how a remedy does it");

    let place = Elsewhere(&world, format!("kube-{}", world.ns));
    let kubectl = |args: &[&str]| world.cluster.kubectl(&[&["-n", &place.1], args].concat()).ok();
    kubectl(&["create", "namespace", &place.1]);
    kubectl(&["create", "role", "evict", "--verb=create", "--resource=pods/eviction"]);
    let account = format!("--serviceaccount={}:{}", world.ns, ACCOUNTS[0]);
    kubectl(&["create", "rolebinding", "evict", "--role=evict", &account]);
    let there: Api<Pod> = Api::namespaced(policies.vigie.clone(), &place.1);
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "proxy"},
        "deleteOptions": {"preconditions": {"uid": uid}},
    });
    eventually(SOON, "the policy refuses it", async || {
        let sent: Result<Value, _> =
            there.create_subresource("eviction", "proxy", &PostParams::default(), &eviction).await;
        let said = refusal(sent)?;
        if said.ends_with("begin with kube-") { Ok(()) } else { Err(said) }
    })
    .await;
}

/// These owners, and one of another kind, with which the Secret would be deleted.
fn with_another(owners: &Value) -> Value {
    let mut all = owners.clone();
    let another = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": "b"});
    all["ownerReferences"].as_array_mut().expect("they are a list").push(another);
    all
}

/// Merges as a merge patch does.
fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_vigies_token_a_pod_changes_its_role_alone_and_the_breaker_is_opened_and_never_closed() {
    let world = World::new("admit-own").await;
    let policies = world.enforce().await;
    let params = PatchParams::default();
    let pods = policies.ours::<Pod>();
    let image = json!({"spec": {"containers": [{"name": "app", "image": "example.com/evil:1"}]}});
    let network = "k8s.ovn.org/pod-networks";
    let network = json!({"metadata": {"annotations": {network: "c"}, "labels": {"vigie.dev/role": "leader"}}});
    for (what, patch, changes) in [
        ("an image", Patch::Strategic(image), "spec"),
        ("its end", Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 1}})), "spec"),
        ("an annotation of the network's", Patch::Merge(network), "metadata.annotations.k8s.ovn.org/pod-networks"),
        ("a label", Patch::Merge(json!({"metadata": {"labels": {"app": "shop"}}})), "metadata.labels.app"),
    ] {
        let refused = refusal(pods.patch(HEEDED, &params, &patch).await);
        let refused = refused.unwrap_or_else(|answer| panic!("{what}: {answer}"));
        assert!(refused.ends_with(&format!("this would change {changes}")), "{what}: {refused}");
    }
    for role in [json!("leader"), json!(null), json!(null)] {
        let role = Patch::Merge(json!({"metadata": {"labels": {"vigie.dev/role": role}}}));
        pods.patch(HEEDED, &params, &role).await.expect("vigie may set the label of the leader");
    }

    let maps = policies.ours::<ConfigMap>();
    let map = |name: &str, state: &str| -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": name}, "data": {"state": state}})).unwrap()
    };
    for (name, state) in [("other", "Open"), ("vigie-breaker", "Closed"), ("vigie-breaker", "")] {
        let refused = refusal(maps.create(&PostParams::default(), &map(name, state)).await).unwrap();
        assert!(refused.contains("only a person closes it"), "{name} {state}: {refused}");
    }
    maps.create(&PostParams::default(), &map("vigie-breaker", "Open")).await.expect("vigie opens the breaker");
    for patch in [
        json!({"data": {"state": "Closed"}}),
        json!({"data": null}),
        json!({"metadata": {"finalizers": ["example.com/b"]}}),
    ] {
        let refused = refusal(maps.patch("vigie-breaker", &params, &Patch::Merge(&patch)).await);
        assert!(refused.is_ok(), "{patch}: {refused:?}");
    }
    let reset = world.vigie(&["breaker", "reset", "-n", &world.ns]);
    assert_eq!(reset.code, 0, "a person closes it: {reset:?}");
    let opened = Patch::Merge(json!({"data": {"state": "Open", "reason": "most are sick"}}));
    maps.patch("vigie-breaker", &params, &opened).await.expect("vigie opens it again");
}
