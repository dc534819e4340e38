//! Queries on the evidence that several rules use.

use jiff::{SignedDuration, Timestamp};

use crate::api::ErrorClass;
use crate::diagnosis::evidence::{Actuator, Container, Ended, Evidence, Pod, Service, Vantage, Warning, Workload};

/// How long a container's termination explains a present failure: the kubelet resets its back-off after ten minutes of
/// running (kubelet, `backOffPeriod` reset).
const RECENT: SignedDuration = SignedDuration::from_mins(10);
/// How much earlier than the first bad verdict its cause may be: thresholds and slow probes delay the verdict.
const BEFORE: SignedDuration = SignedDuration::from_mins(2);

/// The vantage of this name.
pub(super) fn vantage<'a>(e: &'a Evidence, name: &str) -> Option<&'a Vantage> {
    e.vantages.iter().find(|vantage| vantage.name == name)
}

/// The vantage of the target. Where each pod is a target it is the first one that passes, else the first one.
pub(super) fn target(e: &Evidence) -> Option<&Vantage> {
    let pods = || pod_vantages(e).map(|(_, vantage)| vantage);
    vantage(e, "target").or_else(|| pods().find(|vantage| vantage.ok)).or_else(|| pods().next())
}

/// Whether the target's probe fails.
pub(super) fn fails(e: &Evidence) -> bool {
    target(e).is_some_and(|target| !target.ok)
}

/// Whether the target's probe passes.
pub(super) fn passes(e: &Evidence) -> bool {
    target(e).is_some_and(|target| target.ok)
}

/// The vantage of each pod at its own address, by the pod's name.
pub(super) fn pod_vantages(e: &Evidence) -> impl Iterator<Item = (&str, &Vantage)> {
    e.vantages.iter().filter_map(|vantage| Some((vantage.name.strip_prefix("pod/")?, vantage)))
}

/// The vantages of the process itself: its pods' own addresses, else the target. Not a Service without endpoints: its
/// address refuses whatever the pods do.
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

/// Whether the Service has no ready endpoint.
pub(super) fn is_without_endpoints(service: &Service) -> bool {
    service.endpoints.0 == 0 && service.kind != "ExternalName"
}

/// Whether all vantages of the process fail with one of these classes.
pub(super) fn process_fails(e: &Evidence, classes: &[ErrorClass]) -> bool {
    let closest = closest(e);
    let one = |vantage: &&Vantage| !vantage.ok && vantage.error_class.is_some_and(|class| classes.contains(&class));
    !closest.is_empty() && closest.iter().all(one)
}

/// Whether nothing listens at the port of the process.
pub(super) fn is_refused(e: &Evidence) -> bool {
    fails(e) && process_fails(e, &[ErrorClass::Refused])
}

/// The port at which the process itself is probed.
pub(super) fn process_port(e: &Evidence) -> u16 {
    let dialled = pod_vantages(e).find_map(|(_, vantage)| vantage.port);
    let endpoint_port = || e.service.found().and_then(|service| service.endpoint_port);
    dialled.or_else(endpoint_port).unwrap_or(e.subject.port)
}

/// The workload, where it was found.
pub(super) fn workload(e: &Evidence) -> Option<&Workload> {
    e.workload.found()
}

/// The pods that should serve: not being deleted, and not in a final phase.
pub(super) fn pods(e: &Evidence) -> Vec<&Pod> {
    e.living_pods().filter(|pod| !pod.deleting).collect()
}

/// The pods that are not ready; all pods while the target's probe fails, because `Ready` may lag behind or have no
/// readiness probe.
pub(super) fn suspects(e: &Evidence) -> Vec<&Pod> {
    pods(e).into_iter().filter(|pod| !pod.ready || fails(e)).collect()
}

/// The containers that may be the cause, with their pods: those that serve before the sidecars among the init
/// containers.
pub(super) fn suspect_containers(e: &Evidence) -> Vec<(&Pod, &Container)> {
    let mut found = Vec::new();
    for pod in suspects(e) {
        found.extend(beside_each_other(pod).filter(|container| !container.ready || fails(e)).map(|c| (pod, c)));
    }
    found
}

/// The containers of a pod that run at the same time: its own, and native sidecars once their turn is over.
pub(super) fn beside_each_other(pod: &Pod) -> impl Iterator<Item = &Container> {
    let sidecars = pod.init.iter().filter(|container| has_begun(pod) && is_sidecar(pod, container));
    pod.containers.iter().chain(sidecars)
}

/// Whether the init containers are through: one of its own containers was started in this sandbox.
pub(super) fn has_begun(pod: &Pod) -> bool {
    let begun = |c: &Container| c.running_since.is_some() || c.terminated.is_some();
    pod.containers.iter().any(|c| begun(c) || waiting(c) == Some("CrashLoopBackOff"))
}

/// Whether an init container is a native sidecar. Evidence that was saved before says so indirectly: only sidecars have
/// probes, and only they may still run, or run again, beside the pod's own containers.
pub(super) fn is_sidecar(pod: &Pod, init: &Container) -> bool {
    let has_probe = init.probes.0 || init.probes.1 || init.probes.2;
    let is_done = init.terminated.as_ref().is_some_and(|end| end.exit_code == 0);
    let runs = init.running_since.is_some() || init.waiting.is_some();
    init.is_sidecar || has_probe || (has_begun(pod) && runs && !is_done)
}

/// The container's termination, if it explains a present failure: it has ended, it waits for its next start, or it was
/// restarted recently.
pub(super) fn ended<'a>(e: &Evidence, container: &'a Container) -> Option<&'a Ended> {
    if let Some(ended) = &container.terminated {
        return Some(ended);
    }
    let last = container.last.as_ref()?;
    let recent = match last.ended {
        Some(at) if container.ready => {
            is_recent(e, at) && e.history.bad_since.is_some_and(|bad| bad.duration_since(at) <= BEFORE)
        }
        Some(at) => is_recent(e, at),
        None => !container.ready,
    };
    (container.waiting.is_some() || recent).then_some(last)
}

fn is_recent(e: &Evidence, at: Timestamp) -> bool {
    e.gathered_at.duration_since(at) <= RECENT
}

/// The containers whose termination explains a present failure.
pub(super) fn ends(e: &Evidence) -> Vec<(&Pod, &Container, &Ended)> {
    let end = |(pod, container)| Some((pod, container, ended(e, container)?));
    suspect_containers(e).into_iter().filter_map(end).collect()
}

/// The kubelet's reason for a container that waits.
pub(super) fn waiting(container: &Container) -> Option<&str> {
    container.waiting.as_ref().map(|(reason, _)| reason.as_str())
}

/// Warning events about this pod with one of these reasons.
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

/// Whether the actuator answers at all: then the process runs.
pub(super) fn answers(e: &Evidence) -> bool {
    actuator(e).is_some_and(|a| a.base_status.is_some() || matches!(a.liveness, Some(Ok(_))))
}

/// The actuator's port, if it differs from the target's port and, behind a Service, from the port in the pods.
pub(super) fn separate_actuator_port(e: &Evidence) -> Option<u16> {
    let port = actuator(e).and_then(actuator_port)?;
    (port != process_port(e) && port != e.subject.port).then_some(port)
}

/// The port in the actuator's address.
pub(super) fn actuator_port(actuator: &Actuator) -> Option<u16> {
    port_of(&actuator.base)
}

/// The port of a URL; the scheme's default when it names none.
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

/// The progress of an unfinished rollout, as an additional fact for a pod's failure.
pub(super) fn unfinished_rollout(e: &Evidence) -> Option<String> {
    let workload = workload(e)?;
    let unfinished = workload.deadline_exceeded || workload.updated < workload.wanted;
    let name = super::text::workload_name(e);
    unfinished
        .then(|| format!("the rollout of {name} cannot finish: {} of {} updated", workload.updated, workload.wanted))
}

/// When this pod's youngest container started; without a running container when the pod was created.
pub(super) fn began(pod: &Pod) -> Option<Timestamp> {
    pod.containers.iter().filter_map(|container| container.running_since).max().or(pod.created)
}

/// A vantage as a fact.
pub(super) fn probe_fact(vantage: &Vantage) -> String {
    let how = match (vantage.ok, vantage.error_class, vantage.phase) {
        (true, ..) => "passes".to_owned(),
        (false, Some(class), Some(phase)) => format!("{class} in {phase}"),
        (false, Some(class), None) => class.to_string(),
        (false, None, _) => "fails".to_owned(),
    };
    let message = if vantage.message.is_empty() { String::new() } else { format!(": {}", vantage.message) };
    format!("{}: {how}{message}", vantage.name)
}

/// The vantage of the metrics page: the additional one, or the target itself.
pub(super) fn own_page(e: &Evidence) -> Option<&Vantage> {
    let is_page =
        e.subject.wants_metrics || e.subject.path.contains("prometheus") || e.subject.path.ends_with("/metrics");
    vantage(e, "metrics").or_else(|| target(e).filter(|_| is_page))
}

/// Whether the vantage is the target itself or a pod, not an additional probe.
pub(super) fn is_target(vantage: &Vantage) -> bool {
    vantage.name == "target" || vantage.name.starts_with("pod/")
}

/// Whether any of vigie's probes got an answer from this port.
pub(super) fn reaches_port(e: &Evidence, port: u16) -> bool {
    let seen = e.vantages.iter().any(|vantage| vantage.port == Some(port) && (vantage.ok || vantage.any_byte));
    // Through a Service the probe reaches the port behind it, which may have another number.
    let through_service = passes(e) && e.service.found().is_some_and(|service| service.endpoint_port == Some(port));
    seen || through_service || actuator(e).is_some_and(|a| a.base_status.is_some() && actuator_port(a) == Some(port))
}
