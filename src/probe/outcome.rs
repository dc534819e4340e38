//! The outcome of one probe.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::{ErrorClass, Phase};

/// The failure of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class, from the closed set.
    pub class: ErrorClass,
    /// The phase in which it failed.
    pub phase: Phase,
    /// A sentence for status and events. It contains no byte that the far side sent, except numbers (a status, a line, an
    /// offset, a size).
    pub message: String,
    /// Text that the far side sent (a line, a reason), at most 512 characters, for `vigie probe` and `vigie diagnose` only.
    pub detail: Option<String>,
}

impl Failure {
    /// The longest detail, in characters.
    pub const MAX_DETAIL: usize = 512;

    /// A failure without detail.
    pub fn new(class: ErrorClass, phase: Phase, message: impl Into<String>) -> Self {
        Self { class, phase, message: message.into(), detail: None }
    }

    /// Adds bytes that the far side sent, escaped by [`shown`].
    #[must_use]
    pub fn with_detail(self, sent: &[u8]) -> Self {
        let detail = shown(sent);
        Self { detail: (!detail.is_empty()).then_some(detail), ..self }
    }
}

/// Escapes bytes of the far side for a terminal: at most [`Failure::MAX_DETAIL`] characters, and every character that
/// does not print as itself (controls, marks that change the direction of writing) escaped.
pub fn shown(sent: &[u8]) -> String {
    // A character has at most four bytes: the rest of a long body is not needed.
    let sent = &sent[..sent.len().min(4 * Failure::MAX_DETAIL)];
    let mut shown = String::new();
    let mut length = 0;
    for c in String::from_utf8_lossy(sent).trim().chars() {
        // `escape_debug` keeps printable characters, but also escapes quotes, which need no escape here.
        let escaped: String = if matches!(c, '"' | '\'') { c.to_string() } else { c.escape_debug().collect() };
        length += escaped.chars().count();
        if length > Failure::MAX_DETAIL {
            break;
        }
        shown.push_str(&escaped);
    }
    shown
}

/// The duration of each phase that was entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent([Option<Duration>; Phase::ALL.len()]);

impl Spent {
    /// Adds to the duration of `phase`, which a redirect enters again.
    pub fn add(&mut self, phase: Phase, took: Duration) {
        let spent = &mut self.0[phase as usize];
        *spent = Some(spent.unwrap_or_default() + took);
    }

    /// The duration of `phase`; `None` when it was not entered.
    pub fn on(&self, phase: Phase) -> Option<Duration> {
        self.0[phase as usize]
    }

    /// The phases that were entered, in their order, with their durations.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, Duration)> {
        Phase::ALL.iter().filter_map(|phase| Some((*phase, self.0[*phase as usize]?)))
    }
}

/// The observations of a probe, whether it passed or failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeObservations {
    /// The address of the last connection.
    pub address: Option<SocketAddr>,
    /// The first address that was dialled last, whether it accepted or not.
    pub dialled: Option<SocketAddr>,
    /// Any byte was received from the far side. The network works, whatever else is wrong.
    pub any_byte: bool,
    /// The status of the last HTTP answer.
    pub http_status: Option<u16>,
    /// The expiry of the presented certificate, whether it was accepted or not.
    pub certificate_expires: Option<Timestamp>,
    /// The far side requested a client certificate and there was none to present. It may continue without one; it did not
    /// if the probe then failed with `TLSHandshake`.
    pub client_certificate_wanted: bool,
    /// The number of redirects that were followed.
    pub redirects: usize,
    /// A redirect, followed or not, leads to a login page by its path.
    pub redirects_to_login: bool,
    /// The gRPC status that the server sent, or that its answer SERVICE_UNKNOWN means, unless it is 0.
    pub grpc_status: Option<i32>,
    /// The gRPC health service answered NOT_SERVING.
    pub not_serving: bool,
    /// The bytes of the body that were read, uncompressed.
    pub body_bytes: u64,
    /// The body, if the request keeps it; at most [`super::HttpOptions::most_kept`] bytes. Never shown.
    pub body: Option<Vec<u8>>,
    /// The metrics page, if one was requested and its parsing began.
    pub page: Option<Page>,
}

/// The content of a metrics page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The number of samples that were read.
    pub samples: u64,
    /// The position of the error: line (from 1) and byte offset in the page (from 0).
    pub broken_at: Option<(u64, u64)>,
    /// The names from `required` that it lacks.
    pub missing: Vec<String>,
}

/// The outcome of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Passed, or the failure.
    pub result: Result<(), Failure>,
    /// The duration of the whole probe.
    pub took: Duration,
    /// The duration of each phase.
    pub spent: Spent,
    /// The observations.
    pub seen: ProbeObservations,
}
