//! Resolves the location of a redirect, and decides whether it is followed.

use hyper::Uri;

use crate::probe::{Target, literal};

/// The destination of a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// The same host and port, at this path and query.
    Same(String),
    /// A destination that is not followed, described without a word of the far side.
    Elsewhere(&'static str),
}

/// Resolves `location` from the answer to a request for `path` of `target` (RFC 3986, section 5.2).
pub(super) fn read(location: &[u8], target: &Target, path: &str) -> Location {
    let Some(location) = escaped(location) else { return Location::Elsewhere("something that is no URL") };
    let location = location.split('#').next().unwrap_or_default();
    let scheme = target.scheme.as_str();
    if has_scheme(location) {
        absolute(location, target)
    } else if location.starts_with("//") {
        absolute(&format!("{scheme}:{location}"), target)
    } else {
        relative(location, path)
    }
}

/// The location with every byte escaped that a URL must not have, as Go and curl do: blanks and characters of other
/// scripts are common there. `None` when it has a control character.
fn escaped(location: &[u8]) -> Option<String> {
    let mut escaped = String::new();
    for byte in location.trim_ascii() {
        match byte {
            0..0x20 | 0x7F => return None,
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                escaped.push_str(&format!("%{byte:02X}"));
            }
            byte => escaped.push(char::from(*byte)),
        }
    }
    Some(escaped)
}

/// Whether `location` begins with a scheme: a letter, then letters, digits, `+`, `-`, `.`, then a colon.
fn has_scheme(location: &str) -> bool {
    let Some((scheme, _)) = location.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn absolute(location: &str, target: &Target) -> Location {
    let Ok(uri) = location.parse::<Uri>() else { return Location::Elsewhere("something that is no URL") };
    let scheme = match uri.scheme_str() {
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => "http",
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
        _ => return Location::Elsewhere("something that is neither http nor https"),
    };
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    if !uri.host().is_some_and(|host| same_host(host, &target.host)) {
        return Location::Elsewhere("another host");
    }
    if scheme != target.scheme.as_str() {
        return Location::Elsewhere(if scheme == "https" { "https on this host" } else { "plain http on this host" });
    }
    if port != target.port {
        return Location::Elsewhere("another port of this host");
    }
    Location::Same(uri.path_and_query().map_or("/", |path| path.as_str()).to_owned())
}

fn same_host(one: &str, other: &str) -> bool {
    let plain = |host: &str| host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let (one, other) = (plain(one), plain(other));
    one == other || literal::address(&one).is_some_and(|address| literal::address(&other) == Some(address))
}

fn relative(location: &str, path: &str) -> Location {
    let bare = path.split('?').next().unwrap_or_default();
    let joined = if location.is_empty() {
        path.to_owned()
    } else if location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with('?') {
        format!("{bare}{location}")
    } else {
        let folder = bare.rfind('/').map_or("/", |at| &bare[..=at]);
        format!("{folder}{location}")
    };
    let (bare, query) = joined.split_once('?').map_or((joined.as_str(), None), |(bare, query)| (bare, Some(query)));
    let bare = without_dots(bare);
    Location::Same(query.map_or(bare.clone(), |query| format!("{bare}?{query}")))
}

/// Removes dot segments (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Whether a location looks like a login page, by a word of its path or host.
pub(super) fn is_login(location: &[u8]) -> bool {
    const WORDS: [&str; 14] = [
        "login",
        "signin",
        "sign_in",
        "sign-in",
        "log-in",
        "log_in",
        "logon",
        "sso",
        "oauth",
        "oauth2",
        "saml",
        "saml2",
        "auth",
        "authorize",
    ];
    let location = String::from_utf8_lossy(location).to_ascii_lowercase();
    let before_query = location.split(['?', '#']).next().unwrap_or_default();
    before_query.split(['/', '.', ':', ';']).any(|word| WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Scheme;

    fn target(scheme: Scheme, host: &str, port: u16) -> Target {
        Target { scheme, host: host.to_owned(), port, path: "/".to_owned(), address: None, is_own: false }
    }

    #[test]
    fn locations_are_joined_as_rfc_3986_says() {
        let here = target(Scheme::Http, "example.com", 8080);
        let cases = [
            ("/b", "/b"),
            ("b", "/a/b"),
            ("?q=1", "/a/x?q=1"),
            ("", "/a/x?y"),
            ("../b?c=/../d", "/b?c=/../d"),
            ("./b/./c/..", "/a/b/"),
            ("../../../b", "/b"),
            ("/b#part", "/b"),
            ("http://example.com:8080", "/"),
            ("HTTP://EXAMPLE.com.:8080/b?c", "/b?c"),
            ("//example.com:8080/b", "/b"),
            (" /b c?d e ", "/b%20c?d%20e"),
            ("m\u{e9}trics", "/a/m%C3%A9trics"),
            ("http://example.com:8080/b c<d>", "/b%20c%3Cd%3E"),
            ("/b%20c%C3", "/b%20c%C3"),
            ("b:80/c".trim_start_matches("b:80/"), "/a/c"),
        ];
        for (location, expected) in cases {
            assert_eq!(read(location.as_bytes(), &here, "/a/x?y"), Location::Same(expected.to_owned()), "{location}");
        }
    }

    #[test]
    fn another_host_port_or_scheme_is_elsewhere() {
        let here = target(Scheme::Http, "example.com", 80);
        let cases = [
            ("http://example.com.evil.example/", "another host"),
            ("http://example.com@evil.example/", "another host"),
            ("//evil.example", "another host"),
            ("http://example.com:8080/", "another port of this host"),
            ("https://example.com/", "https on this host"),
            ("https://example.com:80/", "https on this host"),
            ("ftp://example.com/", "something that is neither http nor https"),
            ("javascript:alert(1)", "something that is no URL"),
            ("http://[::1/", "something that is no URL"),
            ("http:///b", "something that is no URL"),
        ];
        for (location, expected) in cases {
            let found = read(location.as_bytes(), &here, "/");
            assert!(matches!(found, Location::Elsewhere(_)), "{location}: {found:?}");
            if !expected.starts_with("something") {
                assert_eq!(found, Location::Elsewhere(expected), "{location}");
            }
        }
        assert_eq!(read(b"/a\x01b", &here, "/"), Location::Elsewhere("something that is no URL"));
        let secure = target(Scheme::Https, "example.com", 443);
        assert_eq!(read(b"http://example.com/", &secure, "/"), Location::Elsewhere("plain http on this host"));
        let six = target(Scheme::Http, "::1", 80);
        assert_eq!(read(b"http://[::1]/b", &six, "/"), Location::Same("/b".to_owned()));
    }

    #[test]
    fn a_login_page_is_told_by_its_path() {
        for location in
            ["/login", "/login?next=/x", "https://sso.example.com/x", "/oauth2/authorization/a", "/Login.html"]
        {
            assert!(is_login(location.as_bytes()), "{location}");
        }
        for location in ["/", "/authors", "/blog/in", "/x?next=/login", "/catalogin"] {
            assert!(!is_login(location.as_bytes()), "{location}");
        }
    }
}
