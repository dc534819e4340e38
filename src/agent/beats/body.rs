//! The body of a heartbeat.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::HostIdentity;
use crate::agent::assess::{CheckReport, Report};
use crate::agent::config::Config;
use crate::api::{
    AgentGap, AgentPause, BackendReport, CheckOutcome, CheckType, MAX_BEAT, MAX_CHECK_MESSAGE, MAX_MESSAGE,
    MAX_RESTARTS, StopReason, one_line,
};

/// The outcome of a restart, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartReport {
    /// What was to be restarted.
    pub target: String,
    /// The id that the operator gave it.
    pub id: String,
    /// Whether it succeeded.
    pub result: RestartResult,
    /// The outcome in a sentence.
    pub message: String,
}

/// Whether a restart succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartResult {
    /// The new run lasts.
    Succeeded,
    /// It does not, or nothing was restarted.
    Failed,
}

/// A heartbeat. Its token is in a header.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Beat<'a> {
    /// The id of the connector.
    pub connector_id: String,
    /// An agent sends it.
    pub agent: bool,
    /// Identifies the start of the host.
    pub boot_id: &'a str,
    /// The version of the agent.
    pub version: &'static str,
    /// The name of the host.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub hostname: &'a str,
    /// When it is sent, by the clock of the host.
    pub sent_at: Timestamp,
    /// The checks of the configuration; absent before the first look, which says nothing about them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<Check>>,
    /// Identifies the parameters that the agent received last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_generation: Option<u64>,
    /// The outcome of one restart: every operator reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<&'a RestartReport>,
    /// The outcomes of several restarts.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub restarts: &'a [RestartReport],
    /// Restarts are paused on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<&'a AgentPause>,
    /// It is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
    /// A person stopped the unit of the connector.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped_on_purpose: bool,
    /// The times in which the operator did not hear the agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<AgentGap>,
    /// The backends of the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendReport>,
    /// It is only tried.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Why the agent stops.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stopping {
    /// The reason.
    pub reason: StopReason,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which check.
    #[serde(rename = "type")]
    pub type_: CheckType,
    /// The verdict.
    pub status: CheckOutcome,
    /// The evidence in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The checks of a report.
pub fn checks(report: &Report) -> Vec<Check> {
    let told = |check: &CheckReport| Check {
        type_: check.type_,
        status: check.outcome,
        message: one_line(&check.message, MAX_CHECK_MESSAGE),
    };
    report.checks.iter().map(told).collect()
}

impl RestartReport {
    /// The outcome of a restart.
    pub fn new(target: String, id: String, succeeded: bool, message: &str) -> Self {
        let result = if succeeded { RestartResult::Succeeded } else { RestartResult::Failed };
        Self { target, id, result, message: one_line(message, MAX_MESSAGE) }
    }
}

/// The fields for outcomes: one goes where every operator reads it, several where newer ones do.
pub fn outcomes(all: &[RestartReport]) -> (Option<&RestartReport>, &[RestartReport]) {
    match all {
        [one] => (Some(one), &[]),
        several => (None, &several[..several.len().min(MAX_RESTARTS)]),
    }
}

impl<'a> Beat<'a> {
    /// A heartbeat that says which agent sends it, and nothing else.
    pub fn new(config: &Config, host: &'a HostIdentity, now: Timestamp) -> Self {
        Self {
            connector_id: config.connector.to_string(),
            agent: true,
            boot_id: &host.boot_id,
            version: env!("CARGO_PKG_VERSION"),
            hostname: &host.hostname,
            sent_at: now,
            ..Self::default()
        }
    }
}

/// A heartbeat that is only tried.
pub fn trial(config: &Config, host: &HostIdentity, now: Timestamp) -> Vec<u8> {
    json(Beat { dry_run: true, ..Beat::new(config, host, now) })
}

/// The heartbeat as JSON. Details of backends are left out until it fits.
pub fn json(mut beat: Beat<'_>) -> Vec<u8> {
    let cuts: [fn(&mut BackendReport); 3] = [
        |backend| backend.environment.clear(),
        |backend| backend.words = None,
        |backend| {
            backend.listens.clear();
            backend.published.clear();
            backend.message = None;
        },
    ];
    let written = |beat: &Beat<'_>| serde_json::to_vec(beat).unwrap_or_default();
    let mut body = written(&beat);
    for cut in cuts {
        if body.len() <= MAX_BEAT {
            break;
        }
        beat.backends.iter_mut().for_each(cut);
        body = written(&beat);
    }
    body
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::agent::beats) fn plain() -> Beat<'static> {
        Beat {
            connector_id: "gateways/edge-1".to_owned(),
            agent: true,
            boot_id: "b",
            version: "1",
            hostname: "h",
            sent_at: Timestamp::UNIX_EPOCH,
            checks: Some(Vec::new()),
            ..Beat::default()
        }
    }

    #[test]
    fn a_plain_heartbeat_has_no_field_that_says_nothing() {
        let body = String::from_utf8(json(plain())).unwrap();
        let expected = r#"{"connector_id":"gateways/edge-1","agent":true,"boot_id":"b","version":"1","hostname":"h","sent_at":"1970-01-01T00:00:00Z","checks":[]}"#;
        assert_eq!(body, expected);
    }

    /// The operator reads the same file in the tests of its parser: a field that is renamed on one side fails one of both.
    #[test]
    fn a_heartbeat_that_says_everything_is_the_one_that_operators_are_tested_with() {
        let expected: serde_json::Value =
            serde_json::from_str(include_str!("../../api/golden/beat-agent.json")).unwrap();
        let read = |field: &str| expected[field].clone();
        let check =
            |type_, outcome, message: &str| CheckReport { type_, outcome, message: message.to_owned(), advice: None };
        let all = vec![
            check(CheckType::Process, CheckOutcome::Fail, "orders.service does not run"),
            check(CheckType::NATRules, CheckOutcome::Pass, ""),
        ];
        let restart = RestartReport::new("orders.service".into(), "a1".into(), true, "it runs");
        let restarts = [RestartReport::new("compose:shop:orders".into(), "a2".into(), false, "exit 1")];
        let paused: AgentPause = serde_json::from_value(read("paused")).unwrap();
        let beat = Beat {
            checks: Some(checks(&Report { checks: all, backends: Vec::new(), stopped_on_purpose: false })),
            config_generation: Some(7),
            restart: Some(&restart),
            restarts: &restarts,
            paused: Some(&paused),
            stopping: Some(Stopping { reason: StopReason::Uninstall }),
            stopped_on_purpose: true,
            gaps: serde_json::from_value(read("gaps")).unwrap(),
            backends: serde_json::from_value(read("backends")).unwrap(),
            ..plain()
        };
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&json(beat)).unwrap(), expected);
    }

    #[test]
    fn texts_have_one_line_and_their_length() {
        let long = CheckReport {
            type_: CheckType::Process,
            outcome: CheckOutcome::Fail,
            message: format!("a\nb\u{1b}{}", "x".repeat(300)),
            advice: None,
        };
        let told = checks(&Report { checks: vec![long], backends: Vec::new(), stopped_on_purpose: false });
        assert_eq!(told[0].message.chars().count(), 256);
        assert!(told[0].message.starts_with("a b\u{fffd}x"));
    }

    #[test]
    fn a_heartbeat_that_is_too_long_loses_the_least_first() {
        let backend = |name: String| -> BackendReport {
            let report = serde_json::json!({"name": name, "state": "Exited", "words": "w".repeat(512),
                "environment": {"N".repeat(2000): null}, "message": "m"});
            serde_json::from_value(report).unwrap()
        };
        let backends: Vec<_> = (0..8).map(|at| backend(format!("b{at}"))).collect();
        let body = json(Beat { backends, ..plain() });
        assert!(body.len() <= MAX_BEAT);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(body["backends"][0].get("environment").is_none());
        assert_eq!(body["backends"][7]["words"], "w".repeat(512));
    }

    #[test]
    fn one_outcome_is_told_to_every_operator_and_several_to_newer_ones() {
        let report = |id: &str| RestartReport::new("a.service".into(), id.into(), true, "done");
        let one = [report("1")];
        assert!(matches!(outcomes(&one), (Some(_), [])));
        let many: Vec<_> = (0..9).map(|at| report(&at.to_string())).collect();
        assert!(matches!(outcomes(&many), (None, several) if several.len() == 8));
        assert!(matches!(outcomes(&[]), (None, [])));
    }
}
