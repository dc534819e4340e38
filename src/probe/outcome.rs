//! What one probe brought.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::{ErrorClass, Phase};

/// How a probe failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class, from the closed set.
    pub class: ErrorClass,
    /// How far it got.
    pub phase: Phase,
    /// A sentence for status and events: no byte that the far side sent is in it, but numbers (a status, a line, an
    /// offset, a size) may be.
    pub message: String,
    /// The same with what the far side sent (a line, a reason), at most 512 characters, for `vigie probe` and
    /// `vigie diagnose` alone.
    pub detail: Option<String>,
}

impl Failure {
    /// How many characters of what the far side sent are shown at most.
    pub const LONGEST_DETAIL: usize = 512;

    /// A failure in our own words.
    pub fn new(class: ErrorClass, phase: Phase, message: impl Into<String>) -> Self {
        Self { class, phase, message: message.into(), detail: None }
    }

    /// The same with what the far side sent, made fit to be shown ([`shown`]).
    #[must_use]
    pub fn with_detail(self, sent: &[u8]) -> Self {
        let detail = shown(sent);
        Self { detail: (!detail.is_empty()).then_some(detail), ..self }
    }
}

/// What the far side sent, as a terminal may show it: at most [`Failure::LONGEST_DETAIL`] characters, and every
/// character that would not show as itself (controls, marks that turn the direction of writing) escaped.
pub fn shown(sent: &[u8]) -> String {
    // Four bytes a character at most: no more of a long body is looked at.
    let sent = &sent[..sent.len().min(4 * Failure::LONGEST_DETAIL)];
    let mut shown = String::new();
    let mut length = 0;
    for c in String::from_utf8_lossy(sent).trim().chars() {
        // `escape_debug` leaves what can be printed, and escapes quotes, which need no escape here.
        let escaped: String = if matches!(c, '"' | '\'') { c.to_string() } else { c.escape_debug().collect() };
        length += escaped.chars().count();
        if length > Failure::LONGEST_DETAIL {
            break;
        }
        shown.push_str(&escaped);
    }
    shown
}

/// How long each phase took; one that was not entered took nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent([Option<Duration>; Phase::ALL.len()]);

impl Spent {
    /// Notes a phase; a second time (after a redirect) adds to the first.
    pub fn add(&mut self, phase: Phase, took: Duration) {
        let spent = &mut self.0[phase as usize];
        *spent = Some(spent.unwrap_or_default() + took);
    }

    /// How long `phase` took; `None` when it was not entered.
    pub fn on(&self, phase: Phase) -> Option<Duration> {
        self.0[phase as usize]
    }

    /// The phases that were entered, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, Duration)> {
        Phase::ALL.iter().filter_map(|phase| Some((*phase, self.0[*phase as usize]?)))
    }
}

/// What was seen on the way, whether the probe passed or failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The address that the (last) connection went to.
    pub address: Option<SocketAddr>,
    /// Any byte came from the far side: we are not blind, whatever else is wrong.
    pub any_byte: bool,
    /// The status of the last HTTP answer.
    pub http_status: Option<u16>,
    /// When the certificate that was shown expires, whether it was believed or not.
    pub certificate_expires: Option<Timestamp>,
    /// The far side asked for a client certificate and we had none to give. It may go on without one; where the probe
    /// then fails with `TLSHandshake`, it did not.
    pub client_certificate_wanted: bool,
    /// How many redirects were followed.
    pub redirects: usize,
    /// A redirect, followed or not, looks like one to a login page: its path says so.
    pub redirects_to_login: bool,
    /// The gRPC health service says NOT_SERVING.
    pub not_serving: bool,
    /// How many bytes the body had, uncompressed, as far as it was read.
    pub body_bytes: u64,
    /// The body, where the request asked to keep it; at most [`super::HttpOptions::most_kept`] bytes. Never shown.
    pub body: Option<Vec<u8>>,
    /// The metrics page, where one was asked for and its parsing began.
    pub page: Option<Page>,
}

/// What a metrics page held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Samples, as far as it was read.
    pub samples: u64,
    /// Where it is broken: line (from 1) and byte offset in the page (from 0).
    pub broken_at: Option<(u64, u64)>,
    /// Names from `required` that it lacks: the user's own words.
    pub missing: Vec<String>,
}

/// What one probe brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Passed, or how it failed.
    pub result: Result<(), Failure>,
    /// The whole time.
    pub took: Duration,
    /// The time of each phase.
    pub spent: Spent,
    /// What was seen on the way.
    pub seen: Seen,
}
