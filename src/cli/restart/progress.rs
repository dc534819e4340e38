//! The progress of a request, derived from the object. Pure. The object is read as plain JSON, so that any version of it
//! can be used.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::api::{AttemptOutcome, Denial, REQUESTED, Reason};

/// The time within which the operator acts on a request (`docs/design/remediation.md`).
const HONOURED_FOR: SignedDuration = SignedDuration::from_mins(10);
/// A denial may be older than the request: it counts when it is still there so long after the request.
const DENIAL_COUNTS_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// The health of an object, for `--if-unhealthy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ShownHealth {
    Healthy(String),
    Unhealthy,
    /// Not known to be unhealthy; with its state.
    Unknown(String),
}

/// The progress of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not over; with a line to print, if there is one.
    Waiting(Option<String>),
    Finished {
        /// Restarted and cured.
        is_cured: bool,
        /// The outcome, as a sentence.
        text: String,
    },
}

impl Progress {
    fn failed(text: String) -> Self {
        Self::Finished { is_cured: false, text }
    }
}

/// The health that follows from the state of `object`.
pub(super) fn health(object: &Value) -> ShownHealth {
    let state = text(object, "/status/state").unwrap_or("Pending");
    // A Degraded connector fails a critical check; a Degraded backend still answers.
    let is_connector = text(object, "/kind") == Some("Connector");
    match state {
        "Online" | "Up" => ShownHealth::Healthy(state.to_owned()),
        "Degraded" if !is_connector => ShownHealth::Healthy(state.to_owned()),
        "Offline" | "Down" | "Degraded" => ShownHealth::Unhealthy,
        other => ShownHealth::Unknown(other.to_owned()),
    }
}

/// The reason why a request will be denied, known before the operator sees it.
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

/// The progress at `now` of the request that was made at `requested_at`.
pub(super) fn progress(object: &Value, requested_at: Timestamp, now: Timestamp) -> Progress {
    if let Some(over) = outcome(object, requested_at) {
        return over;
    }
    if let Some(current) = object.pointer("/status/remediation/current").filter(|current| !current.is_null()) {
        let doing = under_way(current, is_honoured(object, requested_at));
        let failed = failed_try(object).filter(|_| text(current, "/phase") == Some("Reserved"));
        return Progress::Waiting(Some(failed.map_or(doing, |why| format!("Reserved: {why}"))));
    }
    if object.pointer("/spec/remediation").is_none_or(Value::is_null) {
        return Progress::failed(format!("not restarted: {}", objection(object).unwrap_or_default()));
    }
    let waited = now.duration_since(requested_at);
    if waited > HONOURED_FOR {
        return Progress::failed(match denial(object) {
            Some((reason, message)) => {
                format!("not restarted: the request lapsed after 10 minutes; {reason}: {message}")
            }
            None => "not restarted: the request lapsed after 10 minutes; does the operator run?".to_owned(),
        });
    }
    let Some((reason, message)) = denial(object) else { return Progress::Waiting(None) };
    if waited < DENIAL_COUNTS_AFTER {
        return Progress::Waiting(None);
    }
    match duration_of(reason) {
        DenialDuration::UntilChanged(what_to_do) => {
            Progress::failed(format!("not restarted: {reason}: {message}\nwhat to do: {what_to_do}"))
        }
        DenialDuration::NotForRequests => Progress::Waiting(None),
        DenialDuration::Temporary => Progress::Waiting(Some(format!("denied for now: {reason}: {message}"))),
    }
}

/// The outcome of the attempt that the request led to.
fn outcome(object: &Value, requested_at: Timestamp) -> Option<Progress> {
    let is_requested = |attempt: &&Value| text(attempt, "/cause") == Some(REQUESTED);
    let current = object.pointer("/status/remediation/current");
    if !is_honoured(object, requested_at) || current.as_ref().is_some_and(is_requested) {
        return None;
    }
    let history = object.pointer("/status/remediation/history")?.as_array()?;
    let is_later = |attempt: &&Value| time(attempt, "/startTime").is_some_and(|start| start >= requested_at);
    // The newest attempt is first. The attempt of the request is the oldest one after it; when the operator's clock is
    // behind the local one, the attempt seems to have started before the request.
    let requested = || history.iter().filter(is_requested);
    let attempt = requested().rev().find(is_later).or_else(|| requested().next())?;
    let flag = |pointer: &str| attempt.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
    let (restarted, cured) = (flag("/restarted"), flag("/cured"));
    let outcome = text(attempt, "/outcome").unwrap_or("no outcome");
    let took = time(attempt, "/startTime").zip(time(attempt, "/endTime"));
    let took =
        took.map_or_else(String::new, |(start, end)| format!(" after {} s", end.duration_since(start).as_secs()));
    let not = |is: bool, what: &str| if is { what.to_owned() } else { format!("not {what}") };
    let mut summary = format!("{outcome}{took}: {}, {}", not(restarted, "restarted"), not(cured, "cured"));
    if let Some(message) = text(attempt, "/message").filter(|message| !message.is_empty()) {
        summary.push_str("; ");
        summary.push_str(&plain(message));
    }
    Some(Progress::Finished { is_cured: outcome == AttemptOutcome::Succeeded.as_str(), text: summary })
}

/// Whether the operator has acted on the request of `requested_at`, or on a later one. Compares the request's own time, which
/// the operator copies to the status, because the two clocks may differ.
fn is_honoured(object: &Value, requested_at: Timestamp) -> bool {
    time(object, "/status/remediation/observedRestartRequest").is_some_and(|observed| observed >= requested_at)
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

/// The message of `Remediating` about a try of the attempt that failed and is repeated.
fn failed_try(object: &Value) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let remediating = conditions.iter().find(|condition| condition["type"] == "Remediating")?;
    let message = text(remediating, "/message").filter(|message| message.contains("was tried, and was not done"))?;
    Some(plain(message))
}

/// How long a denial lasts.
enum DenialDuration {
    /// It may end by itself while the request is valid.
    Temporary,
    /// It lasts until a person does this.
    UntilChanged(&'static str),
    /// It does not apply to requests; it was written before the request.
    NotForRequests,
}

fn duration_of(reason: &str) -> DenialDuration {
    if reason == Reason::NotYetSupported.as_str() {
        return DenialDuration::UntilChanged("run an operator that takes remedies");
    }
    let Ok(denial) = reason.parse::<Denial>() else { return DenialDuration::Temporary };
    use Denial::*;
    DenialDuration::UntilChanged(match denial {
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
            return DenialDuration::NotForRequests;
        }
        // LowConfidence is also the denial when the workload could not be read, which applies to requests, too.
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
        | DisruptionBudgetExhausted => return DenialDuration::Temporary,
    })
}

/// Reason and message of the condition `Remediating`, when it holds a denial.
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

/// One line without control characters and marks that change how it is shown: it may contain text of an agent.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || crate::api::is_deceptive(c) { ' ' } else { c }).collect()
}
