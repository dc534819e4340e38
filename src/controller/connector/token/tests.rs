//! The plans of tokens: scenarios 8 to 10, and the properties of any sequence of requests.

use proptest::prelude::*;

use super::*;
use crate::heartbeat::credentials::ROUNDS;

const GRACE: i64 = 14_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn digest(name: &str) -> Digest {
    Digest::of(name)
}

fn ours(token: Option<Digest>, complete: bool) -> SecretState {
    SecretState::Ours(OwnSecret { token, is_made: token != Some(digest("by hand")), complete, record: None })
}

fn foreign() -> SecretState {
    SecretState::Foreign("belongs to SealedSecret other, not to this Connector".to_owned())
}

/// One connector's token and the world around it, told step by step.
struct World {
    spec: TokenSpec,
    status: Option<TokenStatus>,
    delivered: bool,
    revoke: Option<String>,
    used: i64,
    retired_use: Option<Timestamp>,
    undelivered: Option<Digest>,
    seen: SecretState,
    provisioned: Option<ConditionValue>,
    last_error: Option<String>,
    now: Timestamp,
    made: u32,
}

impl World {
    fn new() -> Self {
        Self {
            spec: TokenSpec::default(),
            status: None,
            delivered: false,
            revoke: None,
            used: 0,
            retired_use: None,
            undelivered: None,
            seen: SecretState::Absent,
            provisioned: None,
            last_error: None,
            now: at(0),
            made: 0,
        }
    }

    /// With one token delivered, and in use.
    fn settled() -> Self {
        let mut world = Self::new();
        world.deliver();
        world.used = 1;
        assert_eq!(world.look().write, Write::Nothing);
        world
    }

    fn request<'a>(&'a self) -> PlanInput<'a> {
        PlanInput {
            spec: &self.spec,
            secret_name: "paris-connector-token",
            status: self.status.as_ref(),
            provisioned: self.provisioned.as_ref(),
            delivered: self.delivered || self.used >= self.status.as_ref().map_or(1, |token| token.generation),
            revoke: self.revoke.as_deref(),
            used_generation: self.used,
            retired_use: self.retired_use,
            undelivered: self.undelivered,
            seen: &self.seen,
            failure: None,
            last_error: self.last_error.as_deref(),
            now: self.now,
        }
    }

    /// One look; the status is stored as the API server stores it, the Secret is left as it is.
    fn look(&mut self) -> TokenPlan {
        self.made += 1;
        let fresh = digest(&format!("made {}", self.made));
        let plan = plan(&self.request(), fresh);
        let stored = serde_json::to_value(&plan.status).unwrap();
        self.status = Some(serde_json::from_value(stored).unwrap());
        self.delivered = was_delivered(Some(&plan.provisioned)) && plan.status.held_generation.is_none();
        self.provisioned = Some(plan.provisioned.clone());
        self.undelivered = matches!(plan.write, Write::Create | Write::Replace)
            .then(|| if plan.reuses { self.undelivered.unwrap() } else { fresh });
        plan
    }

    /// One look, and the Secret is written as it says.
    fn deliver(&mut self) -> TokenPlan {
        let plan = self.look();
        match plan.write {
            Write::Nothing => {}
            Write::Complete => {
                if let SecretState::Ours(own) = &mut self.seen {
                    own.complete = true;
                }
            }
            Write::Create | Write::Replace => {
                self.seen = ours(self.undelivered.take(), true);
                self.last_error = None;
                assert_eq!(self.look().provisioned.status, Truth::True, "what was written is there");
            }
        }
        plan
    }

    /// One look, and the write that it wants is refused.
    fn fail(&mut self, why: &str) -> TokenPlan {
        let plan = self.look();
        self.last_error = (plan.write != Write::Nothing).then(|| why.to_owned());
        plan
    }

    fn later(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    fn token(&self) -> &TokenStatus {
        self.status.as_ref().unwrap()
    }

    /// The generations that are accepted now, the newest first.
    fn accepted(&self) -> Vec<i64> {
        let live = |hash: &&TokenHash| hash.not_after.as_ref().is_none_or(|end| end.0 > self.now);
        self.token().hashes.iter().filter(live).map(|hash| hash.generation).collect()
    }

    fn bring(&mut self, value: &str) -> TokenPlan {
        self.seen =
            SecretState::Supplied(Ok(Supplied { plain: digest(value), slow: Digest::slow(value, "u1", ROUNDS) }));
        self.look()
    }
}

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
fn a_secret_that_never_came_to_be_is_delivered_under_its_own_generation() {
    let mut world = World::new();
    world.look();
    world.undelivered = None; // The one who made it was killed.
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
fn only_a_delivery_that_says_so_itself_is_outstanding() {
    let said = |truth, reason| was_delivered(Some(&ConditionValue::new(truth, reason, "")));
    assert!(said(Truth::True, Reason::Provisioned));
    assert!(said(Truth::False, Reason::TokenSecretConflict), "a conflict says nothing of what was delivered before it");
    assert!(!said(Truth::False, Reason::TokenSecretInvalid));
    assert!(was_delivered(None), "what nobody vouches for may be in use");
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

/// The changes that may happen between two plans.
#[derive(Clone, Debug)]
enum Step {
    Rotate,
    Grace(i64),
    Revoke,
    UseNewest,
    Seen(u8),
    Later(i64),
    Killed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Rotate),
        1 => (0i64..20_000).prop_map(Step::Grace),
        1 => Just(Step::Revoke),
        2 => Just(Step::UseNewest),
        3 => (0u8..6).prop_map(Step::Seen),
        3 => (0i64..10_000).prop_map(Step::Later),
        1 => Just(Step::Killed),
    ]
}

impl World {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Rotate => self.spec.rotation_generation += 1,
            Step::Grace(seconds) => self.spec.grace_seconds = *seconds,
            Step::Revoke => self.revoke = Some(self.now.to_string()),
            // Only a token that reached its Secret can be used.
            Step::UseNewest => {
                let newest = self.status.as_ref().and_then(|token| token.hashes.first());
                let held = matches!((&self.seen, newest), (SecretState::Ours(OwnSecret { token: Some(held), .. }), Some(newest)) if held.to_hex() == newest.sha256);
                if held {
                    self.used = self.used.max(self.token().generation);
                }
            }
            Step::Seen(0) => self.seen = SecretState::Absent,
            Step::Seen(1) => self.seen = foreign(),
            Step::Seen(2) => self.seen = SecretState::Predecessors(self.now),
            Step::Seen(3) => self.seen = ours(Some(digest("by hand")), false),
            Step::Seen(4) => self.seen = ours(None, true),
            Step::Seen(_) => {}
            Step::Later(seconds) => drop(self.later(*seconds)),
            Step::Killed => self.undelivered = None,
        }
    }
}

mod standing;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Promise 7 and scenarios 8 to 10, whatever comes in whatever order.
    #[test]
    fn at_any_time_there_is_one_newest_token_and_what_ended_stays_ended(steps in prop::collection::vec((step(), any::<bool>()), 1..40)) {
        let mut world = World::new();
        world.deliver();
        // Managed tokens are confirmed from the first on; see `stored::credentials`.
        world.used = 1;
        let mut ended: Vec<String> = Vec::new();
        for (step, writable) in steps {
            world.take(&step);
            let before = world.token().clone();
            let in_the_way = !matches!(world.seen, SecretState::Absent | SecretState::Ours(_));
            let plan = if writable && !in_the_way { world.deliver() } else { world.look() };
            let token = world.token().clone();
            let revoked = plan.events.contains(&TokenEvent::Revoked);
            let endless: Vec<_> = token.hashes.iter().filter(|hash| hash.not_after.is_none()).collect();
            prop_assert!(endless.len() <= if token.held_generation.is_some() { 3 } else { 1 }, "{token:?}");
            if let Some(newest) = endless.first() {
                prop_assert_eq!(newest.generation, token.generation);
            } else {
                prop_assert!(in_the_way && token.observed_revoke_request.is_some(), "nobody can get in: {token:?}");
            }
            prop_assert!(token.generation >= before.generation);
            prop_assert!(token.hashes.len() <= MAX_CREDENTIALS);
            for hash in &token.hashes {
                prop_assert!(hash.not_after.as_ref().is_some_and(|end| end.0 <= world.now) || !ended.contains(&hash.sha256), "{} came back", hash.generation);
            }
            for hash in token.hashes.iter().filter(|hash| hash.not_after.as_ref().is_some_and(|end| end.0 <= world.now)) {
                ended.push(hash.sha256.clone());
            }
            // Whatever was in use lives until its grace, a first use of the next one, or a revocation ends it.
            let confirmed = plan.events.iter().any(|event| matches!(event, TokenEvent::Rotated(_)));
            for old in before.hashes.iter().filter(|old| old.generation == world.used && old.not_after.as_ref().is_none_or(|end| end.0 > world.now)) {
                let now = token.hashes.iter().find(|hash| hash.sha256 == old.sha256);
                prop_assert!(now.is_some() || revoked, "the token in use was forgotten: {token:?}");
                if !revoked && !confirmed && world.spec.grace_seconds > 0 && !matches!(step, Step::Grace(_)) {
                    let until = now.and_then(|hash| hash.not_after.as_ref());
                    prop_assert!(until.is_none_or(|end| end.0 > world.now), "the token in use ended early: {token:?}");
                }
            }
        }
    }
}
