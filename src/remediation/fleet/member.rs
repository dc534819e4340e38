//! Who is on the board.

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::{Key, WorkloadRef};
use crate::remediation::input::Health;

/// Which object is meant, of any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its kind: `Connector`, `MonitoredBackend`.
    pub kind: &'static str,
    /// Its namespace and name.
    pub key: Key,
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// An object, as far as others are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its failure domain, `<namespace>/<site>`.
    pub site: Arc<str>,
    /// The workload that would be restarted; without one the object stands for itself.
    pub workload: Option<WorkloadRef>,
    /// How it is: as judged since we lead, until then as it was stored.
    pub health: Health,
    /// When it turned unhealthy, while it is ([`crate::remediation::history::unhealthy_since`]).
    pub unhealthy_since: Option<Timestamp>,
    /// It was healthy once; what never was counts in no share.
    pub was_healthy: bool,
    /// The attempt that its status says is under way.
    pub in_flight: Option<InFlight>,
    /// Attempts in its ledger.
    pub attempts: i32,
    /// `maxAttempts`; `None` without remedies.
    pub max_attempts: Option<i32>,
}

/// An attempt under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Its id.
    pub id: String,
    /// When it was decided.
    pub start: Timestamp,
}

/// A site whose brake is engaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Braked {
    /// `<namespace>/<site>`.
    pub site: Arc<str>,
    /// Workloads of it that are unhealthy or being restarted.
    pub unhealthy: usize,
    /// Workloads of it that were healthy once.
    pub all: usize,
}

/// What is restarted together, and is counted once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RestartUnit {
    Workload(Arc<str>, WorkloadRef),
    Object(ObjectId),
}

impl RestartUnit {
    pub(super) fn of(id: &ObjectId, member: &Member) -> Self {
        match &member.workload {
            Some(reference) => Self::Workload(id.key.namespace.clone(), reference.clone()),
            None => Self::Object(id.clone()),
        }
    }
}
