//! Deliveries that fail, and Secrets and statuses that come back from a backup: what stands in the Secret decides.

use super::*;

const DAY: i64 = 86_400;

fn held(world: &World) -> Digest {
    match &world.seen {
        SecretState::Ours(OwnSecret { token: Some(held), .. }) => *held,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rotation_that_cannot_be_delivered_ends_no_token_and_its_grace_counts_from_the_delivery() {
    for grace in [0, 3600, GRACE] {
        let mut world = World::settled();
        (world.spec.rotation_generation, world.spec.grace_seconds) = (1, grace);
        let first = world.fail("Secret is immutable");
        assert_eq!((first.write, first.events.clone()), (Write::Replace, vec![]));
        for day in 1..=10 {
            let plan = world.later(DAY).fail("Secret is immutable");
            assert_eq!(world.accepted(), [2, 1], "day {day}: the token in the Secret is the newest that can be read");
            assert_eq!(world.token().grace_until, None);
            assert_eq!(world.token().held_generation, Some(1));
            assert_eq!(plan.events, if day == 1 { vec![TokenEvent::DeliveryFailed] } else { vec![] }, "told once");
            let message = &plan.provisioned.message;
            assert!(message.contains("immutable") && message.contains("holds token 1, which stays valid"), "{message}");
        }
        world.later(0).deliver();
        let delivered_at = world.now;
        assert_eq!(world.token().grace_until, Some(Time(delivered_at + SignedDuration::from_secs(grace))));
        assert_eq!(
            (world.token().held_generation, world.token().issued_time.clone()),
            (None, Some(Time(delivered_at)))
        );
        world.later(grace);
        assert_eq!(world.accepted(), [2], "{grace}");
    }
}

#[test]
fn two_rotations_in_a_row_that_fail_are_one_delivery_in_the_end() {
    let mut world = World::settled();
    for rotation in 1..=6 {
        world.spec.rotation_generation = rotation;
        world.undelivered = None; // Another process each time.
        world.later(DAY).fail("exceeded quota");
        assert_eq!((world.accepted(), world.token().generation), (vec![2, 1], 2));
        assert!(world.token().hashes.len() <= MAX_CREDENTIALS);
    }
    world.deliver();
    assert_eq!((world.token().observed_rotation_generation, world.token().generation), (6, 2));
    world.used = 2;
    assert_eq!(world.later(1).look().events, [TokenEvent::Rotated(2)]);
    assert_eq!(world.accepted(), [2]);
}

#[test]
fn a_pending_token_in_the_secret_stays_valid_while_the_next_one_cannot_be_delivered() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    world.deliver();
    world.spec.rotation_generation = 2;
    world.later(1000).fail("forbidden");
    assert_eq!(world.accepted(), [3, 2, 1], "number 2 can still be read, and number 1 has its grace");
    world.later(GRACE).fail("forbidden");
    assert_eq!(world.accepted(), [3, 2], "number 2 stands in the Secret");
    // A gateway takes number 2 meanwhile: that ends the older ones and no other.
    world.used = 2;
    let plan = world.later(1).fail("forbidden");
    assert!(plan.events.contains(&TokenEvent::Rotated(2)), "{:?}", plan.events);
    world.later(DAY).fail("forbidden");
    assert_eq!(world.accepted(), [3, 2]);
    world.deliver();
    assert_eq!(world.accepted(), [3, 2], "it is in use: it has a grace of its own");
    assert_eq!(world.token().grace_until, Some(Time(world.now + SignedDuration::from_secs(GRACE))));
}

#[test]
fn a_revocation_is_not_held_up_by_a_delivery_that_fails_and_says_that_the_secret_holds_a_dead_token() {
    let mut world = World::settled();
    world.revoke = Some(at(10).to_string());
    world.later(10).fail("Secret is immutable");
    assert_eq!(world.accepted(), [2], "only the one that nobody has");
    let plan = world.later(10).fail("Secret is immutable");
    assert!(plan.provisioned.message.contains("holds token 1, which has ended"), "{}", plan.provisioned.message);
    assert_eq!(plan.events, [TokenEvent::DeliveryFailed]);
    world.revoke = Some(at(30).to_string());
    world.later(10).fail("Secret is immutable");
    assert_eq!(world.accepted(), [3], "again: also the undelivered one has ended");
    world.deliver();
    assert_eq!(
        (world.accepted(), world.token().rotation, world.token().grace_until.clone()),
        (vec![3], Rotation::None, None)
    );
}

#[test]
fn a_secret_that_is_gone_and_cannot_be_made_anew_revokes_nothing() {
    let mut world = World::settled();
    world.seen = SecretState::Absent;
    for _ in 0..5 {
        world.later(DAY).fail("exceeded quota");
        assert_eq!(world.accepted(), [2, 1]);
    }
    let message = world.provisioned.clone().unwrap().message;
    assert!(message.contains("exceeded quota") && message.contains("no such Secret"), "{message}");
    // It comes back by itself, from a backup: then it is as it was before.
    world.deliver();
    assert_eq!(world.accepted(), [2, 1], "the grace runs");
}

#[test]
fn a_failed_delivery_whose_error_differs_in_numbers_alone_is_no_change() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    world.look();
    world.last_error = Some("failed calling webhook: read tcp 192.0.2.1:40001: reset".to_owned());
    let first = world.later(1).look().provisioned;
    world.last_error = Some("failed calling webhook: read tcp 192.0.2.1:51417: reset".to_owned());
    assert_eq!(world.later(1).look().provisioned, first);
    world.last_error = Some("exceeded quota".to_owned());
    let other = world.later(1).look();
    assert!(other.provisioned.message.contains("quota"), "{}", other.provisioned.message);
}

#[test]
fn a_grace_that_an_older_version_began_before_the_delivery_is_lifted_from_the_token_in_the_secret() {
    let mut world = World::settled();
    world.spec.rotation_generation = 1;
    world.look();
    let token = world.status.as_mut().unwrap();
    (token.held_generation, token.grace_until) = (None, Some(Time(at(GRACE))));
    token.hashes[1].not_after = Some(Time(at(GRACE)));
    world.later(GRACE - 1).fail("forbidden");
    world.later(DAY).fail("forbidden");
    assert_eq!(world.accepted(), [2, 1]);
    // One that has ended before the upgrade stays ended.
    world.status.as_mut().unwrap().held_generation = None;
    world.status.as_mut().unwrap().hashes[1].not_after = Some(Time(world.now));
    world.later(1).fail("forbidden");
    assert_eq!(world.accepted(), [2]);
}

fn lose_status(world: &mut World) {
    (world.status, world.provisioned, world.delivered, world.used) = (None, None, false, 0);
    world.undelivered = None;
}

fn with_record(world: &mut World, record: Option<TokenRecord>) {
    if let SecretState::Ours(own) = &mut world.seen {
        own.record = record;
    }
}

#[test]
fn a_lost_status_is_made_anew_from_the_secret_and_the_token_stays() {
    for recorded in [true, false] {
        let mut world = World::settled();
        world.spec.rotation_generation = 3;
        world.deliver();
        world.used = 2;
        world.later(10).look();
        let (before, token) = (world.token().clone(), held(&world));
        let record = TokenRecord::of(&before, world.now);
        with_record(&mut world, recorded.then_some(record));
        lose_status(&mut world);
        let plan = world.later(600).look();
        assert_eq!(
            (plan.write, plan.events, plan.provisioned.status),
            (Write::Nothing, vec![TokenEvent::Adopted], Truth::True)
        );
        assert_eq!(
            world.token().hashes,
            [TokenHash {
                generation: if recorded { 2 } else { 1 },
                sha256: token.to_hex(),
                rounds: None,
                not_after: None
            }]
        );
        assert_eq!(world.token().observed_rotation_generation, 3, "the rotation is not done a second time");
        if recorded {
            assert_eq!(world.token().issued_time, before.issued_time);
        }
        assert!(world.later(600).look().events.is_empty(), "told once");
    }
}

#[test]
fn what_was_asked_for_after_the_backup_is_done_after_the_restore() {
    let mut world = World::settled();
    let record = TokenRecord::of(world.token(), world.now);
    with_record(&mut world, Some(record.clone()));
    lose_status(&mut world);
    world.spec.rotation_generation = 1;
    let plan = world.later(10).look();
    assert_eq!((plan.write, plan.events, world.accepted()), (Write::Replace, vec![TokenEvent::Adopted], vec![2, 1]));

    let mut world = World::settled();
    with_record(&mut world, Some(record));
    lose_status(&mut world);
    world.revoke = Some(at(5).to_string());
    let plan = world.later(10).look();
    assert_eq!(plan.events, [TokenEvent::Adopted, TokenEvent::Revoked]);
    assert_eq!((plan.write, world.accepted()), (Write::Replace, vec![2]));
}

#[test]
fn a_revocation_that_was_honoured_before_the_status_was_lost_is_not_honoured_again() {
    for recorded in [true, false] {
        let mut world = World::settled();
        world.revoke = Some(at(10).to_string());
        world.later(10).deliver();
        let record = TokenRecord::of(world.token(), world.now);
        with_record(&mut world, recorded.then_some(record));
        lose_status(&mut world);
        let plan = world.later(600).look();
        assert_eq!((plan.events, plan.write), (vec![TokenEvent::Adopted], Write::Nothing), "{recorded}");
        assert!(world.later(600).look().events.is_empty());
        world.revoke = Some(world.now.to_string());
        assert_eq!(world.look().events, [TokenEvent::Revoked], "a new one is");
    }
}

#[test]
fn an_older_status_learns_the_token_of_a_newer_secret_and_an_older_secret_is_no_news() {
    let mut world = World::settled();
    let old = (world.token().clone(), world.seen.clone());
    for rotation in 1..=3 {
        world.spec.rotation_generation = rotation;
        world.later(60).deliver();
        world.used = rotation + 1;
        world.later(60).look();
    }
    assert_eq!(world.accepted(), [4]);
    // The Secret of the backup, and the status of today.
    let new = (world.token().clone(), world.seen.clone());
    world.seen = old.1;
    let first = TokenRecord::of(&old.0, at(0));
    with_record(&mut world, Some(first));
    let plan = world.later(60).look();
    assert_eq!((plan.write, plan.events), (Write::Replace, vec![TokenEvent::Recreated]));
    assert_eq!(world.accepted(), [5, 4], "the ended one does not come back");
    // The status of the backup, and the Secret of today.
    lose_status(&mut world);
    (world.status, world.seen) = (Some(old.0), new.1);
    let record = TokenRecord::of(&new.0, world.now);
    with_record(&mut world, Some(record));
    let plan = world.later(60).look();
    assert_eq!((plan.write, plan.events), (Write::Nothing, vec![TokenEvent::Adopted]));
    assert_eq!(
        (world.token().generation, world.token().observed_rotation_generation, world.accepted()),
        (4, 3, vec![4, 1])
    );
    world.later(GRACE);
    assert_eq!(world.accepted(), [4]);
}

#[test]
fn an_older_status_from_before_a_revocation_revives_nothing() {
    let mut world = World::settled();
    let before = world.token().clone();
    world.revoke = Some(at(10).to_string());
    world.later(10).deliver();
    let record = TokenRecord::of(world.token(), world.now);
    lose_status(&mut world);
    world.status = Some(before);
    with_record(&mut world, Some(record));
    let plan = world.later(10).look();
    assert_eq!((plan.events, world.accepted()), (vec![TokenEvent::Adopted], vec![2]));
}

#[test]
fn a_value_typed_in_by_hand_is_never_taken_for_a_token_of_ours() {
    let mut world = World::settled();
    world.seen = ours(Some(digest("by hand")), true);
    lose_status(&mut world);
    let plan = world.look();
    assert_eq!((plan.write, plan.events), (Write::Replace, vec![]));
    assert_eq!(world.accepted(), [1]);
    assert_ne!(world.token().hashes[0].sha256, digest("by hand").to_hex());
}
