//! Rules that come first: whether probes work at all, and whether the spec is valid.

use super::Finding;
use super::queries::{target, vantage};
use super::text::{kubectl, workload_name};
use crate::api::{Cause, Confidence, ErrorClass, Reason};
use crate::diagnosis::evidence::{Evidence, Lookup};

pub(super) fn probe_blind(e: &Evidence) -> Option<Finding> {
    let why = e.blind.as_ref()?;
    Some(
        Finding::new(
            Cause::ProbeBlind,
            format!("vigie itself may be blind: {why}"),
            "Look at vigie's own pod first: its network, its DNS, the API server. The backends are judged again when it sees",
        )
        .at_most(Confidence::Likely)
        .fact(why.clone()),
    )
}

fn refused_for(e: &Evidence, reason: Reason) -> Option<&str> {
    e.refused.as_ref().filter(|(refused, _)| *refused == reason).map(|(_, message)| message.as_str())
}

pub(super) fn invalid_target(e: &Evidence) -> Option<Finding> {
    let invalid = refused_for(e, Reason::InvalidTarget).or_else(|| refused_for(e, Reason::InvalidSpec));
    if let Some(message) = invalid {
        return Some(Finding::new(Cause::InvalidTarget, message, "Correct spec.target as the message says"));
    }
    let (service, port) = e.subject.service.as_ref().filter(|_| e.service == Lookup::Absent)?;
    let namespace = &e.subject.namespace;
    Some(
        Finding::new(
            Cause::InvalidTarget,
            format!("Service {service} does not exist in namespace {namespace}"),
            format!(
                "Create the Service {service} with port {port}, or correct spec.target.service: {}",
                kubectl(e, "get services")
            ),
        )
        .fact(format!("spec.target.service names {service}, port {port}")),
    )
}

pub(super) fn target_denied(e: &Evidence) -> Option<Finding> {
    let denied = vantage(e, "target").filter(|target| target.error_class == Some(ErrorClass::Denied));
    let message = refused_for(e, Reason::TargetDenied).or_else(|| denied.map(|target| target.message.as_str()))?;
    let message = if message.is_empty() { "the target's address may not be dialled" } else { message };
    Some(
        Finding::new(
            Cause::TargetDenied,
            message,
            "Aim at an address outside the cluster's own networks or at a Service of this namespace; or have an administrator run vigie with --allow-network for it",
        )
        .fact("the address was not dialled"),
    )
}

pub(super) fn secret_not_found(e: &Evidence) -> Option<Finding> {
    let message = refused_for(e, Reason::SecretNotFound)?;
    Some(Finding::new(
        Cause::SecretNotFound,
        message,
        "Create the Secret with that key in the same namespace, labelled vigie.dev/probe-credentials=true, or correct the reference",
    ))
}

pub(super) fn workload_not_found(e: &Evidence) -> Option<Finding> {
    let absent = e.subject.workload.is_some() && e.workload == Lookup::Absent;
    let found = absent.then(|| format!("{} does not exist in namespace {}", workload_name(e), e.subject.namespace));
    let message = refused_for(e, Reason::WorkloadNotFound).map(str::to_owned).or(found)?;
    Some(Finding::new(Cause::WorkloadNotFound, message, "Correct spec.workloadRef, or create the workload"))
}

pub(super) fn unreadable_status(e: &Evidence) -> Option<Finding> {
    let message = refused_for(e, Reason::UnreadableStatus)?;
    Some(Finding::new(Cause::UnreadableStatus, message, "Clear the object's status; nothing is done to it until then"))
}

pub(super) fn not_probed(e: &Evidence) -> Option<Finding> {
    let waits = target(e).is_none() && e.refused.is_none();
    waits.then(|| Finding::new(Cause::NotProbed, "it has not been probed yet", "Wait one interval"))
}
