use std::collections::BTreeSet;

use super::*;
use crate::api::{
    Attempt, AttemptOutcome, AttemptPhase, Cause, Confidence, Diagnosis, Ledger, PastAttempt, RemediationMode,
    RemediationSpec, RemediationStatus, RestartHelps, Strategy, Time, WorkloadKind, WorkloadRef,
};
use crate::remediation::input::{
    AgentPresence, Breaker, FleetContext, HealthInterval, InsideView, Limits, ObjectHealth, Pod, RestartMeans,
    RestartRequest, Rollout, Template, Verdict, Workload, WorkloadLookup,
};

mod order_tests;
mod pace_tests;
mod property_tests;
mod recheck_tests;
mod target_tests;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn pod(name: &str) -> Pod {
    Pod { name: name.to_owned(), uid: format!("uid-of-{name}"), is_ready: true, ..Pod::default() }
}

/// The input of a decision, which allows a rollout; each test changes the part that it is about.
#[derive(Clone, Debug)]
struct World {
    namespace: String,
    spec: Option<RemediationSpec>,
    status: RemediationStatus,
    paused: Option<String>,
    verdict: Verdict,
    /// `None` = a Deployment.
    agent: Option<AgentPresence>,
    names_nothing: bool,
    workload: WorkloadLookup,
    request: Option<RestartRequest>,
    fleet: FleetContext,
    now: i64,
}

const NOW: i64 = 10_000;

fn diagnosis(cause: Cause, restart_helps: RestartHelps) -> Diagnosis {
    Diagnosis {
        cause,
        confidence: Confidence::Likely,
        since: None,
        message: "it connects and answers nothing".to_owned(),
        advice: String::new(),
        restart_helps,
        evidence: Vec::new(),
        alternatives: Vec::new(),
    }
}

fn deployment() -> Workload {
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
        template: Template { since: Some(at(0)), ..Template::default() },
        pods: vec![pod("web-1")],
    }
}

fn alone() -> FleetContext {
    FleetContext {
        breaker: Breaker::Closed,
        site: "shop/site-a".to_owned(),
        site_unhealthy: 1,
        site_total: 1,
        site_in_flight: 0,
        in_flight: 0,
        recent_starts: Vec::new(),
        held_by: None,
        shared_attempts: 0,
        shared_max: None,
        limits: Limits::default(),
    }
}

fn world() -> World {
    World {
        namespace: "shop".to_owned(),
        spec: Some(RemediationSpec::new(RemediationMode::Restart)),
        status: RemediationStatus::default(),
        paused: None,
        verdict: Verdict {
            intervals: intervals(&[(ObjectHealth::Healthy, 0), (ObjectHealth::Unhealthy, NOW - 500)]),
            was_healthy: true,
            diagnosis: Some(diagnosis(Cause::Hung, RestartHelps::Yes)),
            mass_silence: None,
            blind: None,
            inside: InsideView::Pods { failing: vec!["web-1".to_owned()], passing: Vec::new(), unready: false },
            healthy_at: None,
            scrape: None,
            is_stopped_on_purpose: false,
        },
        agent: None,
        names_nothing: false,
        workload: WorkloadLookup::Found(Box::new(deployment())),
        request: None,
        fleet: alone(),
        now: NOW,
    }
}

/// The oldest first.
fn intervals(story: &[(ObjectHealth, i64)]) -> Vec<HealthInterval> {
    story.iter().rev().map(|(health, second)| HealthInterval { health: *health, since: at(*second) }).collect()
}

fn past(id: &str, cause: Cause, outcome: AttemptOutcome, from: i64, to: i64) -> PastAttempt {
    PastAttempt {
        id: id.to_owned(),
        cause: cause.as_str().to_owned(),
        outcome,
        restarted: true,
        cured: false,
        start_time: Time(at(from)),
        end_time: Time(at(to)),
        message: String::new(),
    }
}

fn attempt(cause: &str) -> Attempt {
    Attempt {
        id: "mine".to_owned(),
        cause: cause.to_owned(),
        start_time: Time(at(NOW - 1)),
        workload_uid: Some("w1".to_owned()),
        workload_generation: Some(3),
        pod_name: None,
        pod_uid: None,
        phase: AttemptPhase::Reserved,
        restarted_time: None,
        not_after: Time(at(NOW + 600)),
    }
}

impl World {
    fn look<T>(&self, decide: impl FnOnce(&PolicyInput<'_>) -> T) -> T {
        let reference = WorkloadRef { kind: WorkloadKind::Deployment, name: "web".to_owned() };
        let means = match self.agent {
            Some(agent) => RestartMeans::Agent(agent),
            None if self.names_nothing => RestartMeans::Nothing,
            None => RestartMeans::Workload(&reference),
        };
        decide(&PolicyInput {
            object: "shop/web",
            namespace: &self.namespace,
            spec: self.spec.as_ref(),
            status: &self.status,
            paused: self.paused.as_deref(),
            verdict: &self.verdict,
            means,
            workload: &self.workload,
            request: self.request.as_ref(),
            fleet: &self.fleet,
            now: at(self.now),
        })
    }

    fn allow(&self) -> Result<Target, Denied> {
        self.look(allow)
    }

    fn still(&self) -> Result<(), Denied> {
        self.look(still_allowed)
    }

    #[track_caller]
    fn denied(&self) -> Denied {
        self.allow().expect_err("it was allowed")
    }

    #[track_caller]
    fn expect(&self, reason: Denial, words: &[&str]) -> Denied {
        let denied = self.denied();
        assert_eq!(denied.reason, reason, "{}", denied.message);
        for word in words {
            assert!(denied.message.contains(word), "{word:?} is not in {:?}", denied.message);
        }
        denied
    }

    fn spec(&mut self) -> &mut RemediationSpec {
        self.spec.as_mut().expect("a spec")
    }

    fn workload(&mut self) -> &mut Workload {
        match &mut self.workload {
            WorkloadLookup::Found(workload) => workload,
            other => panic!("no workload: {other:?}"),
        }
    }

    fn diagnosis(&mut self) -> &mut Diagnosis {
        self.verdict.diagnosis.as_mut().expect("a diagnosis")
    }

    fn requested(mut self) -> Self {
        self.request = Some(RestartRequest { annotation: "2027-01-15T10:46:40Z".to_owned(), at: at(self.now) });
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Three replicas, of which those fail at their own address.
    fn of_three(mut self, bad: &[&str]) -> Self {
        let names = ["web-1", "web-2", "web-3"];
        self.workload().replicas = 3;
        self.workload().pods = names.map(pod).to_vec();
        let (failing, passing) =
            names.iter().map(|name| (*name).to_owned()).partition(|name| bad.contains(&name.as_str()));
        self.verdict.inside = InsideView::Pods { failing, passing, unready: false };
        self
    }
}

type Change = fn(&mut World);

/// One change that causes each denial, in the order of docs/design/remediation.md. No change reverts another one.
const SPOILT: &[(Denial, Change)] = &[
    (Denial::RemediationOff, |w| w.fleet.limits.is_on = false),
    (Denial::Paused, |w| w.paused = Some("paused by ops: maintenance".to_owned())),
    (Denial::NeverHealthy, |w| w.verdict.was_healthy = false),
    (Denial::WorkloadNotFound, |w| w.workload().is_terminating = true),
    (Denial::ManagedByController, |w| w.workload().controller = Some("Rollout web".to_owned())),
    (Denial::WorkloadPaused, |w| w.workload().is_paused = true),
    (Denial::ScaledToZero, |w| w.workload().replicas = 0),
    (Denial::UpdateStrategyOnDelete, |w| w.workload().is_on_delete = true),
    (Denial::RolloutInProgress, |w| w.workload().rollout = Rollout::InProgress("1 of 3 updated".to_owned())),
    (Denial::RecentlyRestartedByOthers, |w| w.workload().template.since = Some(at(NOW - 60))),
    (Denial::MassSilence, |w| w.verdict.mass_silence = Some("4 of 5 are silent".to_owned())),
    (Denial::ProbeBlind, |w| w.verdict.blind = Some("9 of 10 targets fail together".to_owned())),
    (Denial::RestartCannotHelp, |w| w.diagnosis().restart_helps = RestartHelps::No),
    (Denial::AlreadyTried, |w| {
        w.diagnosis().restart_helps = RestartHelps::Once;
        w.status.ledger = Some(Ledger { attempts: 1, start_time: Time(at(NOW - 4000)) });
        w.status.history = vec![past("a", Cause::Hung, AttemptOutcome::NotCured, NOW - 4000, NOW - 3000)];
    }),
    (Denial::LowConfidence, |w| w.diagnosis().confidence = Confidence::Possible),
    (Denial::PodsHealthy, |w| {
        w.verdict.inside = InsideView::Pods { failing: Vec::new(), passing: vec!["web-1".to_owned()], unready: false };
    }),
    (Denial::PodUnknown, |w| {
        w.spec().strategy = Strategy::Pod;
        w.verdict.inside = InsideView::Pods { failing: vec!["gone".to_owned()], passing: Vec::new(), unready: false };
    }),
    (Denial::AgentUnreachable, |w| w.agent = Some(AgentPresence { is_heard: false })),
    (Denial::NotLongEnough, |w| {
        w.verdict.intervals = intervals(&[(ObjectHealth::Healthy, 0), (ObjectHealth::Unhealthy, NOW - 119)])
    }),
    (Denial::Flapping, |w| {
        let story = [
            (ObjectHealth::Unhealthy, 0),
            (ObjectHealth::Healthy, 40),
            (ObjectHealth::Unhealthy, 80),
            (ObjectHealth::Healthy, 120),
        ];
        let story = [
            &story[..],
            &[(ObjectHealth::Unhealthy, 160), (ObjectHealth::Healthy, 200), (ObjectHealth::Unhealthy, 240)],
        ]
        .concat();
        w.verdict.intervals =
            intervals(&story.iter().map(|(health, second)| (*health, NOW - 500 + second)).collect::<Vec<_>>());
    }),
    (Denial::CoolingDown, |w| w.status.next_attempt_time = Some(Time(at(NOW + 200)))),
    (Denial::GaveUp, |w| w.status.ledger = Some(Ledger { attempts: 3, start_time: Time(at(NOW - 4000)) })),
    (Denial::WorkloadShared, |w| w.fleet.held_by = Some(("shop/other".to_owned(), "abc".to_owned()))),
    (Denial::BreakerOpen, |w| w.fleet.breaker = Breaker::Open("7 of 10 workloads turned unhealthy".to_owned())),
    (Denial::SiteBrake, |w| (w.fleet.site_unhealthy, w.fleet.site_total) = (3, 7)),
    (Denial::TooManyInFlight, |w| w.fleet.site_in_flight = 1),
    (Denial::RateLimited, |w| w.fleet.recent_starts = (0..10).map(|n| at(NOW - 50 + n)).collect()),
    (Denial::DisruptionBudgetExhausted, |w| {
        w.spec().strategy = Strategy::Pod;
        w.workload().pods[0].protected_by = Some("PodDisruptionBudget web allows 0 disruptions".to_owned());
    }),
    (Denial::SuggestOnly, |w| w.spec().mode = RemediationMode::Suggest),
];
