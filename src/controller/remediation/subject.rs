//! The trait through which remediation reads an object of either kind.

use jiff::Timestamp;
use kube::Resource;
use kube::core::ObjectMeta;

use crate::api::{
    AgentRef, BackendState, Cause, Condition, Connector, ConnectorState, MonitoredBackend, Paused, RESTART_REQUESTED,
    RemediationSpec, RemediationStatus, Transition, WorkloadRef,
};
use crate::remediation::fleet::AgentUnit;
use crate::remediation::{HealthInterval, ObjectHealth};

/// A kind with remediation.
pub trait Remediable: Resource<DynamicType = ()> {
    /// Name of the kind.
    const KIND: &'static str;
    /// `spec.remediation`.
    fn remediation(&self) -> Option<&RemediationSpec>;
    /// `status.remediation`.
    fn remediation_status(&self) -> Option<&RemediationStatus>;
    /// `spec.workloadRef`.
    fn workload_ref(&self) -> Option<&WorkloadRef>;
    /// The unit that `spec.agentRef` names; `None` where only the agent's own configuration names it.
    fn agent_unit(&self) -> Option<AgentUnit>;
    /// `spec.paused`.
    fn paused(&self) -> Option<&Paused>;
    /// The failure domain, `<namespace>/<site>`.
    fn domain(&self) -> String;
    /// `status.conditions`.
    fn conditions(&self) -> &[Condition];
    /// Past health as stored, the newest interval first.
    fn stored_intervals(&self) -> Vec<HealthInterval>;
    /// Whether it was healthy at least once, as stored.
    fn was_healthy(&self) -> bool;
}

/// Implements the methods whose fields have the same names in both kinds; `$health` maps a state to a health.
macro_rules! same_fields {
    ($health:path) => {
        fn remediation(&self) -> Option<&RemediationSpec> {
            self.spec.remediation.as_ref()
        }

        fn remediation_status(&self) -> Option<&RemediationStatus> {
            self.status.as_ref()?.remediation.as_ref()
        }

        fn workload_ref(&self) -> Option<&WorkloadRef> {
            self.spec.workload_ref.as_ref()
        }

        fn paused(&self) -> Option<&Paused> {
            self.spec.paused.as_ref()
        }

        fn conditions(&self) -> &[Condition] {
            self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
        }

        fn stored_intervals(&self) -> Vec<HealthInterval> {
            let Some(status) = &self.status else { return Vec::new() };
            intervals(&status.transitions, |entered| {
                entered.to.parse().map_or(ObjectHealth::Unknown, |state| $health(state, entered.cause))
            })
        }

        fn was_healthy(&self) -> bool {
            self.status.as_ref().is_some_and(|status| status.last_healthy_time.is_some())
        }
    };
}

impl Remediable for Connector {
    const KIND: &'static str = "Connector";

    same_fields!(health_of_connector);

    fn agent_unit(&self) -> Option<AgentUnit> {
        agent_unit(self.metadata.name.as_deref()?, self.spec.agent_ref.as_ref()?)
    }

    fn domain(&self) -> String {
        Self::domain(self)
    }
}

impl Remediable for MonitoredBackend {
    const KIND: &'static str = "MonitoredBackend";

    same_fields!(health_of_backend);

    fn agent_unit(&self) -> Option<AgentUnit> {
        let agent = self.spec.agent_ref.as_ref()?;
        agent_unit(agent.name.as_deref()?, agent)
    }

    fn domain(&self) -> String {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        format!("{namespace}/{}", self.spec.site.as_deref().unwrap_or_default())
    }
}

fn agent_unit(connector: &str, agent: &AgentRef) -> Option<AgentUnit> {
    Some(AgentUnit { connector: connector.into(), unit: agent.unit.as_deref()?.into() })
}

/// Health by the state of a connector: opens and ends incidents (docs/design/remediation.md).
pub fn health_of_connector(state: ConnectorState, _cause: Option<Cause>) -> ObjectHealth {
    match state {
        ConnectorState::Online => ObjectHealth::Healthy,
        ConnectorState::Offline | ConnectorState::Degraded => ObjectHealth::Unhealthy,
        ConnectorState::Pending | ConnectorState::Late | ConnectorState::Unknown => ObjectHealth::Unknown,
    }
}

/// Health by the state of a backend and its cause: opens and ends incidents. A backend that is Degraded is available, and
/// no incident, unless one of its replicas is bad: that one is replaced.
pub fn health_of_backend(state: BackendState, cause: Option<Cause>) -> ObjectHealth {
    match state {
        BackendState::Degraded if cause == Some(Cause::OneReplicaBad) => ObjectHealth::Unhealthy,
        BackendState::Up | BackendState::Degraded => ObjectHealth::Healthy,
        BackendState::Down => ObjectHealth::Unhealthy,
        BackendState::Pending | BackendState::Unknown => ObjectHealth::Unknown,
    }
}

fn intervals(transitions: &[Transition], health: impl Fn(&Transition) -> ObjectHealth) -> Vec<HealthInterval> {
    transitions.iter().map(|entered| HealthInterval { health: health(entered), since: entered.time.0 }).collect()
}

/// The intervals with the present one, which may not be written yet.
pub fn with_current(mut intervals: Vec<HealthInterval>, health: ObjectHealth, since: Timestamp) -> Vec<HealthInterval> {
    if intervals.first().is_none_or(|stored| stored.health != health) {
        // Never before the interval that it follows.
        let since = intervals.first().map_or(since, |stored| since.max(stored.since));
        intervals.insert(0, HealthInterval { health, since });
    }
    intervals
}

/// A request is honoured for this long before and after its time. An old annotation, from a restored backup for example,
/// requests nothing.
const REQUEST_VALIDITY: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// A person's request for a restart, unless it was honoured already or is outside of its validity.
pub fn requested_restart(
    meta: &ObjectMeta,
    status: &RemediationStatus,
    now: Timestamp,
) -> Option<crate::remediation::RestartRequest> {
    let text = meta.annotations.as_ref()?.get(RESTART_REQUESTED)?;
    if status.observed_restart_request.as_ref() == Some(text) || text.len() > crate::api::MAX_WORD {
        return None;
    }
    let at: Timestamp = text.parse().ok()?;
    (now.duration_since(at).abs() <= REQUEST_VALIDITY)
        .then(|| crate::remediation::RestartRequest { annotation: text.clone(), at })
}
