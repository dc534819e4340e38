//! The agent's configuration: `/etc/vigie/agent.yaml`, in the words of the custom resource. Both halves read it; the file is
//! root's, and it alone says what is looked at and what may be restarted.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hyper::Uri;
use ipnet::IpNet;
use serde::Deserialize;

use crate::api::{CheckSpec, CheckType, Key, MAX_BACKENDS, Target, is_dns_label};

/// Longest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 256 << 10;
/// Most targets that may be restarted.
const MAX_RESTART: usize = 16;
/// The socket of Docker. Podman's is `/run/podman/podman.sock`.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// The configuration is missing or wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BadConfig(pub String);

/// The configuration of the agent and of its helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The operator, for example `https://vigie.example.com`.
    pub url: Uri,
    /// The connector that the agent beats for.
    pub connector: Key,
    /// The file with the token, where systemd gives no credential.
    pub token_file: Option<PathBuf>,
    /// A file with the certificates that the operator's is checked by, instead of those of the host.
    pub ca_file: Option<PathBuf>,
    /// The proxy to the operator, instead of that of `HTTPS_PROXY`.
    pub proxy: Option<String>,
    /// Whether the token may go over `http://`.
    pub allow_insecure: bool,
    /// The unit of the connector; `None` on a host that has backends alone.
    pub unit: Option<Target>,
    /// The checks that are reported: exactly these, one entry for each type.
    pub checks: Vec<CheckConfig>,
    /// The backends that run on this host.
    pub backends: Vec<BackendConfig>,
    /// What may be restarted. Nothing else ever is.
    pub restart: Vec<Target>,
    /// Whether an absent container of a compose service is created by `docker compose up -d`.
    pub compose_up: bool,
    /// The socket of Docker or Podman.
    pub docker_socket: PathBuf,
}

/// One check, and its parameters where they differ from the defaults.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckConfig {
    /// Which check.
    #[serde(rename = "type")]
    pub type_: CheckType,
    /// For Process: the unit, where it is not that of the connector.
    #[serde(default)]
    pub unit: Option<Target>,
    /// For the WireGuard checks, OverlayRoute and IPForwarding: the interface; `None` = wg0.
    #[serde(default)]
    pub interface_name: Option<String>,
    /// For OverlayRoute and NATRules: the networks behind the tunnel; empty = 100.64.0.0/10.
    #[serde(default, rename = "overlayCIDRs", deserialize_with = "networks")]
    pub overlay_cidrs: Vec<IpNet>,
    /// For WireGuardHandshake: how old the last handshake may be, 30 to 86400; `None` = 210.
    #[serde(default)]
    pub max_handshake_age_seconds: Option<u32>,
    /// For Process: an endpoint on this host that must answer.
    #[serde(default)]
    pub probe: Option<String>,
}

/// One backend that runs on this host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendConfig {
    /// The name of the MonitoredBackend, in the namespace of the connector.
    pub name: String,
    /// What runs it.
    pub unit: Target,
    /// An endpoint on this host that must answer, for example `http://127.0.0.1:8081/actuator/health`.
    #[serde(default)]
    pub probe: Option<String>,
}

/// The file, before anything is checked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    url: String,
    connector: String,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    proxy: Option<String>,
    #[serde(default)]
    allow_insecure: bool,
    unit: Option<Target>,
    #[serde(default)]
    checks: Vec<CheckConfig>,
    #[serde(default)]
    backends: Vec<BackendConfig>,
    #[serde(default)]
    restart: Vec<Target>,
    #[serde(default)]
    compose_up: bool,
    docker_socket: Option<PathBuf>,
}

/// A key of the file and the fault of its value.
struct Fault(&'static str, String);

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, is no YAML, has an unknown key, or a value of it is wrong; the message begins with `FILE:LINE`.
    pub fn read(path: &Path) -> Result<Self, BadConfig> {
        use std::io::Read;
        let unreadable = |error: std::io::Error| BadConfig(format!("{}: {error}", path.display()));
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        file.take(MAX_CONFIG + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_CONFIG {
            return Err(BadConfig(format!("{}: longer than {} KiB", path.display(), MAX_CONFIG >> 10)));
        }
        Self::parse(&text, &path.display().to_string())
    }

    /// The configuration in `text`, which stands in the file `name`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, name: &str) -> Result<Self, BadConfig> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let message = error.without_snippet().to_string();
            BadConfig(format!("{name}:{line}: {}", message.trim_start_matches("error: ")))
        })?;
        file.check()
            .map_err(|Fault(key, message)| BadConfig(format!("{name}:{}: {key}: {message}", line_of(text, key))))
    }

    /// What this configuration looks after: the only targets that the helper knows.
    pub fn targets(&self) -> BTreeSet<&Target> {
        let checks = self.checks.iter().filter_map(|check| check.unit.as_ref());
        let backends = self.backends.iter().map(|backend| &backend.unit);
        self.unit.iter().chain(checks).chain(backends).chain(&self.restart).collect()
    }

    /// This configuration, with the parameters of `spec.checks[]` where the file says nothing. A unit is never taken from
    /// the operator.
    #[must_use]
    pub fn with_parameters(&self, spec: &[CheckSpec]) -> Self {
        let mut config = self.clone();
        for check in &mut config.checks {
            let Some(told) = spec.iter().find(|told| told.type_ == check.type_) else { continue };
            let interface = told.interface_name.as_ref().filter(|name| is_interface(name));
            check.interface_name = check.interface_name.take().or_else(|| interface.cloned());
            if check.overlay_cidrs.is_empty() {
                check.overlay_cidrs = told.overlay_cidrs.iter().filter_map(|network| network.parse().ok()).collect();
            }
            let age = told.max_handshake_age_seconds.and_then(|age| u32::try_from(age).ok());
            let age = age.filter(|age| HANDSHAKE_AGE.contains(age));
            check.max_handshake_age_seconds = check.max_handshake_age_seconds.or(age);
        }
        config
    }
}

/// How old a handshake may be allowed to be, in seconds, as in the custom resource.
const HANDSHAKE_AGE: std::ops::RangeInclusive<u32> = 30..=86_400;

impl File {
    fn check(self) -> Result<Config, Fault> {
        let url = url(&self.url, self.allow_insecure)?;
        let connector = connector(&self.connector)?;
        check_checks(&self.checks)?;
        check_backends(&self.backends)?;
        if self.restart.len() > MAX_RESTART {
            return Err(Fault("restart", format!("at most {MAX_RESTART} targets, not {}", self.restart.len())));
        }
        let wants_unit = |check: &CheckConfig| check.type_ == CheckType::Process && check.unit.is_none();
        if self.unit.is_none() && self.checks.iter().any(wants_unit) {
            return Err(Fault(
                "checks",
                "Process needs a unit: set unit: at the top, or in the check itself".to_owned(),
            ));
        }
        Ok(Config {
            url,
            connector,
            token_file: self.token_file,
            ca_file: self.ca_file,
            proxy: self.proxy.filter(|proxy| !proxy.is_empty()),
            allow_insecure: self.allow_insecure,
            unit: self.unit,
            checks: self.checks,
            backends: self.backends,
            restart: self.restart,
            compose_up: self.compose_up,
            docker_socket: self.docker_socket.unwrap_or_else(|| DOCKER_SOCKET.into()),
        })
    }
}

fn networks<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let parse = |text: &String| text.parse().map_err(|_| format!("{text:?} is no network, for example 100.64.0.0/10"));
    let networks = Vec::<String>::deserialize(from)?;
    networks.iter().map(parse).collect::<Result<_, String>>().map_err(serde::de::Error::custom)
}

fn url(text: &str, allow_insecure: bool) -> Result<Uri, Fault> {
    let fault = |message: String| Fault("url", message);
    let url: Uri = text.trim_end_matches('/').parse().map_err(|error| fault(format!("{text:?} is no URL: {error}")))?;
    let is_plain = match url.scheme_str() {
        Some("https") => false,
        Some("http") => true,
        _ => return Err(fault(format!("{text:?} does not begin with https://"))),
    };
    if is_plain && !allow_insecure {
        let message = "the token would go over http:// in plain text: use https://, or set allowInsecure: true";
        return Err(fault(message.to_owned()));
    }
    if url.query().is_some() || url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(fault("a host, a port and a path, without a user and without a query".to_owned()));
    }
    Ok(url)
}

fn connector(text: &str) -> Result<Key, Fault> {
    let wrong = || Fault("connector", format!("{text:?} is not NAMESPACE/NAME, for example gateways/edge-1"));
    let (namespace, name) = text.split_once('/').ok_or_else(wrong)?;
    let is_name = !name.is_empty() && name.len() <= 253 && name.split('.').all(is_dns_label);
    if !is_dns_label(namespace) || !is_name {
        return Err(wrong());
    }
    Ok(Key { namespace: namespace.into(), name: name.into() })
}

fn check_checks(checks: &[CheckConfig]) -> Result<(), Fault> {
    for (at, check) in checks.iter().enumerate() {
        let fault = |message: String| Err(Fault("checks", format!("{}: {message}", check.type_)));
        if checks[..at].iter().any(|other| other.type_ == check.type_) {
            return fault("it is there twice".to_owned());
        }
        if let Some(name) = check.interface_name.as_ref().filter(|name| !is_interface(name)) {
            return fault(format!("interfaceName {name:?} is no name of a network interface"));
        }
        if let Some(age) = check.max_handshake_age_seconds.filter(|age| !HANDSHAKE_AGE.contains(age)) {
            return fault(format!("maxHandshakeAgeSeconds is 30 to 86400, not {age}"));
        }
        check_probe(check.probe.as_deref()).or_else(fault)?;
    }
    Ok(())
}

fn check_backends(backends: &[BackendConfig]) -> Result<(), Fault> {
    let fault = |message: String| Err(Fault("backends", message));
    if backends.len() > MAX_BACKENDS {
        return fault(format!("at most {MAX_BACKENDS}, not {}", backends.len()));
    }
    for (at, backend) in backends.iter().enumerate() {
        let name = &backend.name;
        if !is_dns_label(name) {
            return fault(format!("{name:?} is no name of a MonitoredBackend"));
        }
        if backends[..at].iter().any(|other| other.name == *name) {
            return fault(format!("{name} is there twice"));
        }
        check_probe(backend.probe.as_deref()).or_else(|message| fault(format!("{name}: {message}")))?;
    }
    Ok(())
}

fn check_probe(url: Option<&str>) -> Result<(), String> {
    let Some(text) = url else { return Ok(()) };
    let url = text.parse::<Uri>().map_err(|error| format!("probe {text:?} is no URL: {error}"))?;
    match url.scheme_str() {
        Some("http" | "https") => Ok(()),
        Some("tcp") if url.port_u16().is_some() => Ok(()),
        _ => Err(format!("probe {text:?} begins with none of http://, https:// and tcp://, or has no port")),
    }
}

/// A name that Linux accepts, of the characters that the custom resource accepts.
fn is_interface(name: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_inner = |byte: u8| is_first(byte) || matches!(byte, b'.' | b'-');
    name.len() <= 15 && name.bytes().next().is_some_and(is_first) && name.bytes().all(is_inner)
}

/// The line of `text` on which `key` stands.
fn line_of(text: &str, key: &str) -> usize {
    let has_key = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'));
    text.lines().position(has_key).map_or(1, |at| at + 1)
}
