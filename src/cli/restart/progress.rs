//! How far a request is, by what the object says. Pure. Read as plain JSON, so that any version of the object will do.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::api::{AttemptOutcome, Denial, REQUESTED, Reason};

/// How long a request is honoured (remediation.md).
const HONOURED_FOR: SignedDuration = SignedDuration::from_mins(10);
/// A denial may have stood before the request was made: it counts when it still stands so long after.
const STANDS_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// How an object is, for `--if-unhealthy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Healthy(String),
    Unhealthy,
    /// It is not known to be unhealthy: its state.
    Unknown(String),
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Not over; what there is to say of it, if anything.
    Wait(Option<String>),
    /// Over.
    Over {
        /// Restarted and cured.
        is_cured: bool,
        /// What came of it.
        text: String,
    },
}

impl Step {
    fn failed(text: String) -> Self {
        Self::Over { is_cured: false, text }
    }
}

/// What the state of `object` says of its health.
pub(super) fn health(object: &Value) -> Health {
    let state = text(object, "/status/state").unwrap_or("Pending");
    // Degraded is a failing critical check of a connector, and a backend that still answers.
    let is_connector = text(object, "/kind") == Some("Connector");
    match state {
        "Online" | "Up" => Health::Healthy(state.to_owned()),
        "Degraded" if !is_connector => Health::Healthy(state.to_owned()),
        "Offline" | "Down" | "Degraded" => Health::Unhealthy,
        other => Health::Unknown(other.to_owned()),
    }
}

/// What speaks against a request from the start, for the one who does not wait.
pub(super) fn objection(object: &Value) -> Option<&'static str> {
    match text(object, "/spec/remediation/mode") {
        Some("Suggest") => {
            Some("its spec.remediation.mode is Suggest: what would be done is said, and nothing is touched")
        }
        Some(_) => None,
        None => {
            Some("its spec has no remediation: the operator may not restart it; add spec.remediation.mode: Restart")
        }
    }
}

/// How far the request that was made at `asked` is at `now`.
pub(super) fn step(object: &Value, asked: Timestamp, now: Timestamp) -> Step {
    if let Some(over) = outcome(object, asked) {
        return over;
    }
    if let Some(current) = object.pointer("/status/remediation/current").filter(|current| !current.is_null()) {
        return Step::Wait(Some(under_way(current, is_honoured(object, asked))));
    }
    if object.pointer("/spec/remediation").is_none_or(Value::is_null) {
        return Step::failed(format!("not restarted: {}", objection(object).unwrap_or_default()));
    }
    let waited = now.duration_since(asked);
    if waited > HONOURED_FOR {
        return Step::failed(match denial(object) {
            Some((reason, message)) => {
                format!("not restarted: the request lapsed after 10 minutes; {reason}: {message}")
            }
            None => "not restarted: the request lapsed after 10 minutes; does the operator run?".to_owned(),
        });
    }
    let Some((reason, message)) = denial(object) else { return Step::Wait(None) };
    if waited < STANDS_AFTER {
        return Step::Wait(None);
    }
    match remedy_for(reason) {
        Stands::UntilSomebodyActs(what_to_do) => {
            Step::failed(format!("not restarted: {reason}: {message}\nwhat to do: {what_to_do}"))
        }
        Stands::NotForRequests => Step::Wait(None),
        Stands::ForAWhile => Step::Wait(Some(format!("denied for now: {reason}: {message}"))),
    }
}

/// The outcome of the attempt that the request led to.
fn outcome(object: &Value, asked: Timestamp) -> Option<Step> {
    let is_requested = |attempt: &&Value| text(attempt, "/cause") == Some(REQUESTED);
    let current = object.pointer("/status/remediation/current");
    if !is_honoured(object, asked) || current.as_ref().is_some_and(is_requested) {
        return None;
    }
    let history = object.pointer("/status/remediation/history")?.as_array()?;
    let is_later = |attempt: &&Value| time(attempt, "/startTime").is_some_and(|start| start >= asked);
    // The newest is first, and the one that the request led to is the oldest of those that came after it; by a clock
    // that is behind ours it seems to have come before.
    let requested = || history.iter().filter(is_requested);
    let attempt = requested().rev().find(is_later).or_else(|| requested().next())?;
    let flag = |pointer: &str| attempt.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
    let (restarted, cured) = (flag("/restarted"), flag("/cured"));
    let outcome = text(attempt, "/outcome").unwrap_or("no outcome");
    let took = time(attempt, "/startTime").zip(time(attempt, "/endTime"));
    let took =
        took.map_or_else(String::new, |(start, end)| format!(" after {} s", end.duration_since(start).as_secs()));
    let not = |is: bool, what: &str| if is { what.to_owned() } else { format!("not {what}") };
    let mut said = format!("{outcome}{took}: {}, {}", not(restarted, "restarted"), not(cured, "cured"));
    if let Some(message) = text(attempt, "/message").filter(|message| !message.is_empty()) {
        said.push_str("; ");
        said.push_str(&plain(message));
    }
    Some(Step::Over { is_cured: outcome == AttemptOutcome::Succeeded.as_str(), text: said })
}

/// Whether the operator has acted upon the request of `asked`, or on a later one in its place. Told by the request's own
/// time, which is given back: the operator's clock is another one.
fn is_honoured(object: &Value, asked: Timestamp) -> bool {
    time(object, "/status/remediation/observedRestartRequest").is_some_and(|observed| observed >= asked)
}

/// The phase of the attempt that is under way.
fn under_way(current: &Value, is_honoured: bool) -> String {
    let phase = text(current, "/phase").unwrap_or("under way");
    let doing = match phase {
        "Reserved" => "the attempt is written down, nothing was touched yet",
        "Restarting" => "it was told to restart",
        "Verifying" => "restarted; waiting for it to be healthy",
        _ => "an attempt is under way",
    };
    let whose = match text(current, "/cause") {
        Some(REQUESTED) if is_honoured => String::new(),
        Some(cause) => format!(" (an earlier attempt, because of {}; the request waits)", plain(cause)),
        None => String::new(),
    };
    format!("{phase}: {doing}{whose}")
}

/// How long a denial stands.
enum Stands {
    /// It may pass by itself within the time of a request.
    ForAWhile,
    /// Somebody has to do this first.
    UntilSomebodyActs(&'static str),
    /// It does not hold requests back: it was given before.
    NotForRequests,
}

fn remedy_for(reason: &str) -> Stands {
    if reason == Reason::NotYetSupported.as_str() {
        return Stands::UntilSomebodyActs("run an operator that takes remedies");
    }
    let Ok(denial) = reason.parse::<Denial>() else { return Stands::ForAWhile };
    use Denial::*;
    Stands::UntilSomebodyActs(match denial {
        RemediationOff => {
            "allow it by spec.remediation.mode: Restart and --remediation on; vigie itself and what lies in kube-* is \
             never restarted"
        }
        SuggestOnly => "set spec.remediation.mode to Restart, or restart it yourself: kubectl rollout restart",
        Paused => "see who paused it, and why, in spec.paused and the annotation vigie.dev/paused-until",
        WorkloadNotFound => "correct spec.workloadRef, or create the workload",
        ManagedByController => "restart it through the controller that owns it, or set spec.remediation.strategy: Pod",
        WorkloadPaused => "kubectl rollout resume, when whoever paused it agrees",
        ScaledToZero => "scale it up: there is nothing to restart",
        UpdateStrategyOnDelete => "delete its pods yourself: its update strategy leaves that to people",
        BreakerOpen => "vigie breaker show, and when you have seen what was wrong: vigie breaker reset",
        NotLongEnough | CoolingDown | RestartCannotHelp | AlreadyTried | PodsHealthy | GaveUp | NeverHealthy
        | SiteBrake => {
            return Stands::NotForRequests;
        }
        // LowConfidence also where the workload could not be read, which holds requests back, too.
        RolloutInProgress
        | RecentlyRestartedByOthers
        | MassSilence
        | ProbeBlind
        | LowConfidence
        | PodUnknown
        | AgentUnreachable
        | Flapping
        | WorkloadShared
        | TooManyInFlight
        | RateLimited
        | DisruptionBudgetExhausted => return Stands::ForAWhile,
    })
}

/// Reason and message of `Remediating`, while that says why nothing is done.
fn denial(object: &Value) -> Option<(&str, String)> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let remediating = conditions.iter().find(|condition| text(condition, "/type") == Some("Remediating"))?;
    let reason = text(remediating, "/reason").filter(|reason| *reason != Reason::Idle.as_str())?;
    Some((reason, plain(text(remediating, "/message").unwrap_or_default())))
}

fn text<'a>(of: &'a Value, pointer: &str) -> Option<&'a str> {
    of.pointer(pointer)?.as_str()
}

fn time(of: &Value, pointer: &str) -> Option<Timestamp> {
    text(of, pointer)?.parse().ok()
}

/// One line without anything that a terminal would obey: an agent's words may be in it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
