//! Whether something is restarted, and what: the ordered list of denials (docs/remediation.md).

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

/// A small pure function: what speaks against a remedy, if anything does.
type Check = fn(&PolicyInput<'_>) -> Option<Objection>;

/// What speaks against a remedy.
struct Objection {
    /// With the figures that led to it, and without what changes with time alone.
    message: String,
    /// When it may speak against it no longer.
    again: Option<Timestamp>,
}

fn no(message: impl Into<String>) -> Option<Objection> {
    Some(Objection { message: message.into(), again: None })
}

/// What becomes of a denial when a person asked for the restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnRequest {
    /// The person knows better.
    Bypassed,
    /// It stays a denial.
    Enforced,
}

/// The order is the specification: the first that speaks against it is the denial.
const CHECKS: &[(Denial, OnRequest, Check)] = &[
    // What nobody asked for is not done, and what the operator must not touch it does not touch.
    (Denial::RemediationOff, Enforced, guards::off),
    (Denial::RemediationOff, Enforced, guards::guarded),
    // A person said wait.
    (Denial::Paused, Enforced, guards::paused),
    // Restoring needs something to restore.
    (Denial::NeverHealthy, Bypassed, evidence::never_healthy),
    // The workload: whether it is there, is ours to touch, and would do what it is told.
    (Denial::WorkloadNotFound, Enforced, guards::not_found),
    // Its owner would take our annotation back, and the workload would roll twice.
    (Denial::ManagedByController, Enforced, guards::managed),
    // A paused Deployment takes the annotation and does nothing: until somebody resumes it, at a time nobody chose.
    (Denial::WorkloadPaused, Enforced, guards::workload_paused),
    // Nothing runs, because somebody wants nothing to run.
    (Denial::ScaledToZero, Enforced, guards::scaled_to_zero),
    // It takes the annotation and waits for somebody to delete its pods.
    (Denial::UpdateStrategyOnDelete, Enforced, guards::on_delete),
    // Whoever rolls it out is at work; a second rollout helps neither.
    (Denial::RolloutInProgress, Enforced, guards::rolling),
    // A restart has just been tried, by others.
    (Denial::RecentlyRestartedByOthers, Enforced, guards::restarted_by_others),
    // We are not sure to see what we judge.
    (Denial::MassSilence, Enforced, evidence::mass_silence),
    (Denial::ProbeBlind, Enforced, evidence::blind),
    // The cause: a restart must be able to cure it, and must not have failed to.
    (Denial::RestartCannotHelp, Bypassed, evidence::cannot_help),
    (Denial::AlreadyTried, Bypassed, evidence::already_tried),
    // A workload that was not seen is touched for nobody; a guess is not acted upon, but a person may know.
    (Denial::LowConfidence, Enforced, evidence::unseen),
    (Denial::LowConfidence, Bypassed, evidence::possible),
    // A broken Ingress is not cured by restarting the pods behind it.
    (Denial::PodsHealthy, Bypassed, evidence::pods_healthy),
    // One of many is bad, and nobody knows which.
    (Denial::PodUnknown, Enforced, target::unknown),
    // Whom we would ask does not hear us.
    (Denial::AgentUnreachable, Enforced, guards::agent_silent),
    // The pace: not at once, not while it comes and goes, not again and again, not for ever.
    (Denial::NotLongEnough, Bypassed, pace::not_long_enough),
    (Denial::Flapping, Enforced, pace::flapping),
    (Denial::CoolingDown, Bypassed, pace::cooling_down),
    (Denial::GaveUp, Bypassed, pace::gave_up),
    // Two objects, one workload: one lock.
    (Denial::WorkloadShared, Enforced, fleet::shared),
    // The fleet: the gravest first, for a person has to act on it.
    (Denial::BreakerOpen, Enforced, fleet::breaker),
    (Denial::SiteBrake, Bypassed, fleet::brake),
    (Denial::TooManyInFlight, Enforced, fleet::too_many),
    (Denial::RateLimited, Enforced, fleet::rate),
    // All agree, but for who guards the pods.
    (Denial::DisruptionBudgetExhausted, Enforced, target::protected),
    // All else would have allowed it.
    (Denial::SuggestOnly, Enforced, guards::suggest_only),
];

/// What is asked again between the reservation and the act: what may have changed, and takes an attempt back.
const RECHECKS: &[(Denial, OnRequest, Check)] = &[
    (Denial::RemediationOff, Enforced, guards::off),
    (Denial::RemediationOff, Enforced, guards::guarded),
    (Denial::Paused, Enforced, guards::paused),
    // These three are about the workload: somebody else has changed it.
    (Denial::WorkloadNotFound, Enforced, guards::replaced),
    (Denial::WorkloadPaused, Enforced, guards::workload_paused),
    (Denial::ScaledToZero, Enforced, guards::scaled_to_zero),
    (Denial::MassSilence, Enforced, evidence::mass_silence),
    (Denial::ProbeBlind, Enforced, evidence::blind),
    // It is healthy again by itself, or nobody knows.
    (Denial::NotLongEnough, Bypassed, pace::not_unhealthy),
    (Denial::BreakerOpen, Enforced, fleet::breaker),
    (Denial::SiteBrake, Bypassed, fleet::brake),
    (Denial::SuggestOnly, Enforced, guards::suggest_only),
];

/// What is to be restarted, or why nothing is. To be asked when it is unhealthy or a person asked for it, and no attempt
/// of its own is under way.
pub fn allow(situation: &PolicyInput<'_>) -> Result<Target, Denied> {
    first(CHECKS, situation, situation.request.is_some())?;
    target::target(situation).map_err(|message| denied(Denial::PodUnknown, Objection { message, again: None }))
}

/// Whether the attempt that is reserved may still be acted upon.
///
/// `WorkloadNotFound`, `WorkloadPaused` and `ScaledToZero` mean that somebody else changed the workload, so that the
/// attempt is superseded; `NotLongEnough` that it is not known to be unhealthy any more; every other denial is a brake,
/// which recalls it. A workload that cannot be read at the moment is no denial: it is not touched either, but may be
/// waited for.
pub fn still_allowed(situation: &PolicyInput<'_>) -> Result<(), Denied> {
    let current = situation.status.current.as_ref();
    first(RECHECKS, situation, current.is_some_and(|current| current.cause == REQUESTED))
}

fn first(checks: &[(Denial, OnRequest, Check)], situation: &PolicyInput<'_>, asked: bool) -> Result<(), Denied> {
    let asked_of = checks.iter().filter(|(_, request, _)| !asked || *request == Enforced);
    let mut speaks = asked_of.filter_map(|(reason, _, check)| Some(denied(*reason, check(situation)?)));
    speaks.next().map_or(Ok(()), Err)
}

fn denied(reason: Denial, no: Objection) -> Denied {
    Denied { reason, message: clip(no.message, MAX_MESSAGE), again: no.again }
}
