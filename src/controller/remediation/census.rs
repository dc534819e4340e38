//! Who is on the board of the fleet: everybody, once anybody asks for remedies.
//!
//! Where nobody does, nobody is counted: a fleet of connectors that are only watched pays nothing for brakes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::subject::Patient;
use crate::api::Key;
use crate::leadership::{Leadership, Permit};
use crate::remediation::fleet::{Board, Flight, Member, ObjectId};
use crate::remediation::history::unhealthy_since;
use crate::remediation::{Breaker, Health, Limits, Spell, Surroundings};
use crate::time::Clock;

/// Shows every object of a store to [`Roll::stored`].
type Source = Box<dyn Fn(&Roll) + Send + Sync>;

/// The roll of the fleet.
pub struct Roll {
    /// The fleet, for brake and breaker.
    pub board: Mutex<Board>,
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

impl Roll {
    /// Of nobody yet. `scopes` are still to be [filled](Roll::filled).
    pub fn new(limits: Limits, scopes: usize, leadership: watch::Receiver<Leadership>, clock: Clock) -> Self {
        Self {
            board: Mutex::new(Board::new(limits)),
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
    pub fn stored<K: Patient>(&self, object: &K) {
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
    pub fn judged<K: Patient>(&self, permit: &Permit, object: &K, spells: &[Spell]) {
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
    pub fn forget<K: Patient>(&self, key: &Key) {
        let id = ObjectId { kind: K::KIND, key: key.clone() };
        self.board.lock().forget(&id);
        self.judged.lock().1.remove(&id);
    }

    /// What is around an object, on a board that the caller has locked.
    pub fn around(&self, board: &mut Board, id: &ObjectId, now: Timestamp) -> Surroundings {
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
pub(super) fn id<K: Patient>(object: &K) -> ObjectId {
    ObjectId { kind: K::KIND, key: Key::of(object.meta()) }
}

fn member<K: Patient>(object: &K, spells: &[Spell]) -> Member {
    let status = object.remembered();
    let current = status.and_then(|status| status.current.as_ref());
    Member {
        site: object.domain().into(),
        workload: object.workload_ref().cloned(),
        health: spells.first().map_or(Health::Unknown, |spell| spell.health),
        unhealthy_since: unhealthy_since(spells),
        was_healthy: object.was_healthy(),
        in_flight: current.map(|current| Flight { id: current.id.clone(), start: current.start_time.0 }),
        attempts: status.and_then(|status| status.ledger.as_ref()).map_or(0, |ledger| ledger.attempts),
        max_attempts: object.remediation().map(|spec| spec.max_attempts),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Connector;

    fn roll() -> Roll {
        Roll::new(Limits::default(), 1, watch::channel(Leadership::follower()).1, Clock::default())
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
        let roll = roll();
        let watched = connector("watched", json!(null));
        roll.stored(&watched);
        assert_eq!(roll.board.lock().members().count(), 0);
        let known = watched.clone();
        roll.add_source(Box::new(move |roll| roll.stored(&known)));
        let asking = connector("asking", json!({ "mode": "Restart" }));
        roll.stored(&asking);
        assert_eq!(roll.board.lock().members().count(), 2);
        roll.forget::<Connector>(&Key::of(&watched.metadata));
        assert_eq!(roll.board.lock().members().count(), 1);
    }

    #[test]
    fn no_share_of_the_fleet_is_known_before_all_of_it_was_read() {
        let roll = roll();
        let asking = connector("asking", json!({ "mode": "Restart" }));
        roll.stored(&asking);
        roll.board.lock().set_breaker(Breaker::Closed);
        let now = Timestamp::UNIX_EPOCH;
        let breaker = |roll: &Roll| roll.around(&mut roll.board.lock(), &id(&asking), now).breaker;
        assert!(matches!(breaker(&roll), Breaker::Unknown(_)));
        roll.filled();
        assert_eq!(breaker(&roll), Breaker::Closed);
        roll.filled();
        assert_eq!(breaker(&roll), Breaker::Closed, "a relist fills it again");
    }
}
