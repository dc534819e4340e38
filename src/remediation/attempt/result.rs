//! The result of one step of an attempt, and the helpers that build it.

use jiff::{SignedDuration, Timestamp};

use crate::api::{AttemptOutcome, ConditionValue, Denial, MAX_MESSAGE, Reason, RemediationStatus, Truth, clip};
use crate::remediation::input::{Target, Workload};

/// Time until the next step of an attempt in progress: a restart of a small workload takes less than a second, and the
/// person who requested one waits for the result.
pub(super) const STEP_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// State of an attempt that is neither in the status nor in the cluster. It is lost with the process and found out
/// again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// The API server's final refusal of this attempt.
    pub refused: Option<String>,
    /// Why the last try of this attempt failed, where another one may succeed.
    pub failed_try: Option<String>,
    /// The agent was given the action.
    pub handed_out: bool,
    /// The agent's answer: whether it restarted its unit, and its message.
    pub acknowledged: Option<(bool, String)>,
}

/// A restart to perform once the status is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Restart the workload.
    Restart {
        /// The attempt.
        id: String,
        /// When it was decided.
        started: Timestamp,
        /// UID of the workload that it was decided for.
        uid: String,
        /// Generation of the workload at the decision.
        generation: i64,
    },
    /// Evict one pod.
    Evict {
        /// Name of the pod.
        name: String,
        /// UID of the pod.
        uid: String,
    },
    /// Give the action to the agent with its next heartbeat.
    Offer {
        /// The attempt.
        id: String,
        /// When the action expires.
        not_after: Timestamp,
    },
}

/// An event to publish about the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// The reason, from the closed list of docs/design/api.md.
    pub reason: &'static str,
    /// A person may have to act.
    pub is_warning: bool,
    /// The message.
    pub note: String,
    /// Time of the occurrence.
    pub at: Timestamp,
    /// Identity of the occurrence: the same occurrence is the same event.
    pub occurrence: String,
}

/// The result of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepResult {
    /// The new `status.remediation`.
    pub status: RemediationStatus,
    /// The condition `Remediating`.
    pub condition: ConditionValue,
    /// Events to publish after the status is written.
    pub events: Vec<EventDraft>,
    /// The restart to perform after the status is written.
    pub remedy: Option<Remedy>,
    /// Outcome of the attempt that ended with this step.
    pub ended: Option<AttemptOutcome>,
    /// Id of the attempt that was reserved with this step.
    pub reserved: Option<String>,
    /// Why a wanted remedy is not taken.
    pub denial: Option<Denial>,
    /// When the next step is due; `None`: at the next change.
    pub check_again_at: Option<Timestamp>,
}

impl StepResult {
    pub(super) fn new(status: RemediationStatus, truth: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status,
            condition: ConditionValue::new(truth, reason, clip(message, MAX_MESSAGE)),
            events: Vec::new(),
            remedy: None,
            ended: None,
            reserved: None,
            denial: None,
            check_again_at: None,
        }
    }

    pub(super) fn in_progress(status: RemediationStatus, message: impl Into<String>, next: Timestamp) -> Self {
        let result = Self::new(status, Truth::True, Reason::RestartInProgress, message);
        Self { check_again_at: Some(next), ..result }
    }
}

pub(super) fn describe(target: &Target, workload: Option<&Workload>) -> String {
    let display_name = workload.map_or("its workload", |workload| &workload.display_name);
    match target {
        Target::Rollout => format!("a rollout restart of {display_name}"),
        Target::Pod { name, .. } => format!("the eviction of Pod {name} of {display_name}"),
        Target::Agent => "a restart of its unit by its agent".to_owned(),
    }
}

pub(super) fn after(now: Timestamp, time: SignedDuration) -> Timestamp {
    now.checked_add(time).unwrap_or(Timestamp::MAX)
}

/// Truncates to the precision that a `Time` is read back with.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
