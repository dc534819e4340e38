//! The finding when no rule matches, and the rule for slow answers.

use super::Finding;
use super::ended_pods::newest_ended;
use super::queries::{pod_vantages, pods, probe_fact, process_port, target, workload};
use super::response::failing_ours;
use super::scrape_error::{failing, scrape_fact};
use super::text::{diagnose_command, kubectl, workload_name};
use crate::api::{Cause, Confidence, ErrorClass, Phase};
use crate::diagnosis::evidence::{Evidence, Vantage};

pub(super) fn slow(e: &Evidence) -> Option<Finding> {
    // The measured time is left out: it changes with each probe, and the same state must give the same text.
    let (_, allowed) = e.history.slow?;
    Some(
        Finding::new(
            Cause::Slow,
            format!("it answers, but more slowly than the {allowed} ms that it may take"),
            "Look at its load, its CPU limit (throttling) and what it waits for; or raise spec.probe.degradedLatencyMilliseconds",
        )
        .facts(target(e).map(probe_fact)),
    )
}

/// One fact for each failure.
fn wrong(e: &Evidence) -> Vec<String> {
    let mut facts: Vec<String> = failing_ours(e).map(probe_fact).collect();
    // A failure that is not confirmed yet is no fault.
    let fails = |vantage: &Vantage| !vantage.ok && vantage.confirmed != Some(false);
    facts.extend(pod_vantages(e).filter(|(_, vantage)| fails(vantage)).map(|(_, vantage)| probe_fact(vantage)));
    facts.extend(failing(e).into_iter().map(|(target, why)| scrape_fact(target, why)));
    if let Some(workload) = workload(e).filter(|workload| workload.ready < workload.wanted) {
        facts.push(format!("{}: {} of {} ready", workload_name(e), workload.ready, workload.wanted));
    }
    facts
}

/// Further facts: the pods, and evidence that could not be read.
fn further_facts(e: &Evidence) -> Vec<String> {
    let mut facts: Vec<String> = target(e).filter(|target| target.ok).map(probe_fact).into_iter().collect();
    for pod in pods(e).into_iter().chain(newest_ended(e)).take(4) {
        let ready = if pod.ready { "Ready" } else { "not Ready" };
        let restarts: i32 = pod.containers.iter().map(|container| container.restarts).sum();
        facts.push(format!("pod {}: {}, {ready}, {restarts} restarts", pod.name, pod.phase));
    }
    let missing = [
        e.workload.missing(),
        e.pods.missing(),
        e.service.missing(),
        e.events.missing(),
        e.policies.missing(),
        e.nodes_not_ready.missing(),
        e.actuator.missing(),
    ];
    facts.extend(missing.into_iter().flatten().map(|why| format!("not seen: {why}")));
    facts
}

/// Advice from the error class alone. A refusal is not a firewall, and a timeout is not a refusal.
fn hint(e: &Evidence) -> String {
    let port = process_port(e);
    if let Some(pod) = newest_ended(e) {
        let describe = kubectl(e, format_args!("describe pod {}", pod.name));
        return format!("All its pods have ended and none took their place; the newest one says how: {describe}. ");
    }
    if target(e).is_some_and(|target| {
        !target.ok
            && target.address.is_none()
            && target.phase == Some(Phase::Resolve)
            && target.error_class == Some(ErrorClass::Unreachable)
    }) {
        return format!(
            "Nothing was dialled, because no pod has an address: look at them ({}). ",
            kubectl(e, "get pods")
        );
    }
    match target(e).and_then(|target| target.error_class) {
        Some(ErrorClass::Refused) => {
            if let Some(pod) = pods(e).first().filter(|pod| pod.containers.iter().any(|c| c.running_since.is_some())) {
                return format!(
                    "Pod {} runs and nothing listens on its port {port}: its log may say why ({}). ",
                    pod.name,
                    kubectl(e, format_args!("logs {} --all-containers --tail=100", pod.name))
                );
            }
            format!(
                "Its host answers and nothing listens on port {port}: is the process running there (`ss -ltnp` on it)? "
            )
        }
        Some(ErrorClass::ConnectTimeout) => format!(
            "Nothing answers at all: is the host running, and does something between drop TCP {port} (security group, firewall, NetworkPolicy)? "
        ),
        Some(ErrorClass::Unreachable) => "No route leads there: is the host running, is the address right? ".to_owned(),
        _ => String::new(),
    }
}

pub(super) fn unexplained(e: &Evidence) -> Option<Finding> {
    let wrong = wrong(e);
    let first = wrong.first()?;
    let message = format!("no known cause fits what was seen: {first}");
    let command = diagnose_command(&e.subject);
    Some(
        Finding::new(Cause::Unexplained, message, format!("{}Look at all that was seen: {command}", hint(e)))
            .at_most(Confidence::Possible)
            .facts(wrong)
            .facts(further_facts(e)),
    )
}
