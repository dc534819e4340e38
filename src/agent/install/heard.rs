//! Whether the operator has heard the agent, by the agent's `status.json`. Pure.

use jiff::Timestamp;
use serde_json::Value;

/// The folder of the agent while it runs.
pub const RUNTIME: &str = "/run/vigie-agent";
/// The file in which the agent says how it does.
pub const STATUS: &str = "/run/vigie-agent/status.json";

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

/// Reads `status`, the content of [`STATUS`]. An answer counts from `since` on: an older one may have been to another
/// token.
pub fn heard(status: &str, since: Timestamp) -> Heard {
    let Ok(status) = serde_json::from_str::<Value>(status) else {
        return Heard::NotYet("the agent has not written its status yet".to_owned());
    };
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str);
    let at = text("/last_beat/at").and_then(|at| at.parse::<Timestamp>().ok());
    if at.is_none_or(|at| at < since) {
        let failure = text("/last_beat/failure").map(str::to_owned);
        return Heard::NotYet(failure.unwrap_or_else(|| "no heartbeat was answered yet".to_owned()));
    }
    let checks = status.pointer("/checks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let line = |check: &Value| {
        let word = |at: usize| check.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        format!("{:<20} {:<8} {}", word(0), word(1), word(2)).trim_end().to_owned()
    };
    Heard::Yes { checks: checks.iter().map(line).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_since_the_start_counts() {
        let since: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let status = |at: &str, failure: &str| {
            let checks = r#"[["Process","Pass","active (running)"],["ClockSkew","Pass",""]]"#;
            format!(r#"{{"last_beat":{{"at":{at},"failure":{failure}}},"checks":{checks}}}"#)
        };
        let checks =
            vec!["Process              Pass     active (running)".to_owned(), "ClockSkew            Pass".to_owned()];
        assert_eq!(heard(&status(r#""2026-01-01T12:00:00.5Z""#, "null"), since), Heard::Yes { checks });
        let not_yet = |text: &str| Heard::NotYet(text.to_owned());
        assert_eq!(heard(&status(r#""2026-01-01T11:59:59Z""#, r#""401""#), since), not_yet("401"));
        assert_eq!(heard(&status("null", "null"), since), not_yet("no heartbeat was answered yet"));
        assert_eq!(heard("", since), not_yet("the agent has not written its status yet"));
    }
}
