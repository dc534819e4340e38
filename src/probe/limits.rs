//! The time limits of a probe by phase, and the limits of an answer's head.
//!
//! `spec.probe.timeoutSeconds` ([`Request::timeout`](super::Request); default 5 s, at most the interval) limits the whole
//! probe, from the resolution of the name to the end of the answer. Of the phases ([`Phase`](crate::api::Phase)), only
//! `Resolve` has a limit of its own, [`Limits::resolve`]. `Policy`, `Connect`, `TLS`, `FirstByte` and `Body` share the rest of
//! the probe's timeout. The phase in which the timeout ends decides the error class of the failure.

use std::time::Duration;

/// The limits of a probe besides its own timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time limit of name resolution.
    pub resolve: Duration,
    /// The largest head of an answer, in bytes.
    pub head_bytes: usize,
    /// The most headers of an answer.
    pub headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // Five seconds is the default timeout of resolv.conf; 64 KiB of headers is more than servers of any kind send.
        // Go and curl have no limit near the number of headers that servers send.
        Self { resolve: Duration::from_secs(5), head_bytes: 64 << 10, headers: 1024 }
    }
}

/// The longest wait of a name lookup for its permit.
pub(super) const LOOKUP_PERMIT_WAIT: Duration = Duration::from_secs(5);
/// The duration from which a name lookup is slow. It is also the shortest time after which the C library gives up on a silent
/// server (`options timeout:1` in resolv.conf(5)). Only the time distinguishes "no answer" from "an answer that
/// reports a failure": getaddrinfo has one code, EAI_AGAIN, for both.
pub(super) const SLOW_LOOKUP: Duration = Duration::from_millis(950);
/// The time between attempts to connect to two addresses (RFC 8305, section 5).
pub(super) const CONNECT_STAGGER: Duration = Duration::from_millis(250);
