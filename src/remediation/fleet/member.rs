//! The members of the fleet.

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::{Key, WorkloadRef};
use crate::remediation::input::ObjectHealth;

/// Identity of an object of either kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// `Connector` or `MonitoredBackend`.
    pub kind: &'static str,
    /// Namespace and name.
    pub key: Key,
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// The fields of an object that count for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The failure domain, `<namespace>/<site>`.
    pub site: Arc<str>,
    /// The workload that would be restarted; an object with neither this nor a unit is counted by itself.
    pub workload: Option<WorkloadRef>,
    /// The unit that an agent would restart.
    pub unit: Option<AgentUnit>,
    /// Health as evaluated in this epoch of leadership, until then as stored.
    pub health: ObjectHealth,
    /// When it turned unhealthy, while it is unhealthy ([`crate::remediation::history::unhealthy_since`]).
    pub unhealthy_since: Option<Timestamp>,
    /// Healthy at least once. Other objects count in no share.
    pub was_healthy: bool,
    /// The attempt in progress, by the status or by a claim.
    pub in_flight: Option<InFlight>,
    /// Attempts in the ledger.
    pub attempts: i32,
    /// `maxAttempts`; `None` without `spec.remediation`.
    pub max_attempts: Option<i32>,
}

/// A unit on the host of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentUnit {
    /// Name of the Connector whose agent it is, in the namespace of the object.
    pub connector: Arc<str>,
    /// Name of the unit.
    pub unit: Arc<str>,
}

/// An attempt in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Id of the attempt.
    pub id: String,
    /// Time of the decision.
    pub start: Timestamp,
}

/// A site whose brake is engaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrakedSite {
    /// `<namespace>/<site>`.
    pub site: Arc<str>,
    /// Workloads that are unhealthy or being restarted.
    pub unhealthy: usize,
    /// Workloads that were healthy at least once.
    pub total: usize,
}

/// The unit that is restarted as one and counted once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RestartUnit {
    Workload(Arc<str>, WorkloadRef),
    Agent(Arc<str>, AgentUnit),
    Object(ObjectId),
}

impl RestartUnit {
    pub(super) fn namespace(&self) -> &Arc<str> {
        match self {
            Self::Workload(namespace, _) | Self::Agent(namespace, _) => namespace,
            Self::Object(id) => &id.key.namespace,
        }
    }

    pub(super) fn of(id: &ObjectId, member: &Member) -> Self {
        match (&member.workload, &member.unit) {
            (Some(reference), _) => Self::Workload(id.key.namespace.clone(), reference.clone()),
            (None, Some(unit)) => Self::Agent(id.key.namespace.clone(), unit.clone()),
            (None, None) => Self::Object(id.clone()),
        }
    }
}
