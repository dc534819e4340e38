use std::str::FromStr as _;

use super::*;
use crate::api::{Cause, Confidence, Diagnosis, RemediationMode, RestartHelps, WorkloadKind, WorkloadRef};
use crate::remediation::input::{
    Agent, Breaker, FleetContext, HealthInterval, InsideView, Limits, Pod, Request, RestartMeans, Rollout, Scrape,
    Template, Verdict,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_str("2026-11-01T12:00:00Z").unwrap() + SignedDuration::from_secs(second)
}

/// Everything that a step looks at; a test turns what it is about.
#[derive(Clone)]
struct World {
    spec: Option<RemediationSpec>,
    status: RemediationStatus,
    verdict: Verdict,
    workload: Lookup,
    agent: Option<bool>,
    request: Option<Request>,
    around: FleetContext,
    word: Signals,
    now: i64,
}

fn diagnosis(cause: Cause) -> Diagnosis {
    Diagnosis {
        cause,
        confidence: Confidence::Likely,
        since: None,
        message: "it hangs".to_owned(),
        advice: "restart it".to_owned(),
        restart_helps: RestartHelps::Once,
        evidence: Vec::new(),
        alternatives: Vec::new(),
    }
}

fn workload() -> Workload {
    Workload {
        called: "Deployment shop/web".to_owned(),
        uid: "w1".to_owned(),
        generation: 3,
        is_going: false,
        controller: None,
        is_vigie: false,
        is_paused: false,
        replicas: 1,
        is_on_delete: false,
        is_daemon_set: false,
        rollout: Rollout::Complete,
        progress_deadline: Some(600),
        template: Template { since: Some(at(-86_400)), ..Template::default() },
        pods: vec![Pod { name: "web-1".into(), uid: "p1".into(), ..Pod::default() }],
    }
}

fn world() -> World {
    let spell = |health, second| HealthInterval { health, since: at(second) };
    World {
        spec: Some(RemediationSpec::new(RemediationMode::Restart)),
        status: RemediationStatus::default(),
        verdict: Verdict {
            spells: vec![spell(Health::Unhealthy, 0), spell(Health::Healthy, -7_200)],
            was_healthy: true,
            diagnosis: Some(diagnosis(Cause::Hung)),
            mass_silence: None,
            blind: None,
            inside: InsideView::Seen { failing: vec!["web-1".to_owned()], passing: Vec::new(), unready: false },
            healthy_at: None,
            scrape: None,
        },
        workload: Lookup::Found(Box::new(workload())),
        agent: None,
        request: None,
        around: FleetContext {
            breaker: Breaker::Closed,
            site: "shop/".to_owned(),
            site_unhealthy: 1,
            site_all: 1,
            site_in_flight: 0,
            in_flight: 0,
            started: Vec::new(),
            held_by: None,
            shared_attempts: 0,
            shared_max: None,
            limits: Limits::default(),
        },
        word: Signals::default(),
        now: 200,
    }
}

impl World {
    /// One step; what it says of the status is kept.
    fn step(&mut self) -> StepResult {
        let reference = WorkloadRef { kind: WorkloadKind::Deployment, name: "web".to_owned() };
        let means = match self.agent {
            Some(is_heard) => RestartMeans::Agent(Agent { is_heard }),
            None => RestartMeans::Workload(&reference),
        };
        let situation = PolicyInput {
            object: "shop/web",
            namespace: "shop",
            spec: self.spec.as_ref(),
            status: &self.status,
            paused: None,
            verdict: &self.verdict,
            means,
            workload: &self.workload,
            request: self.request.as_ref(),
            around: &self.around,
            now: at(self.now),
        };
        let course = step(&situation, &self.word, &format!("id{}", self.now));
        self.status = course.status.clone();
        course
    }

    fn workload(&mut self) -> &mut Workload {
        match &mut self.workload {
            Lookup::Found(workload) => workload,
            other => panic!("no workload: {other:?}"),
        }
    }

    /// The API server takes the patch.
    fn apply(&mut self, act: &Remedy) {
        let Remedy::Restart { id, generation, uid, .. } = act else { panic!("{act:?}") };
        let workload = self.workload();
        assert_eq!((&workload.uid, workload.generation), (uid, *generation));
        workload.generation += 1;
        workload.template.attempt = Some(id.clone());
        workload.template.attempts.push(id.clone());
        workload.rollout = Rollout::InProgress("0 of 1 updated".to_owned());
    }

    fn recover(&mut self, second: i64) {
        self.verdict.spells.insert(0, HealthInterval { health: Health::Healthy, since: at(second) });
        self.verdict.healthy_at = Some(at(second));
        self.verdict.diagnosis = None;
    }

    fn phase(&self) -> Option<AttemptPhase> {
        self.status.current.as_ref().map(|current| current.phase)
    }

    /// Up to the restart that the API server has taken.
    fn restarted(mut self) -> Self {
        assert!(self.step().begun.is_some());
        let act = self.step().act.expect("an act");
        self.apply(&act);
        self.step();
        assert_eq!(self.phase(), Some(AttemptPhase::Restarting));
        self
    }
}

#[test]
fn a_restart_is_reserved_then_done_then_verified_then_recorded() {
    let mut world = world();
    let begun = world.step();
    assert_eq!((begun.begun.as_deref(), &begun.act, begun.told.len()), (Some("id200"), &None, 0), "nothing yet");
    assert_eq!(begun.said.reason, Reason::RestartInProgress);
    let current = world.status.current.clone().unwrap();
    assert_eq!((current.workload_uid.as_deref(), current.workload_generation), (Some("w1"), Some(3)));
    assert_eq!(current.not_after.0, at(200 + 660), "the progress deadline and a minute is longer than 600 s");
    assert_eq!(world.status.ledger.as_ref().unwrap().attempts, 1);

    let act = world.step().act.expect("an act");
    assert_eq!(act, Remedy::Restart { id: "id200".into(), started: at(200), uid: "w1".into(), generation: 3 });
    world.apply(&act);
    let started = world.step();
    assert_eq!((started.act, started.told[0].reason), (None, "RestartStarted"));
    assert_eq!(world.step().act, None, "once");
    world.workload().rollout = Rollout::Complete;
    world.now = 203;
    world.step();
    assert_eq!(world.phase(), Some(AttemptPhase::Verifying));
    // A probe that passed before the restart was complete proves nothing.
    world.recover(202);
    assert_eq!(world.step().ended, None);
    world.verdict.healthy_at = Some(at(204));
    world.now = 205;
    let ended = world.step();
    assert_eq!((ended.ended, ended.told[0].reason), (Some(AttemptOutcome::Succeeded), "RestartSucceeded"));
    let past = &world.status.history[0];
    assert!(past.restarted && past.cured && world.status.current.is_none());
    assert_eq!(world.status.restarts, 1);
    assert_eq!(world.status.ledger.as_ref().unwrap().attempts, 1, "a cure buys no new budget");
    let idle = world.step();
    assert_eq!((idle.said.reason, idle.again), (Reason::Idle, Some(at(202 + 3600))), "the ledger is emptied then");
    world.now = 202 + 3600;
    world.step();
    assert_eq!((world.status.ledger.clone(), world.status.next_attempt_time.clone()), (None, None));
}

#[test]
fn whoever_comes_after_a_kill_goes_on_and_restarts_nothing_twice() {
    let mut world = world();
    world.step();
    let act = world.step().act.expect("an act");
    // Killed after the request was taken, before anything was noted: the next one sees the id.
    world.apply(&act);
    let next = world.clone().step();
    assert_eq!((next.act, next.told[0].reason), (None, "RestartStarted"));
    // Killed before the request was sent: the next one sends the same.
    let mut unsent = world.clone();
    *unsent.workload() = workload();
    assert_eq!(unsent.step().act, Some(act));
    // Somebody stripped the annotation meanwhile: the old template is remembered.
    world.workload().template.attempt = None;
    assert_eq!(world.step().act, None);
    world.workload().template.since = None;
    world.step();
    assert_eq!(world.phase(), Some(AttemptPhase::Restarting), "whose it is shows when its controller has seen it");
    world.workload().template.is_stripped = true;
    assert_eq!(world.step().act, None);
    assert_eq!(world.phase(), Some(AttemptPhase::Restarting));
    world.workload().rollout = Rollout::Complete;
    world.step();
    assert_eq!(world.phase(), Some(AttemptPhase::Verifying), "the second rollout is recognised as ours");
}

#[test]
fn what_changed_between_decision_and_act_is_not_touched() {
    type Change = fn(&mut World);
    let cases: [(Change, AttemptOutcome); 8] = [
        (|world| world.workload().generation = 4, AttemptOutcome::Superseded),
        (|world| world.workload().uid = "w2".into(), AttemptOutcome::Superseded),
        (|world| world.workload().is_going = true, AttemptOutcome::Superseded),
        (|world| world.workload = Lookup::Absent, AttemptOutcome::Superseded),
        (|world| world.around.breaker = Breaker::Open("it opened".into()), AttemptOutcome::Recalled),
        (|world| (world.around.site_unhealthy, world.around.site_all) = (3, 3), AttemptOutcome::Recalled),
        (|world| world.recover(200), AttemptOutcome::Abandoned),
        (|world| world.now += 100_000, AttemptOutcome::Abandoned),
    ];
    for (number, (change, outcome)) in cases.into_iter().enumerate() {
        let mut world = world();
        world.step();
        change(&mut world);
        let ended = world.step();
        assert_eq!((ended.ended, ended.act), (Some(outcome), None), "case {number}: {}", ended.said.message);
        assert_eq!(ended.told.len(), 1, "one event for each outcome");
        assert!(!world.status.history[0].restarted);
        let charged = world.status.ledger.as_ref().map_or(0, |ledger| ledger.attempts);
        assert_eq!(charged, i32::from(outcome != AttemptOutcome::Recalled), "a brake costs nothing");
    }
    let mut refused = world();
    refused.step();
    refused.word.refused = Some("deployments.apps \"web\" is forbidden".to_owned());
    let ended = refused.step();
    assert_eq!(ended.ended, Some(AttemptOutcome::Refused));
    assert!(ended.said.message.contains("is forbidden"), "{}", ended.said.message);
}

#[test]
fn what_cannot_be_seen_now_is_waited_for_and_not_touched() {
    let mut world = world();
    world.step();
    world.workload = Lookup::Failed("reading Deployment shop/web: no answer".to_owned());
    let step = world.step();
    assert_eq!((step.act, step.ended), (None, None));
    assert!(step.again.unwrap() > at(world.now));
    let mut world = super::tests::world().restarted();
    world.workload = Lookup::Failed("no answer".to_owned());
    assert_eq!(world.step().ended, None);
    world.now += 10_000;
    assert_eq!(world.step().ended, Some(AttemptOutcome::TimedOut));
}

#[test]
fn a_rollout_that_fails_or_is_replaced_or_is_deleted_ends_the_attempt() {
    type Change = fn(&mut World);
    let cases: [(Change, AttemptOutcome); 5] = [
        (|world| world.workload().rollout = Rollout::Failed("deadline exceeded".into()), AttemptOutcome::RolloutFailed),
        (|world| world.workload().template.attempt = Some("other".into()), AttemptOutcome::Superseded),
        (|world| world.workload = Lookup::Absent, AttemptOutcome::Superseded),
        (|world| world.workload().uid = "w2".into(), AttemptOutcome::Superseded),
        (|world| world.now += 661, AttemptOutcome::TimedOut),
    ];
    for (number, (change, outcome)) in cases.into_iter().enumerate() {
        let mut world = world().restarted();
        change(&mut world);
        let ended = world.step();
        assert_eq!(ended.ended, Some(outcome), "case {number}: {}", ended.said.message);
        let past = &world.status.history[0];
        assert!(past.restarted && !past.cured, "restarted and cured are two facts");
        assert!(world.status.next_attempt_time.as_ref().unwrap().0 >= at(world.now + 269), "it backs off");
    }
}

#[test]
fn still_unhealthy_at_the_end_is_not_cured_and_is_not_tried_again_for_the_same_cause() {
    let mut world = world().restarted();
    world.workload().rollout = Rollout::Complete;
    world.step();
    // The kind of failure changes meanwhile: no second restart, and the time limit stays.
    world.verdict.diagnosis = Some(diagnosis(Cause::ServerError));
    assert_eq!((world.step().ended, world.status.restarts), (None, 0));
    world.now = 200 + 660;
    let ended = world.step();
    assert_eq!((ended.ended, ended.told[0].reason), (Some(AttemptOutcome::NotCured), "RestartNotCured"));
    assert!(ended.said.message.contains("ServerError"), "{}", ended.said.message);
    world.verdict.diagnosis = Some(diagnosis(Cause::Hung));
    world.workload().template.since = Some(at(0));
    world.now += 3_700;
    let again = world.step();
    assert_eq!(again.denied, Some(Denial::AlreadyTried), "{}", again.said.message);
}

#[test]
fn the_budget_is_used_up_loudly_and_once() {
    let mut world = world();
    world.verdict.diagnosis.as_mut().unwrap().restart_helps = RestartHelps::Yes;
    let mut started = 0;
    let mut gave_up = 0;
    for _ in 0..4_000 {
        world.now += 30;
        let course = world.step();
        started += i32::from(course.begun.is_some());
        gave_up += course.told.iter().filter(|told| told.reason == "GaveUp").count();
        if let Some(act) = &course.act {
            world.apply(act);
            world.workload().rollout = Rollout::Complete;
        }
    }
    assert_eq!((started, gave_up), (3, 1), "{:?}", world.status.history);
    assert_eq!(world.status.last_denial.as_ref().unwrap().reason, Denial::GaveUp);
    assert_eq!(world.status.restarts, 3);
}

#[test]
fn one_pod_is_evicted_and_its_going_is_what_counts() {
    let mut world = world();
    world.verdict.inside =
        InsideView::Seen { failing: vec!["web-2".into()], passing: vec!["web-1".into()], unready: false };
    world.verdict.diagnosis = Some(diagnosis(Cause::OneReplicaBad));
    world.workload().pods.push(Pod { name: "web-2".into(), uid: "p2".into(), ..Pod::default() });
    world.workload().replicas = 2;
    world.step();
    // An autoscaler changes the workload meanwhile: the pod is the same.
    world.workload().generation = 9;
    assert_eq!(world.step().act, Some(Remedy::Evict { name: "web-2".into(), uid: "p2".into() }));
    world.workload().pods[1].is_going = true;
    world.workload().rollout = Rollout::InProgress("1 of 2 available".into());
    assert_eq!(world.step().told[0].reason, "RestartStarted");
    assert_eq!(world.step().act, None);
    world.workload().rollout = Rollout::Complete;
    world.step();
    assert_eq!(world.phase(), Some(AttemptPhase::Verifying));
}

#[test]
fn an_agent_is_asked_until_it_answers_or_the_time_is_over() {
    let mut world = world();
    world.agent = Some(true);
    world.workload = Lookup::NotLooked;
    world.verdict.inside = InsideView::Beats { pod_uid: None };
    world.step();
    let offer = Remedy::Offer { id: "id200".into(), not_after: at(800) };
    assert_eq!(world.step().act.as_ref(), Some(&offer));
    let mut silent = world.clone();
    world.word.handed_out = true;
    assert_eq!(world.step().told[0].reason, "RestartStarted");
    world.word.handed_out = false;
    assert_eq!(world.step().act.as_ref(), Some(&offer), "a new leader offers the same");
    let mut failing = world.clone();
    world.word.acknowledged = Some((true, String::new()));
    world.step();
    assert_eq!(world.phase(), Some(AttemptPhase::Verifying));
    failing.word.acknowledged = Some((false, "unit not found".to_owned()));
    let ended = failing.step();
    assert_eq!(ended.ended, Some(AttemptOutcome::Refused));
    assert!(ended.said.message.contains("unit not found") && !failing.status.history[0].restarted);
    silent.now = 801;
    assert_eq!(silent.step().ended, Some(AttemptOutcome::Abandoned), "nobody fetched it");
}

#[test]
fn prometheus_is_waited_for_by_its_own_interval() {
    let minute = SignedDuration::from_mins(1);
    let mut world = world();
    world.spec.as_mut().unwrap().verify_within_seconds = 10;
    world.workload().progress_deadline = None;
    world.verdict.scrape = Some(Scrape { passed: Some(false), at: Some(at(150)), interval: minute });
    let mut world = world.restarted();
    assert_eq!(world.status.current.as_ref().unwrap().not_after.0, at(200 + 10 + 120), "two scrapes more");
    world.workload().rollout = Rollout::Complete;
    world.step();
    world.now = 240;
    world.recover(235);
    let waits = world.step();
    assert_eq!(waits.ended, None);
    assert!(waits.said.message.contains("Prometheus"), "{}", waits.said.message);
    let mut unscraped = world.clone();
    world.verdict.scrape = Some(Scrape { passed: Some(true), at: Some(at(270)), interval: minute });
    world.now = 271;
    assert_eq!(world.step().ended, Some(AttemptOutcome::Succeeded));
    unscraped.now = 331;
    assert_eq!(unscraped.clone().step().ended, Some(AttemptOutcome::NotCured));
    unscraped.verdict.scrape = Some(Scrape { passed: None, at: None, interval: minute });
    assert_eq!(unscraped.step().ended, Some(AttemptOutcome::Succeeded), "our probe passes; nobody else can be asked");
}

#[test]
fn a_request_is_honoured_once_and_costs_no_budget() {
    let mut world = world();
    world.verdict.spells.remove(0);
    world.verdict.diagnosis = None;
    world.verdict.healthy_at = Some(at(199));
    world.request = Some(Request { text: "2026-11-01T12:03:20Z".to_owned(), at: at(200) });
    assert!(world.step().begun.is_some());
    assert_eq!(world.status.observed_restart_request.as_deref(), Some("2026-11-01T12:03:20Z"));
    // Who puts the situation together leaves out what was honoured.
    world.request = None;
    let act = world.step().act.expect("healthy or not: somebody asked for it");
    world.apply(&act);
    world.step();
    world.workload().rollout = Rollout::Complete;
    world.step();
    world.verdict.healthy_at = Some(at(202));
    world.step();
    let past = &world.status.history[0];
    assert_eq!((past.cause.as_str(), past.outcome), (REQUESTED, AttemptOutcome::Succeeded));
    assert_eq!((world.status.ledger.clone(), world.status.restarts), (None, 1));
}

#[test]
fn what_was_told_is_told_again_as_the_same() {
    let mut world = world().restarted();
    let told = retold(&world.status, at(0));
    assert_eq!(told[0].occurrence, "RestartStarted/id200");
    world.workload = Lookup::Absent;
    let ended = world.step();
    let again = retold(&world.status, at(0));
    // Who began it may have been killed before it told, and who ended it, too.
    assert_eq!(again[0].occurrence, "RestartStarted/id200");
    assert_eq!(again[1..], ended.told);
    assert!(retold(&world.status, at(10_000)).is_empty(), "an old one may have been forgotten by the API server");
}
