//! Registers every object for the limits of the fleet, once any object enables remediation.
//!
//! Until then no object is counted: a fleet that is only watched pays nothing for brakes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::subject::Remediable;
use crate::api::Key;
use crate::leadership::{Leadership, WritePermit};
use crate::remediation::fleet::{FleetState, InFlight, Member, ObjectId};
use crate::remediation::history::unhealthy_since;
use crate::remediation::{Breaker, FleetContext, HealthInterval, Limits, ObjectHealth};
use crate::time::Clock;

/// Passes every object of a store to [`Census::upsert_stored`].
type StoreVisitor = Box<dyn Fn(&Census) + Send + Sync>;

/// The registration of all objects with the fleet.
pub struct Census {
    /// The fleet, counted for brake and breaker.
    pub fleet: Mutex<FleetState>,
    /// Epoch of leadership, and the objects that were evaluated in it. All others are counted as stored.
    evaluated: Mutex<(u64, HashSet<ObjectId>)>,
    /// At least one object has enabled remediation.
    is_enabled: AtomicBool,
    /// Number of scopes whose objects have not all been listed.
    pending_scopes: AtomicUsize,
    sources: RwLock<Vec<StoreVisitor>>,
    leadership: watch::Receiver<Leadership>,
    clock: Clock,
}

impl Census {
    /// An empty census, which waits for [`Census::scope_listed`] of `scopes` scopes.
    pub fn new(limits: Limits, scopes: usize, leadership: watch::Receiver<Leadership>, clock: Clock) -> Self {
        Self {
            fleet: Mutex::new(FleetState::new(limits)),
            evaluated: Mutex::default(),
            is_enabled: AtomicBool::new(false),
            pending_scopes: AtomicUsize::new(scopes),
            sources: RwLock::default(),
            leadership,
            clock,
        }
    }

    /// Adds a store whose objects are loaded when the first object enables remediation.
    pub fn add_source(&self, source: StoreVisitor) {
        self.sources.write().push(source);
    }

    /// Notes that all objects of one more scope have been listed. Until all scopes are, no share of the fleet is known.
    pub fn scope_listed(&self) {
        let _ = self.pending_scopes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        if self.is_enabled.load(Ordering::Acquire) {
            // A store shows none of its objects while their list is under way.
            self.load_sources();
        }
    }

    /// Registers an object as it is stored.
    pub fn upsert_stored<K: Remediable>(&self, object: &K) {
        let enables = object.remediation().is_some();
        if enables && !self.is_enabled.swap(true, Ordering::AcqRel) {
            self.load_sources();
        }
        if !self.is_enabled.load(Ordering::Acquire) {
            return;
        }
        let id = id(object);
        let epoch = self.leadership.borrow().permit(self.clock.now()).map(|permit| permit.epoch());
        // On the leader a reconcile follows each change of the store, and its evaluation is newer.
        let is_evaluated = {
            let evaluated = self.evaluated.lock();
            epoch == Some(evaluated.0) && evaluated.1.contains(&id)
        };
        if !is_evaluated {
            self.fleet.lock().upsert(&id, member(object, &object.stored_intervals()));
        }
    }

    /// Registers an object as the leader evaluated it.
    pub fn upsert_evaluated<K: Remediable>(&self, permit: &WritePermit, object: &K, intervals: &[HealthInterval]) {
        if !self.is_enabled.load(Ordering::Acquire) {
            return;
        }
        let id = id(object);
        let mut evaluated = self.evaluated.lock();
        if evaluated.0 != permit.epoch() {
            *evaluated = (permit.epoch(), HashSet::new());
        }
        if !evaluated.1.contains(&id) {
            evaluated.1.insert(id.clone());
        }
        self.fleet.lock().upsert(&id, member(object, intervals));
    }

    /// Removes an object that was deleted.
    pub fn remove<K: Remediable>(&self, key: &Key) {
        let id = ObjectId { kind: K::KIND, key: key.clone() };
        self.fleet.lock().remove(&id);
        self.evaluated.lock().1.remove(&id);
    }

    /// The fleet as seen from one object. The caller holds the lock of the fleet.
    pub fn context(&self, fleet: &mut FleetState, id: &ObjectId, now: Timestamp) -> FleetContext {
        let mut context = fleet.context(id, now);
        if self.pending_scopes.load(Ordering::Acquire) > 0 {
            context.breaker = Breaker::Unknown("not all objects have been read yet".to_owned());
        }
        context
    }

    fn load_sources(&self) {
        for source in self.sources.read().iter() {
            source(self);
        }
    }
}

/// Identity of an object.
pub(super) fn id<K: Remediable>(object: &K) -> ObjectId {
    ObjectId { kind: K::KIND, key: Key::of(object.meta()) }
}

fn member<K: Remediable>(object: &K, intervals: &[HealthInterval]) -> Member {
    let status = object.remediation_status();
    let current = status.and_then(|status| status.current.as_ref());
    Member {
        site: object.domain().into(),
        workload: object.workload_ref().cloned(),
        unit: object.agent_unit(),
        health: intervals.first().map_or(ObjectHealth::Unknown, |interval| interval.health),
        unhealthy_since: unhealthy_since(intervals),
        was_healthy: object.was_healthy(),
        in_flight: current.map(|current| InFlight { id: current.id.clone(), start: current.start_time.0 }),
        attempts: status.and_then(|status| status.ledger.as_ref()).map_or(0, |ledger| ledger.attempts),
        max_attempts: object.remediation().map(|spec| spec.max_attempts),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Connector;

    fn census() -> Census {
        Census::new(Limits::default(), 1, watch::channel(Leadership::follower()).1, Clock::default())
    }

    fn connector(name: &str, remediation: serde_json::Value) -> Connector {
        let spec = json!({ "remediation": remediation });
        let status = json!({ "lastHealthyTime": "2026-11-01T12:00:00Z" });
        let object = json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "spec": spec, "status": status,
            "metadata": { "name": name, "namespace": "edge" } });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn nobody_is_counted_until_somebody_asks_and_then_everybody_is() {
        let census = census();
        let watched = connector("watched", json!(null));
        census.upsert_stored(&watched);
        assert_eq!(census.fleet.lock().members().count(), 0);
        let known = watched.clone();
        census.add_source(Box::new(move |census| census.upsert_stored(&known)));
        let asking = connector("asking", json!({ "mode": "Restart" }));
        census.upsert_stored(&asking);
        assert_eq!(census.fleet.lock().members().count(), 2);
        let attempts = [&watched, &asking].map(|object| member(object, &[]).max_attempts);
        assert!(
            attempts[0].is_none() && attempts[1].is_some(),
            "the breaker counts those with remediation: {attempts:?}"
        );
        census.remove::<Connector>(&Key::of(&watched.metadata));
        assert_eq!(census.fleet.lock().members().count(), 1);
    }

    #[test]
    fn no_share_of_the_fleet_is_known_before_all_of_it_was_read() {
        let census = census();
        let asking = connector("asking", json!({ "mode": "Restart" }));
        census.upsert_stored(&asking);
        census.fleet.lock().set_breaker(Breaker::Closed, None);
        let now = Timestamp::UNIX_EPOCH;
        let breaker = |census: &Census| census.context(&mut census.fleet.lock(), &id(&asking), now).breaker;
        assert!(matches!(breaker(&census), Breaker::Unknown(_)));
        census.scope_listed();
        assert_eq!(breaker(&census), Breaker::Closed);
        census.scope_listed();
        assert_eq!(breaker(&census), Breaker::Closed, "a relist fills it again");
    }
}
