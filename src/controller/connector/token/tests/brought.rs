//! Tokens that users bring.

use super::*;

#[test]
fn what_the_user_brings_is_accepted_and_a_changed_value_replaces_it() {
    let mut world = World::new();
    let plan = world.bring("mine");
    assert_eq!((plan.write, plan.provisioned.status), (Write::Nothing, Truth::True));
    assert_eq!((world.token().generation, world.accepted()), (1, vec![1]));
    let before = world.token().clone();
    assert_eq!(world.later(600).bring("mine").status, before);
    world.later(600).bring("other");
    assert_eq!((world.token().generation, world.accepted(), world.token().rotation), (2, vec![2], Rotation::None));
}

#[test]
fn the_stored_hash_of_a_brought_value_is_slow_and_the_plain_one_of_an_older_version_is_replaced() {
    let mut world = World::new();
    world.bring("mine");
    assert_eq!(world.token().hashes[0].rounds, Some(10_000));
    assert!(world.token().hashes.iter().all(|hash| hash.sha256 != digest("mine").to_hex()));
    let token = world.status.as_mut().unwrap();
    (token.hashes[0].sha256, token.hashes[0].rounds) = (digest("mine").to_hex(), None);
    world.later(600).bring("mine");
    let token = world.token();
    assert_eq!((token.generation, token.hashes[0].rounds, token.hashes.len()), (1, Some(10_000), 1));
    assert_eq!(world.accepted(), [1]);
}

#[test]
fn an_unusable_value_is_named_and_the_one_before_it_stays() {
    let mut world = World::new();
    world.bring("mine");
    world.seen = SecretState::Supplied(Err("the value under the key token is no token".to_owned()));
    let plan = world.later(600).look();
    assert_eq!((plan.provisioned.status, plan.provisioned.reason), (Truth::False, Reason::TokenSecretInvalid));
    assert!(plan.provisioned.message.contains("no token"));
    assert_eq!(world.accepted(), [1]);
}

#[test]
fn a_brought_value_that_was_revoked_or_replaced_does_not_come_back() {
    let mut world = World::new();
    world.bring("mine");
    world.revoke = Some(at(600).to_string());
    let plan = world.later(600).bring("mine");
    assert_eq!((plan.events, plan.provisioned.status), (vec![TokenEvent::Revoked], Truth::False));
    assert!(plan.provisioned.message.contains("revoked"), "{}", plan.provisioned.message);
    assert!(world.accepted().is_empty());
    assert_eq!(world.later(600).bring("mine").provisioned.status, Truth::False);
    assert_eq!(world.later(600).bring("other").provisioned.status, Truth::True);
    assert_eq!(world.accepted(), [2]);
    assert_eq!(world.later(600).bring("mine").provisioned.status, Truth::False);
    assert_eq!(world.accepted(), [2], "an unusable value ends nothing");
}
