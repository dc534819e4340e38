//! Tests of the target.

use super::*;

fn one(name: &str) -> Result<Target, Denied> {
    Ok(Target::Pod { name: name.to_owned(), uid: format!("uid-of-{name}") })
}

fn connector(replicas: i32, pod_uid: Option<&str>) -> World {
    world().with(|w| {
        w.workload().replicas = replicas;
        w.workload().pods = (1..=replicas).map(|n| pod(&format!("agent-{n}"))).collect();
        w.verdict.inside = InsideView::Heartbeats { pod_uid: pod_uid.map(str::to_owned) };
    })
}

#[test]
fn one_bad_replica_of_many_is_evicted_and_many_bad_ones_are_rolled_out() {
    assert_eq!(world().of_three(&["web-2"]).allow(), one("web-2"));
    assert_eq!(world().of_three(&["web-2", "web-3"]).allow(), one("web-2"), "others pass: one at a time");
    assert_eq!(world().of_three(&["web-1", "web-2", "web-3"]).allow(), Ok(Target::Rollout));
    assert_eq!(world().allow(), Ok(Target::Rollout), "the only replica");
}

#[test]
fn the_strategy_decides_where_it_is_not_auto() {
    let rollout = world().of_three(&["web-2"]).with(|w| w.spec().strategy = Strategy::Rollout);
    assert_eq!(rollout.allow(), Ok(Target::Rollout));
    let pods = |bad: &[&str]| world().of_three(bad).with(|w| w.spec().strategy = Strategy::Pod);
    assert_eq!(pods(&["web-1", "web-2", "web-3"]).allow(), one("web-1"));
    assert_eq!(world().with(|w| w.spec().strategy = Strategy::Pod).allow(), one("web-1"));
}

#[test]
fn a_diagnosis_of_one_bad_replica_means_that_pod_only() {
    let cause = |w: &mut World| w.diagnosis().cause = Cause::OneReplicaBad;
    assert_eq!(world().of_three(&["web-3"]).with(cause).allow(), one("web-3"));
    let unseen = world().of_three(&["web-3"]).with(cause).with(|w| {
        w.verdict.inside =
            InsideView::Pods { failing: vec!["web-9".into()], passing: vec!["web-1".into()], unready: false };
    });
    unseen.expect(Denial::PodUnknown, &["web-9", "not there any more"]);
}

#[test]
fn where_no_address_was_probed_the_kubelet_says_which_pod_is_bad() {
    let unready = |bad: &[usize]| {
        world().of_three(&[]).with(|w| {
            w.verdict.inside = InsideView::Pods { failing: Vec::new(), passing: Vec::new(), unready: true };
            bad.iter().for_each(|n| w.workload().pods[*n].is_ready = false);
        })
    };
    assert_eq!(unready(&[1]).allow(), one("web-2"));
    assert_eq!(unready(&[0, 1, 2]).allow(), Ok(Target::Rollout));
}

#[test]
fn healthy_pods_are_not_restarted_unless_a_person_asks() {
    let healthy = world().of_three(&[]);
    healthy.expect(Denial::PodsHealthy, &["Deployment shop/web", "web-1, web-2, web-3"]);
    assert_eq!(healthy.clone().requested().allow(), Ok(Target::Rollout));
    let pod = healthy.with(|w| w.spec().strategy = Strategy::Pod);
    pod.requested().expect(Denial::PodUnknown, &["none was seen to fail"]);
    let unlooked = world().with(|w| {
        w.verdict.inside = InsideView::Pods { failing: Vec::new(), passing: Vec::new(), unready: false };
    });
    unlooked.expect(Denial::PodsHealthy, &["nothing was seen to fail"]);
}

#[test]
fn a_pod_that_is_going_already_is_not_evicted() {
    let going = world().of_three(&["web-2"]).with(|w| w.workload().pods[1].is_terminating = true);
    going.expect(Denial::PodUnknown, &["web-2"]);
    let two = world().of_three(&["web-1", "web-2"]).with(|w| w.workload().pods[0].is_terminating = true);
    assert_eq!(two.allow(), one("web-2"));
}

#[test]
fn a_connector_among_many_is_the_pod_that_its_beats_named() {
    assert_eq!(connector(3, Some("uid-of-agent-2")).allow(), one("agent-2"));
    connector(3, None).expect(Denial::PodUnknown, &["3 pods", "pod_uid"]);
    connector(3, Some("uid-of-agent-9")).expect(Denial::PodUnknown, &["3 pods", "uid-of-agent-9"]);
    connector(3, None).requested().expect(Denial::PodUnknown, &[]);
    assert_eq!(connector(1, None).allow(), Ok(Target::Rollout));
    assert_eq!(connector(1, Some("replaced")).allow(), Ok(Target::Rollout));
    assert_eq!(connector(1, None).with(|w| w.spec().strategy = Strategy::Pod).allow(), one("agent-1"));
}

#[test]
fn the_neighbours_of_a_connector_are_restarted_with_it_only_when_a_person_asks() {
    let rollout = connector(3, Some("uid-of-agent-2")).with(|w| w.spec().strategy = Strategy::Rollout);
    assert_eq!(rollout.allow(), one("agent-2"));
    assert_eq!(rollout.requested().allow(), Ok(Target::Rollout));
}

#[test]
fn a_daemon_set_is_never_rolled_out_by_itself() {
    let daemon_set = |world: World| world.with(|w| w.workload().is_daemon_set = true);
    for strategy in Strategy::ALL {
        let set = |w: &mut World| w.spec().strategy = *strategy;
        assert_eq!(daemon_set(connector(3, Some("uid-of-agent-2"))).with(set).allow(), one("agent-2"));
        assert_eq!(daemon_set(connector(1, None)).with(set).allow(), one("agent-1"));
        daemon_set(connector(3, None)).with(set).expect(Denial::PodUnknown, &[]);
        assert_eq!(daemon_set(world().of_three(&["web-2"])).with(set).allow(), one("web-2"));
        assert_eq!(daemon_set(world().of_three(&["web-1", "web-2", "web-3"])).with(set).allow(), one("web-1"));
    }
    let asked = daemon_set(world().of_three(&["web-1", "web-2", "web-3"])).requested();
    assert_eq!(asked.allow(), Ok(Target::Rollout), "a person may");
}

#[test]
fn owner_pause_and_strategy_of_a_workload_concern_rollouts_only() {
    type Change = fn(&mut Workload);
    let changes: [(Denial, Change); 3] = [
        (Denial::ManagedByController, |workload| workload.controller = Some("Rollout web".to_owned())),
        (Denial::WorkloadPaused, |workload| workload.is_paused = true),
        (Denial::UpdateStrategyOnDelete, |workload| workload.is_on_delete = true),
    ];
    for (reason, change) in changes {
        world().with(|w| change(w.workload())).expect(reason, &["Deployment shop/web"]);
        assert_eq!(world().of_three(&["web-2"]).with(|w| change(w.workload())).allow(), one("web-2"));
        let pod = world().with(|w| w.spec().strategy = Strategy::Pod).with(|w| change(w.workload()));
        assert_eq!(pod.allow(), one("web-1"));
    }
}

#[test]
fn a_disruption_budget_guards_pods_and_no_rollout() {
    let guard = |n: usize| move |w: &mut World| w.workload().pods[n].protected_by = Some("web-pdb allows 0".to_owned());
    world()
        .of_three(&["web-2"])
        .with(guard(1))
        .expect(Denial::DisruptionBudgetExhausted, &["pod web-2", "web-pdb allows 0"]);
    assert_eq!(world().with(guard(0)).allow(), Ok(Target::Rollout));
    assert_eq!(
        world().of_three(&["web-1", "web-2"]).with(guard(0)).allow(),
        one("web-2"),
        "another bad one is not guarded"
    );
}

#[test]
fn replicas_that_are_not_available_are_no_rollout_under_way() {
    let ill = |w: &mut World| w.workload().rollout = Rollout::Unavailable("0 of 1 available".to_owned());
    assert_eq!(world().with(ill).allow(), Ok(Target::Rollout), "they are what is to be cured");
    assert_eq!(world().of_three(&["web-2"]).with(ill).allow(), one("web-2"));
}
