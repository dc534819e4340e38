//! Judges an answer: its status, its redirect, its body.

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Response, StatusCode};

use super::body::{self, Sink};
use super::redirect::{self, Location};
use super::{Hop, is_head};
use crate::api::ErrorClass;
use crate::probe::pattern::{self, Match};
use crate::probe::trace::ProbeTrace;
use crate::probe::{Failure, HttpOptions, MetricsOptions, Request, page};

/// How much of the body of an unexpected answer is read for the detail, in bytes.
const DETAIL_BYTES: usize = 4 << 10;

/// How much of the body before the end of a match is shown in the detail, in bytes.
const BEFORE_MATCH_END: usize = 128;

/// Judges the answer to a request for `path`.
pub(super) async fn judge(
    request: &Request,
    path: &str,
    response: Response<Incoming>,
    trace: &mut ProbeTrace,
) -> Result<Hop, Failure> {
    trace.enter_body();
    let (head, body) = response.into_parts();
    trace.seen.http_status = Some(head.status.as_u16());
    let expected = is_expected(request, head.status);
    if let Some(location) = location(head.status, &head.headers) {
        trace.seen.redirects_to_login |= redirect::is_login(location);
        // `expectedStatus` lists this status: the redirect itself is the expected answer.
        if request.http.follow_redirects && !expected {
            return follow(request, path, head.status, location, trace);
        }
    }
    let body = Answer { request, headers: &head.headers, body };
    if !expected {
        return Err(body.unexpected(head.status, trace).await);
    }
    match &request.metrics {
        _ if is_head(request) => Ok(()),
        Some(options) => body.page(options, trace).await,
        None => body.text(trace).await,
    }
    .map(|()| Hop::Passed)
}

fn is_expected(request: &Request, status: StatusCode) -> bool {
    let expected = &request.http.expected_status;
    match &request.metrics {
        Some(_) => status == StatusCode::OK,
        None if expected.is_empty() => status.is_success(),
        None => expected.contains(&status.as_u16()),
    }
}

/// The location of a redirect.
fn location(status: StatusCode, headers: &HeaderMap) -> Option<&[u8]> {
    let redirects = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    headers.get(header::LOCATION).filter(|_| redirects).map(|location| location.as_bytes())
}

fn follow(
    request: &Request,
    path: &str,
    status: StatusCode,
    location: &[u8],
    trace: &ProbeTrace,
) -> Result<Hop, Failure> {
    match redirect::read(location, &request.target, path) {
        Location::Same(path) => Ok(Hop::Redirected(path)),
        Location::Elsewhere(what) => {
            let message = format!(
                "status {} redirects to {what}; redirects are followed on the same host and port alone",
                status.as_u16()
            );
            Err(trace.failure(ErrorClass::HTTPStatus, message).with_detail(location))
        }
    }
}

/// An answer that is not followed further.
struct Answer<'a> {
    request: &'a Request,
    headers: &'a HeaderMap,
    body: Incoming,
}

impl Answer<'_> {
    /// Requires a page that Prometheus can scrape.
    async fn page(self, options: &MetricsOptions, trace: &mut ProbeTrace) -> Result<(), Failure> {
        if let Some(what) = refused_by_prometheus(self.headers, trace) {
            let message = format!("Prometheus refuses this answer: {what}");
            return Err(trace.failure(ErrorClass::NotHTTP, message));
        }
        let content_type = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        trace.page = Some(page::Reader::new(content_type, options)?);
        let sink = Sink::new(options.most_bytes, 0, trace);
        let read = body::read(self.request, self.headers, self.body, sink).await.1;
        let read = match (read, trace.page.take()) {
            (Ok(()), Some(reader)) => {
                let (page, result) = reader.finish();
                trace.seen.page = Some(page);
                result
            }
            (read, reader) => {
                trace.page = reader;
                read
            }
        };
        read.map_err(|failure| match body::unread_coding(self.headers, true) {
            Some(coding) if failure.class == ErrorClass::Exposition => {
                // The place where the parser stopped is no line of the page.
                if let Some(reader) = trace.page.take() {
                    trace.seen.page = Some(reader.page().clone());
                }
                if let Some(page) = &mut trace.seen.page {
                    page.broken_at = None;
                }
                let message = format!(
                    "the page is sent with the Content-Encoding {coding}; Prometheus asks for gzip, and reads nothing else"
                );
                Failure { message, class: ErrorClass::ContentType, ..failure }
            }
            _ => failure,
        })
    }

    /// Requires a body that matches the spec.
    async fn text(self, trace: &mut ProbeTrace) -> Result<(), Failure> {
        let http = &self.request.http;
        let kept = if http.keep_body { http.most_kept } else { 0 };
        let asserts = http.body_matches.is_some() || http.body_not_matches.is_some();
        let wanted = if asserts { usize::try_from(http.most_body).unwrap_or(usize::MAX) } else { kept };
        self.refuse_compressed(trace)?;
        let sink = Sink::new(http.most_body, wanted, trace).feeding(http.reader.as_deref());
        let (text, result) = body::read(self.request, self.headers, self.body, sink).await;
        let (text, verdict) = match result {
            Ok(()) if asserts => matches(self.request, text, trace).await,
            result => (text, result),
        };
        let verdict = verdict.map_err(|failure| match body::unread_coding(self.headers, false) {
            Some(coding) if failure.class == ErrorClass::Assertion => {
                let message = format!("{} (it is sent with the Content-Encoding {coding}, uninvited)", failure.message);
                Failure { message, ..failure }
            }
            _ => failure,
        });
        keep(self.request, text, trace);
        verdict
    }

    /// A [`BodyReader`](crate::probe::BodyReader) asked for an uncompressed body.
    fn refuse_compressed(&self, trace: &ProbeTrace) -> Result<(), Failure> {
        let coding = self.headers.get(header::CONTENT_ENCODING).map_or(&b""[..], |coding| coding.as_bytes());
        let is_plain = coding.is_empty() || coding.trim_ascii().eq_ignore_ascii_case(b"identity");
        if self.request.http.reader.is_none() || is_plain {
            return Ok(());
        }
        let message = "the answer is compressed (Content-Encoding), although an uncompressed one was asked for";
        Err(trace.failure(ErrorClass::NotHTTP, message).with_detail(coding))
    }

    /// The failure of an unexpected status. The body is read for its detail; an error while reading it does not change the
    /// failure.
    async fn unexpected(self, status: StatusCode, trace: &mut ProbeTrace) -> Failure {
        let http = &self.request.http;
        let expected = match (&self.request.metrics, http.expected_status.as_slice()) {
            (Some(_), _) => "exactly 200".to_owned(),
            (None, []) => "200 to 299".to_owned(),
            (None, listed) => listed.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
        };
        let message = format!("the status is {}, expected {expected}", status.as_u16());
        let failure = trace.failure(ErrorClass::HTTPStatus, message);
        if is_head(self.request) {
            return failure;
        }
        trace.judged = Some(failure.clone());
        let (limit, kept) =
            if http.keep_body { (http.most_body, http.most_kept) } else { (DETAIL_BYTES as u64, DETAIL_BYTES) };
        let (text, _) = body::read(self.request, self.headers, self.body, Sink::new(limit, kept, trace)).await;
        let failure = if status == StatusCode::BAD_REQUEST && !self.request.target.scheme.is_tls() && wants_tls(&text) {
            trace.failure(
                ErrorClass::NotHTTP,
                "the port speaks TLS, and was asked in plain HTTP (it answers 400 and says so)",
            )
        } else {
            failure
        };
        let failure = failure.with_detail(&text);
        keep(self.request, text, trace);
        failure
    }
}

/// What Prometheus' client refuses in an answer, and this one does not.
fn refused_by_prometheus(headers: &HeaderMap, trace: &ProbeTrace) -> Option<&'static str> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return Some("its Transfer-Encoding is another one than chunked");
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length.as_bytes().contains(&b',')) {
        return Some("its Content-Length is a list");
    }
    let first = trace.answer.as_ref().map(|answer| answer.first()).unwrap_or_default();
    first.starts_with(b"\r").then_some("an empty line stands before its status")
}

/// Whether the text is that of a common server that was asked in plain HTTP on a TLS port: Go, nginx, Tomcat (and so
/// Spring Boot), Apache, Jetty.
fn wants_tls(text: &[u8]) -> bool {
    const MESSAGES: [&str; 4] = [
        "client sent an http request to an https server",
        "the plain http request was sent to https port",
        "this combination of host and port requires tls",
        "speaking plain http to an ssl-enabled server port",
    ];
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    MESSAGES.iter().any(|message| text.contains(message))
}

fn keep(request: &Request, mut text: Vec<u8>, trace: &mut ProbeTrace) {
    if request.http.keep_body {
        text.truncate(request.http.most_kept);
        trace.seen.body = Some(text);
    }
}

/// Checks the body against the expressions of the spec. Returns the body again.
async fn matches(request: &Request, text: Vec<u8>, trace: &mut ProbeTrace) -> (Vec<u8>, Result<(), Failure>) {
    let HttpOptions { body_matches, body_not_matches, .. } = &request.http;
    trace.is_matching = true;
    let found = pattern::find_all([body_matches.clone(), body_not_matches.clone()], text).await;
    trace.is_matching = false;
    let (text, [must, must_not]) = match found {
        Ok(found) => found,
        Err(why) => return (Vec::new(), Err(trace.failure(ErrorClass::Internal, why))),
    };
    let given_up = |field: &str, at: usize| {
        format!(
            "{field} was given up at byte {at} of the body: too much work. It has repetitions that overlap, such as \
             [ab]*a[ab]{{100}}: write a simpler expression"
        )
    };
    let failed = match (must, must_not) {
        (Match::GivenUpAt(at), _) => Some((given_up("bodyMatches", at), None)),
        (Match::None, _) if body_matches.is_some() => {
            Some(("the body does not match bodyMatches".to_owned(), Some(0..text.len())))
        }
        (_, Match::GivenUpAt(at)) => Some((given_up("bodyNotMatches", at), None)),
        (_, Match::EndsAt(end)) => {
            let message = format!("the body matches bodyNotMatches, up to byte {end}");
            Some((message, Some(end.saturating_sub(BEFORE_MATCH_END)..end)))
        }
        (_, Match::None) => None,
    };
    let verdict = failed.map_or(Ok(()), |(message, shown)| {
        let failure = trace.failure(ErrorClass::Assertion, message);
        Err(shown.map_or(failure.clone(), |shown| failure.with_detail(&text[shown])))
    });
    (text, verdict)
}
