//! Remediation: the part of the spec and the part of the status. The rules are in `docs/remediation.md`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{MAX_MESSAGE, MAX_NAME, MAX_WORD, open_word};
use super::words::words;

/// The number of past attempts in a status.
pub const MAX_HISTORY: usize = 10;
/// The annotation that requests a restart; its value is the time of the request, RFC 3339.
pub const RESTART_REQUESTED: &str = "vigie.dev/restart-requested";
/// The cause of an attempt that a person requested.
pub const REQUESTED: &str = "Requested";

words! {
    /// Whether remedies are taken or only proposed.
    RemediationMode {
        /// A remedy is decided, taken and verified.
        Restart,
        /// A remedy is decided and reported; nothing is touched.
        Suggest,
    }
}

words! {
    /// The object of a restart.
    Strategy {
        /// `Pod` when one of many replicas is bad, else `Rollout`.
        Auto,
        /// The whole workload, as `kubectl rollout restart` does.
        Rollout,
        /// Only the bad replica, through the eviction API.
        Pod,
    }
}

words! {
    /// How far an attempt has come.
    AttemptPhase {
        /// Written down; nothing has been touched.
        Reserved,
        /// The workload was told to restart.
        Restarting,
        /// Restarted; a healthy verdict is awaited.
        Verifying,
    }
}

words! {
    /// How an attempt ended.
    AttemptOutcome {
        /// Restarted, and healthy since.
        Succeeded,
        /// Restarted, and still unhealthy.
        NotCured,
        /// The rollout failed.
        RolloutFailed,
        /// The rollout was not finished within its limit.
        TimedOut,
        /// The workload was changed by another client before we acted.
        Superseded,
        /// A brake called it back before we acted; it costs nothing.
        Recalled,
        /// Reserved, and never acted upon.
        Abandoned,
        /// The API server or the agent refused it.
        Refused,
    }
}

/// The list of denials, in pairs of groups: denials whose word is used here only, then denials whose word is also a
/// cause. Calls the macro `$next` with the tokens `$before`, followed by the list; `reasons!` (reason.rs) takes the
/// former groups over.
macro_rules! denials {
    ($next:ident! $($before:tt)*) => {
        $next! { $($before)* [
            {
                /// The spec has no `remediation`, or the operator runs with remedies off.
                RemediationOff,
                /// `paused`, or its namespace is.
                Paused,
                /// It was never healthy, so there is nothing to restore.
                NeverHealthy,
            }
            {
                /// `workloadRef` names nothing.
                WorkloadNotFound,
            }
            {
                /// Another controller owns the workload and would revert us.
                ManagedByController,
                /// The Deployment is paused.
                WorkloadPaused,
            }
            {
                /// The workload is scaled to zero.
                ScaledToZero,
            }
            {
                /// The workload's update strategy is `OnDelete`.
                UpdateStrategyOnDelete,
            }
            {
                /// A rollout is under way.
                RolloutInProgress,
            }
            {
                /// Another client restarted it a moment ago.
                RecentlyRestartedByOthers,
            }
            {
                /// Most of the site is silent: the path to us is the suspect.
                MassSilence,
                /// Our own probe cannot see.
                ProbeBlind,
            }
            {
                /// A restart cannot cure this cause.
                RestartCannotHelp,
                /// A restart did not cure this cause the last time.
                AlreadyTried,
                /// The diagnosis is only `Possible`.
                LowConfidence,
                /// Everything inside the workload is healthy.
                PodsHealthy,
                /// Which of the pods it is, is not known.
                PodUnknown,
                /// The agent is silent.
                AgentUnreachable,
                /// Not yet unhealthy for `unhealthyForSeconds`.
                NotLongEnough,
            }
            {
                /// It changes between healthy and unhealthy by itself.
                Flapping,
            }
            {
                /// The backoff after the last attempt runs.
                CoolingDown,
                /// `maxAttempts` are used up.
                GaveUp,
                /// Another object's attempt on the same workload runs.
                WorkloadShared,
                /// The breaker is open until a person resets it.
                BreakerOpen,
                /// Too much of the site is unhealthy.
                SiteBrake,
                /// Enough remedies are in flight.
                TooManyInFlight,
            }
            {
                /// Enough remedies were started in the last minute.
                RateLimited,
            }
            {
                /// The pod's disruption budget forbids its eviction.
                DisruptionBudgetExhausted,
                /// All else would have allowed it; the mode is `Suggest`.
                SuggestOnly,
            }
            {}
        ] }
    };
}
pub(crate) use denials;

denials! { words!
    /// The named reason why a remedy was not taken, in the order in which the reasons are asked.
    Denial
}

const fn unhealthy_for() -> i32 {
    120
}
const fn max_attempts() -> i32 {
    3
}
const fn backoff() -> i32 {
    300
}
const fn reset_after() -> i32 {
    3600
}
const fn verify_within() -> i32 {
    600
}
const fn strategy() -> Strategy {
    Strategy::Auto
}

/// When and how a workload is restarted. Absent means never.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemediationSpec {
    /// Restart: remedies are decided, taken and verified. Suggest: everything is decided and reported, nothing is
    /// touched.
    pub mode: RemediationMode,
    /// How many seconds it must have been known to be bad before the first attempt, 0 to 86400. Time in which the
    /// state is Unknown does not count.
    #[serde(default = "unhealthy_for")]
    #[schemars(range(min = 0, max = 86400))]
    pub unhealthy_for_seconds: i32,
    /// How many attempts are made before giving up, 0 to 100; 0 means never. The count is emptied by
    /// resetAfterSeconds of health only, not by a short recovery.
    #[serde(default = "max_attempts")]
    #[schemars(range(min = 0, max = 100))]
    pub max_attempts: i32,
    /// Seconds between the outcome of one attempt and the next attempt, 1 to 3600. It doubles with each attempt up to
    /// 3600, varies by 10 % and crosses incidents.
    #[serde(default = "backoff")]
    #[schemars(range(min = 1, max = 3600))]
    pub backoff_seconds: i32,
    /// How many seconds of uninterrupted, witnessed health empty the count of attempts, 1 to 604800.
    #[serde(default = "reset_after")]
    #[schemars(range(min = 1, max = 604_800))]
    pub reset_after_seconds: i32,
    /// How many seconds an attempt may take from the restart to a finished rollout and a healthy verdict, 10 to 7200;
    /// never less than the workload's progress deadline plus 60.
    #[serde(default = "verify_within")]
    #[schemars(range(min = 10, max = 7200))]
    pub verify_within_seconds: i32,
    /// The object of the restart. Rollout: the whole workload. Pod: only the bad replica. Auto: the replica when one of many
    /// is bad, else the workload.
    #[serde(default = "strategy")]
    pub strategy: Strategy,
}

impl RemediationSpec {
    /// A spec with `mode` and every default.
    pub const fn new(mode: RemediationMode) -> Self {
        Self {
            mode,
            unhealthy_for_seconds: unhealthy_for(),
            max_attempts: max_attempts(),
            backoff_seconds: backoff(),
            reset_after_seconds: reset_after(),
            verify_within_seconds: verify_within(),
            strategy: strategy(),
        }
    }
}

/// Past attempts, the attempt under way and the last denial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemediationStatus {
    /// How many times vigie restarted the workload for this object, ever.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub restarts: i64,
    /// The attempts that count against maxAttempts; absent when none do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// The attempt under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Attempt>,
    /// When the next attempt may start, if it is still unhealthy then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// The request by annotation vigie.dev/restart-requested that was honoured last, as it stood there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_WORD))]
    pub observed_restart_request: Option<String>,
    /// Why the last wanted remedy was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_denial: Option<DenialRecord>,
    /// The last ten attempts, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_HISTORY), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<PastAttempt>,
}

/// The attempts that an object has used. It belongs to the object, not to the incident: a flap buys no new budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// How many attempts were used since startTime.
    #[schemars(range(min = 0))]
    pub attempts: i32,
    /// When the first of them started.
    pub start_time: Time,
}

/// One remedy under way, written down before anything is touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Identity of the attempt; the workload's pod template carries it as annotation vigie.dev/attempt.
    #[schemars(length(min = 1, max = MAX_WORD))]
    pub id: String,
    /// The cause that it is to cure, or Requested when a person asked for it.
    #[schemars(schema_with = "open_word")]
    pub cause: String,
    /// When it was decided; also the value of the restartedAt annotation.
    pub start_time: Time,
    /// UID of the workload that it was decided for.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "workloadUID")]
    #[schemars(length(max = MAX_WORD))]
    pub workload_uid: Option<String>,
    /// Generation of the workload that it was decided for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_generation: Option<i64>,
    /// Name of the pod that is evicted; absent when the whole workload, or an agent's unit, is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub pod_name: Option<String>,
    /// UID of that pod.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "podUID")]
    #[schemars(length(max = MAX_WORD))]
    pub pod_uid: Option<String>,
    /// How far it has come. Reserved: nothing was touched. Restarting: the workload was told to. Verifying: restarted,
    /// a healthy verdict is awaited.
    pub phase: AttemptPhase,
    /// When the restart was seen to be complete; only what is seen of the object after this is about its cure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_time: Option<MicroTime>,
    /// When it counts as failed if it has not succeeded.
    pub not_after: Time,
}

/// A remedy that was wanted and not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DenialRecord {
    /// The named reason, for example RolloutInProgress or SiteBrake.
    #[schemars(schema_with = "open_word")]
    pub reason: Denial,
    /// The reason in a sentence, with its numbers.
    #[serde(default)]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: String,
    /// When this reason was first given.
    pub time: Time,
}

/// One remedy that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastAttempt {
    /// Identity of the attempt.
    #[schemars(length(min = 1, max = MAX_WORD))]
    pub id: String,
    /// The cause that it was to cure, or Requested when a person asked for it.
    #[schemars(schema_with = "open_word")]
    pub cause: String,
    /// How it ended, for example Succeeded, NotCured or Superseded.
    #[schemars(schema_with = "open_word")]
    pub outcome: AttemptOutcome,
    /// Whether the workload was restarted.
    pub restarted: bool,
    /// Whether it was healthy afterwards.
    pub cured: bool,
    /// When it was decided.
    pub start_time: Time,
    /// When its outcome was known.
    pub end_time: Time,
    /// The course of the attempt, in a sentence.
    #[serde(default)]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mode_alone_means_every_default() {
        let parsed: RemediationSpec = serde_json::from_value(json!({"mode": "Suggest"})).unwrap();
        assert_eq!(parsed, RemediationSpec::new(RemediationMode::Suggest));
    }

    #[test]
    fn the_mode_is_never_assumed() {
        let error = serde_json::from_value::<RemediationSpec>(json!({})).unwrap_err();
        assert!(error.to_string().contains("mode"), "{error}");
    }
}
