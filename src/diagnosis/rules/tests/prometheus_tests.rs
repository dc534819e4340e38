use super::scene::*;
use crate::api::Confidence::{Certain, Likely, Possible};
use crate::api::RestartHelps::{No, Once};
use crate::api::{Cause, ErrorClass, Reason, Truth};
use crate::diagnosis::evidence::{Evidence, Lookup, PodNetworkPolicy, ScrapeTarget};
use crate::diagnosis::rules::{conclude, diagnose};

const DROPPED: &str = "Get \"http://10.1.0.7:8081/actuator/prometheus\": dial tcp 10.1.0.7:8081: i/o timeout";
const DEADLINE: &str = "Get \"http://10.1.0.7:8081/actuator/prometheus\": context deadline exceeded";
const REFUSED: &str =
    "Get \"http://10.1.0.7:8081/actuator/prometheus\": dial tcp 10.1.0.7:8081: connect: connection refused";

#[test]
fn dropped_packets_name_the_port_and_the_source_to_allow() {
    let told = with(only_prometheus(DROPPED), |e| e.subject.prometheus_source = Some("198.51.100.7/32".to_owned()));
    let d = expect(&told, Cause::BlockedForPrometheus, Certain, No);
    says(&d.advice, &["allow TCP 8081 from 198.51.100.7/32", "return ports", "egress TCP 8081"]);
    let pods = with(only_prometheus(DEADLINE), |e| {
        prometheus_of(e).addresses = vec!["10.2.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
    });
    says(&expect(&pods, Cause::BlockedForPrometheus, Certain, No).advice, &["from 10.2.0.9/32 and fd00::9/128"]);
    let unknown = expect_cause(&only_prometheus(DROPPED), Cause::BlockedForPrometheus);
    says(&unknown.advice, &["`vigie probe http://10.1.0.7:8081/actuator/prometheus` on the Prometheus host"]);
}

#[test]
fn a_drop_is_less_sure_when_the_page_may_only_be_slow_or_the_port_was_not_seen() {
    let health_only = |error: &str| {
        with(only_prometheus(error), |e| {
            (e.subject.path, e.subject.wants_metrics) = ("/actuator/health".to_owned(), false)
        })
    };
    expect(&health_only(DEADLINE), Cause::BlockedForPrometheus, Likely, No);
    expect(&health_only(DROPPED), Cause::BlockedForPrometheus, Certain, No);
    let other_port = with(only_prometheus(DROPPED), |e| {
        e.vantages[0].port = Some(8080);
        e.actuator = Lookup::NotLooked;
    });
    expect(&other_port, Cause::BlockedForPrometheus, Possible, No);
    let through_service = with(other_port.clone(), behind_service);
    expect(&through_service, Cause::BlockedForPrometheus, Certain, No);
    let policies =
        with(only_prometheus(DROPPED), |e| e.policies = Lookup::Forbidden("list networkpolicies in shop".to_owned()));
    let d = expect(&policies, Cause::BlockedForPrometheus, Likely, No);
    says(&d.evidence.join("\n"), &["not seen: list networkpolicies in shop"]);
}

#[test]
fn a_refusal_for_prometheus_alone_is_a_rejection_and_never_dropped_packets() {
    let d = expect(&only_prometheus(REFUSED), Cause::RejectedForPrometheus, Likely, No);
    says(&d.message, &["connection refused", "while it answers us"]);
    let no_route = "Get \"http://10.1.0.7:8081/x\": dial tcp 10.1.0.7:8081: connect: no route to host";
    let d = expect(&only_prometheus(no_route), Cause::RejectedForPrometheus, Likely, No);
    assert!(!d.advice.contains("a host that was reached"), "{}", d.advice);
}

#[test]
fn a_refusal_everywhere_follows_the_pods_and_is_never_a_firewall() {
    let stopped = with(crashed("Error", 1, None), |e| e.prometheus = only_prometheus(REFUSED).prometheus);
    let d = expect_cause(&stopped, Cause::CrashLoop);
    let everything = format!("{d:?}");
    assert!(!everything.contains("firewall") && !everything.contains("ForPrometheus"), "{everything}");
    let both_time_out = with(bad(ErrorClass::ConnectTimeout), |e| e.prometheus = only_prometheus(DROPPED).prometheus);
    assert_ne!(diagnosis(&both_time_out).cause, Cause::BlockedForPrometheus);
}

#[test]
fn a_container_that_runs_and_listens_no_more_is_restarted_once_and_is_never_a_firewall() {
    let closed = with(bad(ErrorClass::Refused), |e| {
        e.vantages.push(failing("pod/web-1", ErrorClass::Refused));
        e.prometheus = only_prometheus(REFUSED).prometheus;
    });
    let d = expect(&closed, Cause::MainPortDead, Likely, Once);
    says(&d.message, &["nothing listens on port 8081 any more", "pod web-1", "answered last at 2026-11-05T09:58:45Z"]);
    says(&d.advice, &["kubectl -n shop logs web-1 -c app --tail=50"]);
    assert!(!format!("{d:?}").contains("firewall"), "{d:?}");
    // Its readiness probe takes it out of the Service: it still takes precedence.
    let unready = with(closed.clone(), |e| {
        behind_service(e);
        service_of(e).endpoints = (0, 1);
        pod_of(e).ready = false;
    });
    expect_cause(&unready, Cause::MainPortDead);
    // A timeout does not mean a closed port.
    let silent = with(closed, |e| e.vantages[1] = failing("pod/web-1", ErrorClass::ConnectTimeout));
    assert_ne!(diagnosis(&silent).cause, Cause::MainPortDead);
}

#[test]
fn an_address_that_is_no_longer_the_backends_is_stale_and_not_blocked() {
    let stale = |health: &str| {
        with(well(), |e| {
            pod_of(e).addresses = vec!["10.1.0.7".parse().unwrap()];
            let prometheus = prometheus_of(e);
            prometheus.targets.clear();
            prometheus.stale = vec![ScrapeTarget {
                url: "http://10.1.0.3:8081/actuator/prometheus".to_owned(),
                health: health.to_owned(),
                last_error: DROPPED.to_owned(),
                ..scraped()
            }];
        })
    };
    // If the old address answers, it may be another target of the same job.
    for (health, confidence) in [("down", Certain), ("up", Likely)] {
        let d = expect(&stale(health), Cause::StaleTarget, confidence, No);
        says(&d.message, &["10.1.0.3:8081", "its pods are at 10.1.0.7"]);
        says(&d.advice, &["/sd/prometheus"]);
    }
    // An entry that is up at the right address makes the stale one irrelevant.
    let leftover = with(stale("down"), |e| prometheus_of(e).targets = vec![scraped()]);
    assert_eq!(diagnose(&leftover), None);
    // An entry at the right address that fails is the cause: the other entries belong to other targets of its job.
    let blocked = with(stale("up"), |e| prometheus_of(e).targets = vec![down(DROPPED)]);
    expect_cause(&blocked, Cause::BlockedForPrometheus);
}

#[test]
fn what_is_new_is_given_the_time_that_a_discovery_takes() {
    let created = |seconds: i64| {
        with(well(), |e| {
            prometheus_of(e).targets.clear();
            e.subject.created = Some(ago(seconds));
        })
    };
    says(&expect_cause(&created(89), Cause::NotYetScraped).message, &["does not know", "yet"]);
    expect_cause(&created(90), Cause::NotScraped);
    let scraped = conclude(&created(89)).scraped.map(|scraped| (scraped.status, scraped.reason));
    assert_eq!(scraped, Some((Truth::Unknown, Reason::NotYetScraped)));
    // A replaced pod is new too, unless its address is in a static list.
    let replaced = |is_discovered: bool, seconds: i64| {
        with(created(7200), |e| {
            pod_of(e).created = Some(ago(seconds));
            prometheus_of(e).stale = vec![ScrapeTarget { is_discovered, ..down(DROPPED) }];
        })
    };
    expect_cause(&replaced(true, 30), Cause::NotYetScraped);
    says(&expect_cause(&replaced(true, 120), Cause::StaleTarget).advice, &["/service-discovery"]);
    says(&expect_cause(&replaced(false, 30), Cause::StaleTarget).advice, &["/sd/prometheus"]);
    // A target dropped by relabelling was discovered.
    let dropped = with(created(10), |e| prometheus_of(e).dropped = true);
    expect_cause(&dropped, Cause::NotScraped);
}

fn policy(name: &str, prometheus: Option<bool>, us: Option<bool>) -> PodNetworkPolicy {
    PodNetworkPolicy { name: name.to_owned(), ingress: true, admits_prometheus: prometheus, admits_us: us }
}

#[test]
fn a_network_policy_is_named_and_one_that_admits_is_enough() {
    let with_policies =
        |e: Evidence, policies: &[PodNetworkPolicy]| with(e, |e| e.policies = Lookup::Found(policies.to_vec()));
    let barred = with_policies(only_prometheus(DROPPED), &[policy("default-deny", Some(false), Some(true))]);
    let d = expect(&barred, Cause::BlockedByNetworkPolicy, Certain, No);
    says(&d.message, &["NetworkPolicy default-deny", "Prometheus", "8081"]);
    assert_eq!(d.alternatives[0].cause, Cause::BlockedForPrometheus);
    let admitted = [policy("default-deny", Some(false), None), policy("monitoring", Some(true), None)];
    expect_cause(&with_policies(only_prometheus(DROPPED), &admitted), Cause::BlockedForPrometheus);
    let unknown = [policy("default-deny", Some(false), None), policy("named-ports", None, None)];
    expect_cause(&with_policies(only_prometheus(DROPPED), &unknown), Cause::BlockedForPrometheus);
    // The same for vigie's probe: dropped, not refused.
    let us = with_policies(bad(ErrorClass::ConnectTimeout), &[policy("default-deny", None, Some(false))]);
    says(&expect(&us, Cause::BlockedByNetworkPolicy, Certain, No).message, &["does not admit vigie"]);
    let refused = with_policies(bad(ErrorClass::Refused), &[policy("default-deny", None, Some(false))]);
    assert_ne!(diagnosis(&refused).cause, Cause::BlockedByNetworkPolicy);
}

#[test]
fn what_prometheus_does_not_scrape_is_dropped_or_absent() {
    let absent = with(well(), |e| prometheus_of(e).targets.clear());
    says(&expect(&absent, Cause::NotScraped, Certain, No).message, &["does not know http://web.shop.svc:8081"]);
    let dropped = with(absent, |e| prometheus_of(e).dropped = true);
    says(
        &expect(&dropped, Cause::NotScraped, Certain, No).message,
        &["drops http://web.shop.svc:8081/actuator/prometheus by relabelling"],
    );
    let ours_first = with(dropped, |e| e.vantages = vec![failing("target", ErrorClass::Unreachable)]);
    assert_ne!(diagnosis(&ours_first).cause, Cause::NotScraped);
}

#[test]
fn a_target_that_was_never_scraped_is_waited_for() {
    let e = with(well(), |e| {
        let target = &mut prometheus_of(e).targets[0];
        (target.health, target.last_scrape) = ("unknown".to_owned(), None);
    });
    says(&expect(&e, Cause::NotYetScraped, Certain, No).advice, &["15 s"]);
}

#[test]
fn prometheus_is_down_when_it_cannot_be_asked_or_its_last_scrape_is_older_than_two_of_its_own_intervals() {
    let failed = with(well(), |e| e.prometheus = Lookup::Failed("connection refused".to_owned()));
    expect(&failed, Cause::PrometheusDown, Certain, No);
    let aged = |seconds: i64, interval: u64| {
        with(only_prometheus(DROPPED), |e| {
            let target = &mut prometheus_of(e).targets[0];
            (target.last_scrape, target.interval_milliseconds) = (Some(ago(seconds)), interval);
        })
    };
    expect(&aged(31, 15_000), Cause::PrometheusDown, Certain, No);
    // The interval comes from Prometheus, so the limit differs between targets. Fresh results are judged.
    expect_cause(&aged(31, 60_000), Cause::BlockedForPrometheus);
    expect_cause(&aged(30, 15_000), Cause::BlockedForPrometheus);
}
