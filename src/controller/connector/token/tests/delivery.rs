//! The delivery of a token, and one that is tried again.

use super::*;

#[test]
fn the_first_token_is_stored_before_it_is_delivered_and_then_it_is_provisioned() {
    let mut world = World::new();
    let plan = world.look();
    assert_eq!(
        (plan.write, plan.provisioned.status, plan.provisioned.reason),
        (Write::Create, Truth::False, Reason::TokenSecretInvalid)
    );
    assert_eq!((world.token().generation, world.token().rotation, world.accepted()), (1, Rotation::None, vec![1]));
    assert_eq!(world.token().secret_name.as_deref(), Some("paris-connector-token"));
    assert!(plan.events.is_empty());
    world.seen = ours(world.undelivered, true);
    let plan = world.look();
    assert_eq!(
        (plan.write, plan.provisioned.status, plan.provisioned.reason),
        (Write::Nothing, Truth::True, Reason::Provisioned)
    );
}

#[test]
fn a_look_at_a_secret_in_order_changes_nothing() {
    let mut world = World::settled();
    let before = world.token().clone();
    for _ in 0..3 {
        let plan = world.later(600).look();
        assert_eq!((plan.status, plan.write, plan.events), (before.clone(), Write::Nothing, vec![]));
    }
}

#[test]
fn other_keys_are_mended_and_the_token_stays() {
    let mut world = World::settled();
    let before = world.token().clone();
    if let SecretState::Ours(own) = &mut world.seen {
        own.complete = false;
    }
    let plan = world.deliver();
    assert_eq!((plan.write, plan.provisioned.status, &plan.status), (Write::Complete, Truth::True, &before));
    assert_eq!(world.look().write, Write::Nothing);
}

#[test]
fn a_secret_that_never_came_to_be_is_delivered_under_its_own_generation() {
    let mut world = World::new();
    world.look();
    world.undelivered = None; // The leader that made it was killed.
    let plan = world.later(5).look();
    assert_eq!((plan.write, plan.reuses, plan.events), (Write::Create, false, vec![]));
    assert_eq!((world.token().generation, world.token().hashes.len()), (1, 1));
    assert_eq!(world.token().issued_time, Some(Time(at(5))));
    assert_eq!(world.token().hashes[0].sha256, digest("made 2").to_hex());
}

#[test]
fn a_delivery_that_is_tried_again_is_no_change_of_status() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    let first = world.look();
    for _ in 0..3 {
        let again = world.later(10).look();
        assert_eq!((again.write, again.reuses), (Write::Replace, true));
        assert_eq!(again.status, world.token().clone());
        assert_eq!(again.status.issued_time, first.status.issued_time);
    }
    assert_eq!(world.accepted(), [2, 1]);
}

#[test]
fn a_token_that_may_have_reached_its_secret_is_not_handed_out_again_after_a_revocation() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    world.look();
    let leaked = world.undelivered.unwrap();
    world.revoke = Some(at(10).to_string());
    let plan = world.later(10).look();
    assert!(!plan.reuses);
    let live: Vec<_> = world.token().hashes.iter().filter(|hash| hash.not_after.is_none()).collect();
    assert!(live.len() == 1 && live[0].sha256 != leaked.to_hex());
}

#[test]
fn only_a_delivery_that_says_so_itself_is_outstanding() {
    let said = |truth, reason| was_delivered(Some(&ConditionValue::new(truth, reason, "")));
    assert!(said(Truth::True, Reason::Provisioned));
    assert!(said(Truth::False, Reason::TokenSecretConflict), "a conflict says nothing of what was delivered before it");
    assert!(!said(Truth::False, Reason::TokenSecretInvalid));
    assert!(was_delivered(None), "what nobody vouches for may be in use");
}
