//! The words between the agent and its helper: one line of JSON each way, one request for each connection.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agent::actions::engine::Request;
use crate::agent::actions::{MAX_ID, Outcome, Phase, Record, is_id};
use crate::agent::facts::Facts;
use crate::api::{AgentPause, CheckSpec, Target};

/// Longest request, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;
/// Most lines of a log.
const MAX_LINES: u32 = 10_000;

/// A request to the helper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Ask {
    /// Look at the host.
    Look {
        /// Parameters of checks, as the operator sent them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        checks: Vec<CheckSpec>,
    },
    /// Restart a target, once for this id.
    Restart {
        /// The id of the restart.
        id: String,
        /// What is restarted.
        target: Target,
        /// The last moment at which it may begin.
        not_after: Timestamp,
        /// The clock of the operator now; absent = that of the host is right.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        now: Option<Timestamp>,
        /// The milliseconds since the host started at which that clock showed `now`; absent = just now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        now_at: Option<u64>,
    },
    /// The end of the log of a target.
    Tail {
        /// Whose log.
        target: Target,
        /// Most lines.
        lines: u32,
    },
}

/// The answer of the helper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// The answer to a look.
    Looked {
        /// The state of the host.
        facts: Box<Facts>,
        /// The last restart of each target.
        restarts: Vec<Restarted>,
        /// A person paused restarts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        paused: Option<AgentPause>,
    },
    /// The restart is over.
    Settled(Outcome),
    /// The restart is under way.
    Pending,
    /// Another restart of this target is under way.
    Busy,
    /// The end of a log.
    Log(String),
    /// The request is not answered.
    Refused(String),
}

/// A restart, as far as the agent needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// The id of the restart.
    pub id: String,
    /// What is restarted.
    pub target: Target,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// What came of it; `None` = it is under way.
    pub outcome: Option<Outcome>,
}

impl From<Record> for Restarted {
    fn from(record: Record) -> Self {
        let outcome = match record.phase {
            Phase::Done(outcome) => Some(outcome),
            Phase::Intent | Phase::Stopping | Phase::Started { .. } => None,
        };
        Self { id: record.id, target: record.target, recorded_at: record.recorded_at, outcome }
    }
}

/// Parses one request, without its line end.
///
/// # Errors
/// It is no request; the message says why.
pub fn parse(line: &[u8]) -> Result<Ask, String> {
    if line.len() > MAX_REQUEST {
        return Err(format!("a request of more than {} KiB", MAX_REQUEST >> 10));
    }
    let ask: Ask = serde_json::from_slice(line).map_err(|error| format!("no request: {error}"))?;
    match &ask {
        Ask::Restart { id, .. } if !is_id(id) => {
            Err(format!("the id of a restart is 1 to {MAX_ID} visible characters"))
        }
        Ask::Tail { lines, .. } if !(1..=MAX_LINES).contains(lines) => {
            Err(format!("lines are 1 to {MAX_LINES}, not {lines}"))
        }
        _ => Ok(ask),
    }
}

impl Ask {
    /// The request for a restart, made so long after the host started.
    pub fn restart(request: Request, uptime: Duration) -> Self {
        let Request { id, target, not_after, now } = request;
        let now_at = now.and_then(|_| u64::try_from(uptime.as_millis()).ok());
        Self::Restart { id, target, not_after, now, now_at }
    }
}

/// The operator's clock after it showed `then` at `then_at`, in milliseconds since the host started: a request may have
/// waited for a helper that was stopped.
pub fn shows_now(then: Timestamp, then_at: Option<u64>, uptime: Duration) -> Timestamp {
    let waited = then_at.map_or(Duration::ZERO, |at| uptime.saturating_sub(Duration::from_millis(at)));
    then.saturating_add(waited).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_is_one_line() {
        for (line, verb) in [
            (r#"{"verb":"look"}"#, "look"),
            (r#"{"verb":"look","checks":[{"type":"NATRules","overlayCIDRs":["100.64.0.0/10"]}]}"#, "look"),
            (r#"{"verb":"restart","id":"a/1","target":"a.service","notAfter":"2026-01-31T12:00:00Z"}"#, "restart"),
            (r#"{"verb":"tail","target":"compose:a:b","lines":100}"#, "tail"),
        ] {
            let ask = parse(line.as_bytes()).unwrap();
            let written = serde_json::to_string(&ask).unwrap();
            assert!(written.contains(&format!(r#""verb":"{verb}""#)) && !written.contains('\n'), "{written}");
            assert_eq!(parse(written.as_bytes()).unwrap(), ask);
        }
    }

    #[test]
    fn a_request_that_waited_for_the_helper_is_judged_by_the_time_at_which_it_is_read() {
        let then: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let uptime = Duration::from_millis(90_500);
        let request =
            Request { id: "a/1".into(), target: "a.service".parse().unwrap(), not_after: then, now: Some(then) };
        let Ask::Restart { now: Some(now), now_at, .. } = Ask::restart(request.clone(), uptime) else {
            panic!("it has a time")
        };
        assert_eq!(shows_now(now, now_at, uptime), then);
        assert_eq!(shows_now(now, now_at, uptime + Duration::from_secs(40)).to_string(), "2026-01-31T12:00:40Z");
        assert_eq!(shows_now(now, None, uptime), then);
        assert_eq!(shows_now(now, Some(u64::MAX), uptime), then);
        let unknown = Ask::restart(Request { now: None, ..request }, uptime);
        assert!(matches!(unknown, Ask::Restart { now: None, now_at: None, .. }));
    }

    #[test]
    fn nothing_else_is_a_request() {
        let long = format!(r#"{{"verb":"look","checks":[{}]}}"#, " ".repeat(MAX_REQUEST));
        for line in [
            "",
            "look",
            "{}",
            r#"{"verb":"run"}"#,
            r#"{"verb":"look","path":"/etc/shadow"}"#,
            r#"{"verb":"restart","id":"a","target":"a.service"}"#,
            r#"{"verb":"restart","id":"","target":"a.service","notAfter":"2026-01-31T12:00:00Z"}"#,
            r#"{"verb":"restart","id":"a b","target":"a.service","notAfter":"2026-01-31T12:00:00Z"}"#,
            r#"{"verb":"restart","id":"a","target":"-a.service","notAfter":"2026-01-31T12:00:00Z"}"#,
            r#"{"verb":"restart","id":"a","target":"a.service","notAfter":"soon"}"#,
            r#"{"verb":"tail","target":"a.service","lines":0}"#,
            r#"{"verb":"tail","target":"a.service","lines":10001}"#,
            r#"{"verb":"look"}{"verb":"look"}"#,
            &long,
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
