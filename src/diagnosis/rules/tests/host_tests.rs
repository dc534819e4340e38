//! A target outside the cluster with nothing behind it: the machine of the founding incidents.

use super::scene::*;
use crate::api::Confidence::{Likely, Possible};
use crate::api::RestartHelps::{No, Once};
use crate::api::{Cause, ErrorClass};
use crate::diagnosis::evidence::{Evidence, Lookup};
use crate::diagnosis::rules::{as_read_in_a_report, findings};

/// A virtual machine, of which only its port is seen.
fn machine(class: ErrorClass) -> Evidence {
    with(bad(class), |e| {
        (e.workload, e.pods, e.actuator) = (Lookup::NotLooked, Lookup::NotLooked, Lookup::NotLooked);
        (e.policies, e.events, e.nodes_not_ready) = (Lookup::NotLooked, Lookup::NotLooked, Lookup::NotLooked);
        e.subject.workload = None;
        e.subject.host = "198.51.100.20".to_owned();
        e.subject.url = "http://198.51.100.20:8081/actuator/prometheus".to_owned();
        e.vantages[0].address = "198.51.100.20".parse().ok();
    })
}

/// Prometheus' entry for the machine.
fn scraped_as(e: &mut Evidence, error: Option<&str>) {
    e.prometheus = well().prometheus;
    let mut target = error.map_or_else(scraped, down);
    target.url = "http://198.51.100.20:8081/actuator/prometheus".to_owned();
    prometheus_of(e).targets = vec![target];
}

const GET: &str = "Get \"http://198.51.100.20:8081/actuator/prometheus\": ";

#[test]
fn a_refusal_by_a_machine_means_that_nothing_listens_there() {
    for error in [None, Some("dial tcp 198.51.100.20:8081: connect: connection refused")] {
        let e = with(machine(ErrorClass::Refused), |e| {
            if let Some(error) = error {
                scraped_as(e, Some(&format!("{GET}{error}")));
            }
        });
        let d = expect(&e, Cause::NothingListens, Likely, No);
        says(&d.message, &["nothing accepts connections on port 8081 of 198.51.100.20", "container is stopped"]);
        says(&d.advice, &["`ss -ltnp`", "127.0.0.1"]);
        assert!(d.advice.find("firewall") > d.advice.find("start it"), "never a firewall first: {}", d.advice);
        assert!(!d.message.contains("firewall"), "{}", d.message);
    }
    let agent = with(machine(ErrorClass::Refused), |e| e.subject.has_agent = true);
    expect(&agent, Cause::NothingListens, Likely, Once);
}

#[test]
fn silence_of_a_machine_names_the_address_to_allow() {
    for class in [ErrorClass::ConnectTimeout, ErrorClass::Unreachable] {
        let e = with(machine(class), |e| {
            e.vantages[0].source = "192.0.2.10".parse().ok();
            scraped_as(e, Some(&format!("{GET}dial tcp 198.51.100.20:8081: i/o timeout")));
        });
        let d = expect(&e, Cause::HostSilent, Possible, No);
        says(&d.message, &["198.51.100.20 does not answer on port 8081", "host is down"]);
        says(&d.advice, &["allow TCP 8081 from 192.0.2.10/32"]);
    }
    let unknown = expect(&machine(ErrorClass::ConnectTimeout), Cause::HostSilent, Possible, No);
    says(&unknown.advice, &["allow TCP 8081 from vigie's address"]);
}

#[test]
fn a_machine_that_prometheus_scrapes_runs_and_turns_only_vigie_away() {
    for class in [ErrorClass::ConnectTimeout, ErrorClass::Refused] {
        let e = with(machine(class), |e| scraped_as(e, None));
        let d = expect(&e, Cause::HostSilent, Likely, No);
        says(&d.message, &["while Prometheus scrapes it"]);
    }
}

#[test]
fn only_a_target_with_nothing_behind_it_is_judged_by_its_host_alone() {
    let is_about_host =
        |e: &Evidence| findings(e).iter().any(|found| matches!(found.cause, Cause::NothingListens | Cause::HostSilent));
    for class in [ErrorClass::Refused, ErrorClass::ConnectTimeout] {
        assert!(is_about_host(&machine(class)));
        assert!(!is_about_host(&bad(class)), "pods are known");
        assert!(!is_about_host(&with(machine(class), |e| e.vantages.push(passing("health")))), "another page answers");
        assert!(!is_about_host(&with(machine(class), behind_service)));
    }
    for class in [ErrorClass::FirstByteTimeout, ErrorClass::Reset, ErrorClass::DNSNotFound, ErrorClass::HTTPStatus] {
        assert!(!is_about_host(&machine(class)), "{class}");
    }
    let service = with(machine(ErrorClass::Refused), |e| e.subject.host = "web.other.svc.cluster.local".to_owned());
    says(&expect(&service, Cause::NothingListens, Possible, No).message, &["no ready endpoint"]);
}

#[test]
fn a_report_of_vigie_diagnose_does_not_advise_to_run_vigie_diagnose() {
    for e in
        [machine(ErrorClass::Reset), with(bad(ErrorClass::Exposition), |e| e.vantages[0].broken_at = Some((3, 40)))]
    {
        let d = diagnosis(&e);
        says(&d.advice, &["vigie diagnose"]);
        let told = as_read_in_a_report(&d.advice, &e.subject);
        assert!(!told.contains("vigie diagnose") && told.contains("below"), "{told}");
    }
}
