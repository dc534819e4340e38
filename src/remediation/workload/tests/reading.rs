use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use serde::de::DeserializeOwned;

use super::super::budgets::protection;
use super::super::kinds::RestartableKind;
use super::*;

fn of<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of this kind")
}

async fn seen(fake: &Fake, own_pod: Option<&OwnPod>) -> WorkloadLookup {
    read(&fake.client(), "ns", &web(WorkloadKind::Deployment), own_pod).await
}

#[track_caller]
fn found(lookup: WorkloadLookup) -> Workload {
    let WorkloadLookup::Found(workload) = lookup else { panic!("{lookup:?}") };
    *workload
}

#[tokio::test]
async fn a_deployment_is_read_with_its_templates_and_its_own_pods() {
    let fake = server();
    let workload = found(seen(&fake, None).await);
    assert_eq!(
        (workload.display_name.as_str(), workload.uid.as_str(), workload.generation),
        ("Deployment ns/web", "d1", 4)
    );
    assert_eq!((workload.replicas, workload.progress_deadline), (3, Some(600)));
    assert_eq!(workload.rollout, Rollout::Complete);
    assert_eq!((workload.template.attempt.as_deref(), workload.template.attempts.len()), (None, 1));
    assert_eq!(workload.template.attempts, ["a-1"]);
    assert_eq!(workload.template.since, Some("2026-11-20T00:00:03Z".parse().unwrap()));
    assert!(!workload.template.is_stripped && workload.template.revisions_unread.is_none());
    let pods: Vec<_> = workload
        .pods
        .iter()
        .map(|pod| (pod.name.as_str(), pod.uid.as_str(), pod.is_ready, pod.is_terminating))
        .collect();
    assert_eq!(pods, [("web-2-y", "uid-web-2-y", false, true), ("web-3-x", "uid-web-3-x", true, false)]);
    // The two lists go side by side.
    let mut asked = fake.take_log();
    asked.sort();
    assert_eq!(
        asked,
        [
            "GET /api/v1/namespaces/ns/pods?&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed\
             &labelSelector=app%3Dweb&limit=50",
            "GET /apis/apps/v1/namespaces/ns/deployments/web",
            "GET /apis/apps/v1/namespaces/ns/replicasets?&labelSelector=app%3Dweb&limit=100",
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_told_with_the_permission() {
    let fake = server();
    fake.put(DEPLOYMENT, Value::Null);
    assert_eq!(seen(&fake, None).await, WorkloadLookup::Absent);

    let fake = server();
    for (part, permission) in [("deployments", "get deployments.apps"), ("pods", "list pods")] {
        fake.set_mode(Mode::Forbids(part));
        let sentence = format!(
            "RBAC does not allow to {permission} in namespace ns (check: kubectl auth can-i {permission} -n ns)"
        );
        assert_eq!(seen(&fake, None).await, WorkloadLookup::Forbidden(sentence));
    }
    fake.set_mode(Mode::Refuses(500, "InternalError"));
    let WorkloadLookup::Failed(why) = seen(&fake, None).await else { panic!() };
    assert!(why.starts_with("reading Deployment ns/web: the API server is unavailable"), "{why}");
}

#[tokio::test]
async fn without_its_replica_sets_only_the_present_template_is_known_and_pods_go_by_the_selector() {
    let fake = server();
    fake.put(DEPLOYMENT, deployment(json!({"vigie.dev/attempt": "a-9"})));
    fake.set_mode(Mode::Forbids("replicasets"));
    let workload = found(seen(&fake, None).await);
    let unread = workload.template.revisions_unread.unwrap();
    assert!(unread.contains("list replicasets.apps in namespace ns"), "{unread}");
    assert_eq!((workload.template.attempts.as_slice(), workload.template.since), (&["a-9".to_owned()][..], None));
    assert_eq!(workload.pods.len(), 3);
}

#[tokio::test]
async fn our_own_workload_is_known_by_the_name_of_our_pod() {
    let fake = server();
    for (namespace, pod, is_ours) in
        [("ns", "web-3-x", true), ("ns", "website-1-x", false), ("ns", "web", false), ("other", "web-3-x", false)]
    {
        let own_pod = OwnPod { namespace: namespace.to_owned(), pod: pod.to_owned() };
        assert_eq!(found(seen(&fake, Some(&own_pod)).await).is_vigie, is_ours, "{namespace}/{pod}");
    }
    assert!(!found(seen(&fake, None).await).is_vigie);
}

#[tokio::test]
async fn the_other_kinds_are_read_with_their_revisions() {
    let fake = Fake::new();
    let set = |kind: &str| {
        json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "s1", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {}},
            "status": {
                "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
                "desiredNumberScheduled": 1, "currentNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 1,
                "updatedNumberScheduled": 1, "numberAvailable": 1,
            },
            "kind": kind,
        })
    };
    fake.put("/apis/apps/v1/namespaces/ns/statefulsets/web", set("StatefulSet"));
    fake.put("/apis/apps/v1/namespaces/ns/daemonsets/web", set("DaemonSet"));
    let mut revisions = revision("web-a", 1, template("", "db:1", json!({"vigie.dev/attempt": "a-2"})));
    revisions["metadata"]["labels"] = json!({"app": "web"});
    fake.put("/apis/apps/v1/namespaces/ns/controllerrevisions/web-a", revisions);
    fake.put("/api/v1/namespaces/ns/pods/web-0", pod("web-0", "StatefulSet", "s1"));
    for (kind, display_name) in
        [(WorkloadKind::StatefulSet, "StatefulSet ns/web"), (WorkloadKind::DaemonSet, "DaemonSet ns/web")]
    {
        let workload = found(read(&fake.client(), "ns", &web(kind), None).await);
        assert_eq!((workload.display_name.as_str(), &workload.rollout), (display_name, &Rollout::Complete));
        assert_eq!((workload.replicas, workload.progress_deadline), (1, None));
        assert_eq!((workload.template.attempts.as_slice(), workload.pods.len()), (&["a-2".to_owned()][..], 1));
        assert_eq!(workload.is_daemon_set, kind == WorkloadKind::DaemonSet);
    }
}

/// The Deployment of [`deployment`], with another status, spec or metadata.
fn changed(reader: &str, changes: Value) -> Workload {
    let mut object = deployment(json!({}));
    for (key, value) in changes.as_object().expect("changes are an object") {
        object[reader][key] = value.clone();
    }
    of::<Deployment>(object).workload(&[])
}

fn progressing(reason: &str) -> Value {
    json!([{"type": "Progressing", "status": "True", "reason": reason}])
}

#[test]
fn the_rollout_of_a_deployment_is_judged_as_kubectl_judges_it() {
    let under_way = |figures: &str| Rollout::InProgress(figures.to_owned());
    let cases = [
        (json!({}), Rollout::Complete),
        (json!({"observedGeneration": 3}), under_way("its controller has not seen the newest spec yet")),
        (json!({"updatedReplicas": 2}), under_way("2 of 3 replicas have the newest template")),
        (json!({"replicas": 4}), under_way("1 replicas with an old template are left")),
        (
            json!({"availableReplicas": 1, "conditions": progressing("ReplicaSetUpdated")}),
            under_way("1 of 3 replicas are available"),
        ),
        // The rollout was complete: these replicas are unhealthy, not new.
        (json!({"availableReplicas": 1}), Rollout::Unavailable("1 of 3 replicas are available".to_owned())),
        (
            json!({"availableReplicas": null, "conditions": []}),
            Rollout::Unavailable("0 of 3 replicas are available".to_owned()),
        ),
        (
            json!({"updatedReplicas": 1, "conditions": [{
                "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                "message": "ReplicaSet \"web-3\" has timed out progressing.",
            }]}),
            Rollout::Failed("ReplicaSet \"web-3\" has timed out progressing.".to_owned()),
        ),
    ];
    for (status, want) in cases {
        assert_eq!(changed("status", status.clone()).rollout, want, "{status}");
    }
}

#[test]
fn what_would_hold_a_restart_back_is_seen() {
    assert!(changed("spec", json!({"paused": true})).is_paused);
    assert_eq!(changed("spec", json!({"replicas": 0})).replicas, 0);
    assert_eq!(changed("spec", json!({"progressDeadlineSeconds": i32::MAX})).progress_deadline, None);
    assert!(changed("metadata", json!({"deletionTimestamp": "2026-11-20T00:00:00Z"})).is_terminating);
    let owned = |is_controller: bool| {
        let reference =
            json!({"apiVersion": "x/v1", "kind": "Rollout", "name": "shop", "uid": "r", "controller": is_controller});
        changed("metadata", json!({"ownerReferences": [reference]})).controller
    };
    assert_eq!((owned(true).as_deref(), owned(false)), (Some("Rollout shop"), None));
}

#[test]
fn the_rollout_of_a_stateful_set_is_judged_by_its_partition() {
    let set = |strategy: Value, updated: i32, replicas: i32, available: i32, observed: i64| {
        let set: StatefulSet = of(json!({
            "metadata": {"name": "db", "namespace": "ns", "uid": "s1", "generation": 2},
            "spec": {"replicas": 3, "selector": {}, "template": {}, "updateStrategy": strategy},
            "status": {
                "observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated,
                "availableReplicas": available, "readyReplicas": available,
            },
        }));
        let workload = set.workload(&[]);
        (workload.rollout, workload.is_on_delete)
    };
    let rolling = |partition: i32| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
    let (under_way, ill) =
        (|words: &str| Rollout::InProgress(words.to_owned()), |words: &str| Rollout::Unavailable(words.to_owned()));
    for (seen, want) in [
        (set(rolling(0), 3, 3, 3, 2), Rollout::Complete),
        (set(rolling(0), 3, 3, 3, 1), under_way("its controller has not seen the newest spec yet")),
        (set(rolling(0), 1, 3, 3, 2), under_way("1 of 3 replicas have the newest template")),
        (set(rolling(2), 1, 3, 3, 2), Rollout::Complete),
        (set(rolling(2), 0, 3, 3, 2), under_way("0 of 1 replicas have the newest template")),
        (set(rolling(0), 3, 4, 3, 2), under_way("4 replicas exist, not 3")),
        (set(rolling(0), 3, 3, 2, 2), ill("2 of 3 replicas are available")),
    ] {
        assert_eq!(seen, (want, false));
    }
    assert_eq!(set(json!({"type": "OnDelete"}), 0, 3, 3, 2), (Rollout::Complete, true));
}

#[test]
fn the_rollout_of_a_daemon_set_counts_nodes() {
    let set = |strategy: &str, updated: i32, available: i32, observed: i64| {
        let set: DaemonSet = of(json!({
            "metadata": {"name": "agent", "namespace": "ns", "uid": "s1", "generation": 2},
            "spec": {"selector": {}, "template": {}, "updateStrategy": {"type": strategy}},
            "status": {
                "observedGeneration": observed, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
                "numberMisscheduled": 0, "numberReady": available, "updatedNumberScheduled": updated,
                "numberAvailable": available,
            },
        }));
        let workload = set.workload(&[]);
        assert_eq!((workload.replicas, workload.is_daemon_set), (3, true));
        (workload.rollout, workload.is_on_delete)
    };
    assert_eq!(set("RollingUpdate", 3, 3, 2), (Rollout::Complete, false));
    let unseen = "its controller has not seen the newest spec yet".to_owned();
    assert_eq!(set("RollingUpdate", 3, 3, 1).0, Rollout::InProgress(unseen));
    let behind = "1 of 3 replicas have the newest template".to_owned();
    assert_eq!(set("RollingUpdate", 1, 3, 2).0, Rollout::InProgress(behind));
    assert_eq!(set("RollingUpdate", 3, 2, 2).0, Rollout::Unavailable("2 of 3 replicas are available".to_owned()));
    assert_eq!(set("OnDelete", 0, 3, 2), (Rollout::Complete, true));
}

fn ours(id: &str) -> Value {
    json!({"vigie.dev/attempt": id, "kubectl.kubernetes.io/restartedAt": "2026-11-20T00:00:02Z"})
}

#[test]
fn an_annotation_of_ours_that_was_taken_away_is_recognised() {
    let with = |observed: i64, sets: [(&str, Value); 2]| {
        let mut object = deployment(json!({}));
        object["status"]["observedGeneration"] = observed.into();
        let sets = sets.map(|(number, template)| of::<ReplicaSet>(replica_set("web-x", number, template)));
        of::<Deployment>(object).workload(&sets).template
    };
    let plain = || template("a", "shop:1", json!({}));
    let stripped = with(4, [("3", plain()), ("2", template("b", "shop:1", ours("a-1")))]);
    assert!(stripped.is_stripped && stripped.attempt.is_none());
    assert_eq!(stripped.attempts, ["a-1"]);
    // Only the attempt's annotation was removed, not kubectl's.
    let only_ours = template("c", "shop:1", json!({"kubectl.kubernetes.io/restartedAt": "2026-11-20T00:00:02Z"}));
    assert!(with(4, [("3", only_ours), ("2", template("b", "shop:1", ours("a-1")))]).is_stripped);
    // Something else changed as well; the one before was none of ours; the newest is not seen yet.
    assert!(
        !with(4, [("3", template("a", "shop:2", json!({}))), ("2", template("b", "shop:1", ours("a-1")))]).is_stripped
    );
    let kubectl = json!({"kubectl.kubernetes.io/restartedAt": "2026-11-20T00:00:02Z"});
    assert!(!with(4, [("3", plain()), ("2", template("b", "shop:1", kubectl))]).is_stripped);
    let unseen = with(3, [("3", plain()), ("2", template("b", "shop:1", ours("a-1")))]);
    assert_eq!((unseen.is_stripped, unseen.since, unseen.attempts.len()), (false, None, 1));
}

#[test]
fn our_own_restart_is_not_stripped_and_its_attempt_is_known_once() {
    let sets = [
        of::<ReplicaSet>(replica_set("web-2", "2", template("a", "shop:1", ours("a-1")))),
        of(replica_set("web-3", "3", template("b", "shop:1", ours("a-2")))),
    ];
    let template = of::<Deployment>(deployment(ours("a-2"))).workload(&sets).template;
    assert_eq!((template.attempt.as_deref(), template.is_stripped), (Some("a-2"), false));
    assert_eq!(template.attempts, ["a-2", "a-1"]);
}

fn revision(name: &str, number: i64, template: Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "ns", "ownerReferences": owner("StatefulSet", "s1"),
            "creationTimestamp": format!("2026-11-20T00:00:0{}Z", if name == "web-a" { 1 } else { 2 }),
        },
        "revision": number,
        "data": {"spec": {"template": template}},
    })
}

#[test]
fn a_stateful_set_that_was_rolled_back_or_stripped_is_read_from_its_revisions() {
    let of_revisions = |revisions: [Value; 2], update: &str| {
        let set: StatefulSet = of(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "s1", "generation": 2},
            "spec": {"selector": {}, "template": {}},
            "status": {"observedGeneration": 2, "replicas": 1, "updateRevision": update},
        }));
        set.workload(&revisions.map(of::<ControllerRevision>)).template
    };
    // Ours came second; what took it away went back to the first, which has the highest number since, and its old age.
    let first = |number| revision("web-a", number, template("", "db:1", json!({})));
    let second = || revision("web-b", 2, template("", "db:1", ours("a-1")));
    let stripped = of_revisions([first(3), second()], "web-a");
    assert!(stripped.is_stripped);
    assert_eq!((stripped.since, stripped.attempts.as_slice()), (None, &["a-1".to_owned()][..]));
    let restarted = of_revisions([first(1), second()], "web-b");
    assert_eq!((restarted.is_stripped, restarted.since), (false, Some("2026-11-20T00:00:02Z".parse().unwrap())));
}

fn budget(name: &str, spec: Value, allowed: i32, healthy: i32) -> PodDisruptionBudget {
    let mut spec = spec;
    if spec.get("selector").is_none() {
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
    }
    of(json!({
        "metadata": {"name": name, "generation": 2},
        "spec": spec,
        "status": {
            "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": 2, "expectedPods": 3,
            "observedGeneration": 2,
        },
    }))
}

#[test]
fn a_pod_is_protected_as_the_api_server_protects_it() {
    let labels = [("app".to_owned(), "web".to_owned())];
    let ready = Pod { is_ready: true, labels: labels.into(), ..Pod::default() };
    let ill = Pod { is_ready: false, ..ready.clone() };
    let none = json!({});
    let exhausted = Some("its disruption budget b needs 2 healthy pods, and 2 are".to_owned());
    let broken = Some("its disruption budget b needs 2 healthy pods, and 1 are".to_owned());
    let always = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
    for (pod, budgets, want) in [
        (&ready, vec![], None),
        (&ready, vec![budget("b", none.clone(), 1, 3)], None),
        (&ready, vec![budget("b", none.clone(), 0, 2)], exhausted),
        // Not ready: it may be evicted while the other pods meet the budget, or always with AlwaysAllow.
        (&ill, vec![budget("b", none.clone(), 0, 2)], None),
        (&ill, vec![budget("b", none.clone(), 0, 1)], broken.clone()),
        (&ill, vec![budget("b", always.clone(), 0, 1)], None),
        (&ready, vec![budget("b", always, 0, 1)], broken),
        (&ready, vec![budget("b", json!({"selector": {"matchLabels": {"app": "db"}}}), 0, 1)], None),
        (&ready, vec![budget("b", json!({"selector": null}), 0, 1)], None),
        (&Pod { is_terminating: true, ..ready.clone() }, vec![budget("b", none.clone(), 0, 1)], None),
    ] {
        assert_eq!(protection(pod, &budgets), want, "{pod:?} {budgets:?}");
    }
    let everything = budget("b", json!({"selector": {}}), 0, 1);
    assert!(protection(&ready, &[everything]).is_some());
    let mut unseen = budget("b", none.clone(), 3, 3);
    unseen.status.as_mut().unwrap().observed_generation = Some(1);
    let unseen = protection(&ready, &[unseen]).unwrap();
    assert_eq!(unseen, "its disruption budget b was changed, and is not worked out yet");
    let both = protection(&ill, &[budget("b", none.clone(), 3, 3), budget("c", none, 3, 3)]).unwrap();
    assert_eq!(both, "the disruption budgets b and c both select it, and the API server evicts no such pod");
}

#[tokio::test]
async fn budgets_are_read_when_asked_for_and_missed_without_harm() {
    let fake = server();
    let mut workload = found(seen(&fake, None).await);
    let path = "/apis/policy/v1/namespaces/ns/poddisruptionbudgets/b";
    fake.put(path, serde_json::to_value(budget("b", json!({}), 0, 2)).unwrap());
    fake.take_log();
    assert_eq!(protect(&fake.client(), "ns", &mut workload).await, None);
    assert_eq!(fake.take_log(), ["GET /apis/policy/v1/namespaces/ns/poddisruptionbudgets?&limit=500"]);
    let protected_by: Vec<_> = workload.pods.iter().map(|pod| pod.protected_by.is_some()).collect();
    assert_eq!(protected_by, [false, true]);

    let mut workload = found(seen(&fake, None).await);
    fake.set_mode(Mode::Forbids("poddisruptionbudgets"));
    let why = protect(&fake.client(), "ns", &mut workload).await.unwrap();
    assert!(why.contains("list poddisruptionbudgets.policy in namespace ns"), "{why}");
    assert!(workload.pods.iter().all(|pod| pod.protected_by.is_none()));
}
