//! The answers of the public port, word for word (`docs/design/api.md`). They depend on the arguments alone.

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::entry::Told;
use super::payload::BadBeat;
use super::sink::Acceptance;
use crate::api::ConnectorState;

/// `{"status":"ok","state":"Online","next_heartbeat_seconds":30,"actions":[]}`, with the actions in the list, and
/// `"config":{…}` when there is one.
pub(super) fn heard(state: ConnectorState, next_heartbeat_seconds: u32, told: &Told) -> Response {
    let mut digits = [0; 10];
    let seconds = decimal(next_heartbeat_seconds, &mut digits);
    let actions = told.actions.iter().map(|action| action.json()).collect::<Vec<_>>().join(",");
    let (before_config, config) = told.config.as_deref().map_or(("", ""), |config| (r#","config":"#, config.json()));
    let parts: [&[u8]; 10] = [
        br#"{"status":"ok","state":""#,
        state.as_str().as_bytes(),
        br#"","next_heartbeat_seconds":"#,
        seconds,
        br#","actions":["#,
        actions.as_bytes(),
        b"]",
        before_config.as_bytes(),
        config.as_bytes(),
        b"}",
    ];
    // One allocation of the exact length: `concat` measures first, and `Bytes` takes ownership.
    answer(StatusCode::OK, parts.concat().into())
}

/// `number` in decimal, at the end of `digits`.
fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[first..];
        }
    }
}

/// 401, the same for every cause.
pub(super) fn rejected() -> Response {
    const BODY: &str = r#"{"error":{"code":"unauthorized","message":"unknown connector, or its token is not valid"}}"#;
    let mut response = answer(StatusCode::UNAUTHORIZED, Bytes::from_static(BODY.as_bytes()));
    // RFC 9110, 11.6.1: a 401 names an authentication scheme.
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// 429 after too many failed attempts.
pub(super) fn rate_limited(retry_after_seconds: u32) -> Response {
    let message = "too many failed attempts for this connector from this address";
    later(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", message, retry_after_seconds)
}

/// 429 to a valid connector far above its rate.
pub(super) fn too_often(retry_after_seconds: u32) -> Response {
    let message = "this connector beats far above its rate; its beats still count";
    later(StatusCode::TOO_MANY_REQUESTS, "too_often", message, retry_after_seconds)
}

/// 503 to a known connector whose token hashes are not loaded.
pub(super) fn not_loaded(retry_after_seconds: u32) -> Response {
    let message = "this connector is not loaded yet";
    later(StatusCode::SERVICE_UNAVAILABLE, "not_loaded", message, retry_after_seconds)
}

/// 503 to any heartbeat, because of `reason`. It closes the connection: a client that keeps one to a replica that no
/// longer leads would never reach the leader.
pub(super) fn not_accepting(reason: &str, message: &str, retry_after_seconds: u32) -> Response {
    closing(later(StatusCode::SERVICE_UNAVAILABLE, reason, message, retry_after_seconds))
}

/// 400 to a body that is not a heartbeat.
pub(super) fn malformed(bad: &BadBeat) -> Response {
    error(StatusCode::BAD_REQUEST, bad.code, &bad.message)
}

/// 413; the rest of the body is not waited for.
pub(super) fn too_large() -> Response {
    closing(error(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is longer than 16 KiB"))
}

/// 408; the rest of the body is not waited for.
pub(super) fn too_slow() -> Response {
    closing(error(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time"))
}

/// 404.
pub(super) fn not_found() -> Response {
    error(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is /api/health, /api/connector/heartbeat and /api/agent/linux-x86_64, and nothing else",
    )
}

/// 200 with the binary of the agent.
pub(super) fn binary(body: Body, length: u64) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// 503 while as many downloads as may run are running.
pub(super) fn downloads_busy() -> Response {
    later(StatusCode::SERVICE_UNAVAILABLE, "busy", "others download the agent at this moment", 5)
}

/// 404 where this operator has no binary for hosts.
pub(super) fn no_binary(why: &str) -> Response {
    error(StatusCode::NOT_FOUND, "no_binary", &format!("{why}: install the agent from a --download-url"))
}

/// 405 where only `allowed` is.
pub(super) fn not_allowed(allowed: &'static str) -> Response {
    let message = format!("the method must be {}", allowed.replace(", ", " or "));
    let response = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
    with(response, header::ALLOW, HeaderValue::from_static(allowed))
}

/// `GET /api/health`. A replica that does not lead, or may not lead, closes the connection.
pub(super) fn health(acceptance: &Acceptance) -> Response {
    match acceptance {
        Acceptance::Yes => answer(StatusCode::OK, Bytes::from_static(br#"{"status":"ok","leader":"yes"}"#)),
        Acceptance::Uncertain { message } => {
            let body = format!(r#"{{"status":"ok","leader":"uncertain","message":{}}}"#, quoted(message));
            closing(answer(StatusCode::OK, body.into()))
        }
        Acceptance::No { reason, message, retry_after_seconds } => {
            let (reason, message) = (quoted(reason), quoted(message));
            let body = format!(r#"{{"status":"unavailable","leader":"no","reason":{reason},"message":{message}}}"#);
            let response = answer(StatusCode::SERVICE_UNAVAILABLE, body.into());
            closing(with(response, header::RETRY_AFTER, HeaderValue::from(*retry_after_seconds)))
        }
    }
}

fn later(status: StatusCode, code: &str, message: &str, seconds: u32) -> Response {
    with(error(status, code, message), header::RETRY_AFTER, HeaderValue::from(seconds))
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(r#"{{"error":{{"code":{},"message":{}}}}}"#, quoted(code), quoted(message));
    answer(status, body.into())
}

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON, and a write to memory does not fail")
}

/// The same response, which closes the connection.
pub(super) fn closing(response: Response) -> Response {
    with(response, header::CONNECTION, HeaderValue::from_static("close"))
}

fn with(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

fn answer(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::actions::Action;
    use super::super::agent_config::AgentConfig;
    use super::*;
    use crate::time::{Moment, Now};

    async fn said(response: Response) -> Value {
        let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Agents read the same files in the tests of their answers. A program that beats without an agent gets the first one.
    #[tokio::test]
    async fn the_answers_are_those_that_agents_are_tested_with() {
        let golden = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let founding = heard(ConnectorState::Online, 30, &Told::default());
        assert_eq!(said(founding).await, golden(include_str!("../api/golden/answer-founding.json")));

        let now = Now { moment: Moment::default(), wall: jiff::Timestamp::UNIX_EPOCH };
        let not_after = now.wall + jiff::SignedDuration::from_hours(1);
        let action = |id, target| Arc::new(Action::new(id, target, not_after, false, now));
        let checks = json!([{ "type": "WireGuardHandshake", "maxHandshakeAgeSeconds": 300 }, { "type": "NATRules" }]);
        let checks: Vec<crate::api::CheckSpec> = serde_json::from_value(checks).unwrap();
        let told = Told {
            actions: vec![action("a1", None), action("a2", Some("compose:shop:orders"))],
            config: AgentConfig::of(&checks),
            is_expected: true,
        };
        let full = heard(ConnectorState::Degraded, 5, &told);
        assert_eq!(said(full).await, golden(include_str!("../api/golden/answer-agent.json")));
    }
}
