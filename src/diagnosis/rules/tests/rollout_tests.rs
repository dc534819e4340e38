use super::scene::*;
use crate::api::Confidence::{Certain, Likely, Possible};
use crate::api::RestartHelps::{No, Once};
use crate::api::{Cause, ErrorClass, Reason, Truth, WorkloadKind};
use crate::diagnosis::evidence::{Actuator, Evidence, Lookup, Warning};
use crate::diagnosis::rules::{conclude, diagnose};

fn three(e: &mut Evidence) {
    *found(&mut e.pods) = ["web-1", "web-2", "web-3"].map(pod).to_vec();
    let workload = workload_of(e);
    (workload.wanted, workload.updated, workload.ready, workload.current) = (3, 3, 3, 3);
}

#[test]
fn an_unfinished_rollout_is_waited_for() {
    let unfinished = |e: &mut Evidence| {
        three(e);
        workload_of(e).updated = 1;
        workload_of(e).template_since = Some(ago(30));
    };
    let d = expect(&with(bad(ErrorClass::Refused), unfinished), Cause::RolloutInProgress, Likely, No);
    says(&d.message, &["Deployment web", "1 of 3 updated"]);
    says(&d.advice, &["rollout status deployment/web"]);
    // While enough pods serve, a rollout is not a failure.
    assert_eq!(diagnose(&with(well(), unfinished)), None);
}

#[test]
fn an_old_template_is_no_rollout_where_pods_are_replaced_by_hand() {
    let e = with(bad(ErrorClass::Unreachable), |e| {
        workload_of(e).updated = 0;
        workload_of(e).on_delete = true;
    });
    expect_cause(&e, Cause::Unexplained);
}

#[test]
fn a_rollout_past_its_deadline_is_stuck_and_a_pods_own_cause_wins_over_it() {
    let stuck = |e: &mut Evidence| {
        let workload = workload_of(e);
        (workload.updated, workload.current, workload.deadline_exceeded) = (1, 2, true);
    };
    let d = expect(&with(well(), stuck), Cause::RolloutStuck, Certain, No);
    says(&d.advice, &["kubectl -n shop rollout undo deployment/web"]);
    let named = with(with(well(), stuck), |e| {
        let mut new = pod("web-2");
        (new.ready, new.created) = (false, Some(ago(60)));
        found(&mut e.pods).push(new);
        let about = "Pod/web-2".to_owned();
        found(&mut e.events).push(Warning { reason: "Unhealthy".to_owned(), about, ..Warning::default() });
    });
    let d = expect_cause(&named, Cause::RolloutStuck);
    says(&d.message, &["its pod web-2 does not get ready"]);
    says(&d.advice, &["kubectl -n shop describe pod web-2"]);
    says(&d.evidence.join("\n"), &["pod web-2: the kubelet's probe of it fails"]);
    let image = with(well(), |e| {
        stuck(e);
        workload_of(e).updated = 0;
        waits(e, "ImagePullBackOff", "not found");
    });
    let d = expect_cause(&image, Cause::ImagePullFailed);
    assert!(d.alternatives.is_empty(), "none of the above: {:?}", d.alternatives);
    says(&d.evidence.join("\n"), &["the rollout of Deployment web cannot finish"]);
}

#[test]
fn a_stateful_set_has_no_deadline_and_is_given_ten_minutes() {
    let rolling = |since: i64| {
        with(bad(ErrorClass::Refused), |e| {
            if let Some(workload) = &mut e.subject.workload {
                workload.kind = WorkloadKind::StatefulSet;
            }
            workload_of(e).updated = 0;
            workload_of(e).template_since = Some(ago(since));
        })
    };
    expect_cause(&rolling(120), Cause::RolloutInProgress);
    expect_cause(&rolling(1200), Cause::RolloutStuck);
}

fn replicas(bad_ones: &[&str]) -> Evidence {
    with(bad(ErrorClass::FirstByteTimeout), |e| {
        three(e);
        for name in ["web-1", "web-2", "web-3"] {
            let name_of = format!("pod/{name}");
            let vantage = if bad_ones.contains(&name) {
                failing(&name_of, ErrorClass::FirstByteTimeout)
            } else {
                passing(&name_of)
            };
            e.vantages.push(vantage);
        }
        actuator_of(e).base_status = None;
        actuator_of(e).liveness = Some(Err(ErrorClass::FirstByteTimeout));
    })
}

#[test]
fn one_bad_replica_needs_some_that_pass() {
    let d = expect(&replicas(&["web-2"]), Cause::OneReplicaBad, Certain, Once);
    says(&d.message, &["web-2", "2 of 3 pass"]);
    says(&d.advice, &["kubectl -n shop delete pod web-2"]);
    expect(&replicas(&["web-1", "web-2", "web-3"]), Cause::Hung, Certain, Once);
    // All pods pass: the path to them is broken, not a replica.
    assert_ne!(diagnosis(&replicas(&[])).cause, Cause::OneReplicaBad);
}

#[test]
fn a_replica_that_is_still_starting_is_not_bad() {
    let e = with(replicas(&["web-2"]), |e| found(&mut e.pods)[1].containers[0].running_since = Some(ago(30)));
    assert_ne!(diagnosis(&e).cause, Cause::OneReplicaBad);
}

/// Behind a Service whose other pods pass, a young one without a readiness probe fails at its own address.
#[test]
fn a_starting_replica_that_is_sent_requests_is_shown_and_not_replaced() {
    let young = |class: ErrorClass, any_byte: bool, confirmed: Option<bool>| {
        with(replicas(&["web-2"]), |e| {
            let target = e.vantages.iter_mut().find(|one| one.name == "target").unwrap();
            (target.ok, target.error_class) = (true, None);
            e.history.bad_since = None;
            let pod = &mut found(&mut e.pods)[1];
            (pod.containers[0].running_since, pod.containers[0].probes.2) = (Some(ago(30)), false);
            let own = e.vantages.iter_mut().find(|one| one.name == "pod/web-2").unwrap();
            (own.error_class, own.any_byte, own.confirmed) = (Some(class), any_byte, confirmed);
        })
    };
    let e = young(ErrorClass::Refused, false, Some(true));
    let d = expect(&e, Cause::StillStarting, Likely, No);
    says(&d.message, &["pod web-2"]);
    says(&d.advice, &["readinessProbe"]);
    let workload = conclude(&e).workload_healthy.unwrap();
    assert_eq!((workload.status, workload.reason), (Truth::False, Reason::StillStarting));
    // The actuator answers through the target, from another pod.
    let reading = Actuator { health: Some("UP".to_owned()), health_status: Some(200), ..actuator() };
    expect_cause(&with(e, |e| e.actuator = Lookup::Found(reading)), Cause::StillStarting);
    expect_cause(&young(ErrorClass::FirstByteTimeout, false, Some(true)), Cause::StillStarting);
    assert_eq!(diagnose(&young(ErrorClass::Refused, false, Some(false))), None, "one failure is no verdict");
    // It answers: it has started, and answers badly.
    let d = expect(&young(ErrorClass::HTTPStatus, true, Some(true)), Cause::OneReplicaBad, Likely, No);
    says(&d.evidence.join("\n"), &["may still be starting"]);
    let old = with(young(ErrorClass::Refused, false, Some(true)), |e| {
        found(&mut e.pods)[1].containers[0].running_since = Some(ago(301));
    });
    expect(&old, Cause::OneReplicaBad, Certain, Once);
}

#[test]
fn a_replica_that_passed_since_it_began_is_not_starting_however_young_it_is() {
    let e = with(replicas(&["web-2"]), |e| {
        let pods = found(&mut e.pods);
        pods.iter_mut().for_each(|pod| pod.containers[0].running_since = Some(ago(30)));
        e.vantages.iter_mut().filter(|one| one.name == "pod/web-2").for_each(|one| one.last_passed = Some(ago(20)));
    });
    expect(&e, Cause::OneReplicaBad, Certain, Once);
    let restarted = with(e, |e| found(&mut e.pods)[1].containers[0].running_since = Some(ago(10)));
    assert_ne!(diagnosis(&restarted).cause, Cause::OneReplicaBad, "its container began again after that");
}

#[test]
fn a_replica_that_was_ready_since_it_began_is_not_starting_however_young_it_is() {
    let young = |ready_changed: i64, has_probe: bool| {
        with(replicas(&["web-2"]), |e| {
            let pod = &mut found(&mut e.pods)[1];
            pod.containers[0].running_since = Some(ago(30));
            (pod.ready, pod.ready_changed, pod.containers[0].probes.2) = (false, Some(ago(ready_changed)), has_probe);
        })
    };
    expect(&young(10, true), Cause::OneReplicaBad, Certain, Once);
    assert_ne!(diagnosis(&young(30, true)).cause, Cause::OneReplicaBad, "it has not been Ready yet");
    assert_ne!(diagnosis(&young(10, false)).cause, Cause::OneReplicaBad, "Ready means nothing without a probe");
}

#[test]
fn a_failure_of_one_replica_that_is_not_confirmed_is_no_bad_replica() {
    let confirmed = |of: Option<bool>| {
        with(replicas(&["web-2"]), |e| {
            e.vantages.iter_mut().filter(|one| one.name == "pod/web-2").for_each(|one| one.confirmed = of);
        })
    };
    assert_ne!(diagnosis(&confirmed(Some(false))).cause, Cause::OneReplicaBad);
    expect(&confirmed(Some(true)), Cause::OneReplicaBad, Certain, Once);
}

#[test]
fn a_bad_replica_is_told_also_where_the_cluster_may_not_be_read() {
    let e = with(replicas(&["web-2"]), |e| {
        (e.workload, e.pods) =
            (Lookup::Forbidden("get deployments".to_owned()), Lookup::Forbidden("list pods".to_owned()));
    });
    let value = conclude(&e).workload_healthy.unwrap();
    assert_eq!((value.status, value.reason), (Truth::False, Reason::OneReplicaBad), "{value:?}");
}

#[test]
fn a_replica_that_is_not_ready_counts_where_nobody_dialled_it() {
    let e = with(well(), |e| {
        three(e);
        found(&mut e.pods)[2].ready = false;
        workload_of(e).ready = 2;
    });
    let d = expect(&e, Cause::OneReplicaBad, Likely, Once);
    says(&d.message, &["web-3"]);
}

#[test]
fn a_crashing_replica_has_a_cause_of_its_own() {
    let e = with(crashed("OOMKilled", 137, None), |e| found(&mut e.pods).extend([pod("web-2"), pod("web-3")]));
    let d = expect_cause(&e, Cause::OutOfMemory);
    says(&d.message, &["1 of 3 pods"]);
    assert!(d.alternatives.iter().all(|other| other.cause != Cause::OneReplicaBad));
}

/// Bad for one minute, with a template of two minutes ago, whose pods started at once.
fn after_rollout(class: ErrorClass) -> Evidence {
    with(bad(class), |e| {
        workload_of(e).template_since = Some(ago(400));
        container_of(e).running_since = Some(ago(390));
        e.actuator = Lookup::NotLooked;
        e.vantages.push(failing("pod/web-1", class));
    })
}

#[test]
fn what_all_fails_since_a_new_template_is_undone_and_not_restarted() {
    for class in [ErrorClass::FirstByteTimeout, ErrorClass::Reset, ErrorClass::Refused, ErrorClass::GRPCStatus] {
        let d = expect(&after_rollout(class), Cause::BadSinceRollout, Certain, No);
        says(&d.message, &["Deployment web", "2026-11-05T09:53:20Z", "revision 3"]);
        says(&d.advice, &["kubectl -n shop rollout undo deployment/web"]);
    }
    // No undo for a template that differs only by vigie's restart, has no previous one, or is much older than the
    // failure.
    let restarted = with(after_rollout(ErrorClass::Reset), |e| workload_of(e).only_restarted = true);
    let first = with(after_rollout(ErrorClass::Reset), |e| workload_of(e).revision = Some((1, false)));
    let old = with(after_rollout(ErrorClass::Reset), |e| workload_of(e).template_since = Some(ago(7200)));
    let before = with(after_rollout(ErrorClass::Reset), |e| e.history.bad_since = Some(ago(500)));
    let never_well = with(after_rollout(ErrorClass::Reset), |e| e.history.last_healthy = None);
    for e in [restarted, first, old, before, never_well] {
        assert_ne!(diagnosis(&e).cause, Cause::BadSinceRollout);
    }
}

#[test]
fn a_new_template_that_can_be_blamed_by_name_is_and_the_way_back_stands_beside_it() {
    let e = with(after_rollout(ErrorClass::Refused), |e| set(e, "SERVER_ADDRESS", "127.0.0.1"));
    let d = expect_cause(&e, Cause::BoundToLoopback);
    says(&d.evidence.join("\n"), &["right after the new template", "rollout undo deployment/web"]);
}

#[test]
fn some_that_pass_after_a_rollout_are_a_bad_replica() {
    let e = with(after_rollout(ErrorClass::Reset), |e| {
        found(&mut e.pods).push(pod("web-2"));
        e.vantages.push(passing("pod/web-2"));
    });
    expect_cause(&e, Cause::OneReplicaBad);
}

#[test]
fn flapping_is_said_with_its_numbers() {
    let e = with(well(), |e| e.history.flapping = Some((6, 600)));
    says(&expect(&e, Cause::Flapping, Likely, No).message, &["6 changes", "600 s"]);
}

#[test]
fn a_rollout_whose_pods_may_not_be_seen_is_only_possible() {
    let e = with(bad(ErrorClass::Refused), |e| {
        workload_of(e).updated = 0;
        workload_of(e).template_since = Some(ago(30));
        e.pods = Lookup::Forbidden("list pods in shop".to_owned());
    });
    let d = expect(&e, Cause::RolloutInProgress, Possible, No);
    says(&d.evidence.join("\n"), &["not seen: list pods in shop"]);
}

#[test]
fn no_startup_budget_and_no_time_is_too_large_to_reckon_with() {
    for budget in [u64::MAX, i64::MAX.unsigned_abs(), 2_147_483_647 * 2_147_483_647] {
        for since in [Some(ago(30)), Some(jiff::Timestamp::MAX), Some(jiff::Timestamp::MIN), None] {
            let e = with(bad(ErrorClass::Refused), |e| {
                three(e);
                e.subject.startup_seconds = budget;
                workload_of(e).template_since = since;
                workload_of(e).updated = 1;
                e.history.bad_since = since.or(Some(jiff::Timestamp::MAX));
                e.history.last_healthy = Some(ago(600));
                for pod in found(&mut e.pods) {
                    (pod.ready, pod.created) = (false, since);
                    for container in &mut pod.containers {
                        container.running_since = since;
                    }
                }
            });
            assert!(diagnose(&e).is_some(), "{budget} {since:?}");
        }
    }
}
