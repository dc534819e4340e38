//! The hand-out over both kinds.

use serde_json::json;

use super::*;
use crate::api::Key;
use crate::cluster::fake::Fake;
use crate::controller::backend::fake::{backend, context};
use crate::controller::connector::fake::{beat, connector, leader, shared};

#[tokio::test(start_paused = true)]
async fn checkpoints_of_connectors_that_are_in_flight_hold_back_none_of_a_backend() {
    let fake = Fake::new();
    let (connectors, _ends) = leader(&fake);
    let (shared, _leadership) = shared(&fake);
    let backends = context(shared);
    let paris = connector("paris", "u1", json!({}), json!({}));
    connectors.upsert(&paris);
    beat(&connectors.registry, "paris");
    let paris = connectors.entry(&Key::of(&paris.metadata)).unwrap();
    let now = connectors.clock.read();
    paris.note_written(connectors.snapshot(&paris, now).last_contact, now.moment);
    let shop = serde_json::from_value(backend()).unwrap();
    backends.upsert(&shop);
    let shop = backends.entry(&Key::of(&shop.metadata)).unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    beat(&connectors.registry, "paris");
    shop.record_probe(None, backends.clock.read());

    let in_flight: Vec<_> = (0..checkpoints_at_once::<crate::controller::connector::reconcile::Context>())
        .map(|_| connectors.checkpoints.begin(&paris.identity.key.namespace))
        .collect();
    let budget = WriteBudget::new(10);
    let hand_out = || {
        let queues = (KindQueue { kind: &connectors, epoch: 1 }, KindQueue { kind: &*backends, epoch: 1 });
        hand_out_of(&queues.0, &queues.1, &budget, connectors.clock.now());
        let [one, other] = [paris.number, shop.number];
        (connectors.states.take_checkpoint(one, 1), backends.states.take_checkpoint(other, 1))
    };
    assert_eq!(hand_out(), (false, true), "the connectors have no room, the backend has");
    drop(in_flight);
    assert_eq!(hand_out(), (true, false), "the backend had its turn");
}
