//! Decides whether something is restarted, and its target: the ordered list of denials (docs/design/remediation.md).

use jiff::Timestamp;

use super::input::{Denied, PolicyInput, Target};
use crate::api::{Denial, MAX_MESSAGE, REQUESTED, clip};
use OnRequest::{Bypassed, Enforced};
pub(super) use fleet::is_above;
pub use fleet::is_braked;

mod evidence;
mod fleet;
mod guards;
mod pace;
mod target;
#[cfg(test)]
mod tests;

/// A small pure function: the objection to a remedy, if there is one.
type Check = fn(&PolicyInput<'_>) -> Option<Objection>;

/// An objection to a remedy.
struct Objection {
    /// The figures that led to it, without anything that changes with time alone.
    message: String,
    /// When the objection may end, where that is known.
    check_again_at: Option<Timestamp>,
}

fn objection(message: impl Into<String>) -> Option<Objection> {
    Some(Objection { message: message.into(), check_again_at: None })
}

/// Whether a check applies when a person requested the restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnRequest {
    /// The request bypasses the check: the person may know better.
    Bypassed,
    /// The check applies all the same.
    Enforced,
}

/// The order is the specification: the first check that objects gives the denial.
const CHECKS: &[(Denial, OnRequest, Check)] = &[
    // Without `spec.remediation` nothing is restarted, and guarded workloads are never touched.
    (Denial::RemediationOff, Enforced, guards::off),
    (Denial::RemediationOff, Enforced, guards::guarded),
    // A person paused remedies.
    (Denial::Paused, Enforced, guards::paused),
    // Restoring needs something to restore.
    (Denial::NeverHealthy, Bypassed, evidence::never_healthy),
    // The workload: it must exist, be free to change, and follow a change of its template.
    (Denial::WorkloadNotFound, Enforced, guards::not_found),
    // Its owner would revert the annotation, and the workload would roll out twice.
    (Denial::ManagedByController, Enforced, guards::managed),
    // A paused Deployment takes the annotation and rolls out when it is resumed, at an arbitrary time.
    (Denial::WorkloadPaused, Enforced, guards::workload_paused),
    // Nothing runs on purpose.
    (Denial::ScaledToZero, Enforced, guards::scaled_to_zero),
    // It takes the annotation and waits until its pods are deleted.
    (Denial::UpdateStrategyOnDelete, Enforced, guards::on_delete),
    // A second rollout during a rollout helps neither.
    (Denial::RolloutInProgress, Enforced, guards::rolling),
    // Another party has just tried a restart. A person who has just deployed may restart once that rollout is over, which
    // the check before this one has seen.
    (Denial::RecentlyRestartedByOthers, Bypassed, guards::restarted_by_others),
    // The operator may not see the object at present.
    (Denial::MassSilence, Enforced, evidence::mass_silence),
    (Denial::ProbeBlind, Enforced, evidence::blind),
    // The cause: a restart must be able to cure it, and must not have failed before.
    (Denial::RestartCannotHelp, Bypassed, evidence::cannot_help),
    (Denial::AlreadyTried, Bypassed, evidence::already_tried),
    // A workload that could not be read is never touched. A cause that is only possible is not acted upon, but a person
    // may know better.
    (Denial::LowConfidence, Enforced, evidence::unseen),
    (Denial::LowConfidence, Bypassed, evidence::possible),
    // A broken Ingress is not cured by restarting the pods behind it.
    (Denial::PodsHealthy, Bypassed, evidence::pods_healthy),
    // One of many pods is bad, and it is not known which.
    (Denial::PodUnknown, Enforced, target::unknown),
    // The agent cannot be reached.
    (Denial::AgentUnreachable, Enforced, guards::agent_silent),
    // The pace: not at once, not while flapping, not before the backoff ends, not more than `maxAttempts` times.
    (Denial::NotLongEnough, Bypassed, pace::not_long_enough),
    (Denial::Flapping, Enforced, pace::flapping),
    (Denial::CoolingDown, Bypassed, pace::cooling_down),
    (Denial::GaveUp, Bypassed, pace::gave_up),
    // Objects with the same workload share one lock.
    (Denial::WorkloadShared, Enforced, fleet::shared),
    // The fleet: the breaker first, because a person has to reset it.
    (Denial::BreakerOpen, Enforced, fleet::breaker),
    (Denial::SiteBrake, Bypassed, fleet::brake),
    (Denial::TooManyInFlight, Enforced, fleet::too_many),
    (Denial::RateLimited, Enforced, fleet::rate),
    // All other checks pass, and a disruption budget protects the pod.
    (Denial::DisruptionBudgetExhausted, Enforced, target::protected),
    // Last: every other check would have allowed the restart.
    (Denial::SuggestOnly, Enforced, guards::suggest_only),
];

/// Checks that are repeated between the reservation and the act, because their answer may have changed.
const RECHECKS: &[(Denial, OnRequest, Check)] = &[
    (Denial::RemediationOff, Enforced, guards::off),
    (Denial::RemediationOff, Enforced, guards::guarded),
    (Denial::Paused, Enforced, guards::paused),
    // These three are about the workload: another party has changed it.
    (Denial::WorkloadNotFound, Enforced, guards::replaced),
    (Denial::WorkloadPaused, Enforced, guards::workload_paused),
    (Denial::ScaledToZero, Enforced, guards::scaled_to_zero),
    (Denial::MassSilence, Enforced, evidence::mass_silence),
    (Denial::ProbeBlind, Enforced, evidence::blind),
    // It is healthy again by itself, or its health is not known.
    (Denial::NotLongEnough, Bypassed, pace::not_unhealthy),
    (Denial::BreakerOpen, Enforced, fleet::breaker),
    (Denial::SiteBrake, Bypassed, fleet::brake),
    (Denial::SuggestOnly, Enforced, guards::suggest_only),
];

/// The target of a restart, or the denial. Call it when the object is unhealthy or a person requested a restart, and no
/// attempt of the object is in progress.
pub fn allow(input: &PolicyInput<'_>) -> Result<Target, Denied> {
    first(CHECKS, input, input.request.is_some())?;
    target::target(input).map_err(|message| denied(Denial::PodUnknown, Objection { message, check_again_at: None }))
}

/// Whether the reserved attempt may still be performed.
///
/// `WorkloadNotFound`, `WorkloadPaused` and `ScaledToZero` mean that another party changed the workload: the attempt is
/// superseded. `NotLongEnough` means that the object is no longer known to be unhealthy. Every other denial is a brake,
/// which recalls the attempt. A workload that cannot be read now is no denial: it is not touched, and the attempt waits.
pub fn still_allowed(input: &PolicyInput<'_>) -> Result<(), Denied> {
    let current = input.status.current.as_ref();
    first(RECHECKS, input, current.is_some_and(|current| current.cause == REQUESTED))
}

fn first(checks: &[(Denial, OnRequest, Check)], input: &PolicyInput<'_>, is_requested: bool) -> Result<(), Denied> {
    let applicable = checks.iter().filter(|(_, request, _)| !is_requested || *request == Enforced);
    let mut denials = applicable.filter_map(|(reason, _, check)| Some(denied(*reason, check(input)?)));
    denials.next().map_or(Ok(()), Err)
}

fn denied(reason: Denial, objection: Objection) -> Denied {
    Denied { reason, message: clip(objection.message, MAX_MESSAGE), check_again_at: objection.check_again_at }
}
