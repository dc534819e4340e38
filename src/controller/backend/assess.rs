//! From what is known of a backend to what is said: state, conditions, diagnosis. One function for status, API and
//! metrics alike.

use jiff::{SignedDuration, Timestamp};

use crate::api::{
    BackendState, Cause, Condition, ConditionType, Confidence, Diagnosis, MicroTime, MonitoredBackend, Reason,
    RestartHelps, Truth, clip, condition, conditions,
};
use crate::health::availability::Availability;
use crate::monitor::registry::{Said, Snapshot, limits};
use crate::remediation::attempt::StepResult;
use crate::time::Now;

/// Everything that an assessment looks at.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The object as the store has it.
    pub backend: &'a MonitoredBackend,
    /// What we know of it.
    pub live: &'a Snapshot,
    /// What is done about it; `None` where nobody decided now: then what is stored stands.
    pub remedy: Option<&'a StepResult>,
    /// Now.
    pub now: Now,
}

/// What is said of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// The state, for display.
    pub state: BackendState,
    /// Since when it is in that state, were it to enter it now.
    pub since: Timestamp,
    /// Every condition; the setter decides what of it is a transition.
    pub conditions: Vec<Condition>,
    /// Why it is not well.
    pub diagnosis: Option<Diagnosis>,
}

impl Input<'_> {
    /// Assesses the case.
    pub fn assess(&self) -> Assessment {
        let available = self.available();
        let others = self.others();
        let state = self.state(&available, &others);
        let ready = ready(self.accepted(), &available, &others);
        let mut said = vec![
            (ConditionType::Ready, ready),
            (ConditionType::Accepted, self.accepted()),
            (ConditionType::Available, available),
        ];
        said.extend(others.into_iter().filter_map(|(type_, other)| Some((type_, other?))));
        said.push((ConditionType::Remediating, self.remediating()));
        if let Some((reason, message)) = &self.live.refused {
            said.push((ConditionType::Stalled, (Truth::True, *reason, message.clone())));
        }
        let generation = self.backend.metadata.generation.unwrap_or(0);
        let conditions = said
            .into_iter()
            .map(|(type_, (truth, reason, message))| condition(type_, truth, reason, message, generation))
            .collect();
        Assessment { state, since: self.since(state), conditions, diagnosis: self.diagnosis(state) }
    }

    /// What was found beside our probe. Until it has been looked into, what a predecessor said stands.
    fn others(&self) -> [(ConditionType, Option<Said>); 3] {
        use ConditionType::{MetricsExposed, Scraped, WorkloadHealthy};
        let Some(found) = self.live.findings.as_deref().cloned() else {
            return [MetricsExposed, Scraped, WorkloadHealthy].map(|type_| (type_, self.stored(type_)));
        };
        let is_asked_for = self.backend.spec.probe.metrics.is_some();
        // A look at a failure that is being confirmed concludes nothing of the page.
        let page =
            found.metrics_exposed.map(Into::into).or_else(|| self.stored(MetricsExposed).filter(|_| is_asked_for));
        [
            (MetricsExposed, self.unless_blind(page)),
            (Scraped, found.scraped.map(Into::into)),
            (WorkloadHealthy, found.workload_healthy.map(Into::into)),
        ]
    }

    fn stored(&self, type_: ConditionType) -> Option<Said> {
        let found = conditions::get(&self.backend.status.as_ref()?.conditions, type_)?;
        Some((found.status.parse().ok()?, found.reason.parse().ok()?, found.message.clone()))
    }

    fn accepted(&self) -> Said {
        match &self.live.refused {
            Some((reason, message)) => (Truth::False, *reason, message.clone()),
            None => (Truth::True, Reason::Accepted, "the spec can be acted upon".to_owned()),
        }
    }

    fn is_denied(&self) -> bool {
        matches!(self.live.refused, Some((Reason::TargetDenied, _)))
    }

    fn available(&self) -> Said {
        if let Some((reason, message)) = &self.live.refused {
            // What may not be dialled is never dialled, and that is all that can be said of it.
            return match self.is_denied() {
                true => (Truth::False, Reason::Denied, message.clone()),
                false => (Truth::Unknown, Reason::NotProbed, format!("{reason}: {message}")),
            };
        }
        if let Some(why) = &self.live.blind {
            return (Truth::Unknown, Reason::ProbeBlind, why.clone());
        }
        match self.live.record.availability() {
            Availability::NotProbed => (Truth::Unknown, Reason::NotProbed, "it has not been probed yet".to_owned()),
            Availability::Up => self.passing(),
            Availability::Down => {
                let failed = self.live.vantages.iter().find(|vantage| !vantage.ok);
                let class = failed.and_then(|vantage| vantage.error_class);
                let message =
                    failed.map_or_else(|| "it fails since before we looked".to_owned(), |v| v.message.clone());
                (Truth::False, class.map_or_else(|| self.stored_reason(), Reason::from), message)
            }
        }
    }

    fn passing(&self) -> Said {
        if self.live.record.is_slow() {
            let limit = limits(self.backend).slow_above.unwrap_or_default().as_millis();
            return (Truth::True, Reason::Slow, format!("our probe passes, but takes more than {limit} ms"));
        }
        let warn = SignedDuration::from_secs(self.backend.spec.probe.http.warn_before_expiry_seconds().into());
        match self.live.certificate_expires {
            Some(expires) if warn > SignedDuration::ZERO && expires.duration_since(self.now.wall) < warn => {
                let message = format!("our probe passes; the certificate expires at {expires}: renew it");
                (Truth::True, Reason::CertificateExpiring, message)
            }
            _ => (Truth::True, Reason::ProbePassed, "our probe passes".to_owned()),
        }
    }

    /// Before our own first probe, what a predecessor said stands.
    fn stored_reason(&self) -> Reason {
        self.stored(ConditionType::Available).map_or(Reason::Internal, |(_, reason, _)| reason)
    }

    fn unless_blind(&self, said: Option<Said>) -> Option<Said> {
        let why = self.live.blind.as_ref();
        said.map(|said| why.map_or(said, |why| (Truth::Unknown, Reason::ProbeBlind, why.clone())))
    }

    fn remediating(&self) -> Said {
        let idle = || (Truth::False, Reason::Idle, "no remedy has been wanted yet".to_owned());
        match self.remedy {
            Some(course) => course.condition.clone().into(),
            None => self.stored(ConditionType::Remediating).unwrap_or_else(idle),
        }
    }

    /// First match: Pending > Unknown > Down > Degraded > Up (api.md).
    fn state(&self, available: &Said, others: &[(ConditionType, Option<Said>)]) -> BackendState {
        let is_false = |said: &Option<Said>| said.as_ref().is_some_and(|said| said.0 == Truth::False);
        match available.0 {
            Truth::Unknown if available.1 == Reason::NotProbed && !self.was_judged() => BackendState::Pending,
            Truth::Unknown => BackendState::Unknown,
            Truth::False => BackendState::Down,
            Truth::True
                if self.live.record.is_slow() || self.is_unsure() || others.iter().any(|(_, said)| is_false(said)) =>
            {
                BackendState::Degraded
            }
            Truth::True => BackendState::Up,
        }
    }

    /// Its health page answers 200, and says that it does not know.
    fn is_unsure(&self) -> bool {
        let found = self.live.findings.as_ref().and_then(|findings| findings.diagnosis.as_ref());
        found.is_some_and(|found| found.cause == Cause::HealthUnknown)
    }

    /// A first failure that is being confirmed is no verdict yet.
    fn was_judged(&self) -> bool {
        let state = self.backend.status.as_ref().and_then(|status| status.state);
        !matches!(state, None | Some(BackendState::Pending))
    }

    fn since(&self, state: BackendState) -> Timestamp {
        let turned = matches!(state, BackendState::Up | BackendState::Down) && self.live.refused.is_none();
        let before = self.backend.status.as_ref().and_then(|status| status.state);
        // From and to Degraded it goes by what was found beside our probe, and that was found now.
        if turned && before != Some(BackendState::Degraded) && self.live.probed_at.is_some() {
            return self.now.stamp(self.live.record.since());
        }
        self.now.wall
    }

    fn diagnosis(&self, state: BackendState) -> Option<Diagnosis> {
        let mut found = match state {
            BackendState::Up => return None,
            BackendState::Unknown if self.live.blind.is_some() => self.blindness(),
            BackendState::Pending | BackendState::Unknown if self.live.refused.is_none() => not_probed(),
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

    /// What was made of the evidence, where it is about this.
    fn found(&self) -> Option<Diagnosis> {
        self.live.findings.as_ref()?.diagnosis.clone()
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

    fn unexplained(&self) -> Diagnosis {
        let (_, reason, message) = self.available();
        plain(
            Cause::Unexplained,
            Confidence::Possible,
            format!("{reason}: {message}"),
            "the evidence is still being gathered; `vigie diagnose backend` shows all of it",
        )
    }
}

fn not_probed() -> Diagnosis {
    plain(
        Cause::NotProbed,
        Confidence::Certain,
        "it has not been probed yet".to_owned(),
        "wait: the first probe comes within spec.probe.intervalSeconds of an operator that leads",
    )
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

/// Ready = Accepted ∧ Available ∧ no other condition False; else the first failing one's reason (api.md).
fn ready(accepted: Said, available: &Said, others: &[(ConditionType, Option<Said>)]) -> Said {
    for said in [&accepted, available] {
        if said.0 != Truth::True {
            return said.clone();
        }
    }
    let failing = others.iter().filter_map(|(_, said)| said.as_ref()).find(|said| said.0 == Truth::False);
    failing
        .cloned()
        .unwrap_or_else(|| (Truth::True, Reason::Ready, "our probe passes, and so does all else".to_owned()))
}
