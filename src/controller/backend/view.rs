//! The live view of MonitoredBackends: the same assessment that is written to the API server.

use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::Store;
use parking_lot::RwLock;

use super::assess::{Assessment, Input};
use super::context::Context;
use crate::api::{
    BackendState, ConditionType, Key, MonitoredBackend, MonitoredBackendStatus, Reason, Truth, conditions,
};
use crate::controller::paused::is_paused;
use crate::controller::remediation;
use crate::controller::runtime::wake::{Guarded, reference};
use crate::monitor::entry::Backend;
use crate::time::Now;
use crate::view::BackendView;

/// The backends as this process sees them.
pub struct FleetView {
    /// The context of the backends.
    pub context: Arc<Context>,
    /// The objects.
    pub stores: RwLock<Vec<Store<Guarded<MonitoredBackend>>>>,
}

impl FleetView {
    fn visit(&self, namespace: Option<&str>, each: &mut dyn FnMut(&Input<'_>, &Backend, &Assessment)) {
        let now = self.context.clock.read();
        let stores = self.stores.read().clone();
        for object in stores.iter().flat_map(Store::state) {
            let Ok(backend) = &object.0 else { continue };
            if namespace.is_some_and(|namespace| backend.metadata.namespace.as_deref() != Some(namespace)) {
                continue;
            }
            let Some(entry) = self.context.monitor.backends.get(&Key::of(&backend.metadata)) else { continue };
            let live = self.context.monitor.snapshot(&entry);
            let input = Input { backend, live: &live, now };
            each(&input, &entry, &input.assess());
        }
    }

    /// Calls `each` for every backend, of one namespace when it is given. A follower knows only the stored
    /// status.
    pub fn backends(&self, namespace: Option<&str>, follows: bool, each: &mut dyn FnMut(BackendView)) {
        self.visit(namespace, &mut |input, entry, assessment| {
            let view = written(input.backend, input.now);
            each(if follows { view } else { known(view, entry, input, assessment) });
        });
    }

    /// How many transitions the API server does not know yet.
    pub fn pending(&self) -> u64 {
        let mut pending = 0;
        self.visit(None, &mut |input, _, assessment| pending += u64::from(!is_written(input.backend, assessment)));
        pending
    }

    /// The age of the oldest last probe whose checkpoint is due, in seconds.
    pub fn checkpoint_staleness(&self) -> f64 {
        self.context.checkpoints.staleness().as_secs_f64()
    }

    /// The number of backends.
    pub fn count(&self) -> usize {
        self.context.monitor.backends.len()
    }

    /// The object of an entry, as the store has it.
    pub fn object(&self, key: &Key) -> Option<Arc<Guarded<MonitoredBackend>>> {
        self.stores.read().iter().find_map(|store| store.get(&reference(key)))
    }
}

fn is_written(backend: &MonitoredBackend, assessment: &Assessment) -> bool {
    backend.status.as_ref().is_some_and(|status| status.state == Some(assessment.state))
}

fn known(stored: BackendView, entry: &Backend, input: &Input<'_>, assessment: &Assessment) -> BackendView {
    let Input { live, now, .. } = *input;
    // The figures of a probe say nothing about now once its verdict is out of date.
    let is_current = !input.is_out_of_date();
    let diagnosis = assessment.diagnosis.as_ref();
    let is_written = stored.written && stored.state == assessment.state;
    let scraped = conditions::get(&assessment.conditions, ConditionType::Scraped);
    BackendView {
        state: assessment.state,
        ready: truth(&assessment.conditions, ConditionType::Ready).unwrap_or(Truth::Unknown),
        accepted: live.refused.is_none(),
        cause: diagnosis.map(|found| found.cause),
        message: diagnosis.map(|found| found.message.clone()),
        advice: diagnosis.map(|found| found.advice.clone()),
        target: live.target.clone().or(stored.target),
        passed: live.record.last().filter(|_| is_current).map(|last| last.passed),
        last_probe_time: live.probed_at.map(|at| now.stamp(at)).or(stored.last_probe_time),
        latency_milliseconds: live
            .latency
            .and_then(|took| i64::try_from(took.as_millis()).ok())
            .or(stored.latency_milliseconds),
        scrape: live.scrape.clone(),
        phases: entry
            .phases()
            .into_iter()
            .filter(|_| is_current)
            .map(|(phase, took)| (phase, took.as_secs_f64()))
            .collect(),
        certificate_expiry_time: match live.passed_at {
            Some(_) => live.certificate_expires,
            None => live.certificate_expires.or(stored.certificate_expiry_time),
        },
        state_since: if is_written { stored.state_since } else { Some(assessment.since) },
        scraped: truth(&assessment.conditions, ConditionType::Scraped),
        prometheus: scraped.map(|scraped| scraped.reason.clone()),
        written: is_written,
        ..stored
    }
}

/// A view of the stored status alone.
pub fn written(backend: &MonitoredBackend, now: Now) -> BackendView {
    let status = backend.status.clone().unwrap_or_default();
    let MonitoredBackendStatus { diagnosis, conditions, .. } = &status;
    let accepted = conditions::get(conditions, ConditionType::Accepted);
    BackendView {
        namespace: backend.namespace().unwrap_or_default(),
        name: backend.name_any(),
        site: backend.spec.site.clone().unwrap_or_default(),
        state: status.state.unwrap_or(BackendState::Pending),
        ready: truth(conditions, ConditionType::Ready).unwrap_or(Truth::Unknown),
        accepted: accepted.is_some_and(|accepted| accepted.reason == Reason::Accepted.as_str()),
        cause: diagnosis.as_ref().map(|found| found.cause),
        message: diagnosis.as_ref().map(|found| found.message.clone()),
        advice: diagnosis.as_ref().map(|found| found.advice.clone()),
        target: status.target.clone(),
        passed: None,
        last_probe_time: status.last_probe_time.as_ref().map(|time| time.0),
        latency_milliseconds: status.latency_milliseconds,
        scrape: None,
        phases: Vec::new(),
        certificate_expiry_time: status.certificate_expiry_time.as_ref().map(|time| time.0),
        state_since: status.state_since.as_ref().map(|time| time.0),
        scraped: truth(conditions, ConditionType::Scraped),
        prometheus: conditions::get(conditions, ConditionType::Scraped).map(|scraped| scraped.reason.clone()),
        restarts: status.remediation.as_ref().map_or(0, |remediation| remediation.restarts),
        remedy: remediation::view(conditions, status.remediation.as_ref()),
        created_time: backend.metadata.creation_timestamp.as_ref().map(|time| time.0),
        paused: is_paused(&backend.metadata, backend.spec.paused.as_ref(), now.wall),
        written: status.state.is_some(),
    }
}

fn truth(among: &[crate::api::Condition], type_: ConditionType) -> Option<Truth> {
    conditions::get(among, type_).and_then(|found| found.status.parse().ok())
}
