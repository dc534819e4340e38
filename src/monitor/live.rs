//! All that is known about one backend now: its probes, its replicas, its findings, and until when each of them counts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::agent::AgentReading;
use super::findings::Findings;
use super::target::Resolved;
use crate::api::{BackendState, Cause, MonitoredBackend, Phase, Reason};
use crate::diagnosis::evidence::Vantage;
use crate::health::availability::{Availability, Limits, ProbeHistory, Sample};
use crate::health::replicas::Replicas;
use crate::schedule::BurstLimit;
use crate::time::{Moment, Now};

/// The time between two later investigations of an unhealthy backend, and between those of a healthy one that has a
/// workload or a Prometheus.
pub(super) const STEADY_WAIT: Duration = Duration::from_secs(60);
/// The longest time between the probes that confirm a failure which the agent on the host of a backend sees, too: two
/// witnesses need less time than one.
const CONFIRM_WITH_WITNESS: Duration = Duration::from_secs(1);
/// The rounds at once that may begin because the agent spoke; then one more in each interval. A fault and its end are two, and
/// a unit that its host restarts again and again is probed twice as often as others.
const HURRIED_AT_ONCE: u32 = 4;
/// How many investigations may be missed before their findings count no more.
const MISSED_INVESTIGATIONS: u32 = 3;

/// The mutable part of an entry.
#[derive(Debug)]
pub(super) struct Live {
    /// The object as it was applied last, without its status.
    pub(super) object: Arc<MonitoredBackend>,
    /// The record of its probes, which gives the verdict.
    pub(super) record: ProbeHistory,
    /// The resolved target, and when it was looked up.
    pub(super) resolved: Option<(Arc<Resolved>, Moment)>,
    /// `Accepted` is False for this reason: the target cannot be probed.
    pub(super) refused: Option<(Reason, String)>,
    /// Why the last lookup of the target failed, if it did.
    pub(super) unresolved: Option<String>,
    /// Since when the objects of its target contradict each other.
    pub(super) unverified_since: Option<Moment>,
    /// The probes of each replica at its own address, by rounds and by investigations.
    pub(super) replicas: Replicas,
    /// The results of the last round.
    pub(super) vantages: Vec<Vantage>,
    /// The time of each phase of the slowest probe of the last round.
    pub(super) phases: Vec<(Phase, Duration)>,
    /// The results of the probes that the last investigation made: each pod at its own address, and the actuator.
    pub(super) investigated: Vec<Vantage>,
    /// The agent on its host, as it was read last.
    pub(super) agent: Option<AgentReading>,
    /// Limits the rounds that begin because its agent spoke.
    pub(super) hurried: BurstLimit,
    /// The duration of the last round that passed.
    pub(super) latency: Option<Duration>,
    /// The expiry of the certificate that was presented last.
    pub(super) certificate_expires: Option<Timestamp>,
    /// The end of the last round.
    pub(super) probed_at: Option<Moment>,
    /// The end of the last round that passed.
    pub(super) passed_at: Option<Moment>,
    /// The findings of the last investigation, and when it began.
    pub(super) findings: Option<(Arc<Findings>, Moment)>,
    /// When the next investigation is due; `None` when none is planned.
    pub(super) investigate_at: Option<Moment>,
    /// The number of investigations since the verdict changed.
    pub(super) investigations: u32,
    /// Whether the verdict, and whether the findings, were out of date when that was asked last.
    pub(super) out_of_date: [bool; 2],
    /// The last write of the stored status.
    pub(super) written_at: Moment,
    /// The end of the last round that the stored status contains.
    pub(super) written_probe: Option<Moment>,
}

/// The limits of the verdict, from the spec.
pub fn limits(object: &MonitoredBackend) -> Limits {
    let probe = &object.spec.probe;
    let slow = probe.degraded_latency_milliseconds.and_then(|millis| u64::try_from(millis).ok());
    Limits {
        interval: probe.interval(),
        failure_threshold: u32::try_from(probe.failure_threshold).unwrap_or(1),
        success_threshold: u32::try_from(probe.success_threshold).unwrap_or(1),
        slow_above: slow.map(Duration::from_millis),
    }
}

impl Live {
    /// The entry of an object of which this process has seen nothing yet.
    pub(super) fn resumed(object: &MonitoredBackend, now: Now) -> Self {
        Self {
            object: Arc::new(without_status(object)),
            record: resumed(object, now),
            resolved: None,
            refused: None,
            unresolved: None,
            unverified_since: None,
            replicas: Replicas::default(),
            vantages: Vec::new(),
            phases: Vec::new(),
            investigated: Vec::new(),
            agent: None,
            hurried: BurstLimit::default(),
            latency: None,
            certificate_expires: None,
            probed_at: None,
            passed_at: None,
            findings: None,
            investigate_at: Some(now.moment),
            investigations: 0,
            out_of_date: [false; 2],
            written_at: now.moment,
            written_probe: None,
        }
    }

    /// Until when the verdict stands without another probe, where this replica has led since `leads_since`.
    pub(super) fn stands_until(&self, leads_since: Moment) -> Option<Moment> {
        self.record.stands_until(&limits(&self.object), leads_since)
    }

    /// Until when the findings stand. Those of a healthy backend without workload and Prometheus follow from its probes and
    /// need no other investigation.
    pub(super) fn findings_until(&self, leads_since: Moment) -> Option<Moment> {
        let most = (STEADY_WAIT + self.object.spec.probe.interval()) * MISSED_INVESTIGATIONS;
        match &self.findings {
            Some((_, at)) => self.investigate_at.map(|_| (*at).max(leads_since) + most),
            None => Some(leads_since + most),
        }
    }

    /// Records the result of a round that ended `now`. Returns whether the reconcile has something new to write: the
    /// verdict changed, or the failures of a backend that is not Up differ from those of the previous round.
    pub(super) fn record_round(&mut self, mut round: Round, now: Now) -> bool {
        let mut limits = limits(&self.object);
        if round.is_certain && self.record.availability() == Availability::NotProbed {
            limits.failure_threshold = 1;
        }
        let sample = Sample { at: round.started_at, passed: round.passed, took: round.took };
        let changed = self.record.record(sample, &limits);
        if round.vantages.iter().any(is_replica) {
            self.replicas.keep(round.vantages.iter().map(|one| one.name.as_str()));
        }
        self.count_replicas(&mut round.vantages, round.started_at, now);
        let kind = |vantages: &[Vantage]| {
            vantages.iter().map(|one| (one.name.clone(), one.ok, one.error_class, one.confirmed)).collect::<Vec<_>>()
        };
        let differs = kind(&self.vantages) != kind(&round.vantages);
        (self.vantages, self.phases) = (round.vantages, round.phases);
        self.probed_at = Some(now.moment);
        if round.passed {
            (self.latency, self.passed_at) = (Some(round.took), Some(now.moment));
        }
        // A target that passes without TLS presents no certificate any more.
        if round.passed || round.certificate_expires.is_some() {
            self.certificate_expires = round.certificate_expires;
        }
        if changed || differs {
            self.investigate_from(now.moment);
        }
        changed || (differs && self.record.availability() != Availability::Up)
    }

    /// Counts the probes of replicas among `vantages`, which began at `started_at`, and marks the failures that are
    /// confirmed. Returns whether there are any.
    pub(super) fn count_replicas(&mut self, vantages: &mut [Vantage], started_at: Moment, now: Now) -> bool {
        let limits = limits(&self.object);
        let is_down = self.record.availability() == Availability::Down;
        let mut any_is_bad = false;
        for one in vantages.iter_mut().filter(|one| is_replica(one)) {
            let took = Duration::from_millis(one.milliseconds);
            self.replicas.record(&one.name, one.address, Sample { at: started_at, passed: one.ok, took }, &limits);
            // While the target as a whole is Down, one failure of a pod is enough to count it among the causes.
            one.confirmed = (!one.ok).then(|| is_down || self.replicas.is_bad(&one.name));
            one.last_passed = self.replicas.passed_at(&one.name).map(|at| now.stamp(at));
            any_is_bad |= one.confirmed == Some(true);
        }
        any_is_bad
    }

    /// How long after the start of the last round the next one is due, while a failure of the target or of one of its
    /// replicas is confirmed.
    pub(super) fn confirm_in(&self) -> Option<Duration> {
        let limits = limits(&self.object);
        let of_target = self.record.confirm_in(&limits);
        let of_target =
            of_target.map(|soon| if self.is_said_to_fail() { soon.min(CONFIRM_WITH_WITNESS) } else { soon });
        of_target.into_iter().chain(self.replicas.confirm_in(&limits)).min()
    }

    /// Whether the agent on its host says that it does not serve.
    fn is_said_to_fail(&self) -> bool {
        self.agent.as_ref().is_some_and(AgentReading::says_that_it_fails)
    }

    /// Whether another round because of its agent is allowed now.
    pub(super) fn may_hurry(&mut self, now: Moment) -> bool {
        self.hurried.allows(HURRIED_AT_ONCE, self.object.spec.probe.interval(), now)
    }

    /// Makes an investigation due at `at`, the first of a new series.
    pub(super) fn investigate_from(&mut self, at: Moment) {
        (self.investigate_at, self.investigations) = (Some(at), 0);
    }
}

/// Whether the vantage is a pod at its own address.
pub(super) fn is_replica(vantage: &Vantage) -> bool {
    vantage.name.starts_with("pod/")
}

/// The result of one round: a probe of each target of a backend.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// The start of its first probe.
    pub(super) started_at: Moment,
    /// Whether the round as a whole passed.
    pub(super) passed: bool,
    /// The API server said it, and no probe that may have failed by chance: it needs no confirmation where no verdict
    /// stands.
    pub(super) is_certain: bool,
    /// The duration of the slowest probe that the verdict depends on.
    pub(super) took: Duration,
    /// The result of each probe.
    pub(super) vantages: Vec<Vantage>,
    /// The time of each phase of the slowest probe.
    pub(super) phases: Vec<(Phase, Duration)>,
    /// The earliest expiry of the presented certificates.
    pub(super) certificate_expires: Option<Timestamp>,
}

pub(super) fn without_status(object: &MonitoredBackend) -> MonitoredBackend {
    let mut object = object.clone();
    object.status = None;
    object
}

/// The record that the stored status gives: a former leader's verdict stands until probes of this process overturn it.
fn resumed(object: &MonitoredBackend, now: Now) -> ProbeHistory {
    let status = object.status.as_ref();
    let known = status.and_then(|status| Some((status.state?, status.state_since.as_ref()?.0)));
    let Some((state, since)) = known else { return ProbeHistory::new(now.moment) };
    let since = now.moment_of(since);
    let slow =
        status.and_then(|status| status.diagnosis.as_ref()).is_some_and(|diagnosis| diagnosis.cause == Cause::Slow);
    let probed_at = status.and_then(|status| status.last_probe_time.as_ref()).map(|at| now.moment_of(at.0));
    match state {
        BackendState::Up | BackendState::Degraded => ProbeHistory::resumed(Availability::Up, since, slow, probed_at),
        BackendState::Down => ProbeHistory::resumed(Availability::Down, since, false, probed_at),
        BackendState::Pending | BackendState::Unknown => ProbeHistory::new(now.moment),
    }
}
