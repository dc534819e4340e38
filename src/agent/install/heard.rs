//! Whether the operator has heard the agent, by what the agent says of itself. Pure.

use jiff::Timestamp;

use crate::agent::beats::status::Status;

/// The state of an agent that was started at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The operator has answered 200 since.
    Yes {
        /// A line for each check.
        checks: Vec<String>,
    },
    /// Not yet, and why.
    NotYet(String),
}

/// Reads `status`; `None` = there is none yet. An answer counts from `since` on: an older one may have been to another
/// token.
pub fn heard(status: Option<&Status>, since: Timestamp) -> Heard {
    let Some(status) = status else {
        return Heard::NotYet("the agent has not written its status yet".to_owned());
    };
    if status.last_beat.at.is_none_or(|at| at < since) {
        let failure = status.last_beat.failure.clone();
        return Heard::NotYet(failure.unwrap_or_else(|| "no heartbeat was answered yet".to_owned()));
    }
    let checks = status.checks.iter();
    let line = checks.map(|check| format!("{:<20} {:<8} {}", check.type_, check.status, check.message));
    Heard::Yes { checks: line.map(|line| line.trim_end().to_owned()).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_answer_since_the_start_counts() {
        let since: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let heard = |at: Option<&str>, failure: Option<&str>| {
            let status = serde_json::from_value(json!({
                "written_at": since, "version": "1", "url": "https://vigie.example.com", "connector": "gateways/edge-1",
                "last_beat": {"at": at, "failure": failure}, "interval_seconds": 30, "backends": [],
                "checks": [{"type": "Process", "status": "Pass", "message": "active (running)"},
                    {"type": "ClockSkew", "status": "Pass"}],
                "config_generation": 0, "gaps": [], "restarts": [],
            }));
            heard(Some(&status.unwrap()), since)
        };
        let checks =
            vec!["Process              Pass     active (running)".to_owned(), "ClockSkew            Pass".to_owned()];
        assert_eq!(heard(Some("2026-01-01T12:00:00.5Z"), None), Heard::Yes { checks });
        let not_yet = |text: &str| Heard::NotYet(text.to_owned());
        assert_eq!(heard(Some("2026-01-01T11:59:59Z"), Some("401")), not_yet("401"));
        assert_eq!(heard(None, None), not_yet("no heartbeat was answered yet"));
        assert_eq!(super::heard(None, since), not_yet("the agent has not written its status yet"));
    }
}
