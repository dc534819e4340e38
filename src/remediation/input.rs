//! Everything that is known when it is decided whether something is restarted. Plain data.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::api::{Diagnosis, RemediationSpec, RemediationStatus, WorkloadRef};

/// How an object is, as far as remedies are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// A connector that is Online, a backend that is Up or Degraded.
    Healthy,
    /// A connector that is Offline or has a failing critical check; a backend with `Available=False`.
    Unhealthy,
    /// Neither is known: never judged, Late, or we could not see. It stops the count of bad time and of good time.
    Unknown,
}

/// A time in which the health did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthInterval {
    /// How it was.
    pub health: Health,
    /// Since when.
    pub since: Timestamp,
}

/// What is said of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// How it is, and how it was: the newest spell first, as far back as the status remembers. Empty = never judged.
    pub spells: Vec<HealthInterval>,
    /// It was healthy once.
    pub was_healthy: bool,
    /// Why it is not well.
    pub diagnosis: Option<Diagnosis>,
    /// Most of its site is silent: the counts.
    pub mass_silence: Option<String>,
    /// We are blind for it: why.
    pub blind: Option<String>,
    /// What is known from inside the workload.
    pub inside: InsideView,
    /// The newest evidence of health: the last beat, or the last probe that passed. `None` while it is not healthy.
    pub healthy_at: Option<Timestamp>,
    /// What Prometheus says; `None` where none is configured for it.
    pub scrape: Option<Scrape>,
}

impl Verdict {
    /// How it is now.
    pub fn health(&self) -> Health {
        self.spells.first().map_or(Health::Unknown, |spell| spell.health)
    }
}

/// What is known from inside a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsideView {
    /// A connector speaks from the inside by itself. The UID of its pod, where its beats named it.
    Beats {
        /// `pod_uid` of the last beat.
        pod_uid: Option<String>,
    },
    /// A backend was looked at by the addresses of its pods, and by the kubelet.
    Seen {
        /// Names of pods that fail at their own address.
        failing: Vec<String>,
        /// Names of pods that pass there.
        passing: Vec<String>,
        /// The kubelet calls pods of it not ready.
        unready: bool,
    },
}

/// What Prometheus says of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrape {
    /// Whether its last scrape passed; `None` when Prometheus could not be asked or does not know it.
    pub passed: Option<bool>,
    /// When it scraped last.
    pub at: Option<Timestamp>,
    /// Between two scrapes; zero when not known.
    pub interval: SignedDuration,
}

/// What a restart would be applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartMeans<'a> {
    /// `workloadRef`.
    Workload(&'a WorkloadRef),
    /// `agentRef`: the agent restarts its local unit. What the agent is known by.
    Agent(Agent),
    /// The spec names nothing.
    Nothing,
}

/// The agent that would restart it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agent {
    /// It is heard at present.
    pub is_heard: bool,
}

/// What came of looking at the workload.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// Nobody looked: there is none, or there was no need.
    NotLooked,
    /// It does not exist.
    Absent,
    /// RBAC does not allow to look; the sentence names the permission.
    Forbidden(String),
    /// It could not be read; why.
    Failed(String),
    /// This is it.
    Found(Box<Workload>),
}

/// A Deployment, StatefulSet or DaemonSet as a restart sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// `Deployment ns/name`, for sentences.
    pub called: String,
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// It is being deleted.
    pub is_going: bool,
    /// The controller that owns it and would revert us: `Rollout web`.
    pub controller: Option<String>,
    /// It is vigie itself.
    pub is_vigie: bool,
    /// `spec.paused` of a Deployment.
    pub is_paused: bool,
    /// Replicas that are wanted; for a DaemonSet, nodes.
    pub replicas: i32,
    /// Its update strategy is `OnDelete`.
    pub is_on_delete: bool,
    /// It is a DaemonSet.
    pub is_daemon_set: bool,
    /// How far its rollout is.
    pub rollout: Rollout,
    /// `progressDeadlineSeconds`; `None` for what has none.
    pub progress_deadline: Option<i32>,
    /// What its templates say.
    pub template: Template,
    /// Its pods, at most 50.
    pub pods: Vec<Pod>,
}

/// How far a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// Every replica has the newest template and is available.
    Complete,
    /// Not yet: the figures, in a sentence.
    InProgress(String),
    /// The newest template is everywhere and nothing old is left, but not every replica is available: the figures, in a
    /// sentence. As far as can be seen this is no rollout: replicas that are ill look like this. Nor is it a proof that
    /// one is over.
    Unavailable(String),
    /// `ProgressDeadlineExceeded`: the controller's words.
    Failed(String),
}

/// The templates of a workload, present and past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// `vigie.dev/attempt` of the present one.
    pub attempt: Option<String>,
    /// `vigie.dev/attempt` of every template that is remembered, by ReplicaSets or ControllerRevisions; the present one
    /// too.
    pub attempts: Vec<String>,
    /// Since when the present one is in force, where that is known.
    pub since: Option<Timestamp>,
    /// It differs from the one before by a restart's annotations alone, and that one was an attempt's: somebody took
    /// our annotation away.
    pub is_stripped: bool,
    /// The revisions could not be read: the sentence names the permission. What is remembered is the present one only.
    pub unread: Option<String>,
}

/// A pod of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// `Ready` is True.
    pub is_ready: bool,
    /// It is being deleted, or has ended.
    pub is_going: bool,
    /// Its labels, by which disruption budgets select it.
    pub labels: BTreeMap<String, String>,
    /// The disruption budget that forbids its eviction now: the budget's name and its figures, in a sentence.
    pub protected: Option<String>,
}

/// What a person asked for by `vigie.dev/restart-requested`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The annotation, as it stands there.
    pub text: String,
    /// The time in it.
    pub at: Timestamp,
}

/// The fleet, as far as one object is concerned. The object's own attempt counts in none of the figures.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetContext {
    /// The breaker.
    pub breaker: Breaker,
    /// The object's site, for sentences.
    pub site: String,
    /// Workloads of its site that are unhealthy or have an attempt in flight, its own included when it is unhealthy.
    pub site_unhealthy: usize,
    /// Workloads of its site that were healthy once.
    pub site_all: usize,
    /// Attempts in flight in its site.
    pub site_in_flight: usize,
    /// Attempts in flight everywhere.
    pub in_flight: usize,
    /// When the attempts of the last minute started, the oldest first.
    pub started: Vec<Timestamp>,
    /// Another object with the same workload, whose attempt is in flight: its name and the attempt's id.
    pub held_by: Option<(String, String)>,
    /// Attempts that other objects with the same workload have in their ledgers.
    pub shared_attempts: i32,
    /// The smallest `maxAttempts` of the others with the same workload.
    pub shared_max: Option<i32>,
    /// The operator's limits.
    pub limits: Limits,
}

/// The breaker, as far as we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Remedies may be taken.
    Closed,
    /// It latched: since when and why, in a sentence.
    Open(String),
    /// It cannot be read: why. Nothing is done until it can.
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
    /// `--breaker-percent`: the breaker latches when more than this share of all workloads turns unhealthy within
    /// [`BREAKER_WINDOW`] …
    pub breaker_percent: usize,
    /// `--breaker-min`: … and at least so many of them.
    pub breaker_min: usize,
}

/// The time within which workloads turn unhealthy together for the breaker.
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

/// Everything that a decision about a remedy looks at.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// `<namespace>/<name>`, for sentences.
    pub object: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// `spec.remediation`.
    pub spec: Option<&'a RemediationSpec>,
    /// `status.remediation`.
    pub status: &'a RemediationStatus,
    /// Who paused remedies, why, until when: a sentence.
    pub paused: Option<&'a str>,
    /// What is said of it.
    pub verdict: &'a Verdict,
    /// What a restart would be applied to.
    pub means: RestartMeans<'a>,
    /// What came of looking at the workload.
    pub workload: &'a Lookup,
    /// What a person asked for, in time and not yet honoured.
    pub request: Option<&'a Request>,
    /// The fleet.
    pub around: &'a FleetContext,
    /// Now.
    pub now: Timestamp,
}

/// What a remedy restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The whole workload.
    Rollout,
    /// One pod.
    Pod {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// The agent's local unit.
    Agent,
}

/// Why a remedy is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The reason.
    pub reason: crate::api::Denial,
    /// The reason with the figures that led to it. The same situation gives the same sentence: no countdowns.
    pub message: String,
    /// When to look again, where that is known; otherwise at the next change, and now and then.
    pub again: Option<Timestamp>,
}
