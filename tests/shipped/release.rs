//! A release of the chart, and its pods.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;

use crate::support::audit::Request;
use crate::support::cluster::Cluster;
use crate::support::process::{Ran, run};
use crate::support::world::SOON;
use crate::support::{World, eventually, http, seconds};

/// Timeout for a start with a local image, on a machine where four releases start in parallel.
pub(crate) const STARTED: Duration = seconds(180);

/// The label of the leading pod (docs/design/api.md, "Annotations and labels").
const LEADER: &str = "vigie.dev/role=leader";

/// The cluster that all tests share.
pub(crate) fn cluster() -> Arc<Cluster> {
    static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
    let up = ["up", "--profile", "real"];
    SHARED.get_or_init(|| Arc::new(Cluster::kept("VIGIE_TEST_REAL_DIR", ".cluster-real", &up))).clone()
}

/// The chart of this checkout.
pub(crate) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/vigie")
}

#[derive(Clone, Debug)]
pub(crate) struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Helm {
    /// Helm of this major version, for the shared cluster; built if it is missing.
    pub(crate) fn of(major: u8) -> Self {
        let said = cluster().command(&["helm", &major.to_string()]).ok();
        let program = PathBuf::from(said.lines().last().expect("it prints where it is"));
        Self { program, kubeconfig: cluster().kubeconfig() }
    }

    /// Runs it as the administrator.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(Command::new(&self.program).args(args).env("KUBECONFIG", &self.kubeconfig))
    }
}

/// A release that watches its own namespace, and no other.
pub(crate) struct Release<'a> {
    pub(crate) world: &'a World,
    helm: Helm,
}

/// The name of the release and of all its objects.
pub(crate) const NAME: &str = "vigie-edge";

impl<'a> Release<'a> {
    /// Installs it with these additional values, and waits until beats are heard through the Service.
    pub(crate) async fn install(world: &'a World, values: &[&str]) -> Self {
        let release = Self { world, helm: Helm::of(3) };
        release.helm(&["install", "--wait", "--timeout", "3m"], values).ok();
        release.hearing(STARTED).await;
        release
    }

    /// Upgrades it, with exactly these values.
    pub(crate) fn upgrade(&self, values: &[&str]) {
        self.helm(&["upgrade", "--wait", "--timeout", "3m"], values).ok();
    }

    fn helm(&self, verb: &[&str], values: &[&str]) -> Ran {
        let chart = chart();
        let namespaces = format!("namespaces={{{}}}", self.world.ns);
        let mut all = verb.to_vec();
        all.extend([NAME, chart.to_str().expect("the checkout's path is text"), "-n", &self.world.ns]);
        // The definitions belong to the cluster, and other tests use them at the same time.
        for value in ["crds.enabled=false", &namespaces].iter().chain(values) {
            all.extend(["--set", value]);
        }
        self.helm.run(&all)
    }

    /// The address for connectors: the heartbeat Service's own.
    pub(crate) async fn beats(&self) -> SocketAddr {
        let service =
            self.world.api::<Service>().get(&format!("{NAME}-heartbeat")).await.expect("the Service is there");
        let spec = service.spec.expect("it has a spec");
        let address: IpAddr = spec.cluster_ip.and_then(|ip| ip.parse().ok()).expect("it has an address");
        let port = spec.ports.unwrap_or_default()[0].port;
        SocketAddr::from((address, u16::try_from(port).expect("a port")))
    }

    /// Waits until beats are heard through the Service.
    pub(crate) async fn hearing(&self, within: Duration) {
        let to = self.beats().await;
        eventually(within, "beats are heard through the Service", async || match http::get(to, "/api/health") {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// The pods of the operator.
    pub(crate) async fn pods(&self) -> Vec<Pod> {
        let of_it = ListParams::default().labels(&format!("app.kubernetes.io/instance={NAME}"));
        self.world.api::<Pod>().list(&of_it).await.expect("pods are listed").items
    }

    /// The pod with the leader's label; waits until there is exactly one.
    pub(crate) async fn leader(&self) -> Pod {
        eventually(SOON, "exactly one pod is labelled as the leader's", async || {
            let mut all = self.labelled().await;
            if all.len() == 1 { Ok(all.remove(0)) } else { Err(format!("{:?}", names(&all))) }
        })
        .await
    }

    /// Waits until another pod than this one has the label, and no other has it.
    pub(crate) async fn leader_after(&self, before: &str) -> Pod {
        eventually(SOON, &format!("a leader after {before}"), async || {
            let mut all = self.labelled().await;
            let is_next = all.len() == 1 && all[0].name_any() != before;
            if is_next { Ok(all.remove(0)) } else { Err(format!("{:?}", names(&all))) }
        })
        .await
    }

    async fn labelled(&self) -> Vec<Pod> {
        let labelled = ListParams::default().labels(&format!("app.kubernetes.io/instance={NAME},{LEADER}"));
        self.world.api::<Pod>().list(&labelled).await.expect("pods are listed").items
    }

    /// The requests of this release's pods to the API server since the test began, each with its pod.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.world.requests_of(&format!("system:serviceaccount:{}:{NAME}", self.world.ns))
    }

    /// Fails unless successful writes of status came from one pod at a time: a pod that wrote after another was the
    /// only writer from then on.
    pub(crate) fn had_one_writer_at_a_time(&self) {
        let mut writes: Vec<Request> = self.requests().into_iter().filter(is_status_write).collect();
        assert!(!writes.is_empty(), "the audit log knows of writes");
        assert!(writes.iter().all(|write| !write.pod.is_empty()), "the audit log names the pod that wrote");
        writes.sort_by_key(|write| write.received);
        let mut turns: Vec<(&str, Timestamp)> = Vec::new();
        for write in &writes {
            if turns.last().is_none_or(|(pod, _)| *pod != write.pod) {
                turns.push((&write.pod, write.received));
            }
        }
        let mut pods: Vec<&str> = turns.iter().map(|(pod, _)| *pod).collect();
        let changes = pods.len();
        pods.sort_unstable();
        pods.dedup();
        assert_eq!(pods.len(), changes, "a pod wrote again after another had: {turns:?}");
    }
}

fn is_status_write(request: &Request) -> bool {
    let is_write = ["update", "patch"].contains(&&*request.verb) && request.resource.ends_with("/status");
    is_write && request.is_success()
}

pub(crate) fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(ResourceExt::name_any).collect()
}

/// A test's own part of the cluster.
pub(crate) async fn world(name: &str) -> World {
    World::on(cluster(), name).await
}

/// Creates an object of a kind without a namespace.
pub(crate) async fn make<K>(world: &World, object: Value) -> K
where
    K: kube::Resource<Scope = kube::core::ClusterResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + serde::Serialize,
{
    let object: K = serde_json::from_value(object).expect("the object is well formed");
    Api::all(world.client.clone()).create(&Default::default(), &object).await.expect("it is made")
}
