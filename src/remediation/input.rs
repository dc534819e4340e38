//! The input of the policy: everything that the decision about a restart depends on. Plain data.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::api::{Diagnosis, RemediationSpec, RemediationStatus, WorkloadRef};

/// Health of an object, as remediation sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectHealth {
    /// A connector that is Online, a backend that is Up or Degraded.
    Healthy,
    /// A connector that is Offline or has a failing critical check; a backend with `Available=False`.
    Unhealthy,
    /// Not known: never evaluated, Late, or not visible. It counts neither as unhealthy nor as healthy time.
    Unknown,
}

/// An interval in which the health did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthInterval {
    /// Health during the interval.
    pub health: ObjectHealth,
    /// Start of the interval; it ends with the start of the next newer one.
    pub since: Timestamp,
}

/// The evaluation of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Present and past health, the newest first, as far back as the status remembers. Empty: never evaluated.
    pub intervals: Vec<HealthInterval>,
    /// The object was healthy at least once.
    pub was_healthy: bool,
    /// Cause of the bad health.
    pub diagnosis: Option<Diagnosis>,
    /// The counts, while most of the site is silent.
    pub mass_silence: Option<String>,
    /// The reason, while the prober cannot see the object.
    pub blind: Option<String>,
    /// Health of the single pods.
    pub inside: InsideView,
    /// The newest evidence of health: the last beat, or the last probe that passed. `None` while it is not healthy.
    pub healthy_at: Option<Timestamp>,
    /// Prometheus' last scrape; `None` where no Prometheus is configured for the object.
    pub scrape: Option<Scrape>,
    /// The agent says that its unit was stopped on purpose.
    pub is_stopped_on_purpose: bool,
}

impl Verdict {
    /// Present health.
    pub fn health(&self) -> ObjectHealth {
        self.intervals.first().map_or(ObjectHealth::Unknown, |interval| interval.health)
    }
}

/// Health seen from inside a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsideView {
    /// The heartbeats of a connector come from inside the workload.
    Heartbeats {
        /// `pod_uid` of the last heartbeat, where it had one.
        pod_uid: Option<String>,
    },
    /// The pods of a backend: probes of their own addresses, and readiness by the kubelet.
    Pods {
        /// Names of pods whose probe fails at their own address.
        failing: Vec<String>,
        /// Names of pods whose probe passes at their own address.
        passing: Vec<String>,
        /// The kubelet reports at least one pod as not ready.
        unready: bool,
    },
}

/// Prometheus' last scrape of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrape {
    /// Whether its last scrape passed; `None` when Prometheus could not be asked or does not know it.
    pub passed: Option<bool>,
    /// Time of the last scrape.
    pub at: Option<Timestamp>,
    /// Scrape interval; zero when not known.
    pub interval: SignedDuration,
}

/// The means of restarting an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartMeans<'a> {
    /// `workloadRef`.
    Workload(&'a WorkloadRef),
    /// `agentRef`: the agent restarts its local unit.
    Agent(AgentPresence),
    /// The spec names neither.
    Nothing,
}

/// The agent of an object with `agentRef`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentPresence {
    /// Heartbeats of the agent arrive at present.
    pub is_heard: bool,
}

/// Result of reading the workload.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkloadLookup {
    /// Not read: the object names none, or there was no need.
    NotLooked,
    /// The workload does not exist.
    Absent,
    /// RBAC does not allow the read; the sentence names the permission.
    Forbidden(String),
    /// The read failed; the error.
    Failed(String),
    /// The workload.
    Found(Box<Workload>),
}

impl WorkloadLookup {
    /// The workload, if it was found.
    pub fn found(&self) -> Option<&Workload> {
        match self {
            Self::Found(workload) => Some(workload),
            Self::NotLooked | Self::Absent | Self::Forbidden(_) | Self::Failed(_) => None,
        }
    }
}

/// The fields of a Deployment, StatefulSet or DaemonSet that a restart depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// `Deployment ns/name`, for sentences.
    pub display_name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// The workload is being deleted.
    pub is_terminating: bool,
    /// The controller that owns it and would revert a restart: `Rollout web`.
    pub controller: Option<String>,
    /// The workload runs this operator.
    pub is_vigie: bool,
    /// `spec.paused` of a Deployment.
    pub is_paused: bool,
    /// Desired replicas; for a DaemonSet, desired nodes.
    pub replicas: i32,
    /// The update strategy is `OnDelete`.
    pub is_on_delete: bool,
    /// The kind is DaemonSet.
    pub is_daemon_set: bool,
    /// Progress of the rollout.
    pub rollout: Rollout,
    /// `progressDeadlineSeconds`; `None` where none is set or the kind has none.
    pub progress_deadline: Option<i32>,
    /// Present and past pod templates.
    pub template: Template,
    /// The pods, at most 50.
    pub pods: Vec<Pod>,
}

/// Progress of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// Every replica has the newest template and is available.
    Complete,
    /// Not complete; the figures, in a sentence.
    InProgress(String),
    /// Every replica has the newest template and no old one is left, but not every replica is available; the figures, in
    /// a sentence. Unhealthy replicas look like this without a rollout, so it is not taken for one. It does not prove
    /// that a rollout is over either.
    Unavailable(String),
    /// `ProgressDeadlineExceeded`; the controller's message.
    Failed(String),
}

/// The pod templates of a workload, present and past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// `vigie.dev/attempt` of the present one.
    pub attempt: Option<String>,
    /// `vigie.dev/attempt` of every template that ReplicaSets or ControllerRevisions keep, and of the present one.
    pub attempts: Vec<String>,
    /// Start of the present template, where it is known.
    pub since: Option<Timestamp>,
    /// The present template differs from the one before by a restart's annotations alone, and that one was an attempt's:
    /// another party removed the annotation of the attempt.
    pub is_stripped: bool,
    /// The revisions could not be read, so only the present template is known; the sentence names the permission.
    pub revisions_unread: Option<String>,
}

/// A pod of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The condition `Ready` is True.
    pub is_ready: bool,
    /// The pod is being deleted, or has ended.
    pub is_terminating: bool,
    /// The labels, by which disruption budgets select the pod.
    pub labels: BTreeMap<String, String>,
    /// The disruption budget that forbids the eviction now: its name and figures, in a sentence.
    pub protected_by: Option<String>,
}

/// A person's request for a restart, by the annotation `vigie.dev/restart-requested`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRequest {
    /// The value of the annotation, unchanged.
    pub annotation: String,
    /// The time that the value stands for.
    pub at: Timestamp,
}

/// The fleet, as seen from one object. The object's own attempt counts in none of the figures.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetContext {
    /// State of the breaker.
    pub breaker: Breaker,
    /// Site of the object, for sentences.
    pub site: String,
    /// Workloads of the site that are unhealthy or have an attempt in flight, the object's own included when it is
    /// unhealthy.
    pub site_unhealthy: usize,
    /// Workloads of the site that were healthy at least once.
    pub site_total: usize,
    /// Attempts in flight in the site.
    pub site_in_flight: usize,
    /// Attempts in flight everywhere.
    pub in_flight: usize,
    /// Start times of the attempts of the last minute, the oldest first.
    pub recent_starts: Vec<Timestamp>,
    /// Another object with the same workload and an attempt in flight: its name and the id of the attempt.
    pub held_by: Option<(String, String)>,
    /// Attempts in the ledgers of other objects with the same workload.
    pub shared_attempts: i32,
    /// The smallest `maxAttempts` of other objects with the same workload.
    pub shared_max: Option<i32>,
    /// The operator's limits.
    pub limits: Limits,
}

/// State of the breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Remedies may be taken.
    Closed,
    /// Latched; since when and why, in a sentence.
    Open(String),
    /// Not readable; the reason. Nothing is restarted until it is readable.
    Unknown(String),
}

/// The operator's limits: flags of `vigie run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `--remediation`.
    pub is_on: bool,
    /// `--brake-percent`: no new remedy while more than this share of a site's workloads is unhealthy …
    pub brake_percent: usize,
    /// `--brake-min`: … and at least so many of them.
    pub brake_min: usize,
    /// `--max-in-flight`.
    pub in_flight: usize,
    /// `--max-in-flight-per-site`.
    pub in_flight_per_site: usize,
    /// `--max-per-minute`.
    pub per_minute: usize,
    /// `--breaker-percent`: the breaker opens when more than this share of all workloads turns unhealthy within
    /// [`BREAKER_WINDOW`] …
    pub breaker_percent: usize,
    /// `--breaker-min`: … and at least so many of them.
    pub breaker_min: usize,
}

/// Window in which workloads that turn unhealthy are counted for the breaker.
pub const BREAKER_WINDOW: SignedDuration = SignedDuration::from_mins(5);

impl Default for Limits {
    fn default() -> Self {
        Self {
            is_on: true,
            brake_percent: 40,
            brake_min: 3,
            in_flight: 5,
            in_flight_per_site: 1,
            per_minute: 10,
            breaker_percent: 60,
            breaker_min: 5,
        }
    }
}

/// Everything that a decision about a remedy depends on.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// `<namespace>/<name>`, for sentences.
    pub object: &'a str,
    /// Namespace of the object.
    pub namespace: &'a str,
    /// `spec.remediation`.
    pub spec: Option<&'a RemediationSpec>,
    /// `status.remediation`.
    pub status: &'a RemediationStatus,
    /// The pause of remedies, while there is one: by whom, why and until when, in a sentence.
    pub paused: Option<&'a str>,
    /// The evaluation of the object.
    pub verdict: &'a Verdict,
    /// The means of restarting it.
    pub means: RestartMeans<'a>,
    /// Result of reading the workload.
    pub workload: &'a WorkloadLookup,
    /// A person's request that is recent enough and not yet honoured.
    pub request: Option<&'a RestartRequest>,
    /// The fleet around the object.
    pub fleet: &'a FleetContext,
    /// The present time.
    pub now: Timestamp,
}

/// The target of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The whole workload.
    Rollout,
    /// One pod.
    Pod {
        /// Name of the pod.
        name: String,
        /// UID of the pod.
        uid: String,
    },
    /// The agent's local unit.
    Agent,
}

/// Why a remedy is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The denial.
    pub reason: crate::api::Denial,
    /// The figures that led to the denial. The same input gives the same sentence: no countdowns.
    pub message: String,
    /// When the denial may end, where that is known. Otherwise it is checked again at the next change and periodically.
    pub check_again_at: Option<Timestamp>,
}
