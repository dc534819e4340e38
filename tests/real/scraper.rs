//! A Prometheus on a host of its own: a network namespace, in which the test simulates a security group.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::place;
use crate::support::cluster::Cluster;
use crate::support::http::get;
use crate::support::process::{run, signal};
use crate::support::world::SOON;
use crate::support::{World, eventually, text};

/// A host beside the node; removed with its processes when it is dropped.
pub(crate) struct Host {
    cluster: Arc<Cluster>,
    name: String,
    pub(crate) address: IpAddr,
}

impl Host {
    /// Creates one with the name of the test's namespace.
    pub(crate) fn of(world: &World) -> Self {
        let cluster = place::cluster();
        let said = cluster.command(&["host", "add", &world.ns]).ok();
        let address = said.trim().parse().unwrap_or_else(|error| panic!("{said:?} is no address: {error}"));
        Self { cluster, name: world.ns.clone(), address }
    }

    /// Drops every packet that it sends to this address.
    pub(crate) fn drop_packets(&self, to: SocketAddr) {
        self.forbid("drop", to, &[]);
    }

    /// Rejects each connection to this address: with a reset, or, if `how` is `icmp`, with "no route to host".
    pub(crate) fn reject(&self, to: SocketAddr, how: &str) {
        self.forbid("reject", to, &[how]);
    }

    pub(crate) fn allow(&self) {
        self.cluster.command(&["host", "allow", &self.name]).ok();
    }

    fn forbid(&self, verb: &str, to: SocketAddr, more: &[&str]) {
        let (address, port) = (to.ip().to_string(), to.port().to_string());
        self.cluster.command(&[&["host", verb, &self.name, &address, &port], more].concat()).ok();
    }

    /// A command that runs on this host.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.cluster.script(&[&["host", "exec", &self.name, "--"], words].concat())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.cluster.command(&["host", "del", &self.name]);
    }
}

pub(crate) struct Prometheus {
    pub(crate) host: Host,
    config: PathBuf,
    child: Child,
}

const PORT: u16 = 9090;

impl Prometheus {
    /// Starts one that scrapes `jobs`, every 3 s by default; waits until it answers.
    pub(crate) async fn start(world: &World, jobs: Value) -> Self {
        let host = Host::of(world);
        let folder = world.folder("prometheus");
        let config = folder.join("prometheus.json");
        write(&config, &jobs);
        let binary = binary();
        let flags = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={}:{PORT}", host.address),
        ];
        let words: Vec<&str> = [binary.as_str()].into_iter().chain(flags.iter().map(String::as_str)).collect();
        let log = File::create(folder.join("log")).expect("a test's directory can be written");
        let mut command = host.command(&words);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.expect("a command can be started on a host");
        let prometheus = Self { host, config, child };
        eventually(SOON, "Prometheus answers", async || prometheus.ask("/-/ready").map(drop)).await;
        prometheus
    }

    /// Replaces its scrape configuration with `jobs`.
    pub(crate) fn reconfigure(&self, jobs: Value) {
        write(&self.config, &jobs);
        signal(self.child.id(), "HUP");
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at())
    }

    fn at(&self) -> SocketAddr {
        (self.host.address, PORT).into()
    }

    fn ask(&self, path: &str) -> Result<String, String> {
        let answer = get(self.at(), path).map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{answer:?}")) }
    }

    pub(crate) fn targets(&self) -> Result<Vec<Value>, String> {
        let said = self.ask("/api/v1/targets?state=active")?;
        let said: Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        Ok(said.pointer("/data/activeTargets").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// The values of a query, by the label `name` of each series.
    pub(crate) fn query(&self, query: &str) -> Result<Vec<(String, String)>, String> {
        let said: Value = serde_json::from_str(&self.ask(&format!("/api/v1/query?query={query}"))?)
            .map_err(|error| error.to_string())?;
        let series = said.pointer("/data/result").and_then(Value::as_array).cloned().unwrap_or_default();
        let pair = |one: &Value| (text(one, "/metric/name").to_owned(), text(one, "/value/1").to_owned());
        Ok(series.iter().map(pair).collect())
    }

    /// Waits until its only target has this health and these words in its last error; returns the target.
    pub(crate) async fn says(&self, health: &str, error: &str) -> Value {
        eventually(SOON, &format!("Prometheus says {health} {error:?}"), async || {
            let targets = self.targets()?;
            let is_so =
                |target: &&Value| text(target, "/health") == health && text(target, "/lastError").contains(error);
            match targets.as_slice() {
                [only] if is_so(&only) => Ok(only.clone()),
                _ => Err(format!("{targets:#?}")),
            }
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One job, `apps`, with these targets and these additional fields.
pub(crate) fn scraping(targets: &[SocketAddr], more: Value) -> Value {
    let targets: Vec<String> = targets.iter().map(SocketAddr::to_string).collect();
    let mut job = json!({"job_name": "apps", "metrics_path": "/metrics", "static_configs": [{"targets": targets}]});
    crate::app::merge(&mut job, more);
    json!([job])
}

/// Replaces the file atomically: Prometheus may read it at any time.
fn write(config: &Path, jobs: &Value) {
    let whole = json!({"global": {"scrape_interval": "3s", "scrape_timeout": "2s"}, "scrape_configs": jobs});
    let new = config.with_extension("new");
    std::fs::write(&new, whole.to_string()).expect("a test's directory can be written");
    std::fs::rename(new, config).expect("a test's file can be replaced");
}

/// Debian's binary, installed or unpacked into the vigie cache.
fn binary() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/prometheus.sh");
    run(Command::new("sh").arg(script)).ok().trim().to_owned()
}
