//! One process of the built operator.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::metrics::Scrape;
use super::proxy::Proxy;
use super::{eventually, http, process, seconds, text};

/// Timeout of a start on a machine where a dozen tests run in parallel. Not a promise of the product.
const START: Duration = seconds(120);

/// The start parameters of an operator, kept for a restart.
#[derive(Clone, Debug)]
pub(crate) struct Flags {
    pub(crate) all: Vec<String>,
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) log: PathBuf,
    /// Another binary than the built one.
    pub(crate) binary: Option<PathBuf>,
    pub(crate) beats: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// A running operator; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Operator {
    flags: Flags,
    child: Child,
    /// Its connection to the API server.
    pub(crate) proxy: Proxy,
    /// Length of its log in bytes when this process started.
    log_from: usize,
}

/// A port that is unused, and that no outgoing connection of this machine can take: a restarted operator needs its old
/// port again.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the ephemeral range (32768 on Linux), and above the ports that clusters choose from
    // (tests/cluster/lib/ports.sh): neither sees a port that the other has chosen and not opened yet. Two runs of the
    // suite at once begin at different ports.
    let base = 30_000 + (std::process::id() % 25) as u16 * 100;
    for _ in 0..2_500 {
        let port = 30_000 + (base - 30_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 2_500;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 30000 and 32500");
}

impl Operator {
    /// Starts an operator and waits until its ports are open.
    pub(crate) async fn start(flags: Flags, proxy: Proxy) -> Self {
        let log_from = std::fs::read(&flags.log).map_or(0, |log| log.len());
        let child = spawn(&flags);
        let mut operator = Self { flags, child, proxy, log_from };
        operator.listening().await;
        operator
    }

    /// Waits until its log gives its addresses, and until the ports accept connections.
    async fn listening(&mut self) {
        let (beats, admin) = (self.flags.beats, self.flags.admin);
        let began = Instant::now();
        // The log is text or JSON.
        let wanted = [beats.to_string(), admin.to_string()];
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the operator ended with {status} while it started: {}", self.log());
            }
            let log = self.log();
            let said = log.lines().any(|line| line.contains("listening") && wanted.iter().all(|w| line.contains(w)));
            if said && http::get(admin, "/livez").is_ok() {
                return;
            }
            assert!(began.elapsed() < START, "it never said {wanted:?}: {log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until it accepts beats.
    pub(crate) async fn hearing(&self) {
        eventually(START, "the operator hears beats", async || match http::get(self.beats(), "/api/health") {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// The address of the heartbeat port.
    pub(crate) fn beats(&self) -> SocketAddr {
        self.flags.beats
    }

    /// The address of the admin port.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.flags.admin
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.flags.admin)
    }

    /// The log of this process.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(&self.flags.log).unwrap_or_default();
        String::from_utf8_lossy(log.get(self.log_from..).unwrap_or_default()).into_owned()
    }

    /// Whether the machine stalled it for more than 2 s at least once. The operator logs this, and does not count the
    /// stall as silence.
    pub(crate) fn froze(&self) -> bool {
        self.log().contains("this process did not run for a while")
    }

    /// Fails unless `since` is `deadline`. A later time is allowed after a stall, when silence did not count.
    #[track_caller]
    pub(crate) fn has_dated(&self, since: Timestamp, deadline: Timestamp) {
        assert!(since == deadline || since > deadline && self.froze(), "{since} is not the deadline, {deadline}");
    }

    /// One scrape of its metrics.
    pub(crate) fn scrape(&self) -> Scrape {
        let answer = http::get(self.admin(), "/metrics").expect("the admin port answers");
        assert_eq!(answer.status, 200, "{answer:?}");
        Scrape(answer.body)
    }

    /// One connector in its own API.
    pub(crate) fn view(&self, name: &str) -> Option<Value> {
        self.try_view(name).expect("the admin port answers")
    }

    /// One connector in its own API, of an operator that may be starting again.
    pub(crate) fn try_view(&self, name: &str) -> io::Result<Option<Value>> {
        let answer = http::get(self.admin(), "/api/v1/connectors")?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let items = answer.json()["items"].as_array().cloned().unwrap_or_default();
        Ok(items.into_iter().find(|item| text(item, "/name") == name))
    }

    /// Waits until its own API gives this state.
    pub(crate) async fn says(&self, within: Duration, name: &str, state: &str) -> Value {
        eventually(within, &format!("the operator's own API says {state} of {name}"), async || {
            let view = self.view(name).unwrap_or_default();
            if text(&view, "/state") == state { Ok(view) } else { Err(format!("{view}")) }
        })
        .await
    }

    /// Its command line and environment, as any user of the machine may read them.
    pub(crate) fn command_line(&self) -> String {
        let read = |what| std::fs::read(format!("/proc/{}/{what}", self.child.id())).unwrap_or_default();
        String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: &str) {
        process::signal(self.child.id(), signal);
    }

    /// Kills it without a warning.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Adds flags for the next start.
    pub(crate) fn add_flags(&mut self, flags: &[&str]) {
        self.flags.all.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }

    /// Adds variables to its environment for the next start.
    pub(crate) fn add_environment(&mut self, more: impl IntoIterator<Item = (&'static str, String)>) {
        self.flags.env.extend(more);
    }

    /// Changes the value of a flag for the next start.
    pub(crate) fn change_flag(&mut self, flag: &str, value: &str) {
        let at = self.flags.all.iter().position(|known| known == flag).expect("it has this flag");
        value.clone_into(&mut self.flags.all[at + 1]);
    }

    /// Removes a flag and its value for the next start.
    pub(crate) fn drop_flag(&mut self, flag: &str) {
        let at = self.flags.all.iter().position(|known| known == flag).expect("it has this flag");
        self.flags.all.drain(at..at + 2);
    }

    /// Another binary for the next start; `None` for the built one.
    pub(crate) fn change_binary(&mut self, binary: Option<PathBuf>) {
        self.flags.binary = binary;
    }

    /// Starts it again with the same parameters, after it ended.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.log_from = std::fs::read(&self.flags.log).map_or(0, |log| log.len());
        self.child = spawn(&self.flags);
        self.listening().await;
    }

    /// Waits until it ends; returns the exit code and the duration.
    pub(crate) async fn ended(&mut self, within: Duration) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let status = eventually(within, "the operator ends", async || {
            self.child.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it runs".to_owned())
        })
        .await;
        (status.code(), began.elapsed())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(flags: &Flags) -> Child {
    let log = File::options().create(true).append(true).open(&flags.log).expect("the log can be written");
    // As containers often start: with a soft limit of open files for programs that use `select`.
    let mut command = Command::new("sh");
    let binary = flags.binary.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_vigie").into());
    command.args(["-c", "ulimit -Sn 1024 && exec \"$0\" \"$@\""]).arg(binary);
    for (name, _) in std::env::vars_os() {
        // The operator must not inherit vigie variables from the environment of the test run.
        if name.to_string_lossy().starts_with("VIGIE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("KUBECONFIG").env_remove("POD_NAME").env_remove("POD_NAMESPACE");
    command.envs(flags.env.iter().map(|(name, value)| (name, value)));
    command.arg("run").args(&flags.all).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
    command.spawn().expect("the built binary can be started")
}
