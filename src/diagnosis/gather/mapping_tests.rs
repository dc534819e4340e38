//! Objects as `kubectl get -o json` prints them, and the resulting evidence.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{self, Event};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::variables::ConfigMaps;
use super::{events, pods, service, workload};
use crate::diagnosis::evidence::Pod;

fn of<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

pub(super) fn crashing() -> Value {
    json!({
        "metadata": {
            "name": "web-6c9-x", "namespace": "shop", "uid": "p1", "creationTimestamp": "2026-11-22T10:00:00Z",
            "labels": {"app": "web", "pod-template-hash": "6c9"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6c9", "uid": "rs2"}],
        },
        "spec": {
            "nodeName": "node-1",
            "initContainers": [{"name": "wait", "image": "busybox"}],
            "containers": [{
                "name": "app", "image": "shop:2",
                "ports": [
                    {"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"},
                ],
                "resources": {"limits": {"memory": "20Mi"}},
                "startupProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5, "failureThreshold": 60},
                "env": [{"name": "SERVER_PORT", "value": "8080"}],
            }],
        },
        "status": {
            "phase": "Running", "podIP": "192.0.2.10", "podIPs": [{"ip": "192.0.2.10"}, {"ip": "2001:db8::10"}],
            "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}],
            "initContainerStatuses": [{
                "name": "wait", "image": "busybox", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": null, "finishedAt": null}},
            }],
            "containerStatuses": [{
                "name": "app", "image": "shop:2", "imageID": "", "ready": false, "started": false, "restartCount": 7,
                "state": {"waiting": {
                    "reason": "CrashLoopBackOff",
                    "message": "back-off 5m0s restarting failed container=app pod=web-6c9-x_shop(p1)",
                }},
                "lastState": {"terminated": {
                    "exitCode": 137, "reason": "OOMKilled",
                    "startedAt": "2026-11-22T10:10:00Z", "finishedAt": "2026-11-22T10:10:20Z",
                    "message": "the last words",
                }},
            }],
        },
    })
}

fn pod(json: Value) -> Pod {
    pods::pod(&of(json), &ConfigMaps::new())
}

#[test]
fn a_crash_loop_keeps_what_the_rules_ask_for() {
    let pod = pod(crashing());
    assert_eq!((pod.name.as_str(), pod.phase.as_str(), pod.ready), ("web-6c9-x", "Running", false));
    assert_eq!((pod.node.as_deref(), pod.revision.as_deref()), (Some("node-1"), Some("6c9")));
    let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.10", "2001:db8::10"]);
    assert_eq!(pod.unscheduled, None);
    assert_eq!(pod.init[0].terminated.as_ref().map(|ended| ended.exit_code), Some(0));
    let app = &pod.containers[0];
    assert_eq!(app.waiting.as_ref().map(|(reason, _)| reason.as_str()), Some("CrashLoopBackOff"));
    let last = app.last.as_ref().unwrap();
    assert_eq!((last.reason.as_str(), last.exit_code), ("OOMKilled", 137));
    assert_eq!(last.ended, Some(at("2026-11-22T10:10:20Z")));
    assert_eq!(last.message.as_deref(), Some("the last words"));
    assert_eq!((app.restarts, app.started, app.ready), (7, Some(false), false));
    assert_eq!(app.ports, [(Some("http".to_owned()), 8080)]);
    assert_eq!((app.memory_limit.as_deref(), app.startup_budget), (Some("20Mi"), Some(300)));
    assert_eq!(app.probes, (true, false, false));
    assert_eq!(app.values.len(), 1);
}

#[test]
fn a_pod_that_no_node_takes_tells_the_schedulers_words() {
    let pod = pod(json!({
        "metadata": {"name": "web-1", "labels": {"controller-revision-hash": "web-7d"}},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient memory.",
        }]},
    }));
    let words = "0/3 nodes are available: 3 Insufficient memory.".to_owned();
    assert_eq!(pod.unscheduled, Some(("Unschedulable".to_owned(), words)));
    assert_eq!((pod.revision.as_deref(), pod.node), (Some("web-7d"), None));
    let app = &pod.containers[0];
    assert_eq!((app.started, app.restarts, app.startup_budget), (None, 0, None));
}

#[test]
fn an_image_that_cannot_be_pulled_and_a_running_container_are_told_apart() {
    let state = |state: Value| {
        let pod = pod(json!({
            "metadata": {"name": "web-1"}, "spec": {"containers": [{"name": "app"}]},
            "status": {"containerStatuses": [{
                "name": "app", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }]},
        }));
        pod.containers.into_iter().next().unwrap()
    };
    let waits = state(json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}}));
    assert_eq!(waits.waiting.map(|(reason, _)| reason).as_deref(), Some("ImagePullBackOff"));
    let runs = state(json!({"running": {"startedAt": "2026-11-22T10:00:00Z"}}));
    assert_eq!(runs.running_since, Some(at("2026-11-22T10:00:00Z")));
    assert_eq!((runs.waiting, runs.terminated), (None, None));
}

#[test]
fn an_init_container_that_is_always_restarted_is_a_sidecar() {
    let mut json = crashing();
    let proxy = json!({"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"});
    json["spec"]["initContainers"].as_array_mut().unwrap().push(proxy);
    let init: Vec<_> = pod(json).init.into_iter().map(|init| (init.name, init.is_sidecar)).collect();
    assert_eq!(init, [("wait".to_owned(), false), ("proxy".to_owned(), true)]);
}

#[test]
fn pods_in_trouble_come_first_and_the_youngest_of_them() {
    let one = |name: &str, ready: &str, created: &str| {
        pod(json!({
            "metadata": {"name": name, "creationTimestamp": created}, "spec": {"containers": []},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
    };
    let mut all = [
        one("well", "True", "2026-11-22T12:00:00Z"),
        one("old", "False", "2026-11-22T10:00:00Z"),
        one("young", "False", "2026-11-22T11:00:00Z"),
    ];
    pods::sort_failing_first(&mut all);
    assert_eq!(all.map(|pod| pod.name), ["young", "old", "well"]);
}

#[test]
fn a_node_is_ready_or_not_since() {
    let node = |conditions: Value| of::<v1::Node>(json!({"metadata": {}, "status": {"conditions": conditions}}));
    let ready =
        |status: &str| node(json!([{"type": "Ready", "status": status, "lastTransitionTime": "2026-11-22T10:00:00Z"}]));
    assert_eq!(pods::not_ready_since(&ready("True")), None);
    assert_eq!(pods::not_ready_since(&ready("Unknown")), Some(Some(at("2026-11-22T10:00:00Z"))));
    assert_eq!(pods::not_ready_since(&node(json!([]))), Some(None));
}

fn deployment(progressing: Value) -> Deployment {
    of(json!({
        "metadata": {
            "name": "web", "uid": "d1", "generation": 4, "annotations": {"deployment.kubernetes.io/revision": "3"},
        },
        "spec": {
            "replicas": 3, "minReadySeconds": 10, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {}, "spec": {"containers": []}},
        },
        "status": {
            "observedGeneration": 4, "replicas": 4, "updatedReplicas": 1, "readyReplicas": 3,
            "conditions": [progressing],
        },
    }))
}

fn replica_set(name: &str, revision: &str, created: &str, history: Option<&str>) -> ReplicaSet {
    let mut annotations = json!({"deployment.kubernetes.io/revision": revision});
    if let Some(history) = history {
        annotations["deployment.kubernetes.io/revision-history"] = history.into();
    }
    of(json!({
        "metadata": {
            "name": name, "uid": format!("uid-{name}"), "creationTimestamp": created, "annotations": annotations,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d1"}],
        },
        "spec": {"selector": {}},
    }))
}

#[test]
fn a_rollout_that_is_stuck_is_seen_with_the_age_of_its_template() {
    let stuck = deployment(json!({
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "lastUpdateTime": "2026-11-22T10:10:00Z",
    }));
    let mut stranger = replica_set("other-1", "3", "2026-11-01T00:00:00Z", None);
    stranger.metadata.owner_references.as_mut().unwrap()[0].uid = "d2".to_owned();
    let sets = [
        replica_set("web-1", "2", "2026-11-20T00:00:00Z", None),
        replica_set("web-2", "3", "2026-11-22T10:00:00Z", None),
        stranger,
    ];
    let read = workload::deployment(&stuck, Some(&sets));
    let seen = &read.workload;
    assert_eq!((seen.wanted, seen.updated, seen.ready, seen.current), (3, 1, 3, 4));
    assert!(seen.observed && seen.deadline_exceeded && !seen.paused);
    assert_eq!(seen.template_since, Some(at("2026-11-22T10:00:00Z")));
    assert_eq!((seen.revision, seen.min_ready_seconds), (Some((3, true)), 10));
    assert_eq!(read.owners, Some(vec!["uid-web-1".to_owned(), "uid-web-2".to_owned()]));
    let subjects = [("Deployment", "web".to_owned()), ("ReplicaSet", "web-2".to_owned())];
    assert_eq!(read.subjects, subjects);
}

#[test]
fn a_template_that_was_rolled_back_to_is_as_old_as_its_last_progress() {
    let done = deployment(json!({
        "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
        "lastUpdateTime": "2026-11-22T11:00:00Z",
    }));
    let sets = [replica_set("web-1", "3", "2026-11-20T00:00:00Z", Some("1"))];
    let seen = workload::deployment(&done, Some(&sets)).workload;
    assert_eq!(seen.template_since, Some(at("2026-11-22T11:00:00Z")));
    assert!(!seen.deadline_exceeded);
}

#[test]
fn without_its_replica_sets_a_deployment_has_no_age_and_names_no_owner() {
    let read = workload::deployment(&deployment(json!({"type": "Available", "status": "True"})), None);
    assert_eq!((read.workload.template_since, read.owners), (None, None));
    assert_eq!(read.workload.revision, Some((3, false)));
}

#[test]
fn a_restart_is_no_new_template() {
    let progressing = || deployment(json!({"type": "Progressing", "status": "True"}));
    let template = |annotations: Value, hash: &str, image: &str| {
        json!({
            "metadata": {"labels": {"app": "web", "pod-template-hash": hash}, "annotations": annotations},
            "spec": {"containers": [{"name": "app", "image": image}]},
        })
    };
    let set = |name: &str, number: &str, template: Value| {
        let mut set = replica_set(name, number, "2026-11-22T10:00:00Z", None);
        set.spec = Some(of(json!({"selector": {}, "template": template})));
        set
    };
    let restarted = json!({"kubectl.kubernetes.io/restartedAt": "2026-11-22T10:00:00Z"});
    let before = set("web-1", "2", template(json!({}), "aaa", "shop:1"));
    let of_sets = |newest: ReplicaSet| workload::deployment(&progressing(), Some(&[before.clone(), newest])).workload;
    assert!(of_sets(set("web-2", "3", template(restarted.clone(), "bbb", "shop:1"))).only_restarted);
    assert!(!of_sets(set("web-2", "3", template(restarted.clone(), "bbb", "shop:2"))).only_restarted);
    let set: StatefulSet =
        of(json!({"metadata": {"name": "db", "uid": "s1"}, "spec": {"selector": {}, "template": {}}}));
    let data = |template: Value| Some(of(json!({"spec": {"template": template}})));
    let mut revisions = [revision("a", 1, "2026-11-20T00:00:00Z"), revision("b", 2, "2026-11-22T00:00:00Z")];
    revisions[0].data = data(template(json!({}), "", "db:1"));
    revisions[1].data = data(template(restarted, "", "db:1"));
    assert!(workload::stateful_set(&set, Some(&revisions)).workload.only_restarted);
    revisions[1].data = data(template(json!({}), "", "db:2"));
    assert!(!workload::stateful_set(&set, Some(&revisions)).workload.only_restarted);
}

fn revision(name: &str, number: i64, created: &str) -> ControllerRevision {
    of(json!({
        "metadata": {
            "name": name, "creationTimestamp": created,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "s1"}],
        },
        "revision": number,
    }))
}

#[test]
fn a_stateful_set_and_a_daemon_set_are_dated_by_their_revisions() {
    let set: StatefulSet = of(json!({
        "metadata": {"name": "db", "uid": "s1", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "db"}}, "template": {}},
        "status": {"observedGeneration": 1, "replicas": 1, "updateRevision": "db-b"},
    }));
    let revisions = [revision("db-a", 1, "2026-11-20T00:00:00Z"), revision("db-b", 2, "2026-11-22T00:00:00Z")];
    let read = workload::stateful_set(&set, Some(&revisions));
    assert_eq!((read.workload.wanted, read.workload.observed), (1, false));
    assert_eq!(read.workload.template_since, Some(at("2026-11-22T00:00:00Z")));
    assert_eq!((read.workload.revision, read.owners), (Some((2, true)), Some(vec!["s1".to_owned()])));
    // Rolled back to a: it keeps its age, so the time of the rollback is unknown.
    let back = [revision("db-a", 3, "2026-11-20T00:00:00Z"), revision("db-b", 2, "2026-11-22T00:00:00Z")];
    let daemon: DaemonSet = of(json!({
        "metadata": {"name": "db", "uid": "s1", "generation": 1},
        "spec": {"selector": {}, "template": {}},
        "status": {
            "observedGeneration": 1, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
            "numberMisscheduled": 0, "numberReady": 2, "updatedNumberScheduled": 1,
        },
    }));
    let seen = workload::daemon_set(&daemon, Some(&back)).workload;
    assert_eq!((seen.wanted, seen.updated, seen.ready, seen.current), (3, 1, 2, 3));
    assert_eq!((seen.template_since, seen.revision), (None, Some((3, true))));
    assert!(seen.observed);
}

fn web(target_port: Value) -> v1::Service {
    of(json!({
        "metadata": {"name": "web"},
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": target_port, "protocol": "TCP"}],
        },
    }))
}

fn slices() -> Vec<EndpointSlice> {
    let endpoint = |address: &str, pod: &str, ready: Value| json!({"addresses": [address], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}});
    of(json!([
        {
            "metadata": {"name": "web-1"}, "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
            "endpoints": [endpoint("192.0.2.1", "a", json!(true)), endpoint("192.0.2.2", "b", json!(false))],
        },
        {
            "metadata": {"name": "web-2"}, "addressType": "IPv6", "ports": [{"name": "http", "port": 8080}],
            "endpoints": [endpoint("2001:db8::1", "a", Value::Null)],
        },
    ]))
}

#[test]
fn endpoints_are_counted_by_pod_and_the_port_is_resolved() {
    let seen = service::service(&web(json!("web-port")), Some(&slices()), "http", Some(2));
    assert_eq!((seen.endpoints, seen.endpoint_port, seen.selected), ((1, 1), Some(8080), Some(2)));
    assert_eq!(seen.port, Some((80, "web-port".to_owned())));
    assert_eq!((seen.kind.as_str(), seen.headless, &seen.ports[..]), ("ClusterIP", false, &["http/80".to_owned()][..]));
    let (addresses, pods) = service::endpoints(&slices());
    assert_eq!((addresses.len(), pods), (3, ["a".to_owned(), "b".to_owned()].into()));
}

#[test]
fn a_port_is_found_by_name_or_number_and_a_wrong_one_is_none() {
    for (port, target, expected) in [
        ("80", json!(8080), Some((80, "8080".to_owned()))),
        ("http", json!(null), Some((80, "80".to_owned()))),
        ("8080", json!(8080), None),
    ] {
        assert_eq!(service::service(&web(target), None, port, None).port, expected, "{port}");
    }
    let pod = pod(crashing());
    assert_eq!((service::port_of(&pod, "http"), service::port_of(&pod, "metrics")), (Some(8080), None));
    assert_eq!(service::port_of(&pod, "9000"), Some(9000));
}

#[test]
fn warnings_of_both_generations_are_kept_the_newest_first() {
    let events: Vec<Event> = of(json!([
        {
            "metadata": {"name": "a", "namespace": "shop"}, "type": "Warning", "reason": "BackOff", "count": 12,
            "involvedObject": {"kind": "Pod", "name": "web-1"}, "message": "Back-off restarting failed container",
            "firstTimestamp": "2026-11-22T11:00:00Z", "lastTimestamp": "2026-11-22T11:50:00Z",
        },
        {
            "metadata": {"name": "b", "namespace": "shop"}, "type": "Warning", "reason": "FailedScheduling",
            "involvedObject": {"kind": "Pod", "name": "web-2"}, "eventTime": "2026-11-22T11:00:00.000000Z",
            "series": {"count": 3, "lastObservedTime": "2026-11-22T11:55:00.000000Z"},
        },
        {
            "metadata": {"name": "c", "namespace": "shop"}, "type": "Normal", "reason": "Pulled",
            "involvedObject": {"kind": "Pod", "name": "web-1"}, "lastTimestamp": "2026-11-22T11:59:00Z",
        },
        {
            "metadata": {"name": "d", "namespace": "shop"}, "type": "Warning", "reason": "Unhealthy",
            "involvedObject": {"kind": "Pod", "name": "web-1"}, "lastTimestamp": "2026-11-22T09:00:00Z",
        },
    ]));
    let warnings = events::warnings(&events, at("2026-11-22T12:00:00Z"));
    let told: Vec<_> = warnings.iter().map(|one| (one.reason.as_str(), one.about.as_str(), one.count)).collect();
    assert_eq!(told, [("FailedScheduling", "Pod/web-2", 3), ("BackOff", "Pod/web-1", 12)]);
}

#[test]
fn a_kill_by_the_kubelet_is_kept_with_its_container_and_no_other_normal_event() {
    let event = |reason: &str, type_: &str| {
        json!({
            "metadata": {"name": reason, "namespace": "shop"}, "type": type_, "reason": reason,
            "involvedObject": {"kind": "Pod", "name": "web-1", "fieldPath": "spec.containers{app}"},
            "message": "Container app failed liveness probe, will be restarted",
            "lastTimestamp": "2026-11-22T11:50:00Z",
        })
    };
    let events: Vec<Event> = of(json!([event("Killing", "Normal"), event("Started", "Normal")]));
    let kept = events::warnings(&events, at("2026-11-22T12:00:00Z"));
    let told: Vec<_> = kept.iter().map(|one| (one.reason.as_str(), one.container.as_deref())).collect();
    assert_eq!(told, [("Killing", Some("app"))]);
}
