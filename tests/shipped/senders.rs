//! The view of the senders: a connector that beats throughout, and the answers to others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::support::beats::Beaten;
use crate::support::http::{self, beat_request};
use crate::support::world::SOON;
use crate::support::{Connector, eventually};

/// The kinds of answers to these beats, and the number of each.
pub(crate) fn kinds(of: &[Beaten]) -> Vec<(String, usize)> {
    let mut kinds = std::collections::BTreeMap::new();
    for beaten in of {
        let kind = match &beaten.answer {
            Ok(answer) => format!("{} Retry-After {:?}", answer.status, answer.header("retry-after")),
            Err(error) => error.clone(),
        };
        *kinds.entry(kind).or_insert(0) += 1;
    }
    kinds.into_iter().collect()
}

/// Timeout of the pulse: a lost packet must not hide the moment when beats are heard again.
const PATIENCE: Duration = Duration::from_secs(1);

/// One connector that beats every second, and records which beats were heard.
pub(crate) struct Pulse {
    beats: Arc<std::sync::Mutex<Vec<(Timestamp, Timestamp, bool)>>>,
    stop: Arc<AtomicBool>,
}

impl Pulse {
    pub(crate) fn start(to: SocketAddr, connector: &Connector) -> Self {
        let (beats, stop) = (Arc::<std::sync::Mutex<Vec<_>>>::default(), Arc::new(AtomicBool::new(false)));
        let (request, kept, stopped) =
            (beat_request(&connector.body(&Value::Null), "Connection: close\r\n"), beats.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let sent = Timestamp::now();
                let heard =
                    exchange_within(PATIENCE, to, &request).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
                kept.lock().unwrap().push((sent, Timestamp::now(), heard));
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Self { beats, stop }
    }

    pub(crate) fn halt(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops it; returns when the last beat was over: a beat whose answer came too late was still received.
    pub(crate) fn stop(self) -> Option<Timestamp> {
        self.halt();
        self.beats.lock().unwrap().last().map(|(_, answered, _)| *answered)
    }

    /// The longest time since then in which no beat was heard: from the sending of the first unheard beat to the answer
    /// to the next heard one. Zero when all were heard. `None` while it is not known.
    pub(crate) fn deaf_for(&self, since: Timestamp) -> Option<jiff::SignedDuration> {
        // Longer than an election takes: earlier, a heard beat may precede the outage.
        if Timestamp::now().duration_since(since) < jiff::SignedDuration::from_secs(20) {
            return None;
        }
        let (mut longest, mut deaf_since) = (jiff::SignedDuration::ZERO, None);
        for (sent, answered, heard) in self.beats.lock().unwrap().iter().filter(|(sent, ..)| *sent > since) {
            match (heard, deaf_since) {
                (true, Some(from)) => {
                    longest = longest.max(answered.duration_since(from));
                    deaf_since = None;
                }
                (false, None) => deaf_since = Some(*sent),
                _ => {}
            }
        }
        deaf_since.is_none().then_some(longest)
    }

    /// The start of a silence that has lasted at least this long since then. One late answer on a loaded machine is no
    /// silence.
    pub(crate) fn unheard_for(&self, at_least: jiff::SignedDuration, since: Timestamp) -> Option<Timestamp> {
        let mut from = None;
        for (sent, answered, heard) in self.beats.lock().unwrap().iter().filter(|(sent, ..)| *sent > since) {
            if *heard {
                from = None;
            } else if answered.duration_since(*from.get_or_insert(*sent)) >= at_least {
                return from;
            }
        }
        None
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Beats until it is heard: a Service refuses connections until every node knows the leader.
pub(crate) async fn heard(edge: &Connector, to: SocketAddr) {
    eventually(SOON, "a beat is heard", async || match http::post_beat(to, &edge.body(&Value::Null)) {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

fn exchange_within(patience: Duration, to: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(bytes)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
