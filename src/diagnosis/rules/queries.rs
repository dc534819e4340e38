//! Questions that several rules ask of the evidence.

use jiff::{SignedDuration, Timestamp};

use crate::api::ErrorClass;
use crate::diagnosis::evidence::{Actuator, Container, Ended, Evidence, Pod, Service, Vantage, Warning, Workload};

/// How long an end of a container explains what is seen now: the kubelet forgets its back-off after ten minutes of
/// running (kubelet, `backOffPeriod` reset), and so do we.
const RECENT: SignedDuration = SignedDuration::from_mins(10);
/// How much earlier than the first failed verdict its cause may lie: thresholds, slow probes.
const BEFORE: SignedDuration = SignedDuration::from_mins(2);

/// What one vantage saw.
pub(super) fn vantage<'a>(e: &'a Evidence, name: &str) -> Option<&'a Vantage> {
    e.vantages.iter().find(|vantage| vantage.name == name)
}

/// What our own probe saw. Where each pod is a target of its own it passes when any of them does, and one that fails
/// stands for all that do.
pub(super) fn target(e: &Evidence) -> Option<&Vantage> {
    let pods = || pod_vantages(e).map(|(_, vantage)| vantage);
    vantage(e, "target").or_else(|| pods().find(|vantage| vantage.ok)).or_else(|| pods().next())
}

/// Our own probe fails.
pub(super) fn fails(e: &Evidence) -> bool {
    target(e).is_some_and(|target| !target.ok)
}

/// Our own probe passes.
pub(super) fn passes(e: &Evidence) -> bool {
    target(e).is_some_and(|target| target.ok)
}

/// What was seen of each pod at its own address, by the pod's name.
pub(super) fn pod_vantages(e: &Evidence) -> impl Iterator<Item = (&str, &Vantage)> {
    e.vantages.iter().filter_map(|vantage| Some((vantage.name.strip_prefix("pod/")?, vantage)))
}

/// The vantages that speak for the process itself: its pods' own addresses; else the target, unless a Service without
/// endpoints stands between, whose address refuses whatever the pods do.
pub(super) fn closest(e: &Evidence) -> Vec<&Vantage> {
    let pods: Vec<&Vantage> = pod_vantages(e).map(|(_, vantage)| vantage).collect();
    if !pods.is_empty() {
        return pods;
    }
    if e.service.found().is_some_and(is_without_endpoints) {
        return Vec::new();
    }
    target(e).into_iter().collect()
}

/// No endpoint is ready behind it.
pub(super) fn is_without_endpoints(service: &Service) -> bool {
    service.endpoints.0 == 0 && service.kind != "ExternalName"
}

/// All that speak for the process fail in one of these ways.
pub(super) fn process_fails(e: &Evidence, classes: &[ErrorClass]) -> bool {
    let closest = closest(e);
    let one = |vantage: &&Vantage| !vantage.ok && vantage.error_class.is_some_and(|class| classes.contains(&class));
    !closest.is_empty() && closest.iter().all(one)
}

/// Nothing listens where the process is dialled.
pub(super) fn is_refused(e: &Evidence) -> bool {
    fails(e) && process_fails(e, &[ErrorClass::Refused])
}

/// The port at which the process itself is dialled.
pub(super) fn process_port(e: &Evidence) -> u16 {
    let dialled = pod_vantages(e).find_map(|(_, vantage)| vantage.port);
    let behind = || e.service.found().and_then(|service| service.endpoint_port);
    dialled.or_else(behind).unwrap_or(e.subject.port)
}

/// The workload, where it was seen.
pub(super) fn workload(e: &Evidence) -> Option<&Workload> {
    e.workload.found()
}

/// The pods that are meant to serve: not being deleted, and not ended for good.
pub(super) fn pods(e: &Evidence) -> Vec<&Pod> {
    let serves = |pod: &&Pod| !pod.deleting && pod.phase != "Succeeded" && pod.phase != "Failed";
    e.pods.found().into_iter().flatten().filter(serves).collect()
}

/// The pods that are not ready; all of them while our probe fails, for `Ready` may lag behind or know nothing.
pub(super) fn suspects(e: &Evidence) -> Vec<&Pod> {
    pods(e).into_iter().filter(|pod| !pod.ready || fails(e)).collect()
}

/// Each container of the pods that may be the cause.
pub(super) fn suspect_containers(e: &Evidence) -> Vec<(&Pod, &Container)> {
    let mut found = Vec::new();
    for pod in suspects(e) {
        found.extend(pod.containers.iter().filter(|container| !container.ready || fails(e)).map(|c| (pod, c)));
    }
    found
}

/// How a container ended, if that explains what is seen now: it has ended, it waits to be started again, or it was
/// started again a short while ago.
pub(super) fn ended<'a>(e: &Evidence, container: &'a Container) -> Option<&'a Ended> {
    if let Some(ended) = &container.terminated {
        return Some(ended);
    }
    let last = container.last.as_ref()?;
    let recent = match last.ended {
        Some(at) if container.ready => is_recent(e, at) && e.history.bad_since.is_some_and(|bad| at >= bad - BEFORE),
        Some(at) => is_recent(e, at),
        None => !container.ready,
    };
    (container.waiting.is_some() || recent).then_some(last)
}

fn is_recent(e: &Evidence, at: Timestamp) -> bool {
    at >= e.gathered_at - RECENT
}

/// The containers that ended in a way that explains what is seen now.
pub(super) fn ends(e: &Evidence) -> Vec<(&Pod, &Container, &Ended)> {
    let end = |(pod, container)| Some((pod, container, ended(e, container)?));
    suspect_containers(e).into_iter().filter_map(end).collect()
}

/// The kubelet's word for what the container waits for.
pub(super) fn waiting(container: &Container) -> Option<&str> {
    container.waiting.as_ref().map(|(reason, _)| reason.as_str())
}

/// Warnings with one of these reasons about this pod.
pub(super) fn warnings<'a>(e: &'a Evidence, pod: &'a Pod, reasons: &'a [&str]) -> impl Iterator<Item = &'a Warning> {
    let about = move |warning: &&Warning| {
        warning.about.strip_prefix("Pod/").unwrap_or(&warning.about) == pod.name
            && reasons.contains(&warning.reason.as_str())
    };
    e.events.found().into_iter().flatten().filter(about)
}

/// The actuator, where it was read.
pub(super) fn actuator(e: &Evidence) -> Option<&Actuator> {
    e.actuator.found()
}

/// The actuator answers, whatever it says: the process is up.
pub(super) fn answers(e: &Evidence) -> bool {
    actuator(e).is_some_and(|a| a.base_status.is_some() || matches!(a.liveness, Some(Ok(_))))
}

/// The port at which the actuator was read, when that is another than the target's: behind a Service that has two
/// numbers, its own and the one in the pods.
pub(super) fn separate_actuator_port(e: &Evidence) -> Option<u16> {
    let port = actuator(e).and_then(actuator_port)?;
    (port != process_port(e) && port != e.subject.port).then_some(port)
}

/// The port in the actuator's address.
pub(super) fn actuator_port(actuator: &Actuator) -> Option<u16> {
    port_of(&actuator.base)
}

/// The port of a URL; the scheme's own when it names none.
pub(super) fn port_of(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    let after_host = authority.rsplit(']').next()?;
    match after_host.rsplit_once(':') {
        Some((_, port)) => port.parse().ok(),
        None if scheme == "https" => Some(443),
        None if scheme == "http" => Some(80),
        None => None,
    }
}

/// The path of a URL.
pub(super) fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// How far a rollout has come, where one is unfinished: a fact to tell beside a pod's own trouble.
pub(super) fn unfinished_rollout(e: &Evidence) -> Option<String> {
    let workload = workload(e)?;
    let unfinished = workload.deadline_exceeded || workload.updated < workload.wanted;
    let name = super::text::workload_name(e);
    unfinished
        .then(|| format!("the rollout of {name} cannot finish: {} of {} updated", workload.updated, workload.wanted))
}

/// When this pod's youngest container began to run; when the pod was created, where none runs.
pub(super) fn began(pod: &Pod) -> Option<Timestamp> {
    pod.containers.iter().filter_map(|container| container.running_since).max().or(pod.created)
}

/// What was seen of the target, as a fact.
pub(super) fn probe_fact(vantage: &Vantage) -> String {
    let how = match (vantage.ok, vantage.error_class, vantage.phase) {
        (true, ..) => "passes".to_owned(),
        (false, Some(class), Some(phase)) => format!("{class} in {phase}"),
        (false, Some(class), None) => class.to_string(),
        (false, None, _) => "fails".to_owned(),
    };
    let said = if vantage.message.is_empty() { String::new() } else { format!(": {}", vantage.message) };
    format!("{}: {how}{said}", vantage.name)
}

/// What our own probe saw of the metrics page: beside the target, or as the target itself.
pub(super) fn own_page(e: &Evidence) -> Option<&Vantage> {
    let is_page =
        e.subject.wants_metrics || e.subject.path.contains("prometheus") || e.subject.path.ends_with("/metrics");
    vantage(e, "metrics").or_else(|| target(e).filter(|_| is_page))
}

/// It is the target itself, or a pod as the target, and nothing that is asked for beside it.
pub(super) fn is_target(vantage: &Vantage) -> bool {
    vantage.name == "target" || vantage.name.starts_with("pod/")
}

/// Somebody on our side got an answer from this port.
pub(super) fn reaches_port(e: &Evidence, port: u16) -> bool {
    let seen = e.vantages.iter().any(|vantage| vantage.port == Some(port) && (vantage.ok || vantage.any_byte));
    // Through a Service we reach the port behind it, by another number.
    let behind = passes(e) && e.service.found().is_some_and(|service| service.endpoint_port == Some(port));
    seen || behind || actuator(e).is_some_and(|a| a.base_status.is_some() && actuator_port(a) == Some(port))
}
