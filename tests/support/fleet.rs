//! Thousands of senders over a few connections, or each beat over its own connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::Connector;
use super::beats::Beaten;
use super::http::{Session, beat_request};

/// Answers so far.
#[derive(Debug, Default)]
struct Counts {
    heard: AtomicU64,
    unauthorized: AtomicU64,
}

/// Beats for many connectors, each every `interval`, until it is dropped.
pub(crate) struct Fleet {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<Vec<Beaten>>>,
}

impl Fleet {
    /// Starts to beat over this many connections; a connection that ends is reopened with its next beat.
    pub(crate) fn start(to: SocketAddr, edges: &[Connector], interval: Duration, connections: usize) -> Self {
        Self::run(to, edges, interval, connections, "")
    }

    /// Starts to beat as curl in a loop does: one connection per beat, at most this many at once.
    pub(crate) fn reconnecting(to: SocketAddr, edges: &[Connector], interval: Duration, at_once: usize) -> Self {
        Self::run(to, edges, interval, at_once, "Connection: close\r\n")
    }

    fn run(to: SocketAddr, edges: &[Connector], interval: Duration, connections: usize, header: &'static str) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let share = edges.chunks(edges.len().div_ceil(connections));
        let threads = share.map(|edges| {
            let bodies: Vec<_> = edges.iter().map(|edge| beat_request(&edge.body(&Value::Null), header)).collect();
            let (stop, counts) = (stop.clone(), counts.clone());
            std::thread::spawn(move || beat(to, &bodies, interval, &stop, &counts))
        });
        let threads = threads.collect();
        Self { stop, counts, threads }
    }

    /// Number of beats that were answered 200 so far.
    pub(crate) fn heard(&self) -> u64 {
        self.counts.heard.load(Ordering::Relaxed)
    }

    /// Number of beats that were answered 401 so far.
    pub(crate) fn unauthorized(&self) -> u64 {
        self.counts.unauthorized.load(Ordering::Relaxed)
    }

    /// Stops it; returns the beats that were not answered 200, in their order.
    pub(crate) fn stop(mut self) -> Vec<Beaten> {
        self.stop.store(true, Ordering::Relaxed);
        let mut wrong: Vec<_> = self.threads.drain(..).flat_map(|thread| thread.join().unwrap()).collect();
        wrong.sort_by_key(|beaten| beaten.sent);
        wrong
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn beat(to: SocketAddr, bodies: &[Vec<u8>], interval: Duration, stop: &AtomicBool, counts: &Counts) -> Vec<Beaten> {
    let mut wrong = Vec::new();
    let mut session = None;
    let began = Instant::now();
    for beat in 0.. {
        // Spread evenly, as in a real fleet.
        let due = interval.mul_f64(beat as f64 / bodies.len() as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let sent = Timestamp::now();
        let answer = exchange(&mut session, to, &bodies[beat % bodies.len()]);
        match answer {
            Ok(answer) if answer.status == 200 => {
                counts.heard.fetch_add(1, Ordering::Relaxed);
            }
            answer => {
                if answer.as_ref().is_ok_and(|answer| answer.status == 401) {
                    counts.unauthorized.fetch_add(1, Ordering::Relaxed);
                }
                let answer = answer.map_err(|error| error.to_string());
                wrong.push(Beaten { sent, answered: Timestamp::now(), answer });
            }
        }
    }
    wrong
}

fn exchange(session: &mut Option<Session>, to: SocketAddr, bytes: &[u8]) -> std::io::Result<super::http::Answer> {
    let mut open = match session.take() {
        Some(open) => open,
        None => Session::open(to)?,
    };
    open.send(bytes)?;
    let answer = open.receive()?;
    // The server closes the connection after a refusal.
    if answer.header("connection").is_none_or(|said| !said.eq_ignore_ascii_case("close")) {
        *session = Some(open);
    }
    Ok(answer)
}
