//! The operator's permissions, and whether they suffice. Every other test runs with the Roles of
//! `config/rbac/namespaced.yaml`, so a missing rule fails these tests; an unused rule fails `tests/rights`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::remedies::{gateway, healthy, tunnel};
use crate::support::backends::{condition, probed};
use crate::support::cluster::Cluster;
use crate::support::http::get_as;
use crate::support::operator::free_port;
use crate::support::rights::{namespaced, of_the_cluster, of_the_leader};
use crate::support::workloads::ATTEMPT;
use crate::support::world::SOON;
use crate::support::{World, eventually, quick, text};

/// ClusterRoles that no Role can replace, and the reason.
const NOT_IN_A_NAMESPACE: [(&str, &str); 4] = [
    ("vigie-evidence-cluster", "nodes, and namespaces that are not watched"),
    ("vigie-evidence-prometheus", "belongs in the namespace of Prometheus"),
    ("vigie-networks", "nodes, ServiceCIDRs and a namespace that is not watched"),
    ("vigie-admin-auth", "reviews live in no namespace"),
];

#[test]
fn a_role_has_the_same_rules_in_a_namespace_and_in_the_cluster() {
    let ours = namespaced().into_iter().map(|role| (role.name_any(), role.rules.unwrap_or_default()));
    let ours: BTreeMap<String, Vec<PolicyRule>> = ours.collect();
    let cluster = of_the_cluster().into_iter().map(|role| (role.name_any(), role.rules.unwrap_or_default()));
    let leader = of_the_leader();
    let mut theirs: BTreeMap<_, _> = cluster.chain([(leader.name_any(), leader.rules.unwrap_or_default())]).collect();
    for (name, why) in NOT_IN_A_NAMESPACE {
        assert!(theirs.remove(name).is_some(), "{name} ({why}) is not in cluster.yaml any more");
    }
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_of_the_whole_cluster_is_refused_nothing() {
    let cluster = Cluster::private("rights");
    let world = World::on(cluster, "rights").await;
    world.exchange_rights_for_those_of_the_cluster().await;
    let operator = world.operator_of_all_namespaces(&["--admin-auth", "kubernetes"]).await;
    let edge = world.connector("edge-1", quick()).await;
    edge.beat(operator.beats());
    world.state(SOON, "edge-1", "Online").await;
    let lease = json!({"heartbeat": {"source": "Lease", "leaseName": "edge-2"}});
    world.create("edge-2", lease).await;
    world.backend("shop", json!({"target": {"service": {"name": "shop", "port": 80}}})).await;
    let stranger = world.account_token("vigie").await;
    assert_eq!(get_as(operator.admin(), "/metrics", Some(&stranger)).unwrap().status, 403);

    // The rules that no test in a namespace can use.
    let mut wanted = BTreeSet::from([
        ("list", "nodes"),
        ("list", "servicecidrs"),
        ("list", "endpointslices"),
        ("create", "tokenreviews"),
        ("create", "subjectaccessreviews"),
        // Some rules that a namespace test can use, here for the whole cluster.
        ("watch", "connectors"),
        ("watch", "monitoredbackends"),
        ("watch", "leases"),
        ("watch", "configmaps"),
        ("create", "secrets"),
        ("get", "services"),
        ("update", "connectors/status"),
        ("update", "monitoredbackends/status"),
    ]);
    eventually(SOON, "it used all of these rights", async || {
        // Requests for absent objects count, too.
        let seen: Vec<_> = world.requests().into_iter().filter(|request| request.code != 403).collect();
        wanted.retain(|(verb, resource)| !seen.iter().any(|seen| seen.verb == *verb && seen.resource == *resource));
        if wanted.is_empty() { Ok(()) } else { Err(format!("{wanted:?}")) }
    })
    .await;
    let refused: Vec<_> = world.requests().into_iter().filter(|request| request.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// A workload of this kind, whose pods run at once and take their environment from the ConfigMap `settings`.
fn workload(world: &World, kind: &str, name: &str) {
    let labels = json!({"app": name});
    let mut workload = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "app", "image": "example.com/app:1", "envFrom": [{"configMapRef": {"name": "settings"}}],
            }],
        }}},
    });
    if kind == "StatefulSet" {
        workload["spec"]["serviceName"] = json!(name);
    }
    let file = world.file(&format!("{name}.json"), &workload.to_string());
    world.kubectl(&["apply", "-f", file.to_str().unwrap()]).ok();
    world.kubectl(&["rollout", "status", kind, name, "--timeout=60s"]).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_workload_is_restarted_with_the_rights_that_we_ship() {
    let world = World::new("kinds").await;
    let operator = world.operator(&["--brake-min", "1000", "--max-in-flight-per-site", "2"]).await;
    for (kind, name) in [("StatefulSet", "db"), ("DaemonSet", "agent")] {
        workload(&world, kind, name);
        // A DaemonSet is not rolled out automatically: the test requests it.
        let mut spec = gateway(name, json!({"strategy": "Rollout"}));
        spec["workloadRef"]["kind"] = json!(kind);
        let connector = world.connector(name, spec).await;
        connector.beat_with(operator.beats(), &tunnel("Pass"));
        world.state(SOON, name, "Online").await;
        connector.beat_with(operator.beats(), &tunnel("Fail"));
        if kind == "DaemonSet" {
            let ran = world.vigie(&["restart", "connector", name, "-n", &world.ns]);
            assert_eq!(ran.code, 0, "{ran:?}");
        }
        let verified = |seen: &Value| text(seen, "/status/remediation/current/phase") == "Verifying";
        let seen = world.sees(SOON, name, "it is verified", verified).await;
        let at = format!("jsonpath={{.spec.template.metadata.annotations.{}}}", ATTEMPT.replace('.', "\\."));
        let attempt = world.kubectl(&["get", kind, name, "-o", &at]).ok();
        assert_eq!(attempt, text(&seen, "/status/remediation/current/id"), "{seen:#}");
    }
    assert_eq!(world.touches().len(), 2, "{:#?}", world.touches());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diagnosis_misses_nothing_with_the_rights_that_we_ship() {
    let world = World::new("evidence").await;
    let settings = json!({"metadata": {"name": "settings"}, "data": {"MANAGEMENT_SERVER_PORT": "8081"}});
    let settings: ConfigMap = serde_json::from_value(settings).unwrap();
    world.api().create(&PostParams::default(), &settings).await.expect("a ConfigMap is made");
    workload(&world, "Deployment", "shop");
    let _operator = world.operator(&["--allow-network", "127.0.0.0/8"]).await;
    let mut spec = probed(&format!("http://127.0.0.1:{}/metrics", free_port()), json!({}));
    spec["workloadRef"] = json!({"kind": "Deployment", "name": "shop"});
    world.backend("shop", spec).await;
    let is_down = |found: &Value| text(found, "/status/state") == "Down" && found["status"]["diagnosis"].is_object();
    world.sees_backend(SOON, "shop", "Down, with a diagnosis", is_down).await;
    let mut wanted = BTreeSet::from(["configmaps", "events", "networkpolicies", "pods", "replicasets", "deployments"]);
    eventually(SOON, "it used all of these rights", async || {
        let seen = world.requests();
        wanted.retain(|resource| !seen.iter().any(|request| request.resource == *resource && request.is_success()));
        if wanted.is_empty() { Ok(()) } else { Err(format!("{wanted:?}")) }
    })
    .await;
    // The cluster's own addresses and its nodes need cluster rights; the log or the diagnosis names them as refused.
    let refused: Vec<_> =
        world.requests().into_iter().filter(|request| request.code == 403 && !request.reads_addresses()).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_that_was_reset_opens_again() {
    let world = World::new("breaker-again").await;
    let reset = json!({"metadata": {"name": "vigie-breaker"}, "data": {
        "state": "Closed", "openedTime": "2026-01-01T00:00:00Z", "resetTime": "2026-01-01T01:00:00Z",
        "reason": "most were sick", "resetBy": "somebody",
    }});
    let reset: ConfigMap = serde_json::from_value(reset).unwrap();
    world.api().create(&PostParams::default(), &reset).await.expect("a ConfigMap is made");
    let operator = world.operator(&["--brake-min", "1000"]).await;
    let mut all = Vec::new();
    for number in 0..5 {
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
    assert!(world.touches().is_empty(), "{:#?}", world.touches());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_whose_status_cannot_be_read_is_said_to_be_so() {
    let world = World::new("unreadable").await;
    world.backend("shop", json!({"target": {"service": {"name": "shop", "port": 80}}})).await;
    // A time that matches the schema and does not exist.
    let start = "2026-01-01T00:00:00+90:00";
    let attempts = json!({"attempts": 3, "startTime": start});
    let broken = Patch::Merge(json!({"status": {"remediation": {"ledger": attempts}}}));
    world.backends().patch_status("shop", &PatchParams::default(), &broken).await.expect("a status is written");
    let _operator = world.operator(&[]).await;
    let seen = world
        .sees_backend(SOON, "shop", "the status is reported as unreadable", |found| {
            condition(found, "Stalled").1 == "UnreadableStatus"
        })
        .await;
    assert_eq!(text(&seen, "/status/state"), "Unknown", "{seen:#}");
    let ledger = seen.pointer("/status/remediation/ledger");
    assert_eq!(ledger, Some(&attempts), "a budget that cannot be read is not reset: {seen:#}");
}
