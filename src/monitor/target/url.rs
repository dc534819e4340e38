//! Parses and formats targets as URLs.

use crate::api::TargetScheme;
use crate::probe::{Scheme, Target};

/// Parses the URL of a target.
///
/// # Errors
/// A message that names the part that cannot be parsed. The API server has refused most such URLs at admission.
pub fn of_url(url: &str) -> Result<Target, String> {
    let (scheme_word, rest) = url.split_once("://").ok_or("spec.target.url has no scheme")?;
    let scheme = scheme(scheme_word.parse()?);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path_query) = rest.split_at(end);
    if authority.contains('@') {
        return Err("spec.target.url must hold no user and no password".to_owned());
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or_default()),
        None => authority.rsplit_once(':').unwrap_or((authority, "")),
    };
    if host.is_empty() {
        return Err("spec.target.url has no host".to_owned());
    }
    let port = match (port, scheme.default_port()) {
        ("", Some(port)) => port,
        ("", None) => return Err(format!("spec.target.url needs a port: {} has none of its own", scheme.as_str())),
        (port, _) => port.parse().map_err(|_| format!("spec.target.url: {port:?} is no port"))?,
    };
    let path_query = path_query.split('#').next().unwrap_or_default();
    let path = match scheme {
        Scheme::Http | Scheme::Https if path_query.starts_with('/') => path_query.to_owned(),
        Scheme::Http | Scheme::Https => format!("/{path_query}"),
        Scheme::Tcp | Scheme::Grpc | Scheme::Grpcs => path_query.trim_start_matches('/').to_owned(),
    };
    Ok(Target { scheme, host: ascii_host(host)?, port, path, address: None, is_own: false })
}

/// The host as names are looked up and sent: one in another script in punycode.
fn ascii_host(host: &str) -> Result<String, String> {
    if host.is_ascii() {
        return Ok(host.to_owned());
    }
    idna::domain_to_ascii(host).map_err(|_| "spec.target.url: its host is no name that punycode can hold".to_owned())
}

/// Formats a target as a URL without credentials.
pub fn as_url(target: &Target) -> String {
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let slash = if target.path.is_empty() || target.path.starts_with('/') { "" } else { "/" };
    format!("{}://{host}:{}{slash}{}", target.scheme.as_str(), target.port, target.path)
}

/// Converts the scheme of the API into that of `probe`.
pub(super) fn scheme(of: TargetScheme) -> Scheme {
    match of {
        TargetScheme::Http => Scheme::Http,
        TargetScheme::Https => Scheme::Https,
        TargetScheme::Tcp => Scheme::Tcp,
        TargetScheme::Grpc => Scheme::Grpc,
        TargetScheme::Grpcs => Scheme::Grpcs,
    }
}

/// The path of a target: of HTTP the request path, of gRPC the service name; TCP has none.
pub(super) fn path(of: TargetScheme, path: Option<&str>) -> String {
    match of {
        TargetScheme::Http | TargetScheme::Https => path.unwrap_or("/").to_owned(),
        TargetScheme::Tcp => String::new(),
        TargetScheme::Grpc | TargetScheme::Grpcs => path.unwrap_or_default().trim_start_matches('/').to_owned(),
    }
}
