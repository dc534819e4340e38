//! A real Prometheus as a process of this machine.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::operator::free_port;
use super::process::run;
use super::world::SOON;
use super::{World, eventually, http};

/// Debian's binary, installed or unpacked into the vigie cache.
pub(crate) fn binary() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/prometheus.sh");
    run(Command::new("sh").arg(script)).ok().trim().to_owned()
}

/// A running Prometheus; killed when it is dropped.
pub(crate) struct Prometheus {
    at: SocketAddr,
    child: Child,
}

impl Prometheus {
    /// Starts one that scrapes `jobs` every second and evaluates the rules of this file; waits until it answers.
    pub(crate) async fn start(world: &World, jobs: Value, rules: &Path) -> Self {
        let folder = world.folder("prometheus");
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "2s"},
            "rule_files": [rules], "scrape_configs": jobs,
        });
        let file = folder.join("prometheus.json");
        std::fs::write(&file, config.to_string()).expect("a test's directory can be written");
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = File::create(folder.join("log")).expect("a test's directory can be written");
        let child = Command::new(binary())
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={at}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus can be started");
        let prometheus = Self { at, child };
        eventually(SOON, "Prometheus answers", async || prometheus.ask("/-/ready").map(drop)).await;
        prometheus
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    fn ask(&self, path: &str) -> Result<String, String> {
        let answer = http::get(self.at, path).map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{}: {}", answer.status, answer.body)) }
    }

    /// The answer of its API at `path`.
    pub(crate) fn api(&self, path: &str) -> Result<Value, String> {
        let said: Value = serde_json::from_str(&self.ask(path)?).map_err(|error| error.to_string())?;
        Ok(said["data"].clone())
    }

    /// The current values of an expression; values that are not numbers are dropped.
    pub(crate) fn values(&self, expression: &str) -> Result<Vec<f64>, String> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.api(&format!("/api/v1/query?query={encoded}"))?;
        let series = data["result"].as_array().cloned().unwrap_or_default();
        let value = |one: &Value| one.pointer("/value/1")?.as_str()?.parse::<f64>().ok();
        Ok(series.iter().filter_map(value).filter(|value| !value.is_nan()).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
