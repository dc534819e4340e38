//! From a spec to what is asked: the one place in which `spec.probe` and a URL become a probe's request.

use std::fmt;
use std::sync::Arc;

use axum::http::Uri;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use regex::bytes::{Regex, RegexBuilder};

use crate::api::{ActuatorProbe, HttpMethod, HttpProbe, MetricsProbe, ProbeSpec, TargetScheme};
use crate::probe::{HttpOptions, Method, MetricsOptions, Request, Scheme, Target, TlsOptions};

#[cfg(test)]
mod tests;

/// How large a compiled regular expression may be, in bytes: 1 MiB. Tenants write them, and each is held.
const MOST_REGEX: usize = 1 << 20;

/// What the references of a spec to Secrets stand for. Each of them that the spec has must be here.
#[derive(Clone, Default)]
pub struct Resolved {
    /// Values of headers by their names, as the spec writes them.
    pub headers: Vec<(String, String)>,
    /// The bearer token.
    pub bearer_token: Option<String>,
    /// User name and password.
    pub basic_auth: Option<(String, String)>,
    /// Authorities to trust in place of the system's, PEM.
    pub ca: Option<Arc<[u8]>>,
    /// Our certificate chain and its key, PEM.
    pub client: Option<(Arc<[u8]>, Arc<[u8]>)>,
}

// By hand: what is in it goes into no log.
impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved").finish_non_exhaustive()
    }
}

/// The request that `spec` makes of `target`. What `secrets` holds is used whether the spec refers to it or not.
///
/// # Errors
/// A sentence that names the field: a regular expression that cannot be compiled, or a reference to a Secret that
/// `secrets` lacks.
pub fn request(spec: &ProbeSpec, target: Target, secrets: &Resolved) -> Result<Request, String> {
    Ok(Request {
        target,
        timeout: spec.timeout(),
        http: http_options(&spec.http, secrets)?,
        tls: tls_options(&spec.http, secrets)?,
        metrics: spec.metrics.as_ref().map(metrics_options),
    })
}

/// The request by which the actuator of the target of `request` is read, as `spec.probe.actuator` says: beside the
/// target or on a port of its own, which speaks HTTP whatever the target does.
pub fn actuator_request(request: &Request, actuator: &ActuatorProbe) -> Request {
    let mut request = request.clone();
    let target = &mut request.target;
    if let Some(port) = actuator.port.and_then(|port| u16::try_from(port).ok()) {
        target.port = port;
    }
    target.scheme = if target.scheme.is_tls() { Scheme::Https } else { Scheme::Http };
    request
}

/// The scheme as the prober knows it.
pub const fn scheme(scheme: TargetScheme) -> Scheme {
    match scheme {
        TargetScheme::Http => Scheme::Http,
        TargetScheme::Https => Scheme::Https,
        TargetScheme::Tcp => Scheme::Tcp,
        TargetScheme::Grpc => Scheme::Grpc,
        TargetScheme::Grpcs => Scheme::Grpcs,
    }
}

/// The path as the prober wants it: beginning with a slash for HTTP; for gRPC the name of the service, without it.
pub fn path(scheme: Scheme, path: &str) -> String {
    match scheme {
        Scheme::Http | Scheme::Https if path.starts_with('/') => path.to_owned(),
        Scheme::Http | Scheme::Https => format!("/{path}"),
        Scheme::Grpc | Scheme::Grpcs => path.trim_start_matches('/').to_owned(),
        Scheme::Tcp => String::new(),
    }
}

/// The target that a URL names: `http`, `https`, `tcp`, `grpc` or `grpcs`.
///
/// # Errors
/// A sentence that says what the URL lacks, or has too much. No part of a user or a password is in it.
pub fn target_of_url(url: &str) -> Result<Target, String> {
    if url.contains('#') {
        return Err("the URL has a fragment (#…), which is not sent to a server".to_owned());
    }
    let uri: Uri = url.parse().map_err(|error| format!("this is no URL: {error}"))?;
    let Some((named, authority)) = uri.scheme_str().zip(uri.authority()) else {
        return Err("the URL must begin with http://, https://, tcp://, grpc:// or grpcs://".to_owned());
    };
    let scheme = scheme(named.parse::<TargetScheme>()?);
    if authority.as_str().contains('@') {
        return Err("the URL may hold no user and no password".to_owned());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("the URL has no host".to_owned());
    }
    let given = authority.port().map(|port| port.as_str().parse::<u16>().ok().filter(|port| *port > 0));
    let port = match given {
        Some(port) => port.ok_or("the URL's port is none of 1 to 65535")?,
        None if authority.as_str().ends_with(':') => return Err("the URL's port is none of 1 to 65535".to_owned()),
        None => scheme.default_port().ok_or_else(|| format!("a {named} URL needs a port: there is no usual one"))?,
    };
    let path = path(scheme, uri.path_and_query().map_or("/", |path| path.as_str()));
    Ok(Target { scheme, host: host.to_owned(), port, path, address: None, is_own: false })
}

fn http_options(spec: &HttpProbe, secrets: &Resolved) -> Result<HttpOptions, String> {
    let HttpProbe {
        method,
        headers: _,
        expected_status,
        body_matches,
        body_not_matches,
        follow_redirects,
        tls: _,
        bearer_token_secret_ref: _,
        basic_auth_secret_name: _,
    } = spec;
    Ok(HttpOptions {
        method: match method {
            HttpMethod::GET => Method::Get,
            HttpMethod::HEAD => Method::Head,
        },
        headers: headers(spec, secrets)?,
        expected_status: expected_status.iter().filter_map(|status| u16::try_from(*status).ok()).collect(),
        body_matches: regex("bodyMatches", body_matches.as_deref())?,
        body_not_matches: regex("bodyNotMatches", body_not_matches.as_deref())?,
        follow_redirects: *follow_redirects,
        ..HttpOptions::default()
    })
}

fn headers(spec: &HttpProbe, secrets: &Resolved) -> Result<Vec<(String, String)>, String> {
    let mut headers = Vec::new();
    for header in &spec.headers {
        let name = &header.name;
        let resolved = secrets.headers.iter().find(|(named, _)| named.eq_ignore_ascii_case(name));
        let value = match (&header.value, resolved) {
            (Some(value), _) | (None, Some((_, value))) => value.clone(),
            (None, None) => return Err(unresolved(&format!("headers[{name}].valueFrom"))),
        };
        headers.push((name.clone(), value));
    }
    match (&secrets.bearer_token, &secrets.basic_auth) {
        (Some(token), _) => headers.push(("Authorization".to_owned(), format!("Bearer {token}"))),
        (None, _) if spec.bearer_token_secret_ref.is_some() => return Err(unresolved("bearerTokenSecretRef")),
        (None, Some((user, password))) => {
            let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
            headers.push(("Authorization".to_owned(), format!("Basic {both}")));
        }
        (None, None) if spec.basic_auth_secret_name.is_some() => return Err(unresolved("basicAuthSecretName")),
        (None, None) => {}
    }
    Ok(headers)
}

fn tls_options(spec: &HttpProbe, secrets: &Resolved) -> Result<TlsOptions, String> {
    let given = spec.tls.as_ref();
    if given.is_some_and(|tls| tls.ca_secret_ref.is_some()) && secrets.ca.is_none() {
        return Err(unresolved("tls.caSecretRef"));
    }
    if given.is_some_and(|tls| tls.client_certificate_secret_name.is_some()) && secrets.client.is_none() {
        return Err(unresolved("tls.clientCertificateSecretName"));
    }
    Ok(TlsOptions {
        ca: secrets.ca.clone(),
        server_name: given.and_then(|tls| tls.server_name.clone()),
        insecure_skip_verify: given.is_some_and(|tls| tls.insecure_skip_verify),
        client: secrets.client.clone(),
    })
}

fn unresolved(field: &str) -> String {
    format!("spec.probe.http.{field} refers to a Secret that was not read")
}

fn metrics_options(spec: &MetricsProbe) -> MetricsOptions {
    let MetricsProbe { required } = spec;
    MetricsOptions { required: required.clone(), ..MetricsOptions::default() }
}

fn regex(field: &str, pattern: Option<&str>) -> Result<Option<Regex>, String> {
    let Some(pattern) = pattern else { return Ok(None) };
    let compiled = RegexBuilder::new(pattern).size_limit(MOST_REGEX).build();
    // regex draws the pattern over several lines, and says last what is wrong with it.
    let why = |error: regex::Error| error.to_string().lines().last().unwrap_or_default().trim().to_owned();
    compiled.map(Some).map_err(|error| {
        format!("spec.probe.http.{field} cannot be compiled: {}", why(error).trim_start_matches("error: "))
    })
}
