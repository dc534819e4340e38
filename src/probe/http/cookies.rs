//! The cookies of one probe: those that an answer sets are sent with the request that its redirect leads to.
//!
//! Some sites answer the first request with a cookie and a redirect to the same page, and redirect without end a client
//! that does not return the cookie. All requests of a probe go to one host and port, and the cookies end with the probe.
//! Expiry times are not looked at, except those that delete a cookie.

use hyper::header::{HeaderMap, HeaderValue, SET_COOKIE};

use crate::probe::Target;

/// The most cookies that are kept, and the most bytes of all of them.
const MOST: usize = 50;
const MOST_BYTES: usize = 8 << 10;

/// The cookies of one probe.
#[derive(Debug, Default)]
pub(super) struct Cookies(Vec<Cookie>);

#[derive(Debug, PartialEq, Eq)]
struct Cookie {
    name: String,
    value: String,
    path: String,
}

impl Cookies {
    /// Whether an answer has set a cookie.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the cookies that the answer to a request for `path` sets.
    pub(super) fn keep(&mut self, headers: &HeaderMap, target: &Target, path: &str) {
        for line in headers.get_all(SET_COOKIE) {
            let Some((cookie, is_deleted)) = line.to_str().ok().and_then(|line| parse(line, target, path)) else {
                continue;
            };
            self.0.retain(|other| other.name != cookie.name || other.path != cookie.path);
            let bytes: usize = self.0.iter().chain([&cookie]).map(|kept| kept.name.len() + kept.value.len()).sum();
            if !is_deleted && self.0.len() < MOST && bytes <= MOST_BYTES {
                self.0.push(cookie);
            }
        }
    }

    /// The value of the header `Cookie` of a request for `path`, behind what the spec sends.
    pub(super) fn header(&self, path: &str, of_spec: Option<&HeaderValue>) -> Option<HeaderValue> {
        let path = path.split('?').next().unwrap_or_default();
        let mut matching: Vec<&Cookie> = self.0.iter().filter(|cookie| is_below(path, &cookie.path)).collect();
        // The longest path first (RFC 6265, section 5.4).
        matching.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let own = matching.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value));
        let of_spec = of_spec.and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let all: Vec<String> = of_spec.into_iter().chain(own).collect();
        let mut value = HeaderValue::from_str(&all.join("; ")).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Parses one `Set-Cookie` (RFC 6265, section 5.2): the cookie, and whether it is deleted. `None` when it is not one for
/// this target.
fn parse(line: &str, target: &Target, path: &str) -> Option<(Cookie, bool)> {
    let mut parts = line.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let mut cookie = Cookie { name: name.to_owned(), value: value.to_owned(), path: folder(path) };
    let mut is_deleted = false;
    for part in parts {
        let (attribute, value) =
            part.split_once('=').map_or((part, ""), |(attribute, value)| (attribute, value.trim()));
        match attribute.trim().to_ascii_lowercase().as_str() {
            "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
            "domain" if !is_of(&target.host, value) => return None,
            "secure" if !target.scheme.is_tls() => return None,
            "max-age" => is_deleted = value.parse::<i64>().is_ok_and(|seconds| seconds <= 0),
            "expires" => is_deleted |= value.contains("1970"),
            _ => {}
        }
    }
    (!name.is_empty()).then_some((cookie, is_deleted))
}

/// The default path of a cookie: that of the request up to its last slash.
fn folder(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    match path.rfind('/') {
        None | Some(0) => "/".to_owned(),
        Some(at) => path[..at].to_owned(),
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || folder.ends_with('/') || rest.starts_with('/'))
}

fn is_of(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.to_ascii_lowercase(), domain.trim_start_matches('.').to_ascii_lowercase());
    domain.is_empty() || host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Scheme;

    fn sent(scheme: Scheme, lines: &[&str], path: &str) -> String {
        let target = Target {
            scheme,
            host: "www.example.com".to_owned(),
            port: 80,
            path: "/".to_owned(),
            address: None,
            is_own: false,
        };
        let mut cookies = Cookies::default();
        for line in lines {
            let headers = [(SET_COOKIE, HeaderValue::from_str(line).unwrap())].into_iter().collect();
            cookies.keep(&headers, &target, "/shop/first?x=/y/");
        }
        cookies.header(path, None).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn cookies_are_returned_as_rfc_6265_says() {
        for (lines, path, expected) in [
            (&["a=1"][..], "/shop/next", "a=1"),
            (&["a=1"], "/shop", "a=1"),
            (&["a=1"], "/shopping", ""),
            (&["a=1; Path=/"], "/?q", "a=1"),
            (&["a=1; path=/shop; HttpOnly; SameSite=Lax", "b = 2"], "/shop/x", "a=1; b=2"),
            (&["a=1; Path=/", "b=2; Path=/shop/x"], "/shop/x/y", "b=2; a=1"),
            (&["a=1", "a=2"], "/shop/x", "a=2"),
            (&["a=1", "a=; Max-Age=0"], "/shop/x", ""),
            (&["a=1", "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "/shop/x", ""),
            (&["a=1; Max-Age=60; Expires=Thu, 01 Jan 2099 00:00:00 GMT"], "/shop/x", "a=1"),
            (&["a=1; Domain=.example.com"], "/shop/x", "a=1"),
            (&["a=1; Domain=example.org", "b=2; Domain=ample.com"], "/shop/x", ""),
            (&["a=1; Secure"], "/shop/x", ""),
            (&["=1", "novalue", ""], "/shop/x", ""),
        ] {
            assert_eq!(sent(Scheme::Http, lines, path), expected, "{lines:?} for {path}");
        }
        assert_eq!(sent(Scheme::Https, &["a=1; Secure"], "/shop/x"), "a=1");
    }

    #[test]
    fn a_server_cannot_make_a_request_large() {
        let many: Vec<String> = (0..100).map(|at| format!("c{at}={}", "x".repeat(1000))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(sent(Scheme::Http, &many, "/shop/x").len() < 10_000);
    }
}
