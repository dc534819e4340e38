//! The cluster that the tests run against: one for all of them, or a private one for tests that break it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::process::{Ran, run};

#[derive(Debug)]
pub(crate) struct Cluster {
    dir: PathBuf,
    /// Stopped when it is dropped.
    private: bool,
}

/// The cluster that all tests share: started when it does not run yet, and left running.
pub(crate) fn shared() -> Arc<Cluster> {
    static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
    SHARED.get_or_init(|| Arc::new(Cluster::kept("VIGIE_TEST_CLUSTER_DIR", ".cluster", &["up"]))).clone()
}

impl Cluster {
    /// The cluster in the directory that this environment variable names, else in this directory of the checkout:
    /// started by `up` when it does not run yet, and left running.
    pub(crate) fn kept(variable: &str, folder: &str, up: &[&str]) -> Self {
        let dir = std::env::var_os(variable).map(PathBuf::from);
        let dir = dir.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        let cluster = Self { dir, private: false };
        cluster.command(up).ok();
        cluster.install();
        cluster
    }

    /// An API server and its etcd that no other test uses.
    pub(crate) fn private(name: &str) -> Arc<Self> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{name}-{}", std::process::id()));
        let cluster = Self { dir, private: true };
        cluster.command(&["up", "--only", "control-plane"]).ok();
        cluster.install();
        Arc::new(cluster)
    }

    /// The directory of its data, logs and keys.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs `tests/cluster/cluster` for this one.
    pub(crate) fn command(&self, args: &[&str]) -> Ran {
        run(&mut self.script(args))
    }

    /// The same command, not yet started.
    pub(crate) fn script(&self, args: &[&str]) -> Command {
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/cluster"));
        script.args(args).env("CLUSTER_DIR", &self.dir);
        script
    }

    /// A variable from `cluster env`: `CLUSTER_NODE_ADDRESS` and others.
    pub(crate) fn variable(&self, name: &str) -> String {
        let file = std::fs::read_to_string(self.dir.join("env")).expect("a cluster that is up has the file env");
        let prefix = format!("export {name}=");
        let value = file.lines().find_map(|line| line.strip_prefix(&prefix));
        value.unwrap_or_else(|| panic!("{name} is not in {file}")).trim_matches('\'').to_owned()
    }

    /// Installs the committed CRDs and waits until they can be used.
    fn install(&self) {
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        let crds = crds.to_str().expect("the checkout's path is text");
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", crds]).ok();
        self.are_established(crds);
    }

    /// Replaces the CRDs by those in `file`. The objects of the replaced ones are deleted with them. Only for a cluster of
    /// the test's own.
    pub(crate) fn replace_definitions(&self, file: &Path) {
        let file = file.to_str().expect("the file's path is text");
        let kinds = ["crd", "connectors.vigie.dev", "monitoredbackends.vigie.dev"];
        self.kubectl(&[&["delete", "--ignore-not-found", "--timeout=60s"], &kinds[..]].concat()).ok();
        self.kubectl(&["create", "-f", file]).ok();
        self.are_established(file);
    }

    /// Changes the CRDs to those in `file`; the objects stay. Only for a cluster of the test's own.
    pub(crate) fn definitions(&self, file: &Path) {
        let file = file.to_str().expect("the file's path is text");
        self.kubectl(&["replace", "-f", file]).ok();
        self.are_established(file);
    }

    fn are_established(&self, crds: &str) {
        // Repeated: kubectl wait gives up on a definition that is too new to have conditions.
        let began = Instant::now();
        while self.kubectl(&["wait", "--for=condition=Established", "--timeout=5s", "-f", crds]).code != 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "the definitions are not established");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Runs kubectl as the administrator.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Ran {
        let kubectl = self.dir.join("bin/kubectl");
        run(Command::new(kubectl).args(args).env("KUBECONFIG", self.kubeconfig()))
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    fn read(&self) -> Kubeconfig {
        Kubeconfig::read_from(self.kubeconfig()).unwrap_or_else(|error| panic!("the cluster's kubeconfig: {error}"))
    }

    /// A client with the administrator's rights, for the runtime of the caller.
    pub(crate) async fn client(&self) -> kube::Client {
        let config = Config::from_custom_kubeconfig(self.read(), &KubeConfigOptions::default()).await;
        kube::Client::try_from(config.expect("the cluster's kubeconfig is complete"))
            .expect("a client can be made of it")
    }

    /// The address of the API server, and the authority that verifies its certificate (base64 of PEM).
    pub(crate) fn server(&self) -> (SocketAddr, String) {
        let cluster = self.read().clusters.into_iter().find_map(|named| named.cluster).expect("it names a cluster");
        let server = cluster.server.expect("it names a server");
        let address = server.strip_prefix("https://").and_then(|address| address.parse().ok());
        let authority = cluster.certificate_authority_data.expect("it holds the authority");
        (address.unwrap_or_else(|| panic!("{server} is no https://ADDRESS:PORT")), authority)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.private {
            let _ = self.command(&["down"]);
        }
    }
}
