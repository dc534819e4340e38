//! Secrets that were deleted, restored, or are not the Connector's own.

use super::*;

#[test]
fn a_deleted_secret_is_delivered_anew_and_revokes_nothing() {
    let mut world = World::settled();
    world.seen = SecretState::Absent;
    let plan = world.later(600).deliver();
    assert_eq!((plan.write, plan.events), (Write::Create, vec![TokenEvent::Recreated]));
    assert_eq!((plan.provisioned.status, plan.provisioned.reason), (Truth::False, Reason::TokenSecretInvalid));
    assert_eq!((world.token().generation, world.accepted()), (2, vec![2, 1]));
    // Again and again: the pending one is replaced, the one in use lives on through the grace of the first time.
    for round in 0..6 {
        world.seen = SecretState::Absent;
        world.later(600).deliver();
        assert_eq!(world.accepted(), [3 + round, 1]);
        assert_eq!(world.token().grace_until, Some(Time(at(600 + GRACE))));
    }
}

#[test]
fn an_unknown_or_older_value_in_our_secret_counts_as_lost() {
    for held in [Some(digest("typed in by hand")), None] {
        let mut world = World::settled();
        world.seen = ours(held, true);
        let plan = world.later(600).deliver();
        assert_eq!((plan.write, plan.events), (Write::Replace, vec![TokenEvent::Recreated]));
        assert_eq!(world.accepted(), [2, 1]);
    }
}

#[test]
fn a_secret_restored_from_a_backup_does_not_end_the_token_in_use() {
    let mut world = World::settled();
    let SecretState::Ours(OwnSecret { token: first, .. }) = world.seen else { panic!("delivered") };
    world.spec.rotation_generation = 1;
    world.deliver();
    world.used = 2;
    world.later(60).look();
    assert_eq!(world.accepted(), [2]);
    world.seen = ours(first, true);
    let plan = world.later(600).deliver();
    assert_eq!((plan.events, world.accepted()), (vec![TokenEvent::Recreated], vec![3, 2]));
}

#[test]
fn a_foreign_secret_is_not_touched() {
    let mut world = World::new();
    world.seen = foreign();
    let plan = world.look();
    assert_eq!(
        (plan.write, plan.provisioned.status, plan.provisioned.reason),
        (Write::Nothing, Truth::False, Reason::TokenSecretConflict)
    );
    assert!(plan.provisioned.message.contains("paris-connector-token"), "{}", plan.provisioned.message);
    assert_eq!((world.token().generation, world.token().hashes.len()), (0, 0));
    world.seen = SecretState::Absent;
    world.deliver();
    assert_eq!((world.token().generation, world.accepted()), (1, vec![1]));
}

#[test]
fn a_foreign_secret_that_came_and_went_does_not_end_the_token_in_use() {
    let mut world = World::settled();
    world.seen = foreign();
    assert_eq!(world.later(600).look().provisioned.reason, Reason::TokenSecretConflict);
    assert_eq!(world.accepted(), [1]);
    world.seen = SecretState::Absent;
    world.later(600).look();
    assert_eq!(world.accepted(), [2, 1]);
}

#[test]
fn a_predecessors_secret_is_waited_out_for_a_minute_and_not_adopted() {
    for (age, words, again) in
        [(0, "is being collected", true), (60, "is being collected", true), (61, "was not collected", false)]
    {
        let mut world = World::new();
        world.seen = SecretState::Predecessors(at(0));
        let plan = world.later(age).look();
        assert_eq!((plan.write, plan.provisioned.reason), (Write::Nothing, Reason::TokenSecretConflict));
        assert!(plan.provisioned.message.contains(words), "{age}: {}", plan.provisioned.message);
        assert_eq!(plan.reread_after.is_some(), again, "{age}");
        world.seen = SecretState::Absent;
        assert_eq!(world.look().write, Write::Create);
    }
}
