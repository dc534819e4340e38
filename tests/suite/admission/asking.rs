//! A user that has vigie restart a workload must be allowed to restart it directly.

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::World;
use crate::support::admission::{Policies, editing, refusal};

const ASKED: &str = "vigie.dev/restart-requested";

/// Edits objects of one kind, with the rights of one user.
struct Desk {
    objects: Api<DynamicObject>,
    kind: &'static str,
}

impl Desk {
    /// One for each kind.
    fn of(world: &World, client: &kube::Client) -> [Self; 2] {
        let backends = Self { objects: world.backends_of(client), kind: "MonitoredBackend" };
        [Self { objects: world.connectors_of(client), kind: "Connector" }, backends]
    }

    async fn make(&self, name: &str, mut object: Value) -> Result<DynamicObject, kube::Error> {
        object["apiVersion"] = json!("vigie.dev/v1alpha1");
        object["kind"] = json!(self.kind);
        object["metadata"]["name"] = json!(name);
        if self.kind == "MonitoredBackend" {
            object["spec"]["target"] = json!({"url": "http://192.0.2.1/"});
        }
        self.objects.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await
    }

    async fn change(&self, name: &str, patch: Value) -> Result<DynamicObject, kube::Error> {
        self.objects.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// The change is refused, with a sentence that names the user and the workload that the user may not patch.
    async fn is_refused(&self, world: &World, name: &str, patch: Value, resource: &str, workload: &str) {
        let said = refusal(self.change(name, patch.clone()).await);
        let said = said.unwrap_or_else(|answer| panic!("{} {name}, {patch}: {answer}", self.kind));
        let may_not =
            format!(" may not patch {resource}.apps \"{workload}\" in namespace \"{}\", and so may not", world.ns);
        assert!(said.contains(&may_not), "{} {name}, {patch}: {said}", self.kind);
        assert!(said.starts_with(&format!("system:serviceaccount:{}:", world.ns)), "{said}");
    }

    async fn is_taken(&self, name: &str, patch: Value) {
        let done = self.change(name, patch.clone()).await;
        done.unwrap_or_else(|error| panic!("{} {name}, {patch}: {error}", self.kind));
    }
}

fn workload(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "name": name})
}

fn mode(mode: &str) -> Value {
    json!({"spec": {"remediation": {"mode": mode}}})
}

fn at(time: &str) -> Value {
    json!({"metadata": {"annotations": {ASKED: time}}})
}

/// A user that may edit both kinds, and has this rule for workloads.
async fn with(world: &World, name: &str, rule: Value) -> [Desk; 2] {
    world.person(name, json!([editing(), rule])).await;
    Desk::of(world, &world.client_of(name).await)
}

fn patching(resources: &[&str], names: &[&str]) -> Value {
    json!({"apiGroups": ["apps"], "resources": resources, "resourceNames": names, "verbs": ["patch"]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_edit_connectors_and_backends_has_nothing_restarted() {
    let world = World::new("admit-editor").await;
    let Policies { editor, .. } = &world.enforce().await;
    let theirs = Desk::of(&world, &world.client);
    for (editor, admin) in Desk::of(&world, editor).into_iter().zip(theirs) {
        let shop = workload("Deployment", "shop");
        let restart = json!({"spec": {"workloadRef": shop, "remediation": {"mode": "Restart"}}});
        let suggest = json!({"spec": {"workloadRef": shop, "remediation": {"mode": "Suggest"}}});
        let mut asking = suggest.clone();
        asking["metadata"] = at("2026-01-31T12:00:00Z")["metadata"].clone();
        for made in [restart.clone(), asking] {
            let said = refusal(editor.make("edge", made).await).unwrap();
            assert!(said.contains("may not patch deployments.apps \"shop\""), "{said}");
        }
        // The user may write a spec that restarts nothing, and any workloadRef in it.
        editor.make("edge", suggest).await.expect("a suggestion needs no right to the workload");
        editor.is_taken("edge", json!({"spec": {"workloadRef": workload("StatefulSet", "db")}})).await;
        editor.is_refused(&world, "edge", mode("Restart"), "statefulsets", "db").await;
        editor.is_refused(&world, "edge", at("2026-01-31T12:00:00Z"), "statefulsets", "db").await;
        editor.is_taken("edge", json!({"spec": {"workloadRef": workload("DaemonSet", "agent")}})).await;
        editor.is_refused(&world, "edge", mode("Restart"), "daemonsets", "agent").await;

        // Once another user has enabled restarts, the user may change every field except those.
        admin.make("paris", restart).await.expect("the administrator may enable restarts");
        admin.is_taken("paris", at("2026-01-31T12:00:00Z")).await;
        editor.is_taken("paris", json!({"metadata": {"labels": {"b": "c"}}})).await;
        editor.is_taken("paris", json!({"metadata": {"annotations": {"b": "c"}}})).await;
        editor.is_taken("paris", json!({"spec": {"paused": {"by": "editor", "reason": "a test"}}})).await;
        let interval = if editor.kind == "Connector" { "heartbeat" } else { "probe" };
        editor.is_taken("paris", json!({"spec": {interval: {"intervalSeconds": 20}}})).await;
        let found = editor.objects.get("paris").await.unwrap();
        editor.objects.replace("paris", &PostParams::default(), &found).await.expect("an unchanged object is admitted");
        editor.is_refused(&world, "paris", at("2026-01-31T12:00:01Z"), "deployments", "shop").await;
        for (what, value) in [
            ("workloadRef", workload("Deployment", "other")),
            ("remediation", json!({"strategy": "Rollout"})),
            ("remediation", json!({"maxAttempts": 100})),
        ] {
            let named = if what == "workloadRef" { "other" } else { "shop" };
            editor.is_refused(&world, "paris", json!({"spec": {what: value}}), "deployments", named).await;
        }
        // The check cannot be bypassed: metadata sent with a status update is not stored.
        let aside = Patch::Merge(at("2026-01-31T12:00:02Z"));
        admin.objects.patch_status("paris", &PatchParams::default(), &aside).await.expect("a status is written");
        let found = admin.objects.get("paris").await.unwrap().metadata.annotations.unwrap_or_default();
        assert_eq!(found.get(ASKED).map(String::as_str), Some("2026-01-31T12:00:00Z"));
        // Any user may withdraw the request.
        editor.is_taken("paris", json!({"metadata": {"annotations": {ASKED: null}}})).await;
        editor.is_taken("paris", mode("Suggest")).await;
        editor.is_refused(&world, "paris", mode("Restart"), "deployments", "shop").await;
        admin.is_taken("paris", mode("Restart")).await;
        editor.is_taken("paris", json!({"spec": {"remediation": null}})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_patch_the_workload_has_that_one_restarted_and_no_other() {
    let world = World::new("admit-owner").await;
    let policies = world.enforce().await;
    let owners = with(&world, "owner", patching(&["deployments", "statefulsets", "daemonsets"], &[])).await;
    let neighbours = with(&world, "neighbour", patching(&["deployments"], &["other"])).await;
    for (owner, neighbour) in owners.into_iter().zip(neighbours) {
        for (kind, resource) in
            [("Deployment", "deployments"), ("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets")]
        {
            let name = resource;
            let spec = json!({"workloadRef": workload(kind, "shop"), "remediation": {"mode": "Restart"}});
            let refused = refusal(neighbour.make(name, json!({"spec": spec})).await).unwrap();
            assert!(refused.contains(&format!("may not patch {resource}.apps \"shop\"")), "{refused}");
            owner.make(name, json!({"spec": spec})).await.expect("a user that may patch it may have it restarted");
            owner.is_taken(name, at("2026-01-31T12:00:00Z")).await;
            owner.is_taken(name, json!({"spec": {"remediation": {"strategy": "Pod"}}})).await;
            neighbour.is_refused(&world, name, at("2026-01-31T12:00:01Z"), resource, "shop").await;
            let other = json!({"spec": {"workloadRef": workload("Deployment", "other")}});
            neighbour.is_taken(name, other).await;
            neighbour.is_taken(name, at("2026-01-31T12:00:02Z")).await;
            let back = json!({"spec": {"workloadRef": workload(kind, "shop")}});
            neighbour.is_refused(&world, name, back, resource, "shop").await;
        }
    }
    // An agent's own unit is not a cluster object: every user that may edit the Connector may have it restarted.
    let [connectors, _] = Desk::of(&world, &policies.editor);
    let agent = json!({"agentRef": {"unit": "wg-gateway.service"}, "remediation": {"mode": "Restart"}});
    connectors.make("agent", json!({"spec": agent})).await.expect("an agent's unit needs no right");
    connectors.is_taken("agent", at("2026-01-31T12:00:00Z")).await;
    let swapped = json!({"spec": {"agentRef": null, "workloadRef": workload("Deployment", "shop")}});
    connectors.is_refused(&world, "agent", swapped, "deployments", "shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vigie_restart_says_which_right_is_missing() {
    let world = World::new("admit-cli").await;
    let _policies = world.enforce().await;
    let spec = json!({"workloadRef": workload("Deployment", "shop"), "remediation": {"mode": "Restart"}});
    world.create("paris", spec).await;
    let as_editor = world.file("editor.yaml", &world.kubeconfig_of("editor").await);
    let ran = world.vigie(&["restart", "connector", "paris", "--kubeconfig", as_editor.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains(":editor may not patch deployments.apps \"shop\""), "{ran:?}");
    assert!(ran.stderr.contains("by the annotation vigie.dev/restart-requested"), "{ran:?}");
    world.allow("editor", "now-he-may", json!([patching(&["deployments"], &["shop"])])).await;
    crate::support::eventually(crate::support::world::SOON, "he may, now", async || {
        let ran = world.vigie(&["restart", "connector", "paris", "--kubeconfig", as_editor.to_str().unwrap()]);
        if ran.code == 0 { Ok(()) } else { Err(format!("{ran:?}")) }
    })
    .await;
}
