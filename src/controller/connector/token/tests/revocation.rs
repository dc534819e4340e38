//! Revocations, and retired tokens that are still used.

use super::*;

#[test]
fn a_revocation_ends_every_token_at_once_and_delivers_a_new_one() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    world.deliver();
    world.later(10).revoke = Some(at(10).to_string());
    let plan = world.deliver();
    assert_eq!((plan.write, plan.events), (Write::Replace, vec![TokenEvent::Revoked]));
    assert_eq!((world.token().generation, world.token().rotation, world.accepted()), (3, Rotation::None, vec![3]));
    assert_eq!(world.token().grace_until, None);
    assert!(world.later(100).look().events.is_empty(), "honoured once");
    world.revoke = Some(at(110).to_string());
    assert_eq!(world.deliver().events, [TokenEvent::Revoked]);
    assert_eq!(world.accepted(), [4]);
}

#[test]
fn a_revocation_is_honoured_in_its_time_and_nonsense_never() {
    for (remediation_input, honoured) in [
        (at(0).to_string(), true),
        (at(-86_400 * 365).to_string(), true),
        (at(300).to_string(), true),
        (at(301).to_string(), false),
        (String::new(), false),
        ("now".to_owned(), false),
        ("2026-13-01T00:00:00Z".to_owned(), false),
        (format!("{}{}", at(0), " ".repeat(64)), false),
    ] {
        let mut world = World::settled();
        world.revoke = Some(remediation_input.clone());
        assert_eq!(world.look().events.contains(&TokenEvent::Revoked), honoured, "{remediation_input:?}");
    }
    let mut early = World::settled();
    early.revoke = Some(at(1000).to_string());
    assert!(early.look().events.is_empty());
    assert_eq!(early.later(700).look().events, [TokenEvent::Revoked], "when its time comes");
}

#[test]
fn a_revocation_does_not_wait_for_a_secret_that_is_in_the_way() {
    for seen in
        [foreign(), SecretState::Predecessors(at(0)), SecretState::Supplied(Err("Secret cannot be read".to_owned()))]
    {
        let mut world = World::settled();
        let held = world.seen.clone();
        world.seen = seen.clone();
        world.revoke = Some(at(0).to_string());
        let plan = world.look();
        assert_eq!((plan.events, plan.write), (vec![TokenEvent::Revoked], Write::Nothing), "{seen:?}");
        assert!(world.accepted().is_empty(), "{seen:?}");
        assert!(world.later(5).look().events.is_empty(), "{seen:?}");
        // Back again: what was revoked is not taken for delivered.
        world.seen = held;
        world.later(600).deliver();
        assert_eq!((world.accepted(), world.token().rotation), (vec![2], Rotation::None), "{seen:?}");
    }
}

#[test]
fn a_revocation_from_before_the_first_token_has_nothing_to_end() {
    let mut world = World::new();
    world.revoke = Some(at(-100).to_string());
    world.deliver();
    let plan = world.later(1).look();
    assert_eq!((plan.events, world.token().generation, world.accepted()), (vec![], 1, vec![1]));
}

#[test]
fn a_retired_token_in_use_is_noted_and_never_moves_back() {
    let mut world = World::settled();
    world.retired_use = Some(at(100));
    world.later(100).look();
    assert_eq!(world.token().last_rejected_time, Some(Time(at(100))));
    world.retired_use = Some(at(50));
    world.look();
    assert_eq!(world.token().last_rejected_time, Some(Time(at(100))));
}
