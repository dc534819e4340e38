//! The chart's admission policies, for one test alone: rendered for its namespace and its ServiceAccounts.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use serde_json::{Value, json};

use super::process::{Ran, run};
use super::world::{ACCOUNTS, SOON};
use super::{World, eventually};

/// The chart's template of the policies.
const TEMPLATE: &str = "templates/admission-policy.yaml";

/// The name of the objects that the test sends to the API server until it enforces the policies: a Deployment and a Pod
/// that stay unchanged, and others that are never created.
pub(crate) const HEEDED: &str = "heeded";

/// The policies in force; deleted when it is dropped.
pub(crate) struct Policies<'w> {
    world: &'w World,
    file: PathBuf,
    /// With the token of the operator's own ServiceAccount.
    pub(crate) vigie: kube::Client,
    /// With the token of a user that has all rights on Connectors and MonitoredBackends, and no others.
    pub(crate) editor: kube::Client,
}

impl Drop for Policies<'_> {
    fn drop(&mut self) {
        let file = self.file.to_str().expect("a test's file has a name that is text");
        let _ = self.world.cluster.kubectl(&["delete", "-f", file, "--wait=false"]);
    }
}

/// The rule that lets a user edit Connectors and MonitoredBackends.
pub(crate) fn editing() -> Value {
    json!({"apiGroups": ["vigie.dev"], "resources": ["connectors", "monitoredbackends"], "verbs": ["*"]})
}

/// Returns the refusal: Ok with the policy's message, or Err with any other answer.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> Result<String, String> {
    match answer {
        Err(kube::Error::Api(status)) => {
            let Status { code, message, .. } = &*status;
            // A policy that fails to evaluate refuses, too; that is an error of the policy.
            let is_judged =
                *code == 403 && message.contains("ValidatingAdmissionPolicy") && !message.contains("resulted in error");
            let words = message.split_once("denied request: ").filter(|_| is_judged);
            words.map(|(_, words)| words.to_owned()).ok_or_else(|| format!("{code} {message}"))
        }
        other => Err(format!("{other:?}")),
    }
}

impl World {
    /// Helm's rendering of the policies for this namespace, with these additional values.
    pub(crate) fn rendered(&self, more: &[&str]) -> Ran {
        let helm = self.cluster.command(&["helm", "3"]).ok();
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/vigie");
        let mut command = Command::new(helm.trim());
        // Without a server Helm assumes a Kubernetes version; a Helm that was built from its module assumes an old one.
        let version = ["--kube-version", "1.36"];
        // A release of this name runs as the ServiceAccount of this name.
        command.args(["template", ACCOUNTS[0]]).arg(chart).args(["--namespace", &self.ns]);
        run(command
            .args(["--show-only", TEMPLATE])
            .args(version)
            .args(more)
            .env("KUBECONFIG", "/nonexistent/kubeconfig"))
    }

    /// Puts the policies in force and waits until the API server enforces each of them.
    pub(crate) async fn enforce(&self) -> Policies<'_> {
        let namespaces = format!("namespaces={{{}}}", self.ns);
        let rendered = self.rendered(&["--set", &namespaces]).ok();
        let file = self.file("policies.yaml", &rendered);
        self.person("editor", json!([editing()])).await;
        let editor = self.client_of("editor").await;
        let vigie = self.client_of(ACCOUNTS[0]).await;
        let policies = Policies { world: self, file, vigie, editor };
        self.cluster.kubectl(&["apply", "-f", policies.file.to_str().expect("its name is text")]).ok();
        policies.are_heeded().await;
        policies
    }

    /// A client with the token of a ServiceAccount of this namespace.
    pub(crate) async fn client_of(&self, account: &str) -> kube::Client {
        let config = Kubeconfig::from_yaml(&self.kubeconfig_of(account).await).expect("it is a kubeconfig");
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
        kube::Client::try_from(config.expect("it is complete")).expect("a client can be made of it")
    }

    /// The kubeconfig of a ServiceAccount of this namespace.
    pub(crate) async fn kubeconfig_of(&self, account: &str) -> String {
        let (server, authority) = self.cluster.server();
        let cluster = json!({"server": format!("https://{server}"), "certificate-authority-data": authority});
        self.kubeconfig(account, cluster).await
    }
}

impl Policies<'_> {
    /// The policies of this world, as the API server stores them.
    pub(crate) async fn all(&self) -> Vec<ValidatingAdmissionPolicy> {
        let all: Api<ValidatingAdmissionPolicy> = Api::all(self.world.client.clone());
        let mut all = all.list(&ListParams::default()).await.expect("policies are listed").items;
        let prefix = format!("vigie.{}.", self.world.ns);
        all.retain(|policy| policy.metadata.name.as_deref().is_some_and(|name| name.starts_with(&prefix)));
        all
    }

    /// Puts these objects of another owner in force beside the policies, for as long.
    pub(crate) fn beside(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let all = std::fs::read_to_string(&self.file).expect("a test's file can be read");
        let file = self.world.file("policies.yaml", &format!("{all}\n---\n{list}\n"));
        self.world.cluster.kubectl(&["apply", "-f", file.to_str().expect("its name is text")]).ok();
    }

    /// Evicts a pod, as vigie.
    pub(crate) async fn evict(&self, pod: &str, options: &Value) -> Result<Status, kube::Error> {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}, "deleteOptions": options,
        });
        self.ours::<Pod>().create_subresource("eviction", pod, &PostParams::default(), &eviction).await
    }

    /// An API of this world's namespace, as vigie.
    pub(crate) fn ours<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.vigie.clone(), &self.world.ns)
    }

    /// The API server takes a moment to compile the policies: sends a forbidden request for each until it is refused.
    async fn are_heeded(&self) {
        let (dry, dry_patch) =
            (PostParams { dry_run: true, ..Default::default() }, PatchParams { dry_run: true, ..Default::default() });
        self.world.deployment(HEEDED, 0).await;
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": HEEDED}, "spec": {
            "containers": [{"name": "app", "image": "example.com/app:1"}],
        }}))
        .unwrap();
        self.world.api().create(&PostParams::default(), &pod).await.expect("a Pod is made");
        let labelled = Patch::Merge(json!({"metadata": {"labels": {"vigie.dev/not": "ours"}}}));
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": HEEDED}})).unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": HEEDED}})).unwrap();
        let connector = serde_json::from_value(json!({
            "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": {"name": HEEDED},
            "spec": {"workloadRef": {"kind": "Deployment", "name": HEEDED}, "remediation": {"mode": "Restart"}},
        }))
        .unwrap();
        let connectors = self.world.connectors_of(&self.editor);
        eventually(SOON, "the policies are heeded", async || {
            refusal(self.ours::<Deployment>().patch(HEEDED, &dry_patch, &labelled).await)?;
            refusal(self.ours::<Pod>().patch(HEEDED, &dry_patch, &labelled).await)?;
            refusal(self.evict(HEEDED, &json!({"dryRun": ["All"]})).await)?;
            refusal(self.ours::<Secret>().create(&dry, &secret).await)?;
            refusal(self.ours::<ConfigMap>().create(&dry, &map).await)?;
            refusal(connectors.create(&dry, &connector).await)
        })
        .await;
    }
}
