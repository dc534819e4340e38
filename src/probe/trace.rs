//! The trace of one probe: its phases and everything it learns, recorded as it happens. A probe that its deadline cuts
//! off can still report how far it got.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::outcome::{Failure, Outcome, ProbeObservations, Spent};
use super::stream::Received;
use super::{connect, page};
use crate::api::{ErrorClass, Phase};

/// The record of one TLS handshake.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// The beginning and the end of the validity of the presented certificate.
    pub(super) validity: Option<(Timestamp, Timestamp)>,
    /// What in the presented certificates is not accepted, as the rest of a sentence.
    pub(super) fault: Option<String>,
    /// The server requested a client certificate, and there was none to present.
    pub(super) client_wanted: bool,
}

/// The trace of one probe.
pub(super) struct ProbeTrace {
    begun: Instant,
    /// The beginning of the current phase.
    since: Instant,
    /// The current phase.
    pub(super) phase: Phase,
    spent: Spent,
    /// The observations for the outcome.
    pub(super) seen: ProbeObservations,
    /// The addresses that did not accept this connection, and their errors.
    pub(super) tried: Vec<(SocketAddr, io::Error)>,
    /// The bytes received over TCP on this connection.
    pub(super) wire: Option<Arc<Received>>,
    /// The TLS handshake of this connection.
    pub(super) handshake: Option<Arc<Mutex<Handshake>>>,
    /// The decrypted bytes of the answer on this connection. Its first byte begins the answer.
    pub(super) answer: Option<Arc<Received>>,
    /// The server refused the protocol that was offered within TLS.
    pub(super) protocol_refused: bool,
    /// The failure that is certain already, while the rest of the answer is read for its detail.
    pub(super) judged: Option<Failure>,
    /// The body was read and waits for its match with the expressions of the spec, or is being matched.
    pub(super) is_matching: bool,
    /// The reader of a metrics page, once the page has begun.
    pub(super) page: Option<page::Reader>,
}

impl ProbeTrace {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            since: now,
            phase: Phase::Resolve,
            spent: Spent::default(),
            seen: ProbeObservations::default(),
            tried: Vec::new(),
            wire: None,
            handshake: None,
            answer: None,
            protocol_refused: false,
            judged: None,
            is_matching: false,
            page: None,
        }
    }

    /// Ends the current phase and begins `phase`.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.enter_at(phase, Instant::now());
    }

    fn enter_at(&mut self, phase: Phase, now: Instant) {
        self.spent.add(self.phase, now.saturating_duration_since(self.since));
        self.phase = phase;
        self.since = now;
    }

    /// Begins a new connection after a redirect. The observations of the last connection are kept, the rest is reset.
    pub(super) fn enter_next_connection(&mut self) {
        self.observe_connection();
        self.enter(Phase::Resolve);
        self.tried.clear();
        self.wire = None;
        self.handshake = None;
        self.answer = None;
    }

    /// Begins the phase of the body, if the first byte of the answer has arrived: at the time of that byte, not at the
    /// time of this call.
    pub(super) fn enter_body(&mut self) {
        if self.phase != Phase::FirstByte {
            return;
        }
        let first = self.answer.as_ref().and_then(|answer| answer.first_at());
        if let Some(first) = first {
            self.enter_at(Phase::Body, first.max(self.since));
        }
    }

    /// A failure in the current phase.
    pub(super) fn failure(&self, class: ErrorClass, message: impl Into<String>) -> Failure {
        Failure::new(class, self.phase, message)
    }

    /// The failure of a probe that its timeout cut off.
    pub(super) fn timeout_failure(&mut self, timeout: Duration) -> Failure {
        if let Some(failure) = self.judged.take() {
            return failure;
        }
        self.enter_body();
        let within = format!("within {} s", timeout.as_secs_f64());
        let began = self.wire.as_ref().is_some_and(|wire| wire.total() > 0);
        match self.phase {
            Phase::Resolve | Phase::Policy => {
                self.failure(ErrorClass::DNSTimeout, format!("the name was not resolved {within}"))
            }
            Phase::Connect => connect::failure(&self.tried, Some(&within)),
            Phase::TLS if began => {
                self.failure(ErrorClass::TLSHandshake, format!("TLS began and was not set up {within}"))
            }
            Phase::TLS => self.failure(
                ErrorClass::FirstByteTimeout,
                format!("connected, but nothing answered the first TLS message {within}"),
            ),
            Phase::FirstByte => {
                self.failure(ErrorClass::FirstByteTimeout, format!("connected, but no byte of an answer came {within}"))
            }
            Phase::Body if self.is_matching => self.failure(
                ErrorClass::BodyTimeout,
                format!(
                    "the answer came and was not matched with bodyMatches and bodyNotMatches {within}: the expressions of \
                     other probes were first"
                ),
            ),
            Phase::Body => self.failure(
                ErrorClass::BodyTimeout,
                format!("the answer began and did not end {within}; {} bytes of its body came", self.seen.body_bytes),
            ),
        }
    }

    /// Copies the observations of this connection into the outcome, whether it failed or not.
    pub(super) fn observe_connection(&mut self) {
        self.seen.any_byte |= self.wire.as_ref().is_some_and(|wire| wire.total() > 0);
        if let Some(handshake) = &self.handshake {
            let handshake = handshake.lock();
            self.seen.certificate_expires = handshake.validity.map(|(_, ends)| ends).or(self.seen.certificate_expires);
            self.seen.client_certificate_wanted |= handshake.client_wanted;
        }
    }

    /// Ends the last phase and returns the outcome.
    pub(super) fn end(mut self, result: Result<(), Failure>) -> Outcome {
        self.observe_connection();
        self.enter_body();
        self.enter(self.phase);
        if let Some(reader) = &self.page {
            self.seen.page = Some(reader.page().clone());
        }
        Outcome { result, took: self.since.duration_since(self.begun), spent: self.spent, seen: self.seen }
    }
}
