//! Derives the format of a page from its content type alone.

use crate::api::{ErrorClass, Phase};
use crate::probe::Failure;

use super::excerpt::excerpt;

/// The format of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `text/plain`, of any version.
    Text,
    /// `application/openmetrics-text`, of any version.
    OpenMetrics,
}

/// Common content types of answers that are no metrics pages. They may be named in a message: the message then contains a
/// known word instead of one that the far side sent.
const COMMON: [&str; 8] = [
    "text/html",
    "application/json",
    "application/vnd.google.protobuf",
    "application/xml",
    "text/xml",
    "application/octet-stream",
    "application/problem+json",
    "application/xhtml+xml",
];

/// The format of `content_type`, parsed as Prometheus 3 does: the media type must be one of two, its parameters must be
/// well-formed, and their values do not matter.
///
/// # Errors
/// `ContentType` when it is missing (Prometheus 2 reads such a page as the text format, Prometheus 3 refuses it), cannot be
/// parsed, or is another type. Protobuf is another type: it was not requested.
pub(super) fn format(content_type: Option<&str>) -> Result<Format, Failure> {
    let given = content_type.unwrap_or_default();
    if given.is_empty() {
        let message = "the answer has no content type: Prometheus 3 refuses such a page unless \
                       fallback_scrape_protocol is set for it";
        return Err(failure(message.to_owned(), None));
    }
    let media = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !is_well_formed(given, &media) {
        return Err(failure("the content type of the answer is not well-formed".to_owned(), Some(given)));
    }
    match media.as_str() {
        "text/plain" => Ok(Format::Text),
        "application/openmetrics-text" => Ok(Format::OpenMetrics),
        other => {
            let named =
                COMMON.iter().find(|common| **common == other).map(|common| format!("the content type is {common}"));
            let named = named.unwrap_or_else(|| "the content type is another one".to_owned());
            let message = format!("{named}: a metrics page is text/plain or application/openmetrics-text");
            Err(failure(message, Some(given)))
        }
    }
}

fn failure(message: String, given: Option<&str>) -> Failure {
    let detail = given.map(|given| format!("Content-Type: {}", excerpt(given.as_bytes(), 0)));
    Failure { detail, ..Failure::new(ErrorClass::ContentType, Phase::Body, message) }
}

/// Whether the media type is `type/subtype` and every parameter has a name of its own and a value (RFC 9110, 8.3.1, as
/// Go's `mime.ParseMediaType` parses it). Semicolons at the end are not parameters.
fn is_well_formed(given: &str, media: &str) -> bool {
    let mut parts = media.splitn(2, '/');
    if !parts.next().is_some_and(is_token) || !parts.next().is_none_or(is_token) {
        return false;
    }
    let mut names: Vec<String> = Vec::new();
    let mut rest = given.find(';').map_or("", |at| &given[at..]);
    loop {
        rest = rest.trim_start();
        let Some(behind) = rest.strip_prefix(';') else { return rest.is_empty() };
        let behind = behind.trim_start();
        if behind.is_empty() {
            return true;
        }
        let Some((name, after)) = parameter(behind) else { return false };
        if names.contains(&name) {
            return false;
        }
        names.push(name);
        rest = after;
    }
}

/// Parses one `name=value`. Returns the name and the rest.
fn parameter(text: &str) -> Option<(String, &str)> {
    let (name, behind) = text.split_at(text.find(|c| !is_token_char(c))?);
    let value = behind.trim_start().strip_prefix('=')?.trim_start();
    let end = match value.strip_prefix('"') {
        Some(quoted) => 1 + end_of_quoted(quoted)?,
        None => value.find(|c| !is_token_char(c)).unwrap_or(value.len()),
    };
    (!name.is_empty() && end > 0).then(|| (name.to_ascii_lowercase(), &value[end..]))
}

/// The position after the closing quote.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return Some(at + 1),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}
