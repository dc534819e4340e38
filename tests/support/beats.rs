//! Senders of heartbeats.

use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::http::{Answer, post_beat};
use super::world::SOON;

/// A Connector object, as its sender knows it.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) token: String,
}

impl Connector {
    /// The same connector with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// The founding request, with these additional fields.
    pub(crate) fn body(&self, more: &Value) -> Vec<u8> {
        let mut body = json!({"connector_id": self.id, "token": self.token});
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        body.to_string().into_bytes()
    }

    /// Sends one beat; returns the answer, whatever its status.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub(crate) fn try_beat(&self, to: SocketAddr, more: &Value) -> Answer {
        post_beat(to, &self.body(more)).unwrap_or_else(|error| panic!("no answer to a beat of {}: {error}", self.id))
    }

    /// Sends one beat that must be answered 200.
    #[track_caller]
    pub(crate) fn beat(&self, to: SocketAddr) -> Beaten {
        self.beat_with(to, &Value::Null)
    }

    /// Sends one beat with more fields, that must be answered 200.
    #[track_caller]
    pub(crate) fn beat_with(&self, to: SocketAddr, more: &Value) -> Beaten {
        let (sent, answer) = self.ask(to, more);
        assert_eq!(answer.status, 200, "{answer:?}");
        Beaten { sent, answered: Timestamp::now(), answer: Ok(answer) }
    }

    /// The status of the answer to a beat; 200 also for a beat that was too frequent, because a test that waits for
    /// something beats more often than the rate limit allows, and such a beat still counts.
    #[track_caller]
    pub(crate) fn status(&self, to: SocketAddr) -> u16 {
        let (_, answer) = self.ask(to, &Value::Null);
        if answer.body.contains("\"too_often\"") { 200 } else { answer.status }
    }

    /// Beats until the answer concerns the beat and not a stalled machine, as a sender repeats after a Retry-After.
    /// Returns the time at which the last one was sent.
    #[track_caller]
    fn ask(&self, to: SocketAddr, more: &Value) -> (Timestamp, Answer) {
        let began = Instant::now();
        loop {
            let sent = Timestamp::now();
            let answer = self.try_beat(to, more);
            if !answer.is_frozen() || began.elapsed() > SOON {
                return (sent, answer);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A beat that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Beaten {
    pub(crate) sent: Timestamp,
    pub(crate) answered: Timestamp,
    /// The answer of the last replica that was tried.
    pub(crate) answer: Result<Answer, String>,
}

impl Beaten {
    pub(crate) fn status(&self) -> Option<u16> {
        self.answer.as_ref().ok().map(|answer| answer.status)
    }

    /// Whether it should have been answered 200, and was not.
    pub(crate) fn is_lost(&self) -> bool {
        !self.answer.as_ref().is_ok_and(|answer| answer.status == 200 || answer.is_frozen())
    }

    /// Whether this beat may have been received at `contact`.
    pub(crate) fn is_at(&self, contact: Timestamp) -> bool {
        // The operator realigns its reading of the wall clock when it is off by more than 20 ms.
        let grain = jiff::SignedDuration::from_millis(25);
        self.sent - grain <= contact && contact <= self.answered + grain
    }
}

/// A sender that beats until it is dropped. It is a thread, independent of what the test waits for.
pub(crate) struct Beater {
    beats: Arc<Mutex<Vec<Beaten>>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Beater {
    /// Beats at once and then every `interval`. With several addresses it tries one after the other until one does not
    /// answer 503, as a Service with a readiness check of its own would.
    pub(crate) fn start(to: &[SocketAddr], connector: &Connector, interval: Duration, more: Value) -> Self {
        let beats = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = channel();
        let (to, body, kept) = (to.to_vec(), connector.body(&more), beats.clone());
        let thread = std::thread::spawn(move || {
            loop {
                let beaten = beat_any(&to, &body);
                kept.lock().unwrap().push(beaten);
                if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Self { beats, stop: Some(stop), thread: Some(thread) }
    }

    /// Every beat so far.
    pub(crate) fn beats(&self) -> Vec<Beaten> {
        self.beats.lock().unwrap().clone()
    }

    /// The last beat so far that was answered 200.
    pub(crate) fn last_heard(&self) -> Option<Beaten> {
        self.beats().into_iter().rev().find(|beaten| beaten.status() == Some(200))
    }

    /// Stops the sender; returns every beat.
    pub(crate) fn stop(mut self) -> Vec<Beaten> {
        self.halt();
        self.beats()
    }

    fn halt(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Beater {
    fn drop(&mut self) {
        self.halt();
    }
}

fn beat_any(to: &[SocketAddr], body: &[u8]) -> Beaten {
    let mut last = None;
    for address in to {
        let sent = Timestamp::now();
        let answer = post_beat(*address, body).map_err(|error| error.to_string());
        let beaten = Beaten { sent, answered: Timestamp::now(), answer };
        let settled = beaten.status().is_some_and(|status| status != 503);
        last = Some(beaten);
        if settled {
            break;
        }
    }
    last.expect("a sender has at least one address")
}
