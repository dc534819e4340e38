//! The list is the specification.

use super::*;

/// docs/design/remediation.md: the denials that a person's request bypasses.
const PASSED: &[Denial] = &[
    Denial::NotLongEnough,
    Denial::CoolingDown,
    Denial::RestartCannotHelp,
    Denial::AlreadyTried,
    Denial::LowConfidence,
    Denial::PodsHealthy,
    Denial::GaveUp,
    Denial::NeverHealthy,
    Denial::RecentlyRestartedByOthers,
    Denial::SiteBrake,
];

/// A rollout, an eviction and an agent exclude each other: a check of one does not apply to another.
fn exclude_each_other(a: Denial, b: Denial) -> bool {
    use Denial::*;
    let of_rollouts = [ManagedByController, WorkloadPaused, UpdateStrategyOnDelete];
    let of_pods = [PodUnknown, DisruptionBudgetExhausted];
    let of_workloads = [WorkloadNotFound, ScaledToZero, RolloutInProgress, RecentlyRestartedByOthers, PodsHealthy];
    let is = |a, b| {
        of_rollouts.contains(&a) && of_pods.contains(&b)
            || b == AgentUnreachable && [&of_rollouts[..], &of_pods, &of_workloads].concat().contains(&a)
    };
    is(a, b) || is(b, a)
}

#[test]
fn the_list_has_the_order_of_the_contract_and_every_word_of_it() {
    let mut listed: Vec<Denial> = CHECKS.iter().map(|(reason, _, _)| *reason).collect();
    listed.dedup();
    assert_eq!(listed, Denial::ALL);
    assert_eq!(SPOILT.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), Denial::ALL, "each is tested");
}

#[test]
fn when_nothing_speaks_against_it_the_workload_is_restarted() {
    assert_eq!(world().allow(), Ok(Target::Rollout));
    assert_eq!(world().requested().allow(), Ok(Target::Rollout));
}

#[test]
fn each_denial_speaks_by_itself_in_a_sentence() {
    for (reason, spoil) in SPOILT {
        let denied = world().with(spoil).denied();
        assert_eq!(denied.reason, *reason, "{}", denied.message);
        let message = &denied.message;
        assert!(message.contains(' ') && !message.ends_with('.') && !message.contains("  "), "{message}");
        assert!(denied.check_again_at.is_none_or(|again| again > at(NOW)), "{reason}: looked at again in the past");
    }
}

#[test]
fn of_two_denials_the_earlier_in_the_list_wins() {
    for (n, (second, spoil_second)) in SPOILT.iter().enumerate() {
        for (first, spoil_first) in &SPOILT[..n] {
            if exclude_each_other(*first, *second) {
                continue;
            }
            let denied = world().with(spoil_second).with(spoil_first).denied();
            assert_eq!(denied.reason, *first, "beside {second}: {}", denied.message);
        }
    }
}

#[test]
fn a_request_passes_what_the_contract_names_and_nothing_else() {
    for (reason, spoil) in SPOILT {
        let world = world().with(spoil).requested();
        if PASSED.contains(reason) {
            assert_eq!(world.allow(), Ok(Target::Rollout), "{reason}");
        } else {
            assert_eq!(world.denied().reason, *reason);
        }
    }
}

#[test]
fn the_lines_that_a_request_passes_are_those_of_the_contract() {
    let passed: BTreeSet<Denial> =
        CHECKS.iter().filter(|(_, request, _)| *request == Bypassed).map(|(reason, _, _)| *reason).collect();
    assert_eq!(passed, PASSED.iter().copied().collect());
}

#[test]
fn a_request_that_is_denied_for_the_spec_says_which_field_to_set() {
    world().with(|w| w.spec = None).expect(Denial::RemediationOff, &["spec.remediation is not set"]);
    world()
        .with(|w| w.spec = None)
        .requested()
        .expect(Denial::RemediationOff, &["asked for", "set its mode to Restart"]);
    let suggest = world().with(|w| w.spec().mode = RemediationMode::Suggest);
    suggest.clone().expect(Denial::SuggestOnly, &["Deployment shop/web would have been restarted"]);
    suggest.requested().expect(Denial::SuggestOnly, &["set spec.remediation.mode to Restart"]);
}

#[test]
fn kubernetes_own_namespaces_and_vigie_itself_are_refused_to_everybody() {
    let system = world().with(|w| w.namespace = "kube-system".to_owned());
    system.clone().expect(Denial::RemediationOff, &["namespace kube-system"]);
    system.requested().expect(Denial::RemediationOff, &["kube-*"]);
    let agent =
        world().with(|w| (w.namespace, w.agent) = ("kube-public".to_owned(), Some(AgentPresence { is_heard: true })));
    agent.expect(Denial::RemediationOff, &["kube-public"]);
    assert!(world().with(|w| w.namespace = "kubeflow".to_owned()).allow().is_ok());
    let own = world().with(|w| w.workload().is_vigie = true);
    own.clone().expect(Denial::RemediationOff, &["vigie itself"]);
    own.requested().expect(Denial::RemediationOff, &["vigie itself"]);
}

#[test]
fn a_workload_that_is_not_there_or_not_named_is_not_found() {
    let absent = world().with(|w| w.workload = WorkloadLookup::Absent);
    absent.clone().expect(Denial::WorkloadNotFound, &["Deployment web", "namespace shop"]);
    absent.requested().expect(Denial::WorkloadNotFound, &["spec.workloadRef"]);
    world().with(|w| w.names_nothing = true).expect(Denial::WorkloadNotFound, &["spec.workloadRef", "spec.agentRef"]);
    world().with(|w| w.workload().is_terminating = true).expect(Denial::WorkloadNotFound, &["being deleted"]);
}

#[test]
fn a_workload_that_could_not_be_read_is_touched_for_nobody() {
    let why = "cannot get deployments.apps in namespace shop".to_owned();
    for sight in [WorkloadLookup::Forbidden(why.clone()), WorkloadLookup::Failed(why.clone())] {
        let unread = world().with(|w| w.workload = sight);
        unread.clone().expect(Denial::LowConfidence, &["Deployment shop/web", &why]);
        unread.requested().expect(Denial::LowConfidence, &[&why]);
    }
    world()
        .with(|w| w.workload = WorkloadLookup::NotLooked)
        .requested()
        .expect(Denial::LowConfidence, &["not looked at"]);
}

#[test]
fn who_restarted_it_last_must_have_been_seen_unless_a_person_knows() {
    let unread = world().with(|w| {
        w.workload().template =
            Template { revisions_unread: Some("cannot list replicasets.apps".to_owned()), ..Template::default() };
    });
    unread.clone().expect(Denial::LowConfidence, &["cannot list replicasets.apps"]);
    assert!(unread.requested().allow().is_ok());
}

#[test]
fn the_agent_is_asked_without_any_workload() {
    let agent =
        world().with(|w| (w.agent, w.workload) = (Some(AgentPresence { is_heard: true }), WorkloadLookup::NotLooked));
    assert_eq!(agent.allow(), Ok(Target::Agent));
    agent.clone().with(|w| w.spec().mode = RemediationMode::Suggest).expect(Denial::SuggestOnly, &["its agent would"]);
    let silent = agent.with(|w| w.agent = Some(AgentPresence { is_heard: false }));
    silent.clone().expect(Denial::AgentUnreachable, &["silent"]);
    silent.requested().expect(Denial::AgentUnreachable, &[]);
}

#[test]
fn a_rollout_that_failed_is_not_rolled_out_again_by_itself() {
    let failed = world().with(|w| w.workload().rollout = Rollout::Failed("ProgressDeadlineExceeded".to_owned()));
    failed.clone().expect(Denial::RestartCannotHelp, &["Deployment shop/web", "ProgressDeadlineExceeded"]);
    assert!(failed.requested().allow().is_ok(), "a person may have mended what it waited for");
}

#[test]
fn a_cause_is_tried_once_and_another_cause_is_another_matter() {
    let tried = world().with(|w| {
        w.diagnosis().restart_helps = RestartHelps::Once;
        w.status.ledger = Some(Ledger { attempts: 1, start_time: Time(at(5000)) });
        w.status.history = vec![past("a", Cause::Hung, AttemptOutcome::NotCured, 5000, 5600)];
    });
    tried.expect(Denial::AlreadyTried, &["once for Hung", "NotCured"]);
    let allowed = |change: fn(&mut World)| assert_eq!(tried.clone().with(change).allow(), Ok(Target::Rollout));
    allowed(|w| w.diagnosis().cause = Cause::LivenessBroken);
    allowed(|w| w.status.history[0].outcome = AttemptOutcome::Succeeded);
    allowed(|w| w.status.history[0].outcome = AttemptOutcome::Recalled);
    allowed(|w| w.status.history[0].cause = "Requested".to_owned());
    allowed(|w| w.diagnosis().restart_helps = RestartHelps::Yes);
    // The ledger was emptied since.
    allowed(|w| w.status.ledger = Some(Ledger { attempts: 0, start_time: Time(at(6000)) }));
    allowed(|w| w.status.ledger = None);
    for outcome in [AttemptOutcome::RolloutFailed, AttemptOutcome::TimedOut] {
        tried.clone().with(|w| w.status.history[0].outcome = outcome).expect(Denial::AlreadyTried, &[outcome.as_str()]);
    }
}
