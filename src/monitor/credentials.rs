//! Reads the Secrets that a spec names for its probes.

use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::{Client, ResourceExt as _};

use super::request::RequestSecrets;
use super::target::ResolveError;
use crate::api::{HttpProbe, Reason, SecretKeyRef};
use crate::cluster::{CALL_TIMEOUT, CallError, within};

/// The label that a Secret must carry before a probe may send its content (`docs/design/api.md`).
const CREDENTIALS_LABEL: (&str, &str) = ("vigie.dev/probe-credentials", "true");

/// Reads one credential from a labelled Secret.
///
/// # Errors
/// The Secret or the key does not exist, the label is missing, the content is not one line of text, or the call failed.
pub async fn credential(client: &Client, namespace: &str, from: &SecretKeyRef) -> Result<String, ResolveError> {
    SecretReader { client, namespace }.text(from).await
}

/// Reads all Secrets that `http` names.
pub(super) async fn secrets(
    client: &Client,
    namespace: &str,
    http: &HttpProbe,
) -> Result<RequestSecrets, ResolveError> {
    let reader = SecretReader { client, namespace };
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
}

impl SecretReader<'_> {
    /// A credential as text, without the line end that editors append.
    async fn text(&self, from: &SecretKeyRef) -> Result<String, ResolveError> {
        let bytes = self.bytes(from, true).await?;
        let text = std::str::from_utf8(&bytes).map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        let text = text.ok().filter(|text| text.chars().all(|letter| !letter.is_control()));
        text.ok_or_else(|| {
            ResolveError::target(format!("key {} of Secret {} is not one line of UTF-8 text", from.key, from.name))
        })
    }

    async fn bytes(&self, from: &SecretKeyRef, is_credential: bool) -> Result<Vec<u8>, ResolveError> {
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
                "Secret {name} is not for probes: whoever owns it labels it {label}={value}, or names another"
            )));
        }
        let value = secret.data.and_then(|mut data| data.remove(key)).map(|value| value.0);
        value.ok_or_else(|| missing(format!("Secret {name} has no key {key}")))
    }
}
