//! The interface between the public port and the registry.

use std::net::IpAddr;

use super::entry::Told;
use super::payload::Beat;
use super::slow_hash::{Compared, Comparison};
use crate::api::ConnectorState;

/// The registry's reply to a heartbeat.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Accepted, or only authenticated when it was a dry run.
    Accepted {
        /// The state of the connector after it.
        state: ConnectorState,
        /// Seconds until the next heartbeat is due.
        next_heartbeat_seconds: u32,
        /// What the answer tells an agent.
        told: Told,
    },
    /// Accepted, from a valid connector far above its rate.
    TooOften {
        /// Seconds to wait before the next heartbeat.
        retry_after_seconds: u32,
    },
    /// Unknown connector, or a wrong, revoked or expired token.
    Rejected {
        /// Whether a connector has this id. For the log only: neither the answer nor its time reveals it.
        known: bool,
    },
    /// A connector whose token a user brings, after too many wrong tokens: it was not compared.
    NotCompared {
        /// Seconds until tokens are compared again.
        retry_after_seconds: u32,
    },
    /// A token that is to be compared with slow hashes, before it is received again by [`HeartbeatSink::receive_compared`].
    Uncompared(Box<Comparison>),
    /// A known connector whose token hashes are not loaded yet.
    NotLoaded {
        /// Seconds until they should be loaded.
        retry_after_seconds: u32,
    },
}

/// Whether this process accepts heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It leads.
    Yes,
    /// It led, cannot renew its Lease, and has not seen another leader: it accepts heartbeats.
    Uncertain {
        /// The explanation for `/api/health`.
        message: &'static str,
    },
    /// Another replica leads, or the connectors have not been read yet.
    No {
        /// The reason in one word (`not_leader`).
        reason: &'static str,
        /// The reason in a sentence.
        message: String,
        /// Seconds until the next attempt.
        retry_after_seconds: u32,
    },
}

/// The receiver of heartbeats: the registry.
pub trait HeartbeatSink: Send + Sync + 'static {
    /// Whether heartbeats are accepted now. Called for every request.
    fn acceptance(&self) -> Acceptance;
    /// Processes a heartbeat from `from`, in memory only.
    fn receive(&self, beat: &Beat<'_>, from: IpAddr) -> Reply;
    /// Processes the heartbeat that was answered [`Reply::Uncompared`], and never answers that again.
    fn receive_compared(&self, beat: &Beat<'_>, from: IpAddr, compared: &Compared) -> Reply;
}
