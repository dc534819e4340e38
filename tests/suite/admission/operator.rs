//! The operator itself under the policies: they block none of its requests. And Helm's rendering of the policies.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{KINDS, workload, workloads};
use crate::remedies::{gateway, healthy, tunnel};
use crate::support::admission::{HEEDED, refusal};
use crate::support::audit::Request;
use crate::support::workloads::{ATTEMPT, last_attempt, outcome};
use crate::support::world::SOON;
use crate::support::{World, eventually, text};

/// The type warnings of Kubernetes for a ValidatingAdmissionPolicy. Kubernetes checks validations and does not check
/// variables: errors in variables fail the other tests.
async fn warnings(world: &World, name: &str) -> Vec<String> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    eventually(SOON, &format!("the types of {name} are checked"), async || {
        let found = policies.get(name).await.map_err(|error| error.to_string())?;
        let status = found.status.unwrap_or_default();
        let is_checked = status.observed_generation == found.metadata.generation;
        let checked = status.type_checking.filter(|_| is_checked).ok_or("not yet")?;
        let said = checked.expression_warnings.unwrap_or_default();
        Ok(said.into_iter().map(|warning| format!("{}: {}", warning.field_ref, warning.warning)).collect())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policies_are_checked_without_a_warning() {
    let world = World::new("admit-types").await;
    let policies = world.enforce().await;
    let names: Vec<String> = policies.all().await.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for name in names {
        let said = warnings(&world, &name).await;
        assert!(said.is_empty(), "{name}: {said:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_rendered_unless_the_server_says_that_it_has_none() {
    let world = World::new("admit-helm").await;
    let kind = ["--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"];
    // A real server lists all its kinds; this test passes one kind, and only this one.
    let asked = ["--api-versions", "v1/Pod"];
    let (off, on) = (["--set", "admissionPolicy.enabled=false"], ["--set", "admissionPolicy.enabled=true"]);
    for (how, is_rendered) in [
        (vec![], true),
        ([asked, kind].concat(), true),
        (asked.to_vec(), false),
        (off.to_vec(), false),
        ([asked, kind, off].concat(), false),
        ([asked, on].concat(), true),
    ] {
        let ran = world.rendered(&how);
        // Helm reports an error when no template is rendered.
        assert_eq!(ran.code == 0, is_rendered, "{how:?}: {ran:?}");
        assert!(is_rendered || ran.stderr.contains("could not find template"), "{how:?}: {ran:?}");
        assert_eq!(ran.stdout.matches("kind: ValidatingAdmissionPolicy\n").count(), if is_rendered { 6 } else { 0 });
    }
    let everywhere = world.rendered(&[]).ok();
    assert!(!everywhere.contains("namespaceSelector"), "without namespaces the policies match all: {everywhere}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_with_the_shipped_rights_does_all_of_its_work_under_the_policies() {
    let world = World::new("admit-operator").await;
    let _policies = world.enforce().await;
    let own: Pod = serde_json::from_value(json!({
        "metadata": {"name": "vigie-a", "annotations": {"cluster.vigie.dev/play": "here"}},
        "spec": {"containers": [{"name": "vigie", "image": "vigie:1"}]},
    }))
    .unwrap();
    world.api().create(&PostParams::default(), &own).await.expect("a pod is made");
    let flags = ["--brake-min", "1000", "--max-in-flight-per-site", "5", "--breaker-min", "1000"];
    let operator = world.replica_in("vigie-a", &flags).await;
    operator.hearing().await;
    eventually(SOON, "its pod is the leader's", async || {
        let found: Pod = world.api().get("vigie-a").await.map_err(|error| error.to_string())?;
        let role = found.labels().get("vigie.dev/role");
        if role.is_some() { Ok(()) } else { Err(format!("{:?}", found.labels())) }
    })
    .await;

    // Each kind of workload is restarted, and a token is created for each of these Connectors.
    for kind in KINDS {
        let name = kind.to_lowercase();
        workload(&world, kind, &name).await;
        world.kubectl(&["rollout", "status", kind, &name, "--timeout=60s"]).ok();
        let mut spec = gateway(&name, json!({"strategy": "Rollout"}));
        spec["workloadRef"]["kind"] = json!(kind);
        let connector = world.connector(&name, spec).await;
        connector.beat_with(operator.beats(), &tunnel("Pass"));
        world.state(SOON, &name, "Online").await;
        connector.beat_with(operator.beats(), &tunnel("Fail"));
        if kind == "DaemonSet" {
            // A DaemonSet is not rolled out automatically: the test requests it.
            world.vigie(&["restart", "connector", &name, "-n", &world.ns]).ok();
        }
        let is_restarted = |seen: &Value| text(seen, "/status/remediation/current/phase") == "Verifying";
        let seen = world.sees(SOON, &name, "it is restarted", is_restarted).await;
        assert!(last_attempt(&seen).is_null(), "at the first attempt: {seen:#}");
        let found = workloads(&world.client, &world.ns, kind).get(&name).await.unwrap();
        let attempt = &found.data["spec"]["template"]["metadata"]["annotations"][ATTEMPT];
        assert_eq!(Some(attempt), seen.pointer("/status/remediation/current/id"), "{seen:#}");
    }
    // One pod of three is evicted.
    let connector = healthy(&world, &operator, "paris", json!({})).await;
    world.patch_deployment("paris", json!({"spec": {"replicas": 3}})).await;
    world.rolled_out("paris").await;
    let pods = world.api::<Pod>().list(&ListParams::default().labels("app=paris")).await.unwrap().items;
    let mut beat = tunnel("Fail");
    beat["pod_uid"] = json!(pods[0].metadata.uid);
    connector.beat_with(operator.beats(), &beat);
    let is_evicted = |seen: &Value| text(seen, "/status/remediation/current/phase") == "Verifying";
    world.sees(SOON, "paris", "its pod is evicted", is_evicted).await;
    let token = world.installed("paris").await.token;
    world.vigie(&["token", "rotate", "paris", "-n", &world.ns]).ok();
    eventually(SOON, "its token is another", async || {
        if world.installed("paris").await.token == token { Err("the same".to_owned()) } else { Ok(()) }
    })
    .await;

    // The policies were checked with its token, too, through one object reserved for that.
    let of_ours = |request: &Request| request.name != HEEDED;
    let touched: Vec<_> = world.touches().into_iter().filter(of_ours).collect();
    assert!(touched.len() == 4 && touched.iter().all(Request::is_success), "{touched:#?}");
    let refused = world.requests().into_iter().filter(of_ours).filter(|request| request.code == 403);
    let refused: Vec<_> = refused.filter(|request| !request.reads_addresses()).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_breaker_opens_under_the_policies() {
    let world = World::new("admit-breaker").await;
    let _policies = world.enforce().await;
    let operator = world.operator(&["--brake-min", "1000", "--breaker-min", "2"]).await;
    let mut all = Vec::new();
    for number in 0..3 {
        all.push(healthy(&world, &operator, &format!("gw-{number}"), json!({"mode": "Suggest"})).await);
    }
    eventually(SOON, "the breaker is open", async || {
        for connector in &all {
            // Above its rate limit the beat is answered 429, and still counts.
            connector.try_beat(operator.beats(), &tunnel("Fail"));
        }
        let found = world.api::<ConfigMap>().get("vigie-breaker").await.map_err(|error| error.to_string())?;
        let state = found.data.as_ref().and_then(|data| data.get("state")).cloned().unwrap_or_default();
        if state == "Open" { Ok(()) } else { Err(format!("{:?}", found.data)) }
    })
    .await;
}

/// A mutating policy that adds a label to each workload that vigie changes in this namespace, within the same request.
fn labelling(world: &World) -> [Value; 2] {
    let name = format!("labelling-{}", world.ns);
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": world.ns}});
    let vigie = format!("request.userInfo.username == 'system:serviceaccount:{}:vigie'", world.ns);
    let label = "Object{metadata: Object.metadata{labels: {'istio.io/seen': 'yes'}}}";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {"namespaceSelector": here, "resourceRules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"],
            }]},
            "matchConditions": [{"name": "by-vigie", "expression": vigie}],
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": label}}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name},
    });
    [policy, binding]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_somebody_adds_a_label_to_is_refused_in_the_policys_words() {
    let world = World::new("admit-added").await;
    let policies = world.enforce().await;
    let operator = world.operator(&["--brake-min", "1000"]).await;
    let connector = healthy(&world, &operator, "paris", json!({})).await;
    policies.beside(&labelling(&world));
    let dry = PatchParams { dry_run: true, ..Default::default() };
    let restart = Patch::Merge(json!({"spec": {"template": {"metadata": {"annotations": {ATTEMPT: "a1"}}}}}));
    eventually(SOON, "the label is added", async || {
        refusal(policies.ours::<Deployment>().patch("paris", &dry, &restart).await)
    })
    .await;
    connector.beat_with(operator.beats(), &tunnel("Fail"));
    let seen = world.sees(SOON, "paris", "an outcome", |seen| !outcome(seen).is_empty()).await;
    assert_eq!(outcome(&seen), "Refused", "{seen:#}");
    let said = text(last_attempt(&seen), "/message");
    assert!(said.contains("and nothing else; this would change metadata.labels"), "{said}");
    assert!(world.attempts_of("paris").await.is_empty(), "nothing was restarted");
}
