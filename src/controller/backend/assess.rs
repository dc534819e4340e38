//! Assesses a MonitoredBackend: state, conditions, diagnosis. Pure; status, API and metrics use the same function.

use jiff::{SignedDuration, Timestamp};

use crate::api::{
    BackendState, Cause, Condition, ConditionType, ConditionValue, Confidence, Diagnosis, MAX_PROBE_TIMEOUT, MicroTime,
    MonitoredBackend, Reason, RestartHelps, Truth, clip,
};
use crate::controller::remediation::Remediable as _;
use crate::health::availability::Availability;
use crate::monitor::entry::Snapshot;
use crate::monitor::findings::Findings;
use crate::monitor::live::limits;
use crate::time::Now;

/// The input of an assessment.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The object as the store has it.
    pub backend: &'a MonitoredBackend,
    /// The copy of its entry in the registry.
    pub live: &'a Snapshot,
    /// Now.
    pub now: Now,
}

/// The assessment of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// The state, for display.
    pub state: BackendState,
    /// Since when it is in that state, if it enters that state now.
    pub since: Timestamp,
    /// Every condition, `Remediating` as it is stored; the setter decides which changes are transitions.
    pub conditions: Vec<Condition>,
    /// Why it is not healthy.
    pub diagnosis: Option<Diagnosis>,
}

impl Input<'_> {
    /// Assesses the backend.
    pub fn assess(&self) -> Assessment {
        let available = self.available();
        let others = self.others();
        let state = self.state(&available, &others);
        let ready = ready(self.accepted(), &available, &others);
        let mut values = vec![
            (ConditionType::Ready, ready),
            (ConditionType::Accepted, self.accepted()),
            (ConditionType::Available, available),
        ];
        values.extend(others.into_iter().filter_map(|(type_, other)| Some((type_, other?))));
        values.push((ConditionType::Remediating, self.remediating()));
        if let Some((reason, message)) = self.not_accepted() {
            values.push((ConditionType::Stalled, ConditionValue::new(Truth::True, *reason, message)));
        }
        let generation = self.backend.metadata.generation.unwrap_or(0);
        let conditions = values.into_iter().map(|(type_, value)| value.into_condition(type_, generation)).collect();
        Assessment { state, since: self.since(state), conditions, diagnosis: self.diagnosis(state) }
    }

    /// The findings of the investigation. Until the first one, the stored conditions stand.
    fn others(&self) -> [(ConditionType, Option<ConditionValue>); 3] {
        use ConditionType::{MetricsExposed, Scraped, WorkloadHealthy};
        let stored = |type_| ConditionValue::stored(self.backend.conditions(), type_);
        let (page, scraped, workload) = match self.live.findings.as_deref().cloned() {
            Some(found) => {
                let is_asked_for = self.backend.spec.probe.metrics.is_some();
                // An investigation of a failure that is being confirmed concludes nothing about the page.
                let page = found.metrics_exposed.or_else(|| stored(MetricsExposed).filter(|_| is_asked_for));
                (page, found.scraped, found.workload_healthy)
            }
            None => (stored(MetricsExposed), stored(Scraped), stored(WorkloadHealthy)),
        };
        let page = page.map(|page| match self.is_out_of_date() {
            true => ConditionValue::new(Truth::Unknown, Reason::NotProbed, self.out_of_date()),
            false => page,
        });
        let page = if self.live.findings.is_some() { self.unless_blind(page) } else { page };
        [(MetricsExposed, page), (Scraped, self.unless_old(scraped)), (WorkloadHealthy, self.unless_old(workload))]
    }

    /// Whether no probe has ended for so long that the verdict counts no more.
    pub fn is_out_of_date(&self) -> bool {
        self.live.stands_until.is_some_and(|until| until <= self.now.moment)
    }

    /// The findings, unless they are too old.
    fn findings(&self) -> Option<&Findings> {
        let is_old = self.live.findings_until.is_some_and(|until| until <= self.now.moment);
        self.live.findings.as_deref().filter(|_| !is_old)
    }

    /// Why the verdict counts no more.
    fn out_of_date(&self) -> String {
        let at = self.live.record.evidence_at().map(|at| self.now.stamp(at));
        let since = at.map_or_else(
            || "it was never probed by this leader".to_owned(),
            |at| format!("its last probe ended at {at}"),
        );
        match &self.live.unresolved {
            Some(why) => format!("{since}, and nothing is known of it since: {why}"),
            None => format!("{since}, and nothing is known of it since: no probe found a free place or came to an end"),
        }
    }

    /// `value`, unless the investigation that it rests on is too old.
    fn unless_old(&self, value: Option<ConditionValue>) -> Option<ConditionValue> {
        let is_old = self.live.findings_until.is_some_and(|until| until <= self.now.moment);
        let message = "the last investigation is too old to say so still";
        value.map(|value| if is_old { ConditionValue::new(Truth::Unknown, Reason::Stale, message) } else { value })
    }

    /// Why the spec cannot be acted upon: the target cannot be probed, or no agent is named by `spec.agentRef`. The latter
    /// stops no probe.
    fn not_accepted(&self) -> Option<&(Reason, String)> {
        self.live.refused.as_ref().or_else(|| self.live.agent.as_ref()?.unresolved.as_ref())
    }

    fn accepted(&self) -> ConditionValue {
        match self.not_accepted() {
            Some((reason, message)) => ConditionValue::new(Truth::False, *reason, message.clone()),
            None => match self.missing_workload() {
                Some(message) => ConditionValue::new(Truth::False, Reason::WorkloadNotFound, message),
                None => ConditionValue::new(Truth::True, Reason::Accepted, self.acted_upon()),
            },
        }
    }

    /// The sentence about a workload that the spec names beside a URL or a Service and that does not exist. The target is
    /// probed all the same; nothing could be restarted.
    fn missing_workload(&self) -> Option<String> {
        self.backend.spec.workload_ref.as_ref()?;
        match self.findings() {
            Some(found) => {
                let found = found.diagnosis.as_ref()?;
                let of_others = || {
                    let other = found.alternatives.iter().find(|other| other.cause == Cause::WorkloadNotFound);
                    other.map(|other| other.message.clone())
                };
                (found.cause == Cause::WorkloadNotFound).then(|| found.message.clone()).or_else(of_others)
            }
            // Until the first investigation, the stored condition about this spec stands.
            None => {
                let stored = ConditionValue::stored(self.backend.conditions(), ConditionType::Accepted)?;
                let observed = self.backend.status.as_ref().map(|status| status.observed_generation);
                let is_current = observed == self.backend.metadata.generation;
                (is_current && stored.reason == Reason::WorkloadNotFound).then_some(stored.message)
            }
        }
    }

    fn acted_upon(&self) -> String {
        match self.backend.spec.probe.timeout_seconds {
            Some(given) if given > MAX_PROBE_TIMEOUT => format!(
                "the spec can be acted upon; spec.probe.timeoutSeconds {given} counts as {MAX_PROBE_TIMEOUT}, which is the most: correct it"
            ),
            _ => "the spec can be acted upon".to_owned(),
        }
    }

    fn not_probed_yet(&self) -> String {
        match &self.live.unresolved {
            Some(why) => format!("it has not been probed yet: {why}"),
            None => "it has not been probed yet".to_owned(),
        }
    }

    fn is_denied(&self) -> bool {
        matches!(self.live.refused, Some((Reason::TargetDenied, _)))
    }

    fn available(&self) -> ConditionValue {
        if let Some((reason, message)) = &self.live.refused {
            // A target that may not be dialled is never dialled: nothing else is known about it.
            return match self.is_denied() {
                true => ConditionValue::new(Truth::False, Reason::Denied, message.clone()),
                false => ConditionValue::new(Truth::Unknown, Reason::NotProbed, format!("{reason}: {message}")),
            };
        }
        if let Some(why) = &self.live.blind {
            return ConditionValue::new(Truth::Unknown, Reason::ProbeBlind, why.clone());
        }
        if self.is_out_of_date() {
            return ConditionValue::new(Truth::Unknown, Reason::NotProbed, self.out_of_date());
        }
        match self.live.record.availability() {
            Availability::NotProbed => ConditionValue::new(Truth::Unknown, Reason::NotProbed, self.not_probed_yet()),
            Availability::Up => self.passing(),
            Availability::Down => {
                let failed = self.live.vantages.iter().find(|vantage| !vantage.ok);
                let class = failed.and_then(|vantage| vantage.error_class);
                let message =
                    failed.map_or_else(|| "it fails since before we looked".to_owned(), |v| v.message.clone());
                ConditionValue::new(Truth::False, class.map_or_else(|| self.stored_reason(), Reason::from), message)
            }
        }
    }

    fn passing(&self) -> ConditionValue {
        if self.live.record.is_slow() {
            let limit = limits(self.backend).slow_above.unwrap_or_default().as_millis();
            return ConditionValue::new(
                Truth::True,
                Reason::Slow,
                format!("our probe passes, but takes more than {limit} ms"),
            );
        }
        let warn = SignedDuration::from_secs(self.backend.spec.probe.http.warn_before_expiry_seconds().into());
        match self.live.certificate_expires {
            Some(expires) if warn > SignedDuration::ZERO && expires.duration_since(self.now.wall) < warn => {
                let message = format!("our probe passes; the certificate expires at {expires}: renew it");
                ConditionValue::new(Truth::True, Reason::CertificateExpiring, message)
            }
            _ => ConditionValue::new(Truth::True, Reason::ProbePassed, "our probe passes"),
        }
    }

    /// Before the first probe of this process the stored reason stands.
    fn stored_reason(&self) -> Reason {
        ConditionValue::stored(self.backend.conditions(), ConditionType::Available)
            .map_or(Reason::Internal, |value| value.reason)
    }

    fn unless_blind(&self, value: Option<ConditionValue>) -> Option<ConditionValue> {
        let why = self.live.blind.as_ref();
        value.map(|value| why.map_or(value, |why| ConditionValue::new(Truth::Unknown, Reason::ProbeBlind, why.clone())))
    }

    fn remediating(&self) -> ConditionValue {
        ConditionValue::stored(self.backend.conditions(), ConditionType::Remediating)
            .unwrap_or_else(|| ConditionValue::new(Truth::False, Reason::Idle, "no remedy has been wanted yet"))
    }

    /// First match: Pending > Unknown > Down > Degraded > Up (docs/design/api.md).
    fn state(&self, available: &ConditionValue, others: &[(ConditionType, Option<ConditionValue>)]) -> BackendState {
        let is_false =
            |value: &Option<ConditionValue>| value.as_ref().is_some_and(|value| value.status == Truth::False);
        match available.status {
            Truth::Unknown if available.reason == Reason::NotProbed && !self.was_judged() => BackendState::Pending,
            Truth::Unknown => BackendState::Unknown,
            Truth::False => BackendState::Down,
            Truth::True
                if self.live.record.is_slow()
                    || self.is_unsure()
                    || self.missing_workload().is_some()
                    || others.iter().any(|(_, value)| is_false(value)) =>
            {
                BackendState::Degraded
            }
            Truth::True => BackendState::Up,
        }
    }

    /// Its health page answers 200 with the status UNKNOWN.
    fn is_unsure(&self) -> bool {
        let found = self.findings().and_then(|findings| findings.diagnosis.as_ref());
        found.is_some_and(|found| found.cause == Cause::HealthUnknown)
    }

    /// A first failure that is being confirmed is not a verdict yet.
    fn was_judged(&self) -> bool {
        let state = self.backend.status.as_ref().and_then(|status| status.state);
        !matches!(state, None | Some(BackendState::Pending))
    }

    fn since(&self, state: BackendState) -> Timestamp {
        let turned = matches!(state, BackendState::Up | BackendState::Down) && self.live.refused.is_none();
        let before = self.backend.status.as_ref().and_then(|status| status.state);
        // The findings of an investigation decide about Degraded, and they were made now.
        if turned && before != Some(BackendState::Degraded) && self.live.probed_at.is_some() {
            return self.now.stamp(self.live.record.since());
        }
        self.now.wall
    }

    fn diagnosis(&self, state: BackendState) -> Option<Diagnosis> {
        let mut found = match state {
            BackendState::Up => return None,
            BackendState::Unknown if self.live.blind.is_some() => self.blindness(),
            BackendState::Pending | BackendState::Unknown if self.live.refused.is_none() => self.not_probed(),
            BackendState::Pending | BackendState::Unknown | BackendState::Down | BackendState::Degraded => {
                self.found().unwrap_or_else(|| self.unexplained())
            }
        };
        let known = self.backend.status.as_ref().and_then(|status| status.diagnosis.as_ref());
        found.since = match known.filter(|known| known.cause == found.cause) {
            Some(known) => known.since.clone(),
            None => Some(MicroTime(self.begun())),
        };
        Some(found)
    }

    /// The diagnosis of the investigation.
    fn found(&self) -> Option<Diagnosis> {
        self.findings()?.diagnosis.clone()
    }

    fn begun(&self) -> Timestamp {
        self.live.record.failing_since().map_or(self.now.wall, |since| self.now.stamp(since))
    }

    fn blindness(&self) -> Diagnosis {
        let why = self.live.blind.as_deref().unwrap_or_default();
        plain(
            Cause::ProbeBlind,
            Confidence::Likely,
            format!("it cannot be judged now: {why}"),
            "look at the operator before the backends: its node's network, its DNS, the policies that select its pod",
        )
    }

    fn not_probed(&self) -> Diagnosis {
        let (message, advice) = match self.is_out_of_date() {
            true => (
                self.out_of_date(),
                "look at the operator: vigie_probe_missed_windows_total counts turns without a free place (--probe-concurrency), and its log says which reads fail",
            ),
            false => (
                self.not_probed_yet(),
                "wait: the first probe comes within spec.probe.intervalSeconds of an operator that leads",
            ),
        };
        plain(Cause::NotProbed, Confidence::Certain, message, advice)
    }

    fn unexplained(&self) -> Diagnosis {
        let ConditionValue { reason, message, .. } = self.available();
        plain(
            Cause::Unexplained,
            Confidence::Possible,
            format!("{reason}: {message}"),
            "the evidence is still being gathered; `vigie diagnose backend` shows all of it",
        )
    }
}

fn plain(cause: Cause, confidence: Confidence, message: String, advice: &str) -> Diagnosis {
    Diagnosis {
        cause,
        confidence,
        since: None,
        message: clip(message, crate::api::MAX_MESSAGE),
        advice: advice.to_owned(),
        restart_helps: RestartHelps::No,
        evidence: Vec::new(),
        alternatives: Vec::new(),
    }
}

/// Ready = Accepted ∧ Available ∧ no other condition False; else the first failing one's reason (docs/design/api.md).
fn ready(
    accepted: ConditionValue,
    available: &ConditionValue,
    others: &[(ConditionType, Option<ConditionValue>)],
) -> ConditionValue {
    for value in [&accepted, available] {
        if value.status != Truth::True {
            return value.clone();
        }
    }
    let failing = others.iter().filter_map(|(_, value)| value.as_ref()).find(|value| value.status == Truth::False);
    failing
        .cloned()
        .unwrap_or_else(|| ConditionValue::new(Truth::True, Reason::Ready, "our probe passes, and so does all else"))
}
