//! The release build of the operator, running against a cluster of this program.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::figures::say;
use crate::kubernetes::Cluster;
use crate::process::{Part, memory};

/// Timeout of each wait.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) beats: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Ports {
    pub(crate) fn free() -> anyhow::Result<Self> {
        let (beats, admin) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        Ok(Self { beats: beats.local_addr()?, admin: admin.local_addr()? })
    }

    pub(crate) async fn get(self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.admin).await?;
        // HTTP/1.0: the answer ends with the connection, however long it is.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let head =
            answer.windows(4).position(|at| at == b"\r\n\r\n").context("an answer without an end of its head")?;
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        Ok((status.context("an answer without a status")?, answer.split_off(head + 4)))
    }

    /// The number of `connectors` or `backends` in each state, by the operator's API.
    pub(crate) async fn states(self, kind: &str) -> anyhow::Result<BTreeMap<String, usize>> {
        let (status, body) = self.get(&format!("/api/v1/{kind}")).await?;
        anyhow::ensure!(status == 200, "the admin port answered {status}");
        let answer: Value = serde_json::from_slice(&body)?;
        let items = answer.get("items").and_then(Value::as_array).context("a list without items")?;
        let mut states = BTreeMap::new();
        for item in items {
            let state = item.get("state").and_then(Value::as_str).context("an object without a state")?;
            *states.entry(state.to_owned()).or_default() += 1;
        }
        Ok(states)
    }
}

/// `vigie run`, release build.
pub(crate) struct Running {
    pub(crate) part: Part,
    pub(crate) started: Timestamp,
}

impl Running {
    /// With `more` arguments in addition to the usual ones.
    pub(crate) fn start(cluster: &Cluster, ports: Ports, more: &[&str]) -> anyhow::Result<Self> {
        let kubeconfig = cluster.kubeconfig();
        let (beats, admin) = (ports.beats.to_string(), ports.admin.to_string());
        let kubeconfig = kubeconfig.to_str().context("the path of the kubeconfig")?;
        let mut args = vec!["run", "--kubeconfig", kubeconfig, "--log", "warn"];
        args.extend(["--listen", &beats, "--admin", &admin]);
        args.extend(more);
        let started = Timestamp::now();
        let part = Part::run(Path::new(env!("CARGO_BIN_EXE_vigie")), &args, Stdio::inherit())?;
        Ok(Self { part, started })
    }

    pub(crate) async fn report_start(&self, ports: Ports) -> anyhow::Result<()> {
        self.ready(ports).await?;
        say("from start to ready (/readyz), s", format!("{:.2}", seconds_since(self.started)));
        self.report_memory("when ready")
    }

    pub(crate) async fn ready(&self, ports: Ports) -> anyhow::Result<()> {
        until(Duration::from_millis(10), "the operator to be ready", async || {
            // At first the port is not open yet.
            Ok(ports.get("/readyz").await.is_ok_and(|(status, _)| status == 200))
        })
        .await
    }

    pub(crate) fn report_memory(&self, when: &str) -> anyhow::Result<()> {
        let (now, most) = memory(self.part.pid())?;
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let figures = format!("{:.1} (at most {:.1})", mebibytes(now), mebibytes(most));
        say(&format!("resident memory {when}, MiB"), figures);
        Ok(())
    }

    pub(crate) fn terminate(self) -> anyhow::Result<()> {
        let status = Command::new("kill").args(["-TERM", &self.part.pid().to_string()]).status()?;
        anyhow::ensure!(status.success(), "the operator could not be asked to stop");
        self.part.finish().map(drop)
    }
}

/// Polls `is_so` at this interval, for ten minutes at most.
pub(crate) async fn until(
    every: Duration,
    what: &str,
    mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !is_so().await? {
        anyhow::ensure!(begin.elapsed() < PATIENCE, "waited {} s in vain for {what}", PATIENCE.as_secs());
        tokio::time::sleep(every).await;
    }
    Ok(())
}

pub(crate) fn seconds_since(begin: Timestamp) -> f64 {
    (Timestamp::now() - begin).total(jiff::Unit::Second).unwrap_or(f64::NAN)
}
