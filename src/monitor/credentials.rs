//! Reads the Secrets that a spec names for its probes.

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::{Client, ResourceExt as _};

use super::request::RequestSecrets;
use super::resolve_error::ResolveError;
use crate::api::{HttpProbe, Reason, SecretKeyRef};
use crate::cluster::{CALL_TIMEOUT, CallError, within};

/// The label that a Secret must carry before a probe may send its content (`docs/design/api.md`).
const CREDENTIALS_LABEL: (&str, &str) = ("vigie.dev/probe-credentials", "true");
/// The annotation that names the hosts which the content of the Secret may be sent to, separated by commas: `host` for all
/// its ports, or `host:port`. Without it, the content may be sent to any one host that a spec names.
const HOSTS_ANNOTATION: &str = "vigie.dev/probe-hosts";

/// The hosts that a Secret names.
#[derive(Clone, Debug)]
struct AllowedHosts {
    secret: String,
    /// Each with its port, if it names one.
    hosts: Vec<(String, Option<u16>)>,
}

impl AllowedHosts {
    fn of(secret: &Secret) -> Option<Self> {
        let text = secret.annotations().get(HOSTS_ANNOTATION)?;
        let entry = |entry: &str| {
            let entry = entry.trim().to_ascii_lowercase();
            match entry.rsplit_once(':').map(|(host, port)| (host.to_owned(), port.parse().ok())) {
                // The colons of an IPv6 address without brackets are no port.
                Some((host, Some(port))) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
                _ => (entry, None),
            }
        };
        let unbracketed =
            |(host, port): (String, Option<u16>)| (host.trim_start_matches('[').trim_end_matches(']').to_owned(), port);
        let hosts = text.split(',').filter(|entry| !entry.trim().is_empty()).map(entry).map(unbracketed).collect();
        Some(Self { secret: secret.name_any(), hosts })
    }

    /// Whether `host` is named for `port`, or for all ports.
    fn allow(&self, host: &str, port: Option<u16>) -> bool {
        let is =
            |(known, of): &(String, Option<u16>)| known.eq_ignore_ascii_case(host) && (of.is_none() || *of == port);
        self.hosts.iter().any(is)
    }

    fn check(&self, host: &str, port: u16) -> Result<(), ResolveError> {
        if self.allow(host, Some(port)) {
            return Ok(());
        }
        Err(ResolveError::Refused(
            Reason::SecretNotFound,
            format!(
                "Secret {} may not be sent to {host}:{port}: its annotation {HOSTS_ANNOTATION} names other hosts; its owner adds this one, or the spec names another Secret",
                self.secret
            ),
        ))
    }
}

/// The content of the Secrets that a spec names, and where it may be sent.
#[derive(Debug, Default)]
pub(super) struct BoundSecrets {
    pub(super) content: RequestSecrets,
    /// One for each Secret; `None` for one that names no hosts.
    hosts: Vec<Option<AllowedHosts>>,
}

impl BoundSecrets {
    /// # Errors
    /// A Secret names other hosts than this one.
    pub(super) fn check_host(&self, host: &str, port: u16) -> Result<(), ResolveError> {
        self.hosts.iter().flatten().try_for_each(|hosts| hosts.check(host, port))
    }

    /// Whether each Secret names `host` for all its ports, or for `port`.
    pub(super) fn are_for(&self, host: &str, port: Option<u16>) -> bool {
        self.hosts.iter().all(|hosts| hosts.as_ref().is_some_and(|hosts| hosts.allow(host, port)))
    }
}

/// Reads one credential from a labelled Secret, to send it to `host` at `port`.
///
/// # Errors
/// The Secret or the key does not exist, the label is missing, the content is not one line of text, the Secret is for other
/// hosts, or the call failed.
pub async fn credential(
    client: &Client,
    namespace: &str,
    from: &SecretKeyRef,
    (host, port): (&str, u16),
) -> Result<String, ResolveError> {
    let mut reader = SecretReader { client, namespace, hosts: Vec::new() };
    let text = reader.text(from).await?;
    reader.hosts.iter().flatten().try_for_each(|hosts| hosts.check(host, port))?;
    Ok(text)
}

/// Reads all Secrets that `http` names.
pub(super) async fn secrets(client: &Client, namespace: &str, http: &HttpProbe) -> Result<BoundSecrets, ResolveError> {
    let mut reader = SecretReader { client, namespace, hosts: Vec::new() };
    let content = contents(&mut reader, http).await?;
    Ok(BoundSecrets { content, hosts: reader.hosts })
}

async fn contents(reader: &mut SecretReader<'_>, http: &HttpProbe) -> Result<RequestSecrets, ResolveError> {
    let mut secrets = RequestSecrets::default();
    for header in &http.headers {
        let Some(from) = &header.value_from else { continue };
        secrets.headers.push((header.name.clone(), reader.text(&from.secret_ref).await?));
    }
    if let Some(from) = &http.bearer_token_secret_ref {
        secrets.bearer_token = Some(reader.text(from).await?);
    }
    if let Some(name) = &http.basic_auth_secret_name {
        let user = reader.text(&key_of(name, "username")).await?;
        secrets.basic_auth = Some((user, reader.text(&key_of(name, "password")).await?));
    }
    let Some(tls) = &http.tls else { return Ok(secrets) };
    if let Some(from) = &tls.ca_secret_ref {
        // The certificate of an authority is public and gives no access, so its Secret needs no label.
        secrets.ca = Some(reader.bytes(from, false).await?.into());
    }
    if let Some(name) = &tls.client_certificate_secret_name {
        let certificate = reader.bytes(&key_of(name, "tls.crt"), true).await?;
        secrets.client = Some((certificate.into(), reader.bytes(&key_of(name, "tls.key"), true).await?.into()));
    }
    Ok(secrets)
}

fn key_of(name: &str, key: &str) -> SecretKeyRef {
    SecretKeyRef { name: name.to_owned(), key: key.to_owned() }
}

/// Reads Secrets of one namespace.
struct SecretReader<'a> {
    client: &'a Client,
    namespace: &'a str,
    /// Where the credentials that were read may be sent.
    hosts: Vec<Option<AllowedHosts>>,
}

impl SecretReader<'_> {
    /// A credential as text, without the line end that editors append.
    async fn text(&mut self, from: &SecretKeyRef) -> Result<String, ResolveError> {
        let bytes = self.bytes(from, true).await?;
        let text = std::str::from_utf8(&bytes).map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        let text = text.ok().filter(|text| text.chars().all(|letter| !letter.is_control()));
        text.ok_or_else(|| {
            ResolveError::target(format!("key {} of Secret {} is not one line of UTF-8 text", from.key, from.name))
        })
    }

    async fn bytes(&mut self, from: &SecretKeyRef, is_credential: bool) -> Result<Vec<u8>, ResolveError> {
        let SecretKeyRef { name, key } = from;
        let missing = |message: String| ResolveError::Refused(Reason::SecretNotFound, message);
        let what = format!("reading Secret {}/{name}", self.namespace);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
        let secret = match within(&what, CALL_TIMEOUT, api.get(name)).await {
            Ok(secret) => secret,
            Err(CallError::NotFound) => {
                return Err(missing(format!("there is no Secret {name} in namespace {}", self.namespace)));
            }
            Err(error) => return Err(ResolveError::Failed(format!("{what}: {error}"))),
        };
        let (label, value) = CREDENTIALS_LABEL;
        if is_credential && secret.labels().get(label).map(String::as_str) != Some(value) {
            return Err(missing(format!(
                "Secret {name} is not for probes: its owner labels it {label}={value}, or names another"
            )));
        }
        if is_credential {
            self.hosts.push(AllowedHosts::of(&secret));
        }
        let value = secret.data.and_then(|mut data| data.remove(key)).map(|value| value.0);
        value.ok_or_else(|| missing(format!("Secret {name} has no key {key}")))
    }
}
