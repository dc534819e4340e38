//! Who is on the board of the fleet: everybody, once anybody asks for remedies.
//!
//! Where nobody does, nobody is counted: a fleet of connectors that are only watched pays nothing for brakes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::subject::Remediable;
use crate::api::Key;
use crate::leadership::{Leadership, Permit};
use crate::remediation::fleet::{FleetState, InFlight, Member, ObjectId};
use crate::remediation::history::unhealthy_since;
use crate::remediation::{Breaker, FleetContext, Health, HealthInterval, Limits};
use crate::time::Clock;

/// Shows every object of a store to [`Census::stored`].
type Source = Box<dyn Fn(&Census) + Send + Sync>;

/// The roll of the fleet.
pub struct Census {
    /// The fleet, for brake and breaker.
    pub board: Mutex<FleetState>,
    /// Whom we have judged in this epoch of our leadership; of the others the board has what is stored.
    judged: Mutex<(u64, HashSet<ObjectId>)>,
    /// Somebody asks for remedies.
    is_used: AtomicBool,
    /// Scopes whose objects are not all known yet.
    unread: AtomicUsize,
    sources: RwLock<Vec<Source>>,
    leadership: watch::Receiver<Leadership>,
    clock: Clock,
}

impl Census {
    /// Of nobody yet. `scopes` are still to be [filled](Roll::filled).
    pub fn new(limits: Limits, scopes: usize, leadership: watch::Receiver<Leadership>, clock: Clock) -> Self {
        Self {
            board: Mutex::new(FleetState::new(limits)),
            judged: Mutex::default(),
            is_used: AtomicBool::new(false),
            unread: AtomicUsize::new(scopes),
            sources: RwLock::default(),
            leadership,
            clock,
        }
    }

    /// Where the objects are that were known before anybody asked for remedies.
    pub fn add_source(&self, source: Source) {
        self.sources.write().push(source);
    }

    /// All objects of one more scope are known. Until this was said of all of them, no share of the fleet is known.
    pub fn filled(&self) {
        let _ = self.unread.fetch_update(Ordering::AcqRel, Ordering::Acquire, |unread| unread.checked_sub(1));
        if self.is_used.load(Ordering::Acquire) {
            // While a list is under way a store shows nothing of it.
            self.call();
        }
    }

    /// Takes note of an object as it is stored.
    pub fn stored<K: Remediable>(&self, object: &K) {
        let asks = object.remediation().is_some();
        if asks && !self.is_used.swap(true, Ordering::AcqRel) {
            self.call();
        }
        if !self.is_used.load(Ordering::Acquire) {
            return;
        }
        let id = id(object);
        let leads_in = self.leadership.borrow().permit(self.clock.now()).map(|permit| permit.epoch());
        // While we lead each change of the store is followed by a reconcile, which knows better.
        let knows_better = {
            let judged = self.judged.lock();
            leads_in == Some(judged.0) && judged.1.contains(&id)
        };
        if !knows_better {
            self.board.lock().see(&id, member(object, &object.stored_spells()));
        }
    }

    /// Takes note of how we judge an object.
    pub fn judged<K: Remediable>(&self, permit: &Permit, object: &K, spells: &[HealthInterval]) {
        if !self.is_used.load(Ordering::Acquire) {
            return;
        }
        let id = id(object);
        let mut judged = self.judged.lock();
        if judged.0 != permit.epoch() {
            *judged = (permit.epoch(), HashSet::new());
        }
        if !judged.1.contains(&id) {
            judged.1.insert(id.clone());
        }
        self.board.lock().see(&id, member(object, spells));
    }

    /// An object is gone.
    pub fn forget<K: Remediable>(&self, key: &Key) {
        let id = ObjectId { kind: K::KIND, key: key.clone() };
        self.board.lock().forget(&id);
        self.judged.lock().1.remove(&id);
    }

    /// What is around an object, on a board that the caller has locked.
    pub fn around(&self, board: &mut FleetState, id: &ObjectId, now: Timestamp) -> FleetContext {
        let mut around = board.surroundings(id, now);
        if self.unread.load(Ordering::Acquire) > 0 {
            around.breaker = Breaker::Unknown("not all objects have been read yet".to_owned());
        }
        around
    }

    fn call(&self) {
        for source in self.sources.read().iter() {
            source(self);
        }
    }
}

/// Which object is meant.
pub(super) fn id<K: Remediable>(object: &K) -> ObjectId {
    ObjectId { kind: K::KIND, key: Key::of(object.meta()) }
}

fn member<K: Remediable>(object: &K, spells: &[HealthInterval]) -> Member {
    let status = object.remembered();
    let current = status.and_then(|status| status.current.as_ref());
    Member {
        site: object.domain().into(),
        workload: object.workload_ref().cloned(),
        health: spells.first().map_or(Health::Unknown, |spell| spell.health),
        unhealthy_since: unhealthy_since(spells),
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
        census.stored(&watched);
        assert_eq!(census.board.lock().members().count(), 0);
        let known = watched.clone();
        census.add_source(Box::new(move |census| census.stored(&known)));
        let asking = connector("asking", json!({ "mode": "Restart" }));
        census.stored(&asking);
        assert_eq!(census.board.lock().members().count(), 2);
        census.forget::<Connector>(&Key::of(&watched.metadata));
        assert_eq!(census.board.lock().members().count(), 1);
    }

    #[test]
    fn no_share_of_the_fleet_is_known_before_all_of_it_was_read() {
        let census = census();
        let asking = connector("asking", json!({ "mode": "Restart" }));
        census.stored(&asking);
        census.board.lock().set_breaker(Breaker::Closed);
        let now = Timestamp::UNIX_EPOCH;
        let breaker = |census: &Census| census.around(&mut census.board.lock(), &id(&asking), now).breaker;
        assert!(matches!(breaker(&census), Breaker::Unknown(_)));
        census.filled();
        assert_eq!(breaker(&census), Breaker::Closed);
        census.filled();
        assert_eq!(breaker(&census), Breaker::Closed, "a relist fills it again");
    }
}
