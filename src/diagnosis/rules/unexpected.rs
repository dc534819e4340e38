//! Answers that no other rule explains: the far side answers, and not as a probe is to be answered.

use super::queries::probe_fact;
use super::response::{failing_ours, is_grpc, prometheus_only};
use super::rollout::rollout_fact;
use super::scrape_error::{ScrapeError, scrape_fact};
use super::text::{url, value};
use super::{Finding, matches_any};
use crate::api::{Cause, Confidence, ErrorClass};
use crate::diagnosis::evidence::{Evidence, Vantage};

/// Statuses, what each means here, and the advice.
const MEANINGS: &[(u16, &str, &str)] = &[
    (
        304,
        "it says that nothing has changed, and was not asked for that: a cache answers",
        "Aim spec.target past the cache, or correct its rules for this path",
    ),
    (
        400,
        "it refuses the request as malformed",
        "Compare with a request that it accepts: a Host that it does not know, a path or query that must be escaped, a header of spec.probe.http.headers",
    ),
    (
        405,
        "it does not allow this method on this path",
        "Set spec.probe.http.method to one that it allows (GET or HEAD), or aim at a page that is read",
    ),
    (
        406,
        "it has no answer in a form that the Accept header admits",
        "Let the page produce text/plain (with spec.probe.metrics vigie sends Prometheus' Accept header, and Prometheus is answered alike), or set Accept in spec.probe.http.headers",
    ),
    (
        407,
        "a proxy stands before it and wants credentials",
        "Aim spec.target past the proxy: a probe, and Prometheus too, dials the backend directly",
    ),
    (
        408,
        "it waited for the rest of the request in vain",
        "Look at what stands between: a proxy that holds requests back, or a network that loses packets",
    ),
    (410, "it says that the page is gone for good", "Aim spec.target at the page that replaced it"),
    (
        421,
        "it serves no such host on this connection",
        "Let the name in spec.target and spec.probe.http.tls.serverName be the same one, which it serves",
    ),
    (
        426,
        "it wants another protocol on this path",
        "Aim at a page that is read with HTTP/1.1; a WebSocket or an HTTP/2-only path is none. If it wants TLS, use https in spec.target",
    ),
    (
        431,
        "it finds the headers of the request too large",
        "Make spec.probe.http.headers or the token shorter, or raise the limit of the server (Spring Boot: SERVER_MAXHTTPREQUESTHEADERSIZE)",
    ),
    (
        464,
        "the load balancer before it (AWS) and its target group speak different versions of the protocol",
        "Set the protocol version of the target group to HTTP1, or aim spec.target past the load balancer; a gRPC group is probed with grpcs",
    ),
];

/// Statuses that other rules explain, or that say nothing beyond their number.
fn is_left(status: u16) -> bool {
    !matches!(status, 401 | 403 | 404 | 429 | 500..)
}

/// Causes that explain the answer: what it says counts, not its status.
const EXPLAINED: &[Cause] = &[
    Cause::DependencyDown,
    Cause::DiskFull,
    Cause::LivenessBroken,
    Cause::OutOfService,
    Cause::HealthUnknown,
    Cause::AuthenticationRequired,
    Cause::ServerError,
    Cause::RateLimited,
    Cause::SchemeMismatch,
];

/// The beginnings of messages about the expressions of the spec.
const ABOUT_BODY: [&str; 3] = ["the body ", "bodyMatches ", "bodyNotMatches "];

fn is_unexpected(e: &Evidence, vantage: &Vantage) -> bool {
    match vantage.error_class {
        Some(ErrorClass::HTTPStatus) => vantage.http_status.is_some_and(is_left),
        Some(ErrorClass::NotHTTP | ErrorClass::RedirectLimit) => true,
        Some(ErrorClass::GRPCStatus) => !vantage.not_serving,
        Some(ErrorClass::ContentType) => is_grpc(e),
        Some(ErrorClass::BodyTooLarge) => is_large_head(vantage),
        Some(ErrorClass::Assertion) => ABOUT_BODY.iter().any(|begin| vantage.message.starts_with(begin)),
        _ => false,
    }
}

/// Whether the head of the answer exceeds a limit, not its body.
pub(super) fn is_large_head(vantage: &Vantage) -> bool {
    vantage.message.starts_with("the head of the answer")
}

pub(super) fn unexpected_answer(e: &Evidence) -> Option<Finding> {
    let Some(vantage) = failing_ours(e).find(|vantage| is_unexpected(e, vantage)) else {
        return prometheus_gets_another(e);
    };
    if matches_any(e, EXPLAINED) {
        return None;
    }
    let (what, advice) = match (vantage.error_class, vantage.http_status) {
        (Some(ErrorClass::HTTPStatus), Some(status)) => of_status(e, vantage, status),
        (Some(ErrorClass::GRPCStatus), _) => (sentence(vantage, "its gRPC health service does not say SERVING"), of_grpc(vantage)),
        (Some(ErrorClass::Assertion), _) => (
            sentence(vantage, "the body does not pass spec.probe.http.bodyMatches and bodyNotMatches"),
            "Compare the body with the expressions: `vigie probe` shows its beginning; correct the application, or spec.probe.http.bodyMatches and bodyNotMatches".to_owned(),
        ),
        (Some(ErrorClass::RedirectLimit), _) => (
            sentence(vantage, "it redirects again and again"),
            "Aim spec.target at the page where the redirects are to end; a loop of http and https, or of a missing slash, is one of the proxy in front".to_owned(),
        ),
        (Some(ErrorClass::BodyTooLarge), _) => (
            sentence(vantage, "the head of its answer exceeds a limit"),
            "Find out what adds the headers (a proxy that appends to each answer, a cookie for each request) and have it stop".to_owned(),
        ),
        _ => (sentence(vantage, "what answers is not what the probe asks for"), of_protocol(e, vantage)),
    };
    let finding = Finding::new(Cause::UnexpectedAnswer, what, advice).fact(probe_fact(vantage)).facts(rollout_fact(e));
    Some(finding.at_most(Confidence::Likely))
}

/// Prometheus gets a status that no other rule explains, while it is answered well from vigie.
fn prometheus_gets_another(e: &Evidence) -> Option<Finding> {
    let (scraped, why) = prometheus_only(e, |why| matches!(why, ScrapeError::Status(status) if is_left(status)))?;
    let ScrapeError::Status(status) = why else { return None };
    let meaning = MEANINGS.iter().find(|(known, ..)| *known == status).map(|(_, what, _)| format!(": {what}"));
    let redirect = || (300..400).contains(&status).then(|| ": a redirect that it does not follow".to_owned());
    let told = meaning.or_else(redirect).unwrap_or_default();
    let finding = Finding::new(
        Cause::UnexpectedAnswer,
        format!("Prometheus gets {} from {}{told}", why.text(), url(&scraped.url)),
        "Compare the request of Prometheus with vigie's, which is answered well: metrics_path, params, scheme, headers, proxy_url and follow_redirects of the job. A page of metrics is answered with 200",
    );
    Some(finding.at_most(Confidence::Likely).fact(scrape_fact(scraped, why)))
}

/// The message of the vantage, which every reader may see.
fn sentence(vantage: &Vantage, otherwise: &str) -> String {
    if vantage.message.is_empty() { otherwise.to_owned() } else { vantage.message.clone() }
}

/// The meaning of an HTTP status, and the advice.
fn of_status(e: &Evidence, vantage: &Vantage, status: u16) -> (String, String) {
    if (300..400).contains(&status) && status != 304 {
        let advice = "Aim spec.target at the page that it redirects to, or list the status in spec.probe.http.expectedStatus. Redirects to another host, port or scheme are not followed";
        return (
            sentence(vantage, &format!("it answers {status}: a redirect that is not followed")),
            advice.to_owned(),
        );
    }
    let host = &e.subject.host;
    if status == 400 && host.contains('_') {
        let what = format!(
            "it answers 400: it refuses the request, probably its Host, {}, which has an underscore",
            value(host)
        );
        let advice = "Aim spec.target at a name without an underscore: Tomcat (and so Spring Boot), among others, refuses such a Host";
        return (what, advice.to_owned());
    }
    let known = MEANINGS.iter().find(|(known, ..)| *known == status).map(|(_, what, advice)| (*what, *advice));
    let (what, advice) = known.unwrap_or(if status < 300 {
        (
            "it answers another status than the probe expects",
            "List the status in spec.probe.http.expectedStatus if it is a good answer; with spec.probe.metrics only 200 is, as for Prometheus",
        )
    } else {
        (
            "it refuses the request",
            "Look up the status, compare with a request that it accepts, and correct path, query or headers; or list the status in spec.probe.http.expectedStatus",
        )
    });
    (format!("it answers {status}: {what}"), advice.to_owned())
}

/// The advice for a gRPC status that no other rule explains.
fn of_grpc(vantage: &Vantage) -> String {
    match vantage.grpc_status {
        Some(5) => "The path of spec.target names a service: correct it, leave it empty to ask for the whole server, or have the server register this name with its health service",
        Some(12) => "Register the health service (grpc.health.v1.Health) in the server, or probe the port with tcp in spec.target",
        Some(_) => "Read its log at the time of a probe; the interceptor or the proxy that gives this status is there",
        None => "Its health service has not set a status for this service: have the application set SERVING when it is ready",
    }
    .to_owned()
}

/// The advice for an answer in another protocol, or in a broken form.
fn of_protocol(e: &Evidence, vantage: &Vantage) -> String {
    let says = |words: &str| vantage.message.contains(words);
    if is_grpc(e) {
        return if says("HTTP/1") || vantage.error_class == Some(ErrorClass::ContentType) {
            "Correct the port, or use http in spec.target: this one answers like a web server. A proxy in between must pass HTTP/2 on to the backend"
        } else {
            "Correct the port in spec.target: gRPC is not spoken on this one"
        }
        .to_owned();
    }
    if says("HTTP/2 alone") {
        return "Use grpc in spec.target if it is a gRPC server; else let it speak HTTP/1.1 too, as Prometheus needs it without TLS".to_owned();
    }
    if says("does not speak HTTP") {
        return "Correct the port in spec.target, or use tcp: another protocol is spoken there".to_owned();
    }
    "Correct what writes the answer: the server itself, or a proxy in front of it; `vigie probe` shows the bytes"
        .to_owned()
}
