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

mod brought;
mod delivery;
mod revocation;
mod rotation;
mod secrets;
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
