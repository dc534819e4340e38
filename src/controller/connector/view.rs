//! The live view of Connectors: the same assessment that is written to the API server.

use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::Store;
use parking_lot::RwLock;

use super::assess::{Assessment, Facts, Input};
use super::reconcile::Stores;
use super::sites::Sites;
use crate::api::{ConditionType, Connector, ConnectorStatus, Key, Rotation, StopReason, Truth, conditions};
use crate::controller::paused::is_paused;
use crate::controller::remediation;
use crate::health::liveness::Presence;
use crate::heartbeat::entry::{Entry, Snapshot};
use crate::heartbeat::registry::Registry;
use crate::schedule::checkpoints::Checkpoints;
use crate::time::Now;
use crate::view::{CheckView, ConnectorView, OperatorFacts, Role};

/// The connectors as this process sees them.
pub struct FleetView {
    /// The last contacts.
    pub registry: Arc<Registry>,
    /// The objects.
    pub stores: RwLock<Stores>,
    /// The sites with mass silence.
    pub sites: Arc<Sites>,
    /// The queue of checkpoints, with the staleness of the written last contacts.
    pub checkpoints: Arc<Checkpoints<Entry>>,
    /// Whether a canary is sent.
    pub has_canary: bool,
}

impl FleetView {
    fn visit(&self, namespace: Option<&str>, each: &mut dyn FnMut(&Connector, &Snapshot, &Assessment, Now)) {
        let now = self.registry.clock().read();
        let stores = self.stores.read().clone();
        for object in stores.iter().flat_map(Store::state) {
            let Ok(connector) = &object.0 else { continue };
            if namespace.is_some_and(|namespace| connector.metadata.namespace.as_deref() != Some(namespace)) {
                continue;
            }
            let Some(entry) = self.registry.get(&Key::of(&connector.metadata)) else { continue };
            let live = entry.snapshot(self.registry.listening.listening_to(&entry, now.moment), now.moment);
            let mass_silence = self.sites.mass_silence(&entry.identity.domain);
            let claim = self.registry.claim_refusal(&entry);
            let facts = Facts { mass_silence: mass_silence.as_deref(), claim, ..Facts::default() };
            let assessment = Input::new(connector, &live, facts, None, now).assess();
            each(connector, &live, &assessment, now);
        }
    }
}

impl FleetView {
    /// Calls `each` for every connector, of one namespace when it is given.
    pub fn connectors(&self, namespace: Option<&str>, each: &mut dyn FnMut(ConnectorView)) {
        // A follower receives no heartbeats: the stored status is the best that it knows, and `leader` says so.
        let follows = self.follows();
        self.visit(namespace, &mut |connector, live, assessment, now| {
            each(if follows { written(connector, now) } else { known(connector, live, assessment, now) });
        });
    }

    /// Whether another replica leads: then the stored status is the best that this process knows.
    pub fn follows(&self) -> bool {
        self.registry.listening.inputs().role == Role::Follower
    }

    /// The role of this replica, and whether every store has been filled.
    pub fn role(&self) -> (Role, bool) {
        let inputs = self.registry.listening.inputs();
        (inputs.role, inputs.synced)
    }

    /// The facts about the operator itself, as far as connectors are concerned.
    pub fn facts(&self) -> OperatorFacts {
        let now = self.registry.clock().read();
        let inputs = self.registry.listening.inputs();
        let (leader, synced) = self.role();
        let mut pending = 0;
        if leader != Role::Follower {
            self.visit(None, &mut |connector, _, assessment, _| {
                pending += u64::from(!is_written(connector, assessment))
            });
        }
        OperatorFacts {
            leader,
            synced,
            listening_since: self.registry.listening.listening(now.moment).since.map(|at| now.stamp(at)),
            reachable: self.has_canary.then_some(inputs.canary_failing_since.is_none()),
            pod_labelled: None,
            status_write_pending: pending,
            checkpoint_staleness: self.checkpoints.staleness().as_secs_f64(),
            connectors: self.registry.len(),
            backends: 0,
            remedies_in_flight: 0,
            breaker_open: false,
            brakes: Vec::new(),
            mass_silences: self.sites.silent().iter().filter_map(|domain| split_domain(domain)).collect(),
            probe_blind: false,
        }
    }
}

/// A failure domain as namespace and site.
pub fn split_domain(domain: &str) -> Option<(String, String)> {
    domain.split_once('/').map(|(namespace, site)| (namespace.to_owned(), site.to_owned()))
}

fn is_written(connector: &Connector, assessment: &Assessment) -> bool {
    connector.status.as_ref().is_some_and(|status| status.state == Some(assessment.state))
}

fn known(connector: &Connector, live: &Snapshot, assessment: &Assessment, now: Now) -> ConnectorView {
    let status = connector.status.clone().unwrap_or_default();
    let stored_since = status.state_since.as_ref().map(|since| since.0);
    let is_written = is_written(connector, assessment);
    let mut view = base(connector, &status, now);
    view.state = assessment.state;
    view.ready = truth(&assessment.conditions, ConditionType::Ready);
    view.health = conditions::get(&assessment.conditions, ConditionType::Healthy).map(|healthy| healthy.reason.clone());
    view.last_heartbeat_time = live.connector_contact().map(|at| now.stamp(at)).or(view.last_heartbeat_time);
    view.agent_heartbeat_time = live.contacts.and_then(|contacts| contacts.agent_contact).map(|at| now.stamp(at));
    view.is_agent_silent = is_agent_silent(live);
    view.state_since = if is_written { stored_since } else { Some(assessment.since) };
    view.cause = assessment.diagnosis.as_ref().map(|found| found.cause);
    view.message = assessment.diagnosis.as_ref().map(|found| found.message.clone());
    view.advice = assessment.diagnosis.as_ref().map(|found| found.advice.clone());
    view.written = is_written;
    if let Some(agent) = &live.agent {
        // What was not reported since the start of this process stands as it is stored.
        let text = |said: &Option<Box<str>>| said.as_deref().map(str::to_owned);
        view.version = text(&agent.version).or(view.version);
        view.hostname = text(&agent.hostname).or(view.hostname);
        view.address = agent.address.map(|address| address.to_string());
    }
    if let Some(checks) = &live.checks {
        view.checks =
            checks.iter().map(|check| CheckView { type_: check.type_.clone(), status: check.status }).collect();
    }
    view
}

/// Whether the agent, which was heard before, is silent. An agent that was removed from beside a connector that sends
/// heartbeats itself is missed no more; one that alone sent heartbeats is, for nothing is known of its connector since.
fn is_agent_silent(live: &Snapshot) -> Option<bool> {
    let contacts = live.contacts?;
    if live.said.stopping == Some(StopReason::Uninstall) && contacts.own_contact.is_some() {
        return None;
    }
    match contacts.agent.presence {
        Presence::Online | Presence::Late => Some(false),
        Presence::Offline => Some(true),
        Presence::NeverSeen | Presence::Unknown => None,
    }
}

fn written(connector: &Connector, now: Now) -> ConnectorView {
    let status = connector.status.clone().unwrap_or_default();
    base(connector, &status, now)
}

/// A view of the stored status alone.
fn base(connector: &Connector, status: &ConnectorStatus, now: Now) -> ConnectorView {
    let agent = status.agent.clone().unwrap_or_default();
    let diagnosis = status.diagnosis.as_ref();
    let rotating = status.token.as_ref().filter(|token| token.rotation == Rotation::Pending && !connector.is_lease());
    ConnectorView {
        namespace: connector.namespace().unwrap_or_default(),
        name: connector.name_any(),
        connector_id: connector.effective_id(),
        site: connector.spec.site.clone().unwrap_or_default(),
        state: status.state.unwrap_or(crate::api::ConnectorState::Pending),
        ready: truth(&status.conditions, ConditionType::Ready),
        cause: diagnosis.map(|found| found.cause),
        message: diagnosis.map(|found| found.message.clone()),
        advice: diagnosis.map(|found| found.advice.clone()),
        last_heartbeat_time: status.last_heartbeat_time.as_ref().map(|time| time.0),
        agent_heartbeat_time: agent.last_seen_time.as_ref().map(|time| time.0),
        is_agent_silent: None,
        state_since: status.state_since.as_ref().map(|time| time.0),
        health: conditions::get(&status.conditions, ConditionType::Healthy).map(|healthy| healthy.reason.clone()),
        version: agent.version,
        hostname: agent.hostname,
        address: agent.address,
        token_issued_time: status.token.as_ref().and_then(|token| token.issued_time.as_ref()).map(|time| time.0),
        rotation_pending_since: rotating.and_then(|token| token.issued_time.as_ref()).map(|time| time.0),
        token_grace_until: rotating.and_then(|token| token.grace_until.as_ref()).map(|time| time.0),
        restarts: status.remediation.as_ref().map_or(0, |remediation| remediation.restarts),
        remedy: remediation::view(&status.conditions, status.remediation.as_ref()),
        created_time: connector.metadata.creation_timestamp.as_ref().map(|time| time.0),
        checks: status
            .checks
            .iter()
            .map(|check| CheckView { type_: check.type_.clone(), status: check.status })
            .collect(),
        paused: is_paused(&connector.metadata, connector.spec.paused.as_ref(), now.wall),
        written: status.state.is_some(),
    }
}

fn truth(among: &[crate::api::Condition], type_: ConditionType) -> Truth {
    conditions::get(among, type_).and_then(|found| found.status.parse().ok()).unwrap_or(Truth::Unknown)
}

#[cfg(test)]
mod tests;
