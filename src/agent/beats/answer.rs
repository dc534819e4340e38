//! The operator's answers to heartbeats.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::agent::actions::is_id;
use crate::api::{CheckSpec, Target};

/// Most actions that are read.
const MOST_ACTIONS: usize = 16;

/// An answer that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The state of the connector.
    pub state: String,
    /// When to beat again.
    pub interval: Duration,
    /// The restarts that are asked for.
    pub actions: Vec<Action>,
    /// The parameters of checks, when they differ from those of the generation that the agent has.
    pub parameters: Option<Parameters>,
}

/// A restart that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its id.
    pub id: String,
    /// What is restarted; `None` = the unit of the connector.
    pub target: Option<Target>,
    /// The last moment at which it may begin, by the operator's clock.
    pub not_after: Timestamp,
}

/// The parameters of checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Identifies them.
    pub generation: u64,
    /// One entry for each check that has any.
    pub checks: Vec<CheckSpec>,
}

#[derive(Deserialize)]
struct Body {
    status: String,
    state: String,
    next_heartbeat_seconds: u64,
    #[serde(default)]
    actions: Vec<Value>,
    config: Option<BodyConfig>,
}

#[derive(Deserialize)]
struct BodyConfig {
    generation: u64,
    #[serde(default)]
    checks: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BodyAction {
    id: String,
    #[serde(rename = "type")]
    type_: String,
    target: Option<Target>,
    not_after: Timestamp,
}

/// Reads the body of a 200. Fields, actions and checks of a newer operator that this version does not know are left out.
///
/// # Errors
/// It is no answer to a heartbeat: a proxy or a login page may answer 200, too.
pub fn parse(body: &[u8]) -> Result<Answer, String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| format!("this is no answer of vigie: {error}"))?;
    if body.status != "ok" || !(1..=3600).contains(&body.next_heartbeat_seconds) {
        return Err("this is no answer of vigie: neither its status nor its interval is one".to_owned());
    }
    let actions = body.actions.into_iter().take(MOST_ACTIONS).filter_map(|action| {
        let BodyAction { id, type_, target, not_after } = serde_json::from_value(action).ok()?;
        (type_ == "Restart" && is_id(&id)).then_some(Action { id, target, not_after })
    });
    let parameters = body.config.map(|config| {
        let checks = config.checks.into_iter().filter_map(|check| serde_json::from_value(check).ok());
        Parameters { generation: config.generation, checks: checks.collect() }
    });
    Ok(Answer {
        state: crate::api::clip(crate::api::printable(&body.state), 63),
        interval: Duration::from_secs(body.next_heartbeat_seconds),
        actions: actions.collect(),
        parameters,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_state_an_interval_actions_and_parameters() {
        let answer = parse(
            br#"{"status":"ok","state":"Degraded","next_heartbeat_seconds":5,"actions":[
                {"id":"a/1","type":"Restart","target":"compose:orders:backend","notAfter":"2026-01-31T12:00:00Z"},
                {"id":"a/2","type":"Restart","notAfter":"2026-01-31T12:00:00Z"},
                {"id":"a/3","type":"Reboot","notAfter":"2026-01-31T12:00:00Z"},
                {"id":"a/4","type":"Restart","target":"--force","notAfter":"2026-01-31T12:00:00Z"},
                {"id":"a/5","type":"Restart"}, 7],
                "config":{"generation":7,"checks":[{"type":"OverlayRoute","interfaceName":"wg1"},{"type":"Later"}]},
                "later":{}}"#,
        )
        .unwrap();
        assert_eq!((answer.state.as_str(), answer.interval), ("Degraded", Duration::from_secs(5)));
        let ids: Vec<&str> = answer.actions.iter().map(|action| action.id.as_str()).collect();
        assert_eq!(ids, ["a/1", "a/2"]);
        assert_eq!(answer.actions[0].target, Some("compose:orders:backend".parse().unwrap()));
        let parameters = answer.parameters.unwrap();
        assert_eq!((parameters.generation, parameters.checks.len()), (7, 1));
    }

    /// The operator writes the same files in the tests of its answers. One of before has no `config` and no targets.
    #[test]
    fn the_answers_of_both_generations_of_operators_are_understood() {
        let founding = parse(include_bytes!("../../api/golden/answer-founding.json")).unwrap();
        assert_eq!(
            (founding.interval, founding.actions.len(), founding.parameters),
            (Duration::from_secs(30), 0, None)
        );
        let today = parse(include_bytes!("../../api/golden/answer-agent.json")).unwrap();
        let actions: Vec<_> =
            today.actions.iter().map(|action| (&*action.id, action.target.as_ref().map(Target::to_string))).collect();
        assert_eq!(actions, [("a1", None), ("a2", Some("compose:shop:orders".to_owned()))]);
        assert_eq!((today.interval, today.state.as_str()), (Duration::from_secs(5), "Degraded"));
        assert_eq!(today.parameters.unwrap().checks[0].max_handshake_age_seconds, Some(300));
    }

    #[test]
    fn the_founding_answer_is_one_and_a_login_page_is_none() {
        let founding = br#"{"status":"ok","state":"Online","next_heartbeat_seconds":30,"actions":[]}"#;
        assert_eq!(parse(founding).unwrap().interval, Duration::from_secs(30));
        for body in [
            &b"<html>"[..],
            b"",
            b"{}",
            br#"{"status":"ok"}"#,
            br#"{"status":"no","state":"Online","next_heartbeat_seconds":30}"#,
            br#"{"status":"ok","state":"Online","next_heartbeat_seconds":0}"#,
            br#"{"status":"ok","state":"Online","next_heartbeat_seconds":99999999999}"#,
        ] {
            assert!(parse(body).unwrap_err().starts_with("this is no answer of vigie"));
        }
    }
}
