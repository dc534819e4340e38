//! What the agent knows, and what follows from each event. It does no I/O; time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::HostIdentity;
use super::answer::{Action, Parameters};
use super::body::{Beat, RestartReport, Stopping, checks, outcomes};
use super::gaps::{Journal, Stamp};
use super::link::{Failure, Received};
use super::schedule::Schedule;
use crate::agent::actions::Outcome;
use crate::agent::actions::engine::Request;
use crate::agent::assess::{Assessment, Attempts, CheckReport, Own, Report};
use crate::agent::config::{CheckConfig, Config};
use crate::agent::facts::Facts;
use crate::agent::helper::protocol::{Reply, Restarted};
use crate::api::{AgentPause, CheckOutcome, LocalProbe, StopReason, Target};
use crate::time::Now;

/// By how much the clock of the host may differ from the operator's without being corrected, beside the time of an answer.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(2);
/// The header Date has whole seconds.
const GRAIN_OF_DATE: SignedDuration = SignedDuration::from_secs(1);

/// What the agent knows.
pub(super) struct Agent {
    pub(super) config: Config,
    pub(super) host: HostIdentity,
    pub(super) schedule: Schedule,
    pub(super) journal: Journal,
    pub(super) parameters: Parameters,
    assessment: Assessment,
    pub(super) attempts: Attempts,
    /// The last look; `None` = there was none yet.
    pub(super) report: Option<Report>,
    /// Why the last look failed.
    pub(super) helper_fault: Option<String>,
    /// The outcomes of restarts that the operator does not have yet, one for each target.
    pub(super) outcomes: BTreeMap<String, RestartReport>,
    /// A restart is under way.
    pub(super) is_restarting: bool,
    pub(super) paused: Option<AgentPause>,
    /// The operator's clock minus that of the host.
    pub(super) clock_ahead: Option<SignedDuration>,
}

/// One round of looking.
pub(super) struct Round {
    pub(super) looked: Result<Reply, String>,
    pub(super) probes: BTreeMap<String, LocalProbe>,
}

impl Agent {
    pub(super) fn new(config: Config, host: HostIdentity, schedule: Schedule, journal: Journal) -> Self {
        Self {
            config,
            host,
            schedule,
            journal,
            parameters: Parameters::default(),
            assessment: Assessment::default(),
            attempts: Attempts::default(),
            report: None,
            helper_fault: None,
            outcomes: BTreeMap::new(),
            is_restarting: false,
            paused: None,
            clock_ahead: None,
        }
    }

    /// A round is over. An outcome that changed hurries the next heartbeat.
    pub(super) fn looked(&mut self, round: Round, now: Now) {
        let Round { looked, probes } = round;
        let report = match looked {
            Ok(Reply::Looked { facts, restarts, paused }) => {
                self.helper_fault = None;
                self.take(restarts, now.wall);
                if self.paused.is_some() != paused.is_some() {
                    self.schedule.hurry();
                }
                self.paused = paused;
                self.judge(&facts, &probes, now)
            }
            Ok(Reply::Refused(error)) => self.blind(error),
            Ok(other) => self.blind(format!("the helper answers a look with {other:?}")),
            Err(error) => self.blind(error),
        };
        if self.report.as_ref().is_none_or(|before| differs(before, &report)) {
            self.schedule.hurry();
        }
        self.report = Some(report);
    }

    fn judge(&mut self, facts: &Facts, probes: &BTreeMap<String, LocalProbe>, now: Now) -> Report {
        let clock_offset_seconds = self.clock_ahead.map(|ahead| -ahead.as_secs());
        let own = Own { probes, attempts: &self.attempts, clock_offset_seconds };
        let config = self.config.with_parameters(&self.parameters.checks);
        self.assessment.update(&config, facts, &own, now)
    }

    /// Nothing could be looked at: that is unknown, and no failure.
    fn blind(&mut self, error: String) -> Report {
        let unknown = |check: &CheckConfig| CheckReport {
            type_: check.type_,
            outcome: CheckOutcome::Unknown,
            message: format!("could not look: {error}"),
            advice: None,
        };
        let checks = self.config.checks.iter().map(unknown).collect();
        self.helper_fault = Some(error);
        // An absent backend says nothing about it.
        Report { checks, ..Report::default() }
    }

    /// The last restarts that the helper knows: their outcomes are told until the operator has them.
    fn take(&mut self, restarts: Vec<Restarted>, local: Timestamp) {
        self.is_restarting = restarts.iter().any(|restart| restart.outcome.is_none());
        for Restarted { id, target, recorded_at, outcome } in restarts {
            let is_old = local.duration_since(recorded_at) > SignedDuration::from_hours(24);
            if let Some(outcome) = outcome.filter(|_| !is_old && !self.journal.has_told(&id)) {
                self.settled(&target, id, &outcome);
            }
        }
    }

    /// A restart is over.
    pub(super) fn settled(&mut self, target: &Target, id: String, outcome: &Outcome) {
        let report = RestartReport::new(target.to_string(), id, outcome.succeeded, &outcome.message);
        if self.outcomes.get(&report.target) != Some(&report) {
            self.outcomes.insert(report.target.clone(), report);
            self.schedule.hurry();
        }
    }

    /// The next heartbeat, and the ids of the restarts whose outcome it tells.
    pub(super) fn body(&self, now: &Stamp, stopping: Option<StopReason>) -> (Vec<u8>, Vec<String>) {
        let told: Vec<RestartReport> = self.outcomes.values().cloned().collect();
        let (restart, restarts) = outcomes(&told);
        let beat = Beat {
            checks: self.report.as_ref().map(checks),
            config_generation: Some(self.parameters.generation).filter(|generation| *generation != 0),
            restart,
            restarts,
            paused: self.paused.as_ref(),
            stopping: stopping.map(|reason| Stopping { reason }),
            stopped_on_purpose: self.report.as_ref().is_some_and(|report| report.stopped_on_purpose),
            gaps: self.journal.gaps(now, self.schedule.interval().as_secs()),
            backends: self.report.as_ref().map(|report| report.backends.clone()).unwrap_or_default(),
            ..Beat::new(&self.config, &self.host, now.wall)
        };
        let ids = restart.into_iter().chain(restarts).map(|report| report.id.clone()).collect();
        (super::body::json(beat), ids)
    }

    /// A heartbeat was received. Returns the restarts that the answer asks for, and whether the journal must be written.
    pub(super) fn received(
        &mut self,
        received: Received,
        told: &[String],
        (now, stamp): (Now, &Stamp),
        chance: f64,
    ) -> (Vec<Request>, bool) {
        let Received { answer, date, waited } = received;
        self.attempts.record(now.moment, None);
        self.schedule.received(now.moment, answer.interval, chance);
        self.outcomes.retain(|_, report| !told.contains(&report.id));
        if let Some(parameters) = answer.parameters {
            self.parameters = parameters;
        }
        self.clock_ahead = date.map(|date| date.duration_since(now.wall));
        let operator = date.and_then(|date| operator_clock(date, waited, now.wall));
        let requests = answer.actions.into_iter().filter_map(|action| self.request(action, operator)).collect();
        (requests, self.journal.received(stamp, told))
    }

    fn request(&self, action: Action, now: Option<Timestamp>) -> Option<Request> {
        let Action { id, target, not_after } = action;
        let target = target.or_else(|| self.config.unit.clone())?;
        Some(Request { id, target, not_after, now })
    }

    /// A heartbeat was not received. Returns whether the journal must be written.
    pub(super) fn failed(&mut self, failure: &Failure, now: Now, chance: f64) -> bool {
        self.attempts.record(now.moment, Some(failure.attempt.clone()));
        self.schedule.failed(now.moment, failure.setback, chance);
        let fails = |check: &&CheckReport| check.outcome == CheckOutcome::Fail;
        let checks = self.report.iter().flat_map(|report| &report.checks);
        let failing = checks.filter(fails).map(|check| check.type_.to_string()).collect();
        self.journal.failed(&failure.attempt, failing)
    }
}

/// The operator's clock at the end of an answer that was dated `date` and took `waited`: that of the host where it may be
/// right, else the latest that it may show, so that nothing begins too late.
fn operator_clock(date: Timestamp, waited: Duration, local: Timestamp) -> Option<Timestamp> {
    let latest = date.checked_add(SignedDuration::try_from(waited).ok()?).ok()?.checked_add(GRAIN_OF_DATE).ok()?;
    let is_right = local.duration_since(date) >= -CLOCK_TOLERANCE && local.duration_since(latest) <= CLOCK_TOLERANCE;
    Some(if is_right { local } else { latest })
}

/// Whether the operator must learn of the difference at once. Messages count seconds, and are no difference.
fn differs(before: &Report, after: &Report) -> bool {
    let checks =
        |report: &Report| -> Vec<_> { report.checks.iter().map(|check| (check.type_, check.outcome)).collect() };
    let backends = |report: &Report| -> Vec<_> {
        let told = report.backends.iter();
        told.map(|told| (told.name.clone(), told.state, told.health.clone(), told.probe.as_ref().map(|probe| probe.ok)))
            .collect()
    };
    checks(before) != checks(after) || backends(before) != backends(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::assess::Attempt;
    use crate::agent::beats::answer;
    use crate::agent::beats::schedule::Setback;
    use crate::time::Moment;

    fn now(seconds: i64) -> Now {
        let wall = Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        Now { moment: Moment::from_micros(seconds * 1_000_000), wall }
    }

    fn stamp(seconds: i64) -> Stamp {
        Stamp { boot_id: "b".into(), uptime: u64::try_from(seconds).unwrap(), wall: now(seconds).wall }
    }

    fn agent() -> Agent {
        let text = "url: https://vigie.example.com\nconnector: gateways/edge-1\nunit: a.service\n\
            checks: [{type: Process}]\nrestart: [a.service]\n";
        let config = Config::parse(text, "agent.yaml").unwrap();
        let host = HostIdentity { boot_id: "b".into(), hostname: "h".into() };
        Agent::new(config, host, Schedule::new(now(0).moment, 0.0), Journal::resume(None, &stamp(0), 30))
    }

    fn received(body: &str, date: Option<Timestamp>) -> Received {
        Received { answer: answer::parse(body.as_bytes()).unwrap(), date, waited: Duration::ZERO }
    }

    const PLAIN: &str = r#"{"status":"ok","state":"Online","next_heartbeat_seconds":30,"actions":[]}"#;

    fn json(agent: &Agent, seconds: i64) -> serde_json::Value {
        serde_json::from_slice(&agent.body(&stamp(seconds), None).0).unwrap()
    }

    #[test]
    fn before_the_first_look_a_heartbeat_says_nothing_about_checks_and_a_blind_one_that_they_are_unknown() {
        let mut agent = agent();
        assert!(json(&agent, 0).get("checks").is_none());
        agent.looked(Round { looked: Err("it is gone".into()), probes: BTreeMap::new() }, now(1));
        let body = json(&agent, 1);
        assert_eq!(body["checks"][0]["status"], "Unknown");
        assert_eq!(body["checks"][0]["message"], "could not look: it is gone");
        assert_eq!(agent.schedule.due_at(), now(0).moment);
    }

    #[test]
    fn the_outcome_of_a_restart_is_told_until_a_heartbeat_with_it_was_received() {
        let mut agent = agent();
        let outcome = Outcome { succeeded: true, acted: true, message: "restarted".into() };
        let restarted = |outcome| Restarted {
            id: "r/1".into(),
            target: "a.service".parse().unwrap(),
            recorded_at: now(0).wall,
            outcome,
        };
        agent.take(vec![restarted(None)], now(0).wall);
        assert!(agent.is_restarting && agent.outcomes.is_empty());
        agent.take(vec![restarted(Some(outcome.clone()))], now(0).wall);
        let (body, told) = agent.body(&stamp(1), None);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body["restart"],
            serde_json::json!({"target": "a.service", "id": "r/1", "result": "Succeeded",
            "message": "restarted"})
        );
        let failure = Failure {
            attempt: Attempt { class: "Refused".into(), phase: "Connect".into() },
            message: String::new(),
            setback: Setback::Other,
        };
        agent.failed(&failure, now(2), 0.5);
        assert_eq!(agent.outcomes.len(), 1);
        // A heartbeat that was sent before the outcome was known acknowledges nothing.
        agent.received(received(PLAIN, None), &[], (now(3), &stamp(3)), 0.5);
        assert_eq!(agent.outcomes.len(), 1);
        let (_, is_to_write) = agent.received(received(PLAIN, None), &told, (now(4), &stamp(4)), 0.5);
        assert!(agent.outcomes.is_empty() && is_to_write);
        agent.take(vec![restarted(Some(outcome))], now(5).wall);
        assert!(agent.outcomes.is_empty(), "the helper still knows it, and the operator has it");
    }

    #[test]
    fn an_action_is_asked_for_by_the_operators_clock() {
        let mut agent = agent();
        let body = r#"{"status":"ok","state":"Degraded","next_heartbeat_seconds":5,"actions":[
            {"id":"r/1","type":"Restart","notAfter":"2027-01-15T08:10:00Z"}],
            "config":{"generation":7,"checks":[]}}"#;
        let operator = now(3600).wall;
        let (requests, _) = agent.received(received(body, Some(operator)), &[], (now(0), &stamp(0)), 0.5);
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].target.to_string(), "a.service");
        assert_eq!(requests[0].now, Some(now(3601).wall), "the latest that a clock dated so may show");
        assert_eq!(agent.schedule.interval(), Duration::from_secs(5));
        assert_eq!(json(&agent, 1)["config_generation"], 7);
        let (requests, _) = agent.received(received(body, Some(now(1).wall)), &[], (now(0), &stamp(0)), 0.5);
        assert_eq!(requests[0].now, Some(now(0).wall), "the time of an answer is no error of the clock");
        // Its answer took 20 s, which is no error of the clock, and no time in which nothing passed.
        let slow = |date| Received { waited: Duration::from_secs(20), ..received(body, Some(date)) };
        let (requests, _) = agent.received(slow(now(-20).wall), &[], (now(0), &stamp(0)), 0.5);
        assert_eq!(requests[0].now, Some(now(0).wall));
        let (requests, _) = agent.received(slow(now(3580).wall), &[], (now(0), &stamp(0)), 0.5);
        assert_eq!(requests[0].now, Some(now(3601).wall));
        let (requests, _) = agent.received(received(body, None), &[], (now(0), &stamp(0)), 0.5);
        assert_eq!(requests[0].now, None);
    }

    #[test]
    fn a_change_of_an_outcome_hurries_and_a_change_of_words_does_not() {
        let report = |outcome, message: &str| Report {
            checks: vec![CheckReport {
                type_: crate::api::CheckType::Process,
                outcome,
                message: message.to_owned(),
                advice: None,
            }],
            ..Report::default()
        };
        let before = report(CheckOutcome::Pass, "for 3 s");
        assert!(!differs(&before, &report(CheckOutcome::Pass, "for 4 s")));
        assert!(differs(&before, &report(CheckOutcome::Fail, "for 3 s")));
        assert!(differs(&before, &Report::default()));
    }
}
