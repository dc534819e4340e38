//! Properties that hold for every input.

use proptest::prelude::*;
// `Strategy` is the API's type here.
use proptest::strategy::Strategy as Generate;

use super::*;

fn worlds() -> impl Generate<Value = World> {
    let spoilt = prop::collection::vec(0..SPOILT.len(), 0..4);
    let story = prop::collection::vec((0_u8..3, 1_i64..200), 1..11);
    let numbers = (0_i32..5, 0_i32..4, 0_usize..12, 0_i64..400, any::<bool>(), any::<bool>());
    (spoilt, story, numbers).prop_map(|(spoilt, story, (attempts, max, started, next, asked, own_story))| {
        let mut world = if asked { world().requested() } else { world() };
        for n in spoilt {
            SPOILT[n].1(&mut world);
        }
        if own_story {
            let mut second = NOW;
            let health =
                |n: u8| [ObjectHealth::Healthy, ObjectHealth::Unhealthy, ObjectHealth::Unknown][usize::from(n)];
            world.verdict.intervals = Vec::new();
            for (n, seconds) in story {
                second -= seconds;
                world.verdict.intervals.push(HealthInterval { health: health(n), since: at(second) });
            }
        }
        if let Some(spec) = &mut world.spec {
            spec.max_attempts = max;
        }
        world.status.ledger = Some(Ledger { attempts, start_time: Time(at(NOW - 5000)) });
        world.status.next_attempt_time = (next > 200).then(|| Time(at(NOW - 300 + next)));
        world.fleet.recent_starts = (0..started).map(|n| at(NOW - 70 + 5 * i64::try_from(n).unwrap())).collect();
        world
    })
}

proptest! {
    #[test]
    fn the_same_situation_later_is_told_in_the_same_words(world in worlds(), later in 1_i64..2000) {
        let after = world.clone().with(|w| w.now += later);
        if let (Err(before), Err(after)) = (world.allow(), after.allow())
            && before.reason == after.reason
        {
            prop_assert_eq!(before.message, after.message);
        }
    }

    #[test]
    fn a_denial_is_looked_at_again_when_it_may_have_ended_and_never_in_the_past(world in worlds()) {
        if let Err(Denied { reason, check_again_at: Some(again), message }) = world.allow() {
            prop_assert!(again > at(world.now), "{}: {}", reason, message);
            // Nothing else changes until then: at that time this reason is gone, and a second before it is not.
            let seconds = again.duration_since(at(world.now)).as_secs();
            let then = world.clone().with(|w| w.now += seconds).allow();
            prop_assert!(then.as_ref().err().is_none_or(|then| then.reason != reason), "{} goes on: {:?}", reason, then);
            let before = world.clone().with(|w| w.now += seconds - 1).denied();
            prop_assert_eq!(before.reason, reason);
        }
    }

    #[test]
    fn what_was_used_up_is_not_given_back_by_flapping(story in prop::collection::vec((0_u8..3, 1_i64..3599), 1..11)) {
        let mut world = world();
        world.status.ledger = Some(Ledger { attempts: 3, start_time: Time(at(0)) });
        let mut second = NOW;
        world.verdict.intervals.clear();
        for (n, seconds) in story {
            second -= seconds;
            let health = [ObjectHealth::Healthy, ObjectHealth::Unhealthy, ObjectHealth::Unknown][usize::from(n)];
            world.verdict.intervals.push(HealthInterval { health, since: at(second) });
        }
        prop_assert!(world.denied().reason <= Denial::GaveUp);
    }

    #[test]
    fn without_a_request_only_what_is_known_to_be_unhealthy_is_restarted(world in worlds()) {
        if world.allow().is_ok() && world.request.is_none() {
            prop_assert_eq!(world.verdict.health(), ObjectHealth::Unhealthy);
            prop_assert!(world.verdict.was_healthy && world.status.ledger.is_none_or(|l| l.attempts < 3));
        }
    }
}
