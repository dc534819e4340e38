//! Parsers of single flag values. The error of each says which value would be accepted.

use std::net::{IpAddr, SocketAddr};

use axum::http::Uri;
use ipnet::IpNet;

pub(crate) fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an IP address and a port are needed, such as 0.0.0.0:8080 or [::]:8080".to_owned())
}

pub(crate) fn namespace(text: &str) -> Result<String, String> {
    if crate::api::is_dns_label(text) {
        Ok(text.to_owned())
    } else {
        Err("a namespace has 1 to 63 characters a-z, 0-9 and -, and a letter or digit at both ends".to_owned())
    }
}

/// The name of an object: labels with dots between them (RFC 1123), at most 253 characters.
pub(crate) fn name(text: &str) -> Result<String, String> {
    if text.len() <= 253 && text.split('.').all(crate::api::is_dns_label) {
        Ok(text.to_owned())
    } else {
        Err("a name has characters a-z, 0-9, - and ., and a letter or digit at both ends".to_owned())
    }
}

/// A network; a single address is the network of only itself.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().map_err(|_| ());
    let network = network.or_else(|()| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| ()));
    match network {
        Ok(network) if network.addr() != network.network() => {
            Err(format!("{text} has bits set behind its prefix: did you mean {}?", network.trunc()))
        }
        Ok(network) => Ok(network),
        Err(()) => Err("a network in CIDR notation is needed, such as 10.0.0.0/8 or fd00::/8".to_owned()),
    }
}

/// The base of an HTTP URL, without a slash at the end.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|_| format!("{text:?} is no URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("a URL that begins with http:// or https:// is needed".to_owned());
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("the URL may carry no user or password".to_owned());
    }
    if uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
        return Err("a URL with a host and without a query is needed, such as https://vigie.example.com".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

pub(crate) fn log_filter(text: &str) -> Result<String, String> {
    let filter = tracing_subscriber::EnvFilter::builder().parse(text);
    // The parser takes any single word for the name of a module, and would then log nothing at all.
    let known = |part: &str| part.contains('=') || part.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    match filter {
        Ok(_) if text.split(',').all(|part| known(part.trim())) => Ok(text.to_owned()),
        _ => Err("error, warn, info, debug or trace is needed, or a list such as info,vigie::leader=debug".to_owned()),
    }
}
