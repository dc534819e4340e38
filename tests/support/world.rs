//! The environment of one test: a namespace, the rights of an operator in it, and operators.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::audit::{Audit, Request};
use super::beats::Connector;
use super::cluster::{self, Cluster};
use super::faults::Faults;
use super::history::History;
use super::operator::{Flags, Operator, free_port};
use super::process::{Ran, run};
use super::proxy::Proxy;
use super::{eventually, seconds, text};

/// Timeout for what takes milliseconds on an idle machine; here a dozen tests run in parallel.
pub(crate) const SOON: Duration = seconds(60);

/// The ServiceAccounts of the operators: the first one, and the second, so that the audit log tells two replicas apart.
pub(crate) const ACCOUNTS: [&str; 2] = ["vigie", "vigie-second"];

/// A test's own part of the cluster. The namespace is deleted when it is dropped.
pub(crate) struct World {
    pub(crate) ns: String,
    pub(crate) client: kube::Client,
    pub(crate) cluster: Arc<Cluster>,
    audit: Audit,
    dir: PathBuf,
    log: PathBuf,
    operators: AtomicUsize,
}

impl World {
    pub(crate) async fn new(name: &str) -> Self {
        Self::on(cluster::shared(), name).await
    }

    pub(crate) async fn on(cluster: Arc<Cluster>, name: &str) -> Self {
        let started = jiff::Timestamp::now().as_millisecond() % 100_000_000;
        let ns = format!("{name}-{}-{started}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("suite").join(&ns);
        let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("suite-logs");
        for dir in [&dir, &logs] {
            std::fs::create_dir_all(dir).expect("the target directory can be written");
        }
        let log = logs.join(format!("{name}.log"));
        let _ = std::fs::remove_file(&log);
        let client = cluster.client().await;
        let audit = Audit::from_now(cluster.audit_log());
        let world = Self { ns, client, cluster, audit, dir, log, operators: AtomicUsize::new(0) };
        world.furnish().await;
        world
    }

    /// Creates the namespace, and ServiceAccounts with the shipped rights.
    async fn furnish(&self) {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": self.ns}})).unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await.expect("a namespace is made");
        for name in ACCOUNTS {
            let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            self.api::<ServiceAccount>().create(&PostParams::default(), &account).await.expect("an account is made");
        }
        self.add_rights().await;
    }

    /// An API of this namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.ns)
    }

    /// The Connectors of this namespace, as plain JSON, as every other client sees them.
    pub(crate) fn connectors(&self) -> Api<DynamicObject> {
        self.connectors_of(&self.client)
    }

    /// The same, with the rights of `client`.
    pub(crate) fn connectors_of(&self, client: &kube::Client) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("vigie.dev", "v1alpha1", "Connector");
        Api::namespaced_with(client.clone(), &self.ns, &ApiResource::from_gvk_with_plural(&kind, "connectors"))
    }

    /// Starts an operator of this namespace and waits until it accepts beats.
    pub(crate) async fn operator(&self, flags: &[&str]) -> Operator {
        let operator = self.replica(flags).await;
        operator.hearing().await;
        operator
    }

    /// Starts an operator that may be the second.
    pub(crate) async fn replica(&self, flags: &[&str]) -> Operator {
        let (server, authority) = self.cluster.server();
        let proxy = Proxy::to(server).await;
        let cluster = json!({"server": format!("https://{}", proxy.address), "certificate-authority-data": authority});
        self.launch(flags, &[], proxy, cluster).await
    }

    /// Starts an operator whose own pod, by its environment, is this pod of the namespace.
    pub(crate) async fn replica_in(&self, pod: &str, flags: &[&str]) -> Operator {
        let (server, authority) = self.cluster.server();
        let proxy = Proxy::to(server).await;
        let cluster = json!({"server": format!("https://{}", proxy.address), "certificate-authority-data": authority});
        self.launch(flags, &[("POD_NAME", pod), ("POD_NAMESPACE", &self.ns)], proxy, cluster).await
    }

    /// Starts an operator that watches all namespaces, and waits until it accepts beats. Only for a cluster of this
    /// test's own.
    pub(crate) async fn operator_of_all_namespaces(&self, flags: &[&str]) -> Operator {
        let mut operator = self.replica(flags).await;
        operator.drop_flag("--namespace");
        operator.restart().await;
        operator.hearing().await;
        operator
    }

    /// Starts an operator whose requests pass through `faults`, and waits until it accepts beats.
    pub(crate) async fn operator_through(&self, faults: &Faults, flags: &[&str]) -> Operator {
        let operator = self.replica_through(faults, flags).await;
        operator.hearing().await;
        operator
    }

    /// The same, for an operator that may be the second.
    pub(crate) async fn replica_through(&self, faults: &Faults, flags: &[&str]) -> Operator {
        let proxy = Proxy::to(faults.address).await;
        let cluster = json!({"server": format!("http://{}", proxy.address)});
        self.launch(flags, &[], proxy, cluster).await
    }

    /// Starts an operator of this namespace whose admin port is reachable at `host`, and waits until it accepts beats.
    pub(crate) async fn operator_at(&self, host: std::net::IpAddr, flags: &[&str]) -> Operator {
        self.operator(&[&["--admin", &std::net::SocketAddr::from((host, free_port())).to_string()], flags].concat())
            .await
    }

    async fn launch(&self, flags: &[&str], env: &[(&'static str, &str)], proxy: Proxy, cluster: Value) -> Operator {
        let number = self.operators.fetch_add(1, Ordering::Relaxed);
        let kubeconfig = self.dir.join(format!("kubeconfig-{number}"));
        let config = self.kubeconfig(ACCOUNTS[number.min(1)], cluster).await;
        write_private(&kubeconfig, &config);
        let mut all: Vec<String> = ["--namespace", &self.ns, "--lease-namespace", &self.ns].map(str::to_owned).to_vec();
        if !flags.contains(&"--lease-name") {
            all.extend(["--lease-name", "vigie"].map(str::to_owned));
        }
        let [beats, admin] = ["--listen", "--admin"].map(|port| {
            let given = flags.iter().skip_while(|flag| **flag != port).nth(1);
            let address = given.map(|given| given.parse().expect("it has an address and a port"));
            address.unwrap_or_else(|| {
                let free = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
                all.extend([port.to_owned(), free.to_string()]);
                free
            })
        });
        all.extend(["--kubeconfig".to_owned(), kubeconfig.display().to_string()]);
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let log = if number == 0 { self.log.clone() } else { self.log.with_extension(format!("{number}.log")) };
        if number > 0 {
            let _ = std::fs::remove_file(&log);
        }
        let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Operator::start(Flags { all, env, log, binary: None, beats, admin }, proxy).await
    }

    /// The operator's kubeconfig: only its own token, and a server whose certificate is verified if it speaks TLS.
    pub(crate) async fn kubeconfig(&self, account: &str, cluster: Value) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "vigie",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "vigie", "user": {"token": self.account_token(account).await}}],
            "contexts": [{"name": "vigie", "context": {"cluster": "test", "user": "vigie", "namespace": self.ns}}],
        })
        .to_string()
    }

    /// A token of a ServiceAccount of this namespace.
    pub(crate) async fn account_token(&self, account: &str) -> String {
        let spec = TokenRequestSpec { expiration_seconds: Some(7200), ..Default::default() };
        let request = TokenRequest { spec, ..Default::default() };
        let accounts = self.api::<ServiceAccount>();
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
        answer.expect("a token is given").status.expect("it is in the status").token
    }

    /// Creates a Connector, and waits for its token: its Secret exists a moment before its status says so.
    pub(crate) async fn connector(&self, name: &str, spec: Value) -> Connector {
        self.create(name, spec).await;
        let installed = self.installed(name).await;
        let delivered = |condition: &Value| condition["type"] == "Provisioned" && condition["status"] == "True";
        self.sees(SOON, name, "its token is delivered", |seen| {
            seen.pointer("/status/conditions").and_then(Value::as_array).is_some_and(|all| all.iter().any(delivered))
        })
        .await;
        installed
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) -> DynamicObject {
        let object = json!({
            "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": {"name": name}, "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let made = self.connectors().create(&PostParams::default(), &object).await;
        made.unwrap_or_else(|error| panic!("Connector {name} is not admitted: {error}"))
    }

    /// The id and the token on a connector's host, from its Secret.
    pub(crate) async fn installed(&self, name: &str) -> Connector {
        eventually(SOON, &format!("a token for {name}"), async || {
            let found = self.api::<Secret>().get_opt(&format!("{name}-connector-token")).await;
            let secret = found.map_err(|error| error.to_string())?.ok_or("no Secret")?;
            let key = |key: &str| {
                let bytes = secret.data.as_ref().and_then(|data| data.get(key)).ok_or(format!("no key {key}"))?;
                String::from_utf8(bytes.0.clone()).map_err(|error| error.to_string())
            };
            Ok(Connector { name: name.to_owned(), id: key("connector_id")?, token: key("token")? })
        })
        .await
    }

    /// Reads a whole Connector.
    pub(crate) async fn get(&self, name: &str) -> Value {
        let object = self.connectors().get(name).await.unwrap_or_else(|error| panic!("reading {name}: {error}"));
        serde_json::to_value(object).unwrap()
    }

    /// Waits until `wanted` is true for a Connector.
    pub(crate) async fn sees(
        &self,
        within: Duration,
        name: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(within, &format!("{name}: {what}"), async || {
            let found = self.connectors().get(name).await.map_err(|error| error.to_string())?;
            let found = serde_json::to_value(found).unwrap();
            if wanted(&found) { Ok(found) } else { Err(format!("{:#}", found["status"])) }
        })
        .await
    }

    /// Waits until a Connector's status has this state.
    pub(crate) async fn state(&self, within: Duration, name: &str, state: &str) -> Value {
        self.sees(within, name, state, |found| text(found, "/status/state") == state).await
    }

    /// Merges `patch` into a Connector.
    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        let done = self.connectors().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        done.unwrap_or_else(|error| panic!("patching {name}: {error}"));
    }

    /// A certificate authority, as base64 of PEM.
    pub(crate) fn authority(&self) -> String {
        self.cluster.server().1
    }

    /// The events about one object that have this reason.
    pub(crate) async fn events(&self, about: &str, reason: &str) -> Vec<Event> {
        let events = self.api::<Event>().list(&ListParams::default()).await.expect("events are listed").items;
        let about = |event: &Event| event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(about);
        events.into_iter().filter(|event| about(event) && event.reason.as_deref() == Some(reason)).collect()
    }

    /// Waits for the first event about one object that has this reason.
    pub(crate) async fn event(&self, within: Duration, about: &str, reason: &str) -> Event {
        eventually(within, &format!("an event {reason} about {about}"), async || {
            self.events(about, reason).await.into_iter().next().ok_or_else(|| "none".to_owned())
        })
        .await
    }

    /// Records every state from now on.
    pub(crate) fn history(&self) -> History {
        History::of(self.connectors())
    }

    /// The requests of the first operator to the API server since the test began, by the audit log.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.audit.of(&self.user(0))
    }

    /// The requests of the second operator.
    pub(crate) fn requests_of_second(&self) -> Vec<Request> {
        self.audit.of(&self.user(1))
    }

    /// The requests of this user.
    pub(crate) fn requests_of(&self, user: &str) -> Vec<Request> {
        self.audit.of(user)
    }

    fn user(&self, replica: usize) -> String {
        format!("system:serviceaccount:{}:{}", self.ns, ACCOUNTS[replica])
    }

    /// Fails if a Secret was ever requested in another way than by its name.
    pub(crate) fn secrets_were_asked_for_by_name(&self) {
        let asked: Vec<_> = self.requests().into_iter().filter(|request| request.resource == "secrets").collect();
        assert!(!asked.is_empty(), "the audit log knows of Secrets");
        let allowed = |verb: &str| ["get", "create", "update"].contains(&verb);
        let broad = asked.iter().find(|request| !allowed(&request.verb) || request.uri.contains("watch=true"));
        assert!(broad.is_none(), "{broad:?}");
    }

    /// Triggers a reconcile of a Connector, as any change to it does.
    pub(crate) async fn nudge(&self, name: &str) {
        let now = jiff::Timestamp::now().to_string();
        self.patch(name, json!({"metadata": {"annotations": {"test.vigie.dev/nudge": now}}})).await;
    }

    /// Runs kubectl in this namespace, as the administrator.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Ran {
        let mut all = vec!["-n", &self.ns];
        all.extend(args);
        self.cluster.kubectl(&all)
    }

    /// Runs the built binary as a person does, with the administrator's kubeconfig.
    pub(crate) fn vigie(&self, args: &[&str]) -> Ran {
        run(Command::new(env!("CARGO_BIN_EXE_vigie")).args(args).env("KUBECONFIG", self.cluster.kubeconfig()))
    }

    /// Creates a directory of this test's own.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.join(name);
        std::fs::create_dir(&folder).expect("a test's directory can be made");
        folder
    }

    /// Creates a file of this test's own.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let file = self.dir.join(name);
        write_private(&file, content);
        file
    }
}

fn write_private(file: &Path, content: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::File::options();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(file);
    opened.and_then(|mut file| file.write_all(content.as_bytes())).expect("a test's file can be written");
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- namespace {}; the end of {}:\n{tail}\n---", self.ns, self.log.display());
            let froze = lines.iter().filter(|line| line.contains("silence meanwhile does not count")).count();
            if froze > 0 {
                eprintln!("--- this machine did not let the operator run for more than 2 s, {froze} times\n---");
            }
        }
        let _ = self.cluster.kubectl(&["delete", "namespace", &self.ns, "--wait=false"]);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
