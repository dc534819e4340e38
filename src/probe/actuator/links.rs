//! Parses the list of links at the actuator's base path.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hyper::Uri;
use serde_json::Value;

use super::is_word;
use crate::probe::{Scheme, Target};

/// The most links that are kept.
const MAX_LINKS: usize = 64;
/// The longest path, in bytes.
const MAX_PATH: usize = 256;

/// The links of an actuator by name, and their paths. Only links at the origin of the request, and no templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links(pub BTreeMap<String, String>);

impl Links {
    /// Parses the list that `target` answered with. `None` when `body` is not one.
    pub fn read(body: &[u8], target: &Target) -> Option<Self> {
        let page: Value = serde_json::from_slice(body).ok()?;
        let listed = page.get("_links")?.as_object()?;
        let link = |(rel, link): (&String, &Value)| {
            let templated = link.get("templated").and_then(Value::as_bool).unwrap_or(false);
            let path = path(link.get("href")?.as_str()?, target)?;
            (!templated && is_word(rel)).then(|| (rel.clone(), path))
        };
        Some(Self(listed.iter().filter_map(link).take(MAX_LINKS).collect()))
    }
}

/// The path of `href`, if it leads to the origin of `target`: without its query, and only of plain path characters.
fn path(href: &str, target: &Target) -> Option<String> {
    let uri: Uri = href.parse().ok()?;
    let same = match (uri.scheme_str(), uri.authority()) {
        (None, None) => true,
        (Some(scheme), Some(authority)) => {
            let default = match scheme {
                "http" => Scheme::Http.default_port(),
                "https" => Scheme::Https.default_port(),
                _ => None,
            };
            scheme == target.scheme.as_str()
                && !authority.as_str().contains('@')
                && same_host(authority.host(), &target.host)
                && authority.port_u16().or(default) == Some(target.port)
        }
        _ => false,
    };
    let path = uri.path();
    // A path of two slashes would be another host in a request line that is read as a reference.
    let is_absolute = path.starts_with('/') && !path.starts_with("//");
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte);
    let plain = path.len() <= MAX_PATH && path.bytes().all(allowed) && !path.split('/').any(|part| part == "..");
    (same && is_absolute && plain).then(|| path.to_owned())
}

fn same_host(one: &str, other: &str) -> bool {
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let (one, other) = (bare(one), bare(other));
    let address = |host: &str| host.parse::<IpAddr>().ok();
    one == other || address(&one).is_some_and(|one| address(&other) == Some(one))
}
