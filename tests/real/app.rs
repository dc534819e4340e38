//! An application as a person deploys it: a Deployment of one container and its Service, both of one name.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::place;
use crate::support::world::SOON;
use crate::support::{World, eventually, http};

/// A Deployment and its Service, not yet created. Its pods are labelled `app: NAME` and their container is named `app`.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) deployment: Value,
    pub(crate) service: Value,
}

impl App {
    /// One replica of `image`, whose container declares the port `http`, 8080; the Service has it at port 80.
    pub(crate) fn of(name: &str, image: &str) -> Self {
        let labels = json!({"app": name});
        let container =
            json!({"name": "app", "image": image, "ports": [{"name": "http", "containerPort": 8080}], "env": []});
        let deployment = json!({"metadata": {"name": name}, "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                // The pods have nothing to save: the end of the test need not wait for them.
                "terminationGracePeriodSeconds": 1, "containers": [container],
            }},
        }});
        let ports = json!([{"name": "http", "port": 80, "targetPort": "http"}]);
        let service = json!({"metadata": {"name": name}, "spec": {"selector": labels, "ports": ports}});
        Self { name: name.to_owned(), deployment, service }
    }

    /// The server that fails on request, with these flags, and its control pages on port 8099.
    pub(crate) fn misbehave(name: &str, args: &[&str]) -> Self {
        let args: Vec<&str> = ["--control", "0.0.0.0:8099"].iter().chain(args).copied().collect();
        Self::of(name, &place::image("misbehave")).container(json!({"args": args}))
    }

    /// The Spring Boot application with these variables, in 192 MiB.
    pub(crate) fn spring(name: &str, env: &[(&str, &str)]) -> Self {
        let app = Self::of(name, &place::image("spring"));
        let app = app.container(json!({"resources": {"limits": {"memory": "192Mi"}, "requests": {"memory": "96Mi"}}}));
        env.iter().fold(app, |app, (name, value)| app.env(name, value))
    }

    /// Adds a variable to the container.
    pub(crate) fn env(self, name: &str, value: &str) -> Self {
        self.variable(json!({"name": name, "value": value}))
    }

    /// Adds a variable from a key of a ConfigMap that may be absent: it changes for a container that starts later,
    /// without a new template.
    pub(crate) fn setting(self, name: &str, map: &str, key: &str) -> Self {
        let from = json!({"configMapKeyRef": {"name": map, "key": key, "optional": true}});
        self.variable(json!({"name": name, "valueFrom": from}))
    }

    /// Adds a variable to the container, in the format of Kubernetes.
    pub(crate) fn variable(mut self, variable: Value) -> Self {
        let env = self.deployment.pointer_mut("/spec/template/spec/containers/0/env").and_then(Value::as_array_mut);
        env.expect("it was made with one").push(variable);
        self
    }

    /// Merges into the container: `args`, `resources`, `readinessProbe` and others.
    pub(crate) fn container(mut self, more: Value) -> Self {
        merge(&mut self.deployment["spec"]["template"]["spec"]["containers"][0], more);
        self
    }

    /// Merges into the pods' spec.
    pub(crate) fn pod(mut self, more: Value) -> Self {
        merge(&mut self.deployment["spec"]["template"]["spec"], more);
        self
    }

    /// Merges into the Deployment's spec.
    pub(crate) fn spec(mut self, more: Value) -> Self {
        merge(&mut self.deployment["spec"], more);
        self
    }

    /// Merges into the Service's spec.
    pub(crate) fn service(mut self, more: Value) -> Self {
        merge(&mut self.service["spec"], more);
        self
    }

    /// Creates the Deployment and the Service.
    pub(crate) async fn deploy(&self, world: &World) {
        let deployment: Deployment = serde_json::from_value(self.deployment.clone()).unwrap();
        world.api::<Deployment>().create(&PostParams::default(), &deployment).await.expect("a Deployment is made");
        let service: Service = serde_json::from_value(self.service.clone()).unwrap();
        world.api::<Service>().create(&PostParams::default(), &service).await.expect("a Service is made");
    }

    /// `spec` of a backend: this workload, probed at `target` as [`probed`] defines.
    pub(crate) fn backend(&self, target: Value, probe: Value) -> Value {
        let workload = json!({"kind": "Deployment", "name": self.name});
        json!({"target": target, "workloadRef": workload, "probe": probed(probe)})
    }

    /// `target`: each of its pods, with this path.
    pub(crate) fn at_pods(&self, path: &str) -> Value {
        json!({"pods": {"port": "http", "path": path}})
    }

    /// `target`: the Service, with this path.
    pub(crate) fn at_service(&self, path: &str) -> Value {
        json!({"service": {"name": self.name, "port": "http", "path": path}})
    }
}

/// `probe`, every two seconds, and judged after two failures. A JVM on a loaded machine needs a second for an answer.
pub(crate) fn probed(more: Value) -> Value {
    let mut probe = json!({"intervalSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2});
    merge(&mut probe, more);
    probe
}

/// Adds the fields of `more`, recursively for objects; lists are replaced.
pub(crate) fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// `POST` to a pod's own address; an answer that is not 200 is a failure.
#[track_caller]
pub(crate) fn post(pod: &Pod, port: u16, path: &str) {
    let to = SocketAddr::new(address(pod).expect("a running pod has an address"), port);
    let request = format!("POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let answer = http::exchange(to, request.as_bytes()).unwrap_or_else(|error| panic!("{to}{path}: {error}"));
    assert_eq!(answer.status, 200, "{to}{path}: {answer:?}");
}

/// The port of the control pages of `misbehave`.
pub(crate) const CONTROL: u16 = 8099;

/// The pods of an app, without those that are being deleted.
pub(crate) async fn pods(world: &World, app: &str) -> Vec<Pod> {
    let found = world.api::<Pod>().list(&ListParams::default().labels(&format!("app={app}"))).await;
    found.expect("pods are listed").items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
}

/// Waits until this many pods of an app run and have addresses; returns them by name.
pub(crate) async fn running(world: &World, app: &str, count: usize) -> Vec<Pod> {
    eventually(SOON, &format!("{count} running pods of {app}"), async || {
        let mut pods = pods(world, app).await;
        pods.sort_by_key(kube::ResourceExt::name_any);
        let phases: Vec<_> = pods.iter().map(|pod| (pod.name_any(), phase(pod))).collect();
        let all_run = pods.len() == count && pods.iter().all(|pod| phase(pod) == "Running" && address(pod).is_some());
        if all_run { Ok(pods) } else { Err(format!("{phases:?}")) }
    })
    .await
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}
