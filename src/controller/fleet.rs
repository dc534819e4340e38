//! Both kinds as one [`Fleet`], for the admin port and the metrics.

use std::sync::Arc;

use super::connector::view::split_domain;
use super::remediation::Remediator;
use super::{backend, connector};
use crate::leadership::{LabelState, LeaderLabel};
use crate::remediation::Breaker;
use crate::view::{BackendView, ConnectorView, Fleet, OperatorFacts, Role};

/// The connectors and backends of this process.
pub struct CombinedFleet {
    /// The connectors.
    pub connectors: Arc<connector::view::FleetView>,
    /// The backends.
    pub backends: Arc<backend::view::FleetView>,
    /// The remedies of both kinds.
    pub remediator: Arc<Remediator>,
    /// Whether the pod of this process has the leader's label.
    pub label: LeaderLabel,
}

impl Fleet for CombinedFleet {
    fn connectors(&self, namespace: Option<&str>, each: &mut dyn FnMut(ConnectorView)) {
        self.connectors.connectors(namespace, each);
    }

    fn backends(&self, namespace: Option<&str>, each: &mut dyn FnMut(BackendView)) {
        self.backends.backends(namespace, self.connectors.follows(), each);
    }

    fn role(&self) -> (Role, bool) {
        self.connectors.role()
    }

    fn lacks_label(&self) -> bool {
        self.label.get() == LabelState::Missing
    }

    fn facts(&self) -> OperatorFacts {
        let mut facts = self.connectors.facts();
        facts.pod_labelled = match self.label.get() {
            LabelState::NotWanted => None,
            LabelState::Set => Some(true),
            LabelState::Missing => Some(false),
        };
        if facts.leader != Role::Follower {
            facts.status_write_pending += self.backends.pending();
        }
        facts.checkpoint_staleness = facts.checkpoint_staleness.max(self.backends.checkpoint_staleness());
        facts.backends = self.backends.count();
        let fleet = self.remediator.census.fleet.lock();
        facts.remedies_in_flight = fleet.in_flight();
        facts.breaker_open = matches!(fleet.breaker(), Breaker::Open(_));
        facts.brakes = fleet.braked_sites().iter().filter_map(|braked| split_domain(&braked.site)).collect();
        facts.probe_blind = self.backends.context.monitor.self_check.is_blind();
        facts
    }
}
