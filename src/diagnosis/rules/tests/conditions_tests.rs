use super::scene::*;
use crate::api::{ConditionValue, ErrorClass, Reason, Truth};
use crate::diagnosis::evidence::Lookup;
use crate::diagnosis::rules::conclude;

fn short(conclusion: &Option<ConditionValue>) -> Option<(Truth, Reason)> {
    conclusion.as_ref().map(|conclusion| (conclusion.status, conclusion.reason))
}

#[test]
fn a_healthy_backend_has_all_three_and_an_unasked_one_none() {
    let all = conclude(&well());
    assert_eq!(short(&all.metrics_exposed), Some((Truth::True, Reason::Exposed)));
    assert_eq!(short(&all.scraped), Some((Truth::True, Reason::TargetUp)));
    assert_eq!(short(&all.workload_healthy), Some((Truth::True, Reason::PodsReady)));
    let none = conclude(&with(well(), |e| {
        e.subject.wants_metrics = false;
        (e.prometheus, e.workload, e.pods) = (Lookup::NotLooked, Lookup::NotLooked, Lookup::NotLooked);
    }));
    assert_eq!(none, Default::default());
}

#[test]
fn what_is_not_so_carries_the_cause_of_its_own_part() {
    let exposure = conclude(&with(status(404), |e| {
        actuator_of(e).links = links(&[("self", "/actuator"), ("health", "/actuator/health")])
    }));
    assert_eq!(short(&exposure.metrics_exposed), Some((Truth::False, Reason::EndpointNotExposed)));
    assert_eq!(short(&exposure.workload_healthy), Some((Truth::True, Reason::PodsReady)));

    let blocked = conclude(&only_prometheus("Get \"http://10.1.0.7:8081/\": dial tcp 10.1.0.7:8081: i/o timeout"));
    assert_eq!(short(&blocked.metrics_exposed), Some((Truth::True, Reason::Exposed)));
    assert_eq!(short(&blocked.scraped), Some((Truth::False, Reason::BlockedForPrometheus)));

    let crash = conclude(&crashed("OOMKilled", 137, None));
    assert_eq!(short(&crash.workload_healthy), Some((Truth::False, Reason::OutOfMemory)));
    assert_eq!(short(&crash.metrics_exposed), Some((Truth::False, Reason::OutOfMemory)));
}

#[test]
fn a_broken_pod_beside_enough_good_ones_is_still_told() {
    let e = with(well(), |e| {
        found(&mut e.pods).push(pod("web-2"));
        waits(e, "ImagePullBackOff", "");
    });
    assert_eq!(short(&conclude(&e).workload_healthy), Some((Truth::False, Reason::ImagePullFailed)));
}

#[test]
fn what_could_not_be_known_is_unknown() {
    let failed = conclude(&with(well(), |e| e.prometheus = Lookup::Failed("no answer".to_owned())));
    assert_eq!(short(&failed.scraped), Some((Truth::Unknown, Reason::PrometheusUnreachable)));
    let stale = conclude(&with(well(), |e| prometheus_of(e).targets[0].last_scrape = Some(ago(600))));
    assert_eq!(short(&stale.scraped), Some((Truth::Unknown, Reason::PrometheusUnreachable)));
    let waits = conclude(&with(well(), |e| {
        let target = &mut prometheus_of(e).targets[0];
        (target.health, target.last_scrape, target.samples) = ("unknown".to_owned(), None, None);
    }));
    assert_eq!(short(&waits.scraped), Some((Truth::Unknown, Reason::NotYetScraped)));
    let forbidden = conclude(&with(well(), |e| {
        (e.workload, e.pods) =
            (Lookup::Forbidden("get deployments".to_owned()), Lookup::Forbidden("list pods".to_owned()));
    }));
    assert_eq!(short(&forbidden.workload_healthy), Some((Truth::Unknown, Reason::EvidenceForbidden)));
    assert_eq!(forbidden.workload_healthy.map(|c| c.message), Some("get deployments".to_owned()));
    let blind = conclude(&with(bad(ErrorClass::ConnectTimeout), |e| e.blind = Some("no DNS".to_owned())));
    assert_eq!(blind.metrics_exposed, None);
}

#[test]
fn a_target_that_is_up_without_samples_is_not_scraped() {
    let e = with(well(), |e| prometheus_of(e).targets[0].samples = Some(0));
    assert_eq!(short(&conclude(&e).scraped), Some((Truth::False, Reason::NotMetrics)));
    let absent = with(well(), |e| prometheus_of(e).targets.clear());
    assert_eq!(short(&conclude(&absent).scraped), Some((Truth::False, Reason::NotScraped)));
}

#[test]
fn pods_that_are_not_ready_for_no_known_reason_are_not_healthy() {
    let e = with(bad(ErrorClass::Unreachable), |e| workload_of(e).ready = 0);
    assert_eq!(short(&conclude(&e).workload_healthy), Some((Truth::False, Reason::Unexplained)));
}
