//! What both kinds bring to a remedy, in the same words.

use jiff::Timestamp;
use kube::Resource;
use kube::core::ObjectMeta;

use crate::api::{
    BackendState, Condition, Connector, ConnectorState, MonitoredBackend, Paused, RESTART_REQUESTED, RemediationSpec,
    RemediationStatus, Transition, WorkloadRef,
};
use crate::remediation::{Health, HealthInterval};

/// A kind that remedies are taken for.
pub trait Remediable: Resource<DynamicType = ()> {
    /// The kind, as it is written.
    const KIND: &'static str;
    /// `spec.remediation`.
    fn remediation(&self) -> Option<&RemediationSpec>;
    /// `status.remediation`.
    fn remembered(&self) -> Option<&RemediationStatus>;
    /// `spec.workloadRef`.
    fn workload_ref(&self) -> Option<&WorkloadRef>;
    /// `spec.paused`.
    fn paused(&self) -> Option<&Paused>;
    /// The failure domain, `<namespace>/<site>`.
    fn domain(&self) -> String;
    /// `status.conditions`.
    fn conditions(&self) -> &[Condition];
    /// How it was, the newest first, by what is stored.
    fn stored_spells(&self) -> Vec<HealthInterval>;
    /// It was healthy once, by what is stored.
    fn was_healthy(&self) -> bool;
}

/// What both kinds keep under the same names; `$health` says what a state means.
macro_rules! same_fields {
    ($health:path) => {
        fn remediation(&self) -> Option<&RemediationSpec> {
            self.spec.remediation.as_ref()
        }

        fn remembered(&self) -> Option<&RemediationStatus> {
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

        fn stored_spells(&self) -> Vec<HealthInterval> {
            let Some(status) = &self.status else { return Vec::new() };
            spells(&status.transitions, |word| word.parse().map_or(Health::Unknown, $health))
        }

        fn was_healthy(&self) -> bool {
            self.status.as_ref().is_some_and(|status| status.last_healthy_time.is_some())
        }
    };
}

impl Remediable for Connector {
    const KIND: &'static str = "Connector";

    same_fields!(health_of_connector);

    fn domain(&self) -> String {
        Self::domain(self)
    }
}

impl Remediable for MonitoredBackend {
    const KIND: &'static str = "MonitoredBackend";

    same_fields!(health_of_backend);

    fn domain(&self) -> String {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        format!("{namespace}/{}", self.spec.site.as_deref().unwrap_or_default())
    }
}

/// What opens an incident and what ends one (docs/remediation.md).
pub fn health_of_connector(state: ConnectorState) -> Health {
    match state {
        ConnectorState::Online => Health::Healthy,
        ConnectorState::Offline | ConnectorState::Degraded => Health::Unhealthy,
        ConnectorState::Pending | ConnectorState::Late | ConnectorState::Unknown => Health::Unknown,
    }
}

/// What opens an incident and what ends one: a backend that is Degraded is available.
pub fn health_of_backend(state: BackendState) -> Health {
    match state {
        BackendState::Up | BackendState::Degraded => Health::Healthy,
        BackendState::Down => Health::Unhealthy,
        BackendState::Pending | BackendState::Unknown => Health::Unknown,
    }
}

fn spells(transitions: &[Transition], health: impl Fn(&str) -> Health) -> Vec<HealthInterval> {
    transitions.iter().map(|entered| HealthInterval { health: health(&entered.to), since: entered.time.0 }).collect()
}

/// The spells with the one that holds now, which may not be written yet.
pub fn with_present(mut spells: Vec<HealthInterval>, health: Health, since: Timestamp) -> Vec<HealthInterval> {
    if spells.first().is_none_or(|stored| stored.health != health) {
        // Never before the one that it follows.
        let since = spells.first().map_or(since, |stored| since.max(stored.since));
        spells.insert(0, HealthInterval { health, since });
    }
    spells
}

/// For how long a request is honoured, before and after its time: a restored backup asks for nothing.
const HONOURED: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// What a person asks for, unless that was honoured already or is too old.
pub fn request(meta: &ObjectMeta, status: &RemediationStatus, now: Timestamp) -> Option<crate::remediation::Request> {
    let text = meta.annotations.as_ref()?.get(RESTART_REQUESTED)?;
    if status.observed_restart_request.as_ref() == Some(text) || text.len() > crate::api::MAX_WORD {
        return None;
    }
    let at: Timestamp = text.parse().ok()?;
    (now.duration_since(at).abs() <= HONOURED).then(|| crate::remediation::Request { text: text.clone(), at })
}
