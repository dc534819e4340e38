//! Rotations, and the grace of the token before.

use super::*;

#[test]
fn a_rotation_lets_both_tokens_in_until_the_first_use_of_the_new_one() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    let plan = world.later(100).deliver();
    assert_eq!((plan.write, plan.events), (Write::Replace, vec![]));
    assert_eq!((world.token().rotation, world.accepted()), (Rotation::Pending, vec![2, 1]));
    assert_eq!(world.token().grace_until, Some(Time(at(100 + GRACE))));
    assert_eq!(world.token().observed_rotation_generation, 1);
    // The old one is used meanwhile: that discards nothing.
    world.used = 1;
    world.later(1000).look();
    assert_eq!((world.token().rotation, world.accepted()), (Rotation::Pending, vec![2, 1]));
    world.used = 2;
    let plan = world.later(10).look();
    assert_eq!(plan.events, [TokenEvent::Rotated(2)]);
    assert_eq!((world.token().rotation, world.accepted()), (Rotation::Confirmed, vec![2]));
    assert_eq!(world.token().grace_until, None);
    assert!(world.later(10).look().events.is_empty(), "told once");
}

#[test]
fn past_its_grace_the_old_token_is_refused() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    world.deliver();
    world.later(GRACE - 1);
    assert_eq!(world.accepted(), [2, 1]);
    world.later(1).look();
    assert_eq!(world.accepted(), [2]);
    assert_eq!(world.token().rotation, Rotation::Pending, "it has not been used yet");
}

#[test]
fn a_grace_of_zero_ends_the_old_token_at_once() {
    let mut world = World::settled();
    (world.spec.rotation_generation, world.spec.grace_seconds) = (1, 0);
    world.later(5).deliver();
    assert_eq!(world.accepted(), [2]);
}

#[test]
fn a_running_grace_can_be_shortened_and_never_lengthened() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    world.deliver();
    for (after, grace, until) in [
        (100, GRACE * 2, GRACE), // Longer: as granted.
        (100, 3600, 3600),
        (100, GRACE, 3600), // Back again: it stays short.
        (100, 100, 400),    // Would have ended before now: ends now.
        (100, 5000, 400),
    ] {
        world.spec.grace_seconds = grace;
        world.later(after).look();
        assert_eq!(world.token().grace_until, Some(Time(at(until))), "{grace} s");
        let old = world.token().hashes.iter().find(|hash| hash.generation == 1).unwrap();
        assert_eq!(old.not_after, Some(Time(at(until))), "{grace} s");
    }
    assert_eq!(world.accepted(), [2]);
}

#[test]
fn raising_the_generation_again_ends_the_pending_token_at_once_and_keeps_the_deadline() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    world.deliver();
    world.spec.rotation_generation = 2;
    world.later(1000).deliver();
    assert_eq!((world.token().generation, world.accepted()), (3, vec![3, 1]));
    assert_eq!((world.token().rotation, world.token().grace_until.clone()), (Rotation::Pending, Some(Time(at(GRACE)))));
}

#[test]
fn the_token_in_use_is_not_forgotten_however_often_the_pending_one_is_replaced() {
    let mut world = World::settled();
    for generation in 1..=8 {
        world.spec.rotation_generation = generation;
        world.later(10).deliver();
        assert_eq!(world.accepted(), [generation + 1, 1]);
        assert!(world.token().hashes.len() <= MAX_CREDENTIALS);
    }
    let known: Vec<_> = world.token().hashes.iter().map(|hash| hash.generation).collect();
    assert_eq!(known, [9, 8, 7, 1], "of what has ended, the oldest is forgotten first");
}

#[test]
fn a_rotation_that_was_used_and_raised_again_at_once_is_confirmed_first() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    world.deliver();
    (world.used, world.spec.rotation_generation) = (2, 2);
    let plan = world.later(60).deliver();
    assert_eq!(plan.events, [TokenEvent::Rotated(2)]);
    assert_eq!((world.accepted(), world.token().grace_until.clone()), (vec![3, 2], Some(Time(at(60 + GRACE)))));
}

#[test]
fn raising_by_many_delivers_once() {
    let mut world = World::settled();
    world.spec.rotation_generation = 17;
    world.deliver();
    assert_eq!((world.token().generation, world.token().observed_rotation_generation), (2, 17));
    assert_eq!(world.later(1).look().write, Write::Nothing);
}

#[test]
fn the_grace_counts_from_the_write_of_the_secret_however_much_later_that_is_seen() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    assert_eq!(world.look().write, Write::Replace);
    let written = world.now;
    let record = TokenRecord { generation: 2, issued_time: Some(written), ..TokenRecord::default() };
    let token = world.undelivered.take();
    world.seen = SecretState::Ours(OwnSecret { token, is_made: true, complete: true, record: Some(record) });
    let until = Some(Time(written + SignedDuration::from_secs(GRACE)));
    for pause in [3, 1, 60] {
        world.later(pause).look();
        assert_eq!(world.token().grace_until, until);
    }
    world.spec.rotation_generation = 2;
    world.later(1).deliver();
    assert_eq!(world.token().grace_until, until, "raising it again keeps the deadline");
    let ends: Vec<_> = world.token().hashes.iter().map(|hash| (hash.generation, hash.not_after.clone())).collect();
    assert!(ends.contains(&(1, until)), "{ends:?}");
}

#[test]
fn a_grace_that_is_over_when_the_delivery_is_seen_ends_the_old_token_now() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    world.look();
    let record = TokenRecord { generation: 2, issued_time: Some(world.now), ..TokenRecord::default() };
    let token = world.undelivered.take();
    world.seen = SecretState::Ours(OwnSecret { token, is_made: true, complete: true, record: Some(record) });
    world.later(GRACE + 60).look();
    assert_eq!((world.token().grace_until.clone(), world.accepted()), (Some(Time(world.now)), vec![2]));
}
