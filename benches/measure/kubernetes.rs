//! A cluster for the duration of a measurement, and its audit log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use jiff::Timestamp;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::Value;

/// The checkout that this program was built from.
const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// etcd and an API server; stopped when this is dropped.
pub(crate) struct Cluster {
    dir: PathBuf,
}

impl Cluster {
    /// Starts it and installs the CRDs of this checkout.
    pub(crate) fn up() -> anyhow::Result<Self> {
        let dir = Path::new(CHECKOUT).join(".bench/cluster");
        let cluster = Self { dir };
        // The rest of an interrupted run would be measured too.
        cluster.command(&["down"])?;
        cluster.command(&["up", "--only", "control-plane"])?;
        cluster.kubectl(&["apply", "--server-side", "-f", &format!("{CHECKOUT}/crds")])?;
        for crd in ["crd/connectors.vigie.dev", "crd/monitoredbackends.vigie.dev"] {
            cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", crd])?;
        }
        Ok(cluster)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// A client for this program. The audit log distinguishes its requests from the operator's.
    pub(crate) async fn client(&self) -> anyhow::Result<kube::Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    fn kubectl(&self, args: &[&str]) -> anyhow::Result<()> {
        let kubectl = self.dir.join("bin/kubectl");
        run(Command::new(kubectl).arg("--kubeconfig").arg(self.kubeconfig()).args(args))
    }

    fn command(&self, args: &[&str]) -> anyhow::Result<()> {
        let tool = Path::new(CHECKOUT).join("tests/cluster/cluster");
        run(Command::new(tool).args(args).env("CLUSTER_DIR", &self.dir))
    }

    /// The operator's writes from `since` to before `until`.
    pub(crate) fn writes(&self, since: Timestamp, until: Timestamp) -> anyhow::Result<Writes> {
        let log = std::fs::read_to_string(self.dir.join("audit.log")).context("reading the audit log")?;
        let mut writes = Writes::default();
        for line in log.lines() {
            // The last line may be incomplete.
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let is_ours = text("/userAgent").starts_with("vigie/");
            let (verb, code) = (text("/verb"), entry.pointer("/responseStatus/code").and_then(Value::as_u64));
            let at: Timestamp = text("/stageTimestamp").parse().unwrap_or(Timestamp::MIN);
            if !is_ours || !matches!(verb, "create" | "update" | "patch" | "delete") || at < since || at >= until {
                continue;
            }
            let mut what = format!("{verb} {}", text("/objectRef/resource"));
            if !text("/objectRef/subresource").is_empty() {
                what = format!("{what}/{}", text("/objectRef/subresource"));
            }
            if !code.is_some_and(|code| (200..300).contains(&code)) {
                what = format!("{what} ({})", code.unwrap_or(0));
            }
            let (count, last) = writes.0.entry(what).or_insert((0, at));
            *count += 1;
            *last = at.max(*last);
        }
        Ok(writes)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.command(&["down"]) {
            eprintln!("the cluster was not ended: {error:#}");
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("starting {name}"))?;
    anyhow::ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}

/// Writes by kind: their number, and when the last one was answered.
#[derive(Default)]
pub(crate) struct Writes(BTreeMap<String, (u64, Timestamp)>);

impl Writes {
    /// The writes whose name has this prefix: their number, and when the last one was answered.
    pub(crate) fn of(&self, prefix: &str) -> (u64, Option<Timestamp>) {
        let found = self.0.iter().filter(|(what, _)| what.starts_with(prefix));
        found.fold((0, None), |(count, last), (_, (more, at))| (count + more, last.max(Some(*at))))
    }

    pub(crate) fn all(&self) -> u64 {
        self.of("").0
    }
}

impl std::fmt::Display for Writes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(what, (count, _))| format!("{count} × {what}")).collect();
        f.write_str(if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }.as_str())
    }
}
