use std::str::FromStr as _;

use super::*;
use crate::api::{
    AttemptOutcome, Cause, Confidence, Diagnosis, RemediationMode, RestartHelps, WorkloadKind, WorkloadRef,
};
use crate::remediation::input::{
    AgentPresence, Breaker, FleetContext, HealthInterval, InsideView, Limits, Pod, RestartMeans, RestartRequest,
    Rollout, Scrape, Template, Verdict, WorkloadLookup,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_str("2026-11-01T12:00:00Z").unwrap() + SignedDuration::from_secs(second)
}

/// The input of a step; each test changes the part that it is about.
#[derive(Clone)]
struct World {
    spec: Option<RemediationSpec>,
    status: RemediationStatus,
    verdict: Verdict,
    workload: WorkloadLookup,
    agent: Option<bool>,
    request: Option<RestartRequest>,
    fleet: FleetContext,
    signals: Signals,
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
        display_name: "Deployment shop/web".to_owned(),
        uid: "w1".to_owned(),
        generation: 3,
        is_terminating: false,
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
    let interval = |health, second| HealthInterval { health, since: at(second) };
    World {
        spec: Some(RemediationSpec::new(RemediationMode::Restart)),
        status: RemediationStatus::default(),
        verdict: Verdict {
            intervals: vec![interval(ObjectHealth::Unhealthy, 0), interval(ObjectHealth::Healthy, -7_200)],
            was_healthy: true,
            diagnosis: Some(diagnosis(Cause::Hung)),
            mass_silence: None,
            blind: None,
            inside: InsideView::Pods { failing: vec!["web-1".to_owned()], passing: Vec::new(), unready: false },
            healthy_at: None,
            scrape: None,
            is_stopped_on_purpose: false,
        },
        workload: WorkloadLookup::Found(Box::new(workload())),
        agent: None,
        request: None,
        fleet: FleetContext {
            breaker: Breaker::Closed,
            site: "shop/".to_owned(),
            site_unhealthy: 1,
            site_total: 1,
            site_in_flight: 0,
            in_flight: 0,
            recent_starts: Vec::new(),
            held_by: None,
            shared_attempts: 0,
            shared_max: None,
            limits: Limits::default(),
        },
        signals: Signals::default(),
        now: 200,
    }
}

impl World {
    /// Runs one step and keeps its status.
    fn step(&mut self) -> StepResult {
        let reference = WorkloadRef { kind: WorkloadKind::Deployment, name: "web".to_owned() };
        let means = match self.agent {
            Some(is_heard) => RestartMeans::Agent(AgentPresence { is_heard }),
            None => RestartMeans::Workload(&reference),
        };
        let input = PolicyInput {
            object: "shop/web",
            namespace: "shop",
            spec: self.spec.as_ref(),
            status: &self.status,
            paused: None,
            verdict: &self.verdict,
            means,
            workload: &self.workload,
            request: self.request.as_ref(),
            fleet: &self.fleet,
            now: at(self.now),
        };
        let result = step(&input, &self.signals, &format!("id{}", self.now));
        self.status = result.status.clone();
        result
    }

    fn workload(&mut self) -> &mut Workload {
        match &mut self.workload {
            WorkloadLookup::Found(workload) => workload,
            other => panic!("no workload: {other:?}"),
        }
    }

    /// The API server takes the patch.
    fn apply(&mut self, remedy: &Remedy) {
        let Remedy::Restart { id, generation, uid, .. } = remedy else { panic!("{remedy:?}") };
        let workload = self.workload();
        assert_eq!((&workload.uid, workload.generation), (uid, *generation));
        workload.generation += 1;
        workload.template.attempt = Some(id.clone());
        workload.template.attempts.push(id.clone());
        workload.rollout = Rollout::InProgress("0 of 1 updated".to_owned());
    }

    fn recover(&mut self, second: i64) {
        self.verdict.intervals.insert(0, HealthInterval { health: ObjectHealth::Healthy, since: at(second) });
        self.verdict.healthy_at = Some(at(second));
        self.verdict.diagnosis = None;
    }

    fn phase(&self) -> Option<AttemptPhase> {
        self.status.current.as_ref().map(|current| current.phase)
    }

    /// Up to the restart that the API server has taken.
    fn restarted(mut self) -> Self {
        assert!(self.step().reserved.is_some());
        let remedy = self.step().remedy.expect("an act");
        self.apply(&remedy);
        self.step();
        assert_eq!(self.phase(), Some(AttemptPhase::Restarting));
        self
    }
}

#[test]
fn a_restart_is_reserved_then_done_then_verified_then_recorded() {
    let mut world = world();
    let reserved = world.step();
    assert_eq!(
        (reserved.reserved.as_deref(), &reserved.remedy, reserved.events.len()),
        (Some("id200"), &None, 0),
        "nothing yet"
    );
    assert_eq!(reserved.condition.reason, Reason::RestartInProgress);
    let current = world.status.current.clone().unwrap();
    assert_eq!((current.workload_uid.as_deref(), current.workload_generation), (Some("w1"), Some(3)));
    assert_eq!(current.not_after.0, at(200 + 660), "the progress deadline and a minute is longer than 600 s");
    assert_eq!(world.status.ledger.as_ref().unwrap().attempts, 1);

    let remedy = world.step().remedy.expect("an act");
    assert_eq!(remedy, Remedy::Restart { id: "id200".into(), started: at(200), uid: "w1".into(), generation: 3 });
    world.apply(&remedy);
    let started = world.step();
    assert_eq!((started.remedy, started.events[0].reason), (None, "RestartStarted"));
    assert_eq!(world.step().remedy, None, "once");
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
    assert_eq!((ended.ended, ended.events[0].reason), (Some(AttemptOutcome::Succeeded), "RestartSucceeded"));
    let past = &world.status.history[0];
    assert!(past.restarted && past.cured && world.status.current.is_none());
    assert_eq!(world.status.restarts, 1);
    assert_eq!(world.status.ledger.as_ref().unwrap().attempts, 1, "a cure buys no new budget");
    let idle = world.step();
    assert_eq!(
        (idle.condition.reason, idle.check_again_at),
        (Reason::Idle, Some(at(202 + 3600))),
        "the ledger is emptied then"
    );
    world.now = 202 + 3600;
    world.step();
    assert_eq!((world.status.ledger.clone(), world.status.next_attempt_time.clone()), (None, None));
}

#[test]
fn whoever_comes_after_a_kill_goes_on_and_restarts_nothing_twice() {
    let mut world = world();
    world.step();
    let remedy = world.step().remedy.expect("an act");
    // Killed after the request was applied, before the status was written: the next leader reads the id.
    world.apply(&remedy);
    let next = world.clone().step();
    assert_eq!((next.remedy, next.events[0].reason), (None, "RestartStarted"));
    // Killed before the request was sent: the next leader sends the same request.
    let mut unsent = world.clone();
    *unsent.workload() = workload();
    assert_eq!(unsent.step().remedy, Some(remedy));
    // Another party removed the annotation meanwhile: the revisions still have the old template.
    world.workload().template.attempt = None;
    assert_eq!(world.step().remedy, None);
    world.workload().template.since = None;
    world.step();
    assert_eq!(world.phase(), Some(AttemptPhase::Restarting), "whose it is shows when its controller has seen it");
    world.workload().template.is_stripped = true;
    assert_eq!(world.step().remedy, None);
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
        (|world| world.workload().is_terminating = true, AttemptOutcome::Superseded),
        (|world| world.workload = WorkloadLookup::Absent, AttemptOutcome::Superseded),
        (|world| world.fleet.breaker = Breaker::Open("it opened".into()), AttemptOutcome::Recalled),
        (|world| (world.fleet.site_unhealthy, world.fleet.site_total) = (3, 3), AttemptOutcome::Recalled),
        (|world| world.recover(200), AttemptOutcome::Abandoned),
        (|world| world.now += 100_000, AttemptOutcome::Abandoned),
    ];
    for (number, (change, outcome)) in cases.into_iter().enumerate() {
        let mut world = world();
        world.step();
        change(&mut world);
        let ended = world.step();
        assert_eq!((ended.ended, ended.remedy), (Some(outcome), None), "case {number}: {}", ended.condition.message);
        assert_eq!(ended.events.len(), 1, "one event for each outcome");
        assert!(!world.status.history[0].restarted);
        let charged = world.status.ledger.as_ref().map_or(0, |ledger| ledger.attempts);
        assert_eq!(charged, i32::from(outcome != AttemptOutcome::Recalled), "a brake costs nothing");
    }
    let mut refused = world();
    refused.step();
    refused.signals.refused = Some("deployments.apps \"web\" is forbidden".to_owned());
    let ended = refused.step();
    assert_eq!(ended.ended, Some(AttemptOutcome::Refused));
    assert!(ended.condition.message.contains("is forbidden"), "{}", ended.condition.message);
}

#[test]
fn a_try_that_fails_is_repeated_and_its_reason_is_shown() {
    let mut failing = world();
    failing.step();
    failing.signals.failed_try = Some("failed calling webhook \"dead.example.com\"".to_owned());
    let again = failing.step();
    assert!(again.remedy.is_some(), "it is tried again");
    assert!(again.condition.message.contains("failed calling webhook"), "{}", again.condition.message);
    failing.now = 100_000;
    let ended = failing.step();
    assert_eq!(ended.ended, Some(AttemptOutcome::Abandoned));
    let past = &ended.status.history[0];
    assert!(past.message.contains("not begun in time: failed calling webhook"), "{}", past.message);
}

#[test]
fn what_cannot_be_seen_now_is_waited_for_and_not_touched() {
    let mut world = world();
    world.step();
    world.workload = WorkloadLookup::Failed("reading Deployment shop/web: no answer".to_owned());
    let step = world.step();
    assert_eq!((step.remedy, step.ended), (None, None));
    assert!(step.check_again_at.unwrap() > at(world.now));
    let mut world = super::tests::world().restarted();
    world.workload = WorkloadLookup::Failed("no answer".to_owned());
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
        (|world| world.workload = WorkloadLookup::Absent, AttemptOutcome::Superseded),
        (|world| world.workload().uid = "w2".into(), AttemptOutcome::Superseded),
        (|world| world.now += 661, AttemptOutcome::TimedOut),
    ];
    for (number, (change, outcome)) in cases.into_iter().enumerate() {
        let mut world = world().restarted();
        change(&mut world);
        let ended = world.step();
        assert_eq!(ended.ended, Some(outcome), "case {number}: {}", ended.condition.message);
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
    assert_eq!((ended.ended, ended.events[0].reason), (Some(AttemptOutcome::NotCured), "RestartNotCured"));
    assert!(ended.condition.message.contains("ServerError"), "{}", ended.condition.message);
    world.verdict.diagnosis = Some(diagnosis(Cause::Hung));
    world.workload().template.since = Some(at(0));
    world.now += 3_700;
    let check_again_at = world.step();
    assert_eq!(check_again_at.denial, Some(Denial::AlreadyTried), "{}", check_again_at.condition.message);
}

#[test]
fn the_budget_is_used_up_loudly_and_once() {
    let mut world = world();
    world.verdict.diagnosis.as_mut().unwrap().restart_helps = RestartHelps::Yes;
    let mut started = 0;
    let mut gave_up = 0;
    for _ in 0..4_000 {
        world.now += 30;
        let result = world.step();
        started += i32::from(result.reserved.is_some());
        gave_up += result.events.iter().filter(|events| events.reason == "GaveUp").count();
        if let Some(remedy) = &result.remedy {
            world.apply(remedy);
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
        InsideView::Pods { failing: vec!["web-2".into()], passing: vec!["web-1".into()], unready: false };
    world.verdict.diagnosis = Some(diagnosis(Cause::OneReplicaBad));
    world.workload().pods.push(Pod { name: "web-2".into(), uid: "p2".into(), ..Pod::default() });
    world.workload().replicas = 2;
    world.step();
    // An autoscaler changes the workload meanwhile: the pod is the same.
    world.workload().generation = 9;
    assert_eq!(world.step().remedy, Some(Remedy::Evict { name: "web-2".into(), uid: "p2".into() }));
    world.workload().pods[1].is_terminating = true;
    world.workload().rollout = Rollout::InProgress("1 of 2 available".into());
    assert_eq!(world.step().events[0].reason, "RestartStarted");
    assert_eq!(world.step().remedy, None);
    world.workload().rollout = Rollout::Complete;
    world.step();
    assert_eq!(world.phase(), Some(AttemptPhase::Verifying));
}

#[test]
fn an_agent_is_asked_until_it_answers_or_the_time_is_over() {
    let mut world = world();
    world.agent = Some(true);
    world.workload = WorkloadLookup::NotLooked;
    world.verdict.inside = InsideView::Heartbeats { pod_uid: None };
    world.step();
    let offer = Remedy::Offer { id: "id200".into(), not_after: at(800) };
    assert_eq!(world.step().remedy.as_ref(), Some(&offer));
    let mut silent = world.clone();
    world.signals.handed_out = true;
    assert_eq!(world.step().events[0].reason, "RestartStarted");
    world.signals.handed_out = false;
    assert_eq!(world.step().remedy.as_ref(), Some(&offer), "a new leader offers the same");
    let mut failing = world.clone();
    world.signals.acknowledged = Some((true, String::new()));
    world.step();
    assert_eq!(world.phase(), Some(AttemptPhase::Verifying));
    failing.signals.acknowledged = Some((false, "unit not found".to_owned()));
    let ended = failing.step();
    assert_eq!(ended.ended, Some(AttemptOutcome::Refused));
    assert!(ended.condition.message.contains("unit not found") && !failing.status.history[0].restarted);
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
    let wait = world.step();
    assert_eq!(wait.ended, None);
    assert!(wait.condition.message.contains("Prometheus"), "{}", wait.condition.message);
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
    world.verdict.intervals.remove(0);
    world.verdict.diagnosis = None;
    world.verdict.healthy_at = Some(at(199));
    world.request = Some(RestartRequest { annotation: "2026-11-01T12:03:20Z".to_owned(), at: at(200) });
    assert!(world.step().reserved.is_some());
    assert_eq!(world.status.observed_restart_request.as_deref(), Some("2026-11-01T12:03:20Z"));
    // The caller leaves out a request that was honoured.
    world.request = None;
    let remedy = world.step().remedy.expect("healthy or not: somebody asked for it");
    world.apply(&remedy);
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
    let events = events_to_repeat(&world.status, at(0));
    assert_eq!(events[0].occurrence, "RestartStarted/id200");
    world.workload = WorkloadLookup::Absent;
    let ended = world.step();
    let check_again_at = events_to_repeat(&world.status, at(0));
    // The process that started it may have been killed before it published, and the one that ended it as well.
    assert_eq!(check_again_at[0].occurrence, "RestartStarted/id200");
    assert_eq!(check_again_at[1..], ended.events);
    assert!(
        events_to_repeat(&world.status, at(10_000)).is_empty(),
        "an old one may have been forgotten by the API server"
    );
}
