//! Rules about the Service and its endpoints.

use std::collections::BTreeMap;

use super::queries::{closest, fails, is_without_endpoints, pod_vantages, pods, probe_fact, target, vantage, workload};
use super::text::{kubectl, some, workload_name};
use super::{Finding, matches_any};
use crate::api::{Cause, Confidence, ErrorClass};
use crate::diagnosis::evidence::{Evidence, Pod, Service};

/// Labels by which controllers distinguish the revisions of a workload (apps/v1).
const REVISIONS: &[&str] = &["pod-template-hash", "controller-revision-hash", "pod-template-generation"];

/// The Service of the target, while our probe fails.
fn failing_service(e: &Evidence) -> Option<&Service> {
    e.service.found().filter(|_| fails(e))
}

fn pairs(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    some(&pairs, 6)
}

pub(super) fn service_selects_nothing(e: &Evidence) -> Option<Finding> {
    let service = failing_service(e).filter(|service| !service.selector.is_empty() && service.endpoints == (0, 0))?;
    let selects = |pod: &&Pod| service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
    // Pods that are being deleted, or ended, are selected and give no endpoint.
    let selected = service.selected.or_else(|| Some(e.pods.found()?.iter().filter(selects).count()));
    if selected.is_some_and(|selected| selected > 0) {
        return None;
    }
    // It would select the pods of its workload, if there were any.
    let fits = workload(e).filter(|workload| is_subset(&service.selector, &workload.selector));
    if fits.is_some_and(|workload| workload.wanted == 0) {
        return None;
    }
    let name = &service.name;
    let unselected = e.pods.found().and_then(|pods| pods.first()).filter(|pod| !selects(pod));
    let carries = unselected.map(|pod| format!("; the pods of {} carry {}", workload_name(e), pairs(&own_labels(pod))));
    let select = match workload(e).map(|workload| &workload.selector).filter(|selector| !selector.is_empty()) {
        Some(wanted) => {
            format!(" ({})", kubectl(e, format_args!("set selector service/{name} {}", joined(wanted))))
        }
        None => format!(" ({} shows those that there are)", kubectl(e, "get pods --show-labels")),
    };
    let finding = Finding::new(
        Cause::ServiceSelectsNothing,
        format!(
            "Service {name} selects no pod: its selector is {}{}",
            pairs(&service.selector),
            carries.unwrap_or_default()
        ),
        format!("Correct the selector of Service {name}{select} or the labels of the pod template"),
    )
    .fact(format!("Service {name}: no endpoints"));
    Some(if selected.is_some() { finding } else { finding.lacking("the pods of the namespace").needs(&e.pods) })
}

/// Labels in kubectl's syntax.
fn joined(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

fn is_subset(some: &BTreeMap<String, String>, all: &BTreeMap<String, String>) -> bool {
    some.iter().all(|(key, value)| all.get(key) == Some(value))
}

/// The pod's labels without those that a controller sets for each revision: no Service selects by them.
fn own_labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.labels.clone();
    labels.retain(|key, _| !REVISIONS.contains(&key.as_str()));
    labels
}

/// The ports that the pods' containers declare: optional names and numbers.
fn declared(e: &Evidence) -> Vec<(Option<String>, u16)> {
    let mut declared: Vec<(Option<String>, u16)> = Vec::new();
    for container in pods(e).into_iter().flat_map(|pod| &pod.containers) {
        declared.extend(container.ports.iter().cloned());
    }
    declared.sort();
    declared.dedup();
    declared
}

fn port_list(declared: &[(Option<String>, u16)]) -> String {
    let one = |(name, number): &(Option<String>, u16)| match name {
        Some(name) => format!("{name}/{number}"),
        None => number.to_string(),
    };
    some(&declared.iter().map(one).collect::<Vec<_>>(), 6)
}

/// The health page is probed at a port that the Service does not have: its address refuses there.
fn lacks_actuator_port(e: &Evidence) -> Option<Finding> {
    let service = e.service.found()?;
    let health = vantage(e, "health").filter(|health| health.error_class == Some(ErrorClass::Refused))?;
    let port = health.port.filter(|port| *port != e.subject.port)?;
    let suffix = format!("/{port}");
    if service.ports.is_empty() || service.ports.iter().any(|has| *has == port.to_string() || has.ends_with(&suffix)) {
        return None;
    }
    let name = &service.name;
    let ports = some(&service.ports, 6);
    Some(
        Finding::new(
            Cause::ServicePortMismatch,
            format!("Service {name} has no port {port}, where spec.probe.actuator.port has the health page asked for; it has {ports}"),
            format!("Add port {port} to Service {name}, or aim at the pods themselves (spec.target.pods)"),
        )
        .fact(probe_fact(health))
        .fact(format!("ports of Service {name}: {ports}")),
    )
}

/// The Service does not have the port that the target names.
fn lacks_port(e: &Evidence, service: &Service) -> Option<Finding> {
    let (_, asked) = e.subject.service.as_ref()?;
    let (name, ports) = (&service.name, some(&service.ports, 6));
    let message = format!("Service {name} has no port {asked}; it has {ports}");
    let advice = format!("Correct spec.target.service.port, or add the port to Service {name}");
    Some(Finding::new(Cause::ServicePortMismatch, message, advice).fact(format!("ports of Service {name}: {ports}")))
}

/// Advice to make the ports of the Service and its pods agree.
fn port_advice(e: &Evidence, service: &Service, declared: &[(Option<String>, u16)], target_port: &str) -> String {
    let name = &service.name;
    let right = if declared.is_empty() { "a port that they serve".to_owned() } else { port_list(declared) };
    let or = match target_port.parse::<u16>() {
        Ok(number) => format!("have the pods listen on {number}"),
        Err(_) => format!("name that port {target_port} in the pod template"),
    };
    let edit = kubectl(e, format_args!("edit service {name}"));
    format!("Set targetPort of Service {name} to {right} ({edit}), or {or}")
}

pub(super) fn service_port_mismatch(e: &Evidence) -> Option<Finding> {
    if let Some(finding) = lacks_actuator_port(e) {
        return Some(finding);
    }
    let service = failing_service(e)?;
    let name = &service.name;
    let Some((port, target_port)) = &service.port else { return lacks_port(e, service) };
    let declared = declared(e);
    let is_name = target_port.parse::<u16>().is_err();
    let has_name = declared.iter().any(|(name, _)| name.as_deref() == Some(target_port));
    let number = target_port.parse::<u16>().ok();
    let unknown_name = is_name && !has_name && service.endpoint_port.is_none() && !pods(e).is_empty();
    // Declaring a port is optional. A refusal at an undeclared port, while others are declared, is evidence.
    let refused = closest(e).iter().all(|vantage| vantage.error_class == Some(ErrorClass::Refused));
    let not_declared = number.is_some_and(|number| {
        !declared.is_empty() && refused && fails(e) && declared.iter().all(|(_, port)| *port != number)
    });
    if !unknown_name && !not_declared {
        return None;
    }
    let has = if declared.is_empty() {
        "declare no port by a name".to_owned()
    } else {
        format!("declare {}", port_list(&declared))
    };
    let advice = port_advice(e, service, &declared, target_port);
    let finding = Finding::new(
        Cause::ServicePortMismatch,
        format!(
            "port {port} of Service {name} goes to targetPort {target_port}, which its pods do not have: they {has}"
        ),
        advice,
    )
    .fact(format!("Service {name}: port {port} -> targetPort {target_port}"))
    .fact(format!("containers {has}"))
    .facts(target(e).map(probe_fact));
    Some(if unknown_name { finding } else { finding.at_most(Confidence::Likely) })
}

/// Causes that say why the pods are not ready, or what fails behind the endpoints.
const MORE_SPECIFIC: &[Cause] = &[
    Cause::BoundToLoopback,
    Cause::WrongPort,
    Cause::StillStarting,
    Cause::NeverStartedListening,
    Cause::DependencyDown,
    Cause::DiskFull,
    Cause::LivenessBroken,
    Cause::OutOfService,
    Cause::MainPortDead,
    Cause::Hung,
];

pub(super) fn no_ready_endpoints(e: &Evidence) -> Option<Finding> {
    let service = failing_service(e).filter(|service| is_without_endpoints(service))?;
    // A known reason why the pods are not ready takes precedence.
    if super::is_explained_before(e, Cause::RolloutInProgress)
        || matches_any(e, &[Cause::ServiceSelectsNothing, Cause::ServicePortMismatch])
        || matches_any(e, MORE_SPECIFIC)
    {
        return None;
    }
    let name = &service.name;
    let not_ready: Vec<&str> = pods(e).into_iter().filter(|pod| !pod.ready).map(|pod| pod.name.as_str()).collect();
    let passing = pod_vantages(e).filter(|(_, vantage)| vantage.ok).count();
    let readiness = if passing > 0 {
        format!("; {passing} of its pods answer at their own address: their readiness probe asks something else")
    } else {
        String::new()
    };
    let advice = match not_ready.first() {
        Some(pod) => format!("Read why the readiness probe fails: {}", kubectl(e, format_args!("describe pod {pod}"))),
        None if service.selector.is_empty() => {
            format!("Service {name} has no selector: whoever writes its EndpointSlices has to add a ready endpoint")
        }
        None => format!("Look at its endpoints: {}", kubectl(e, format_args!("describe service {name}"))),
    };
    let finding = Finding::new(
        Cause::NoReadyEndpoints,
        format!("Service {name} has no ready endpoint ({} not ready){readiness}", service.endpoints.1),
        advice,
    )
    .fact(format!("Service {name}: 0 endpoints ready, {} not ready", service.endpoints.1))
    .facts((!not_ready.is_empty()).then(|| format!("not Ready: pod {}", some(&not_ready, 4))));
    Some(finding.needs(&e.pods))
}
