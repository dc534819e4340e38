//! How far a probe got, noted on the way, so that one that is cut off by its deadline still says so.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::stream::Watch;
use super::tls::Noted;
use super::{Failure, Outcome, Seen, Spent, connect, page};
use crate::api::{ErrorClass, Phase};

/// The notes of one probe.
pub(super) struct ProbeTrace {
    begun: Instant,
    since: Instant,
    /// The phase that it is in.
    pub(super) phase: Phase,
    spent: Spent,
    /// What was seen.
    pub(super) seen: Seen,
    /// Addresses that did not accept this connection.
    pub(super) tried: Vec<(SocketAddr, io::Error)>,
    /// What came over the wire of this connection.
    pub(super) wire: Option<Arc<Watch>>,
    /// What its TLS handshake showed.
    pub(super) handshake: Option<Arc<Mutex<Noted>>>,
    /// What came as the answer of this connection, decrypted, where its first byte says that it has begun.
    pub(super) answer: Option<Arc<Watch>>,
    /// The failure that it is already, while more is read for what it may tell.
    pub(super) judged: Option<Failure>,
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
            seen: Seen::default(),
            tried: Vec::new(),
            wire: None,
            handshake: None,
            answer: None,
            judged: None,
            page: None,
        }
    }

    /// Ends the phase that it is in, and begins `phase`.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.enter_at(phase, Instant::now());
    }

    fn enter_at(&mut self, phase: Phase, now: Instant) {
        self.spent.add(self.phase, now.saturating_duration_since(self.since));
        self.phase = phase;
        self.since = now;
    }

    /// A new connection, after a redirect: what is known of the last one's wire is kept, the rest begins anew.
    pub(super) fn enter_next_connection(&mut self) {
        self.note();
        self.enter(Phase::Resolve);
        self.tried.clear();
        self.wire = None;
        self.handshake = None;
        self.answer = None;
    }

    /// The first byte of the answer has come, if it has: the rest is its body. The time is that of the byte, not that
    /// at which we looked.
    pub(super) fn enter_body(&mut self) {
        if self.phase != Phase::FirstByte {
            return;
        }
        let first = self.answer.as_ref().and_then(|answer| answer.first_at());
        if let Some(first) = first {
            self.enter_at(Phase::Body, first.max(self.since));
        }
    }

    /// A failure in the phase that it is in.
    pub(super) fn fails(&self, class: ErrorClass, message: impl Into<String>) -> Failure {
        Failure::new(class, self.phase, message)
    }

    /// The failure of a probe that its deadline cut off.
    pub(super) fn out_of_time(&mut self, timeout: Duration) -> Failure {
        if let Some(failure) = self.judged.take() {
            return failure;
        }
        self.enter_body();
        let within = format!("within {} s", timeout.as_secs_f64());
        let began = self.wire.as_ref().is_some_and(|wire| wire.received() > 0);
        match self.phase {
            Phase::Resolve | Phase::Policy => {
                self.fails(ErrorClass::DNSTimeout, format!("the name was not resolved {within}"))
            }
            Phase::Connect => connect::failure(&self.tried, Some(&within)),
            Phase::TLS if began => {
                self.fails(ErrorClass::TLSHandshake, format!("TLS began and was not set up {within}"))
            }
            Phase::TLS => self.fails(
                ErrorClass::FirstByteTimeout,
                format!("connected, but nothing answered the first TLS message {within}"),
            ),
            Phase::FirstByte => {
                self.fails(ErrorClass::FirstByteTimeout, format!("connected, but no byte of an answer came {within}"))
            }
            Phase::Body => self.fails(
                ErrorClass::BodyTimeout,
                format!("the answer began and did not end {within}; {} bytes of its body came", self.seen.body_bytes),
            ),
        }
    }

    /// Notes what this connection showed, whatever came of it.
    pub(super) fn note(&mut self) {
        self.seen.any_byte |= self.wire.as_ref().is_some_and(|wire| wire.received() > 0);
        if let Some(handshake) = &self.handshake {
            let noted = handshake.lock();
            self.seen.certificate_expires = noted.validity.map(|(_, ends)| ends).or(self.seen.certificate_expires);
            self.seen.client_certificate_wanted |= noted.client_wanted;
        }
    }

    /// The outcome. A failure has ended in the phase that it names.
    pub(super) fn end(mut self, result: Result<(), Failure>) -> Outcome {
        self.note();
        self.enter_body();
        self.enter(self.phase);
        if let Some(reader) = &self.page {
            self.seen.page = Some(reader.page().clone());
        }
        Outcome { result, took: self.since.duration_since(self.begun), spent: self.spent, seen: self.seen }
    }
}
