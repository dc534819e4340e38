//! A backend that fails in every way on request: `tests/backends/misbehave` as a local process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::process::run;
use super::{http, text};

fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backends/build");
        let said = run(Command::new(script).arg("misbehave")).ok();
        let directory = said.lines().last().expect("the build prints where it built").trim().to_owned();
        Path::new(&directory).join("misbehave")
    })
}

/// A running misbehave; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Misbehave {
    child: Child,
    /// The address that is probed.
    pub(crate) main: SocketAddr,
    /// A second address with the same pages, if requested.
    pub(crate) management: Option<SocketAddr>,
    control: SocketAddr,
}

impl Misbehave {
    /// Starts it on a free port of 127.0.0.1.
    pub(crate) fn start() -> Self {
        Self::with(&["--listen", "127.0.0.1:0"])
    }

    pub(crate) fn with(flags: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(flags).args(["--control", "127.0.0.1:0"]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("misbehave starts");
        let mut line = String::new();
        let said = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        assert!(matches!(said, Some(Ok(1..))), "misbehave says where it listens");
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let address = |name: &str| text(&said, &format!("/{name}")).parse().ok();
        let (main, control) = (address("main"), address("control"));
        Self {
            child,
            main: main.unwrap_or_else(|| panic!("no main port in {line}")),
            management: address("management"),
            control: control.unwrap_or_else(|| panic!("no control port in {line}")),
        }
    }

    /// `http://` of its main port, and this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.main)
    }

    /// Sets the answer to all requests from now on: `hang`, `status/503`, `ok`; parameters follow after `&`.
    pub(crate) fn set(&self, mode: &str) {
        let answer = http::get(self.control, &format!("/_/mode?set={mode}")).expect("its control port answers");
        assert_eq!(answer.status, 200, "{mode}: {answer:?}");
    }

    /// `refuse` closes its ports, `open` opens them again.
    pub(crate) fn command(&self, what: &str) {
        let request = format!("POST /_/{what} HTTP/1.1\r\nHost: it\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let answer = http::exchange(self.control, request.as_bytes()).expect("its control port answers");
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
    }

    fn journal(&self) -> Value {
        http::get(self.control, "/_/requests").expect("its control port answers").json()
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.journal()["requests"].as_array().cloned().unwrap_or_default()
    }

    /// Number of connections to its main port.
    pub(crate) fn connections(&self) -> u64 {
        self.journal().pointer("/connections/main").and_then(Value::as_u64).unwrap_or(0)
    }
}

impl Drop for Misbehave {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
