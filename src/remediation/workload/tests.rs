use std::time::Duration;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use super::*;
use crate::api::{WorkloadKind, WorkloadRef};
use crate::cluster::fake::{Fake, Mode};
use crate::leadership::{Leadership, Role, WritePermit};
use crate::remediation::{Pod, Rollout, Workload, WorkloadLookup};
use crate::time::Clock;

mod acting;
mod reading;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/ns/deployments/web";

fn web(kind: WorkloadKind) -> WorkloadRef {
    WorkloadRef { kind, name: "web".to_owned() }
}

fn permit(clock: Clock, lasts: Duration) -> WritePermit {
    let now = clock.now();
    let leader = Leadership { role: Role::Leader, write_until: now + lasts, ..Leadership::follower() };
    leader.permit(now).unwrap()
}

/// A Deployment of three replicas whose newest template is everywhere, with `annotations` in that.
fn deployment(annotations: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "ns", "uid": "d1", "generation": 4,
            "annotations": {"deployment.kubernetes.io/revision": "3"},
        },
        "spec": {
            "replicas": 3, "progressDeadlineSeconds": 600, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}, "annotations": annotations}},
        },
        "status": {
            "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
        },
    })
}

fn owner(kind: &str, uid: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": uid, "controller": true}])
}

fn replica_set(name: &str, number: &str, template: Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "labels": {"app": "web"},
            "creationTimestamp": format!("2026-11-20T00:00:0{number}Z"),
            "annotations": {"deployment.kubernetes.io/revision": number},
            "ownerReferences": owner("Deployment", "d1"),
        },
        "spec": {"selector": {}, "template": template},
    })
}

fn template(hash: &str, image: &str, annotations: Value) -> Value {
    json!({
        "metadata": {"labels": {"app": "web", "pod-template-hash": hash}, "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": image}]},
    })
}

fn pod(name: &str, owner_kind: &str, owner_uid: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "labels": {"app": "web"},
            "ownerReferences": owner(owner_kind, owner_uid),
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A server with a Deployment that was restarted by an attempt (revision 2), then changed by another party (revision 3), its
/// pods, and a pod of another owner.
fn server() -> Fake {
    let fake = Fake::new();
    fake.put(DEPLOYMENT, deployment(json!({"team": "a"})));
    let ours = json!({"vigie.dev/attempt": "a-1", "kubectl.kubernetes.io/restartedAt": "2026-11-20T00:00:02Z"});
    let sets = "/apis/apps/v1/namespaces/ns/replicasets";
    fake.put(&format!("{sets}/web-2"), replica_set("web-2", "2", template("b", "shop:1", ours)));
    fake.put(&format!("{sets}/web-3"), replica_set("web-3", "3", template("c", "shop:2", json!({"team": "a"}))));
    let pods = "/api/v1/namespaces/ns/pods";
    fake.put(&format!("{pods}/web-3-x"), pod("web-3-x", "ReplicaSet", "uid-web-3"));
    let mut going = pod("web-2-y", "ReplicaSet", "uid-web-2");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-20T00:01:00Z");
    going["status"]["conditions"][0]["status"] = json!("False");
    fake.put(&format!("{pods}/web-2-y"), going);
    fake.put(&format!("{pods}/stray"), pod("stray", "ReplicaSet", "uid-other"));
    fake
}
