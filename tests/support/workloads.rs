//! Workloads whose pods KWOK simulates, and the API server's record of their changes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::audit::Request;
use super::world::SOON;
use super::{World, eventually, text};

/// The annotation that a restart by the operator leaves in a template.
pub(crate) const ATTEMPT: &str = "vigie.dev/attempt";

impl World {
    /// Creates a Deployment whose pods run at once and that keeps all its ReplicaSets. Waits until it is rolled out.
    pub(crate) async fn deployment(&self, name: &str, replicas: i32) {
        let labels = json!({"app": name});
        let deployment: Deployment = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels}, "revisionHistoryLimit": 10_000,
            "template": {"metadata": {"labels": labels}, "spec": {
                "terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": "example.com/app:1"}],
            }},
        }}))
        .unwrap();
        self.api().create(&PostParams::default(), &deployment).await.expect("a Deployment is made");
        self.rolled_out(name).await;
    }

    /// Waits until every pod of a Deployment has its newest template and is available.
    pub(crate) async fn rolled_out(&self, name: &str) {
        eventually(SOON, &format!("Deployment {name} is rolled out"), async || {
            let found: Deployment = self.api().get(name).await.map_err(|error| error.to_string())?;
            let (spec, status) = (found.spec.unwrap_or_default(), found.status.unwrap_or_default());
            let wanted = spec.replicas.unwrap_or(1);
            let counts = [status.updated_replicas, status.replicas, status.available_replicas];
            let is_seen = status.observed_generation == found.metadata.generation;
            let is_done = is_seen && counts.iter().all(|count| count.unwrap_or(0) == wanted);
            is_done.then_some(()).ok_or_else(|| format!("{counts:?} of {wanted}"))
        })
        .await;
    }

    /// Every object of a kind by its name, with the attempt in the template of the Deployment of the same name.
    pub(crate) async fn with_attempts(&self, kind: Api<DynamicObject>) -> BTreeMap<String, (Value, Option<String>)> {
        let all = kind.list(&ListParams::default()).await.expect("objects are listed").items;
        let workloads = self.api::<Deployment>().list(&ListParams::default()).await.expect("Deployments are listed");
        let attempt = |of: &Deployment| {
            let template = &of.spec.as_ref()?.template;
            template.metadata.as_ref()?.annotations.as_ref()?.get(ATTEMPT).cloned()
        };
        let mut attempts: BTreeMap<String, Option<String>> =
            workloads.items.into_iter().map(|of| (of.name_any(), attempt(&of))).collect();
        let with_attempt = |one: DynamicObject| {
            let attempt = attempts.remove(&one.name_any()).flatten();
            (one.name_any(), (serde_json::to_value(one).expect("it is JSON"), attempt))
        };
        all.into_iter().map(with_attempt).collect()
    }

    /// Merges `patch` into a Deployment, as another client.
    pub(crate) async fn patch_deployment(&self, name: &str, patch: Value) {
        let done = self.api::<Deployment>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        done.unwrap_or_else(|error| panic!("patching Deployment {name}: {error}"));
    }

    /// The attempts in the templates of a Deployment, by its ReplicaSets: one for each restart by the operator that
    /// happened. The oldest first.
    pub(crate) async fn attempts_of(&self, name: &str) -> Vec<String> {
        let sets = self.api::<ReplicaSet>().list(&ListParams::default().labels(&format!("app={name}"))).await;
        let mut sets = sets.expect("ReplicaSets are listed").items;
        let revision = |set: &ReplicaSet| {
            let revision = set.annotations().get("deployment.kubernetes.io/revision");
            revision.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
        };
        sets.sort_by_key(revision);
        let attempt = |set: &ReplicaSet| {
            let template = set.spec.as_ref()?.template.as_ref()?;
            template.metadata.as_ref()?.annotations.as_ref()?.get(ATTEMPT).cloned()
        };
        sets.iter().filter_map(attempt).collect()
    }

    /// Every change of a workload that the operators requested, and evictions, by the audit log.
    pub(crate) fn touches(&self) -> Vec<Request> {
        let all = self.requests().into_iter().chain(self.requests_of_second());
        let kinds = ["deployments", "statefulsets", "daemonsets", "pods/eviction"];
        all.filter(|request| {
            kinds.contains(&&*request.resource) && ["patch", "update", "create"].contains(&&*request.verb)
        })
        .collect()
    }

    /// Waits until a Connector's `Remediating` has this reason.
    pub(crate) async fn remediating(&self, name: &str, reason: &str) -> Value {
        self.sees(SOON, name, &format!("Remediating is {reason}"), |seen| remediating(seen).1 == reason).await
    }
}

/// Status and reason of `Remediating`.
pub(crate) fn remediating(of: &Value) -> (&str, &str) {
    super::backends::condition(of, "Remediating")
}

/// The newest finished attempt.
pub(crate) fn last_attempt(of: &Value) -> &Value {
    of.pointer("/status/remediation/history/0").unwrap_or(&Value::Null)
}

/// The outcome of the newest attempt.
pub(crate) fn outcome(of: &Value) -> &str {
    text(last_attempt(of), "/outcome")
}
