//! URLs in Prometheus' answers.

use axum::http::Uri;

/// Host in lower case and without brackets, and port, of a URL.
pub(in super::super) fn host_and_port(url: &str) -> Option<(String, Option<u16>)> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_lowercase();
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Some((host, Some(uri.port_u16().unwrap_or(usual))))
}

/// The text without the user info and the query of each URL: both may hold secrets.
pub(in super::super) fn without_secrets(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after.find(|letter: char| letter.is_whitespace() || letter == '"').unwrap_or(after.len());
        let (url, after) = after.split_at(end);
        let path = url.find(['/', '?', '#']).unwrap_or(url.len());
        let (authority, path) = url.split_at(path);
        clean.push_str(authority.rsplit('@').next().unwrap_or_default());
        clean.push_str(path.split(['?', '#']).next().unwrap_or_default());
        rest = after;
    }
    clean.push_str(rest);
    clean
}
