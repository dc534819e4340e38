//! An operator that keeps the last heartbeat, and answers as a test asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

const ANSWER: &str = r#"{"status":"ok","state":"Online","next_heartbeat_seconds":5,"actions":[]}"#;

/// What it does, and what it has heard.
#[derive(Default)]
struct State {
    last: Value,
    /// So many heartbeats are refused.
    to_refuse: usize,
    /// Its clock minus ours.
    clock: SignedDuration,
}

/// The operator. Its thread ends with the process.
#[derive(Clone)]
pub(super) struct StandIn {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl StandIn {
    /// Listens at an address of this machine.
    pub(super) fn start(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("the address of the machine's link is ours");
        let stand_in = Self { address: listener.local_addr().expect("it is bound"), state: Arc::default() };
        let answering = stand_in.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answering = answering.clone();
                // An agent that goes away ends its connection.
                std::thread::spawn(move || drop(answering.serve(&stream)));
            }
        });
        stand_in
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The last heartbeat that it accepted.
    pub(super) fn last(&self) -> Value {
        self.state.lock().unwrap().last.clone()
    }

    pub(super) fn refuse(&self, heartbeats: usize) {
        self.state.lock().unwrap().to_refuse = heartbeats;
    }

    pub(super) fn set_clock(&self, ahead: SignedDuration) {
        self.state.lock().unwrap().clock = ahead;
    }

    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut stream = stream;
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                let line = line.trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(("content-length", value)) = line.split_once(": ") {
                    length = value.parse().expect("it is a number");
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            write!(stream, "{}", self.answer(&body))?;
        }
    }

    fn answer(&self, body: &[u8]) -> String {
        let mut state = self.state.lock().unwrap();
        let date = (Timestamp::now() + state.clock).strftime("%a, %d %b %Y %H:%M:%S GMT");
        if state.to_refuse > 0 {
            state.to_refuse -= 1;
            return format!("HTTP/1.1 503 Service Unavailable\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n");
        }
        let body: Value = serde_json::from_slice(body).expect("a heartbeat is JSON");
        if body.get("dry_run").is_none() {
            state.last = body;
        }
        let length = ANSWER.len();
        format!(
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{ANSWER}"
        )
    }
}
