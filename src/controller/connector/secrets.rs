//! The token Secrets: read and written by name, one at a time; never listed, never watched.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};
use kube::{Resource as _, ResourceExt as _};

use super::token::{OwnSecret, SecretState, Supplied, TokenRecord};
use crate::api::{Connector, SecretKeyRef};
use crate::cluster::{CALL_TIMEOUT, CallError, FIELD_MANAGER, within};
use crate::heartbeat::credentials::Digest;
use crate::heartbeat::slow_hash::slow_hash;

/// The type of the Secrets that the operator makes.
pub const SECRET_TYPE: &str = "vigie.dev/connector-token";

/// The label that a Secret must carry before its content is taken for a connector's token (`docs/design/api.md`).
pub const CREDENTIALS_LABEL: (&str, &str) = ("vigie.dev/connector-credentials", "true");

/// The label that Velero gives to what it restores.
const RESTORED_LABEL: &str = "velero.io/restore-name";

/// A token in clear text: it exists from its creation to its delivery, and is never logged or published.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A new one: `vgt_` and 32 random bytes in base64url.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the kernel's random numbers never fail once the machine is up");
        Self(format!("vgt_{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Whether `text` has the form of a token that the operator makes.
    fn is_made(text: &str) -> bool {
        let random = text.strip_prefix("vgt_").and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok());
        random.is_some_and(|random| random.len() == 32)
    }

    /// Its hash.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// Its hashes, as a token that a user brings; `None` only while the process ends.
    pub async fn supplied(self, namespace: &str, uid: &str) -> Option<Supplied> {
        let plain = self.digest();
        let slow = slow_hash(&namespace.into(), self.0, uid.to_owned()).await?;
        Some(Supplied { plain, slow })
    }
}

/// The Secrets of one namespace.
pub struct Secrets {
    api: Api<Secret>,
    namespace: String,
}

/// A Secret as it was read, and its classification.
pub struct SecretLookup {
    /// Its classification.
    pub seen: SecretState,
    /// The object, to be updated.
    pub secret: Option<Secret>,
}

impl Secrets {
    /// The Secrets of `namespace`. `client` sends each request once.
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.to_owned() }
    }

    /// Reads the Secret that the operator makes for `connector`.
    ///
    /// # Errors
    /// The read failed; a missing Secret is no error.
    pub async fn read(&self, connector: &Connector, url: Option<&str>) -> Result<SecretLookup, CallError> {
        let name = connector.token_secret_name();
        let what = format!("reading Secret {}/{name}", self.namespace);
        let secret = match within(&what, CALL_TIMEOUT, self.api.get(&name)).await {
            Ok(secret) => secret,
            Err(CallError::NotFound) => return Ok(SecretLookup { seen: SecretState::Absent, secret: None }),
            Err(error) => return Err(error),
        };
        Ok(SecretLookup { seen: recognise(&secret, connector, url), secret: Some(secret) })
    }

    /// Reads the token that the user brings, or why it is none; `None` when there is no such Secret with the label and the key. Which of them is
    /// missing is not told: that would show what any Secret of the namespace holds.
    ///
    /// # Errors
    /// The read failed.
    pub async fn read_supplied(&self, from: &SecretKeyRef) -> Result<Option<Result<Token, String>>, CallError> {
        let what = format!("reading Secret {}/{}", self.namespace, from.name);
        let secret = match within(&what, CALL_TIMEOUT, self.api.get(&from.name)).await {
            Ok(secret) => secret,
            Err(CallError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (label, wanted) = CREDENTIALS_LABEL;
        let is_meant = secret.labels().get(label).map(String::as_str) == Some(wanted);
        let value = secret.data.as_ref().and_then(|data| data.get(&from.key)).filter(|_| is_meant);
        Ok(value.map(|value| usable(from, &value.0)))
    }

    /// Writes `content` to the Secret.
    ///
    /// # Errors
    /// The write failed; `AlreadyExists` and `Conflict` mean that another client was faster: read it again.
    pub async fn write(
        &self,
        connector: &Connector,
        found: Option<Secret>,
        content: &SecretContent<'_>,
    ) -> Result<(), CallError> {
        let name = connector.token_secret_name();
        let what = format!("writing Secret {}/{name}", self.namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match found {
            None => {
                let secret = fill(empty(connector, &name, &self.namespace), connector, content);
                within(&what, CALL_TIMEOUT, self.api.create(&params, &secret)).await.map(drop)
            }
            Some(secret) => {
                let secret = fill(secret, connector, content);
                within(&what, CALL_TIMEOUT, self.api.replace(&name, &params, &secret)).await.map(drop)
            }
        }
    }
}

/// The content of a token Secret besides the connector's id.
pub struct SecretContent<'a> {
    /// The URL by which the operator is reached; `None` when that is not known.
    pub url: Option<&'a str>,
    /// The record of the delivery.
    pub record: TokenRecord,
    /// The token; `None` keeps the one that is there and repairs the rest.
    pub token: Option<&'a Token>,
}

/// Classifies the Secret under the expected name.
fn recognise(secret: &Secret, connector: &Connector, url: Option<&str>) -> SecretState {
    let owners = secret.metadata.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| is_current(owner, connector)) {
        return SecretState::Ours(own(secret, connector, url, true));
    }
    if let Some(other) = owners.iter().find(|owner| !is_of_predecessor(owner, connector)) {
        return SecretState::Foreign(format!("belongs to {} {}, not to this Connector", other.kind, other.name));
    }
    let record = record(secret);
    let created = secret.metadata.creation_timestamp.as_ref().map(|created| created.0);
    let is_restored = match (&record, created) {
        (Some(record), Some(created)) => record.is_restored(created),
        // Velero labels what it restores. The operator writes a record with the first write after that.
        _ => secret.labels().contains_key(RESTORED_LABEL),
    };
    if !owners.is_empty() && !is_restored {
        // Counted from when *this* Connector came: the Secret itself may be years old.
        let since = connector.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |created| created.0);
        return SecretState::Predecessors(since);
    }
    match is_of(secret, connector) {
        Ok(()) => SecretState::Ours(own(secret, connector, url, false)),
        Err(why) => SecretState::Foreign(why),
    }
}

fn is_current(owner: &OwnerReference, connector: &Connector) -> bool {
    Some(&owner.uid) == connector.metadata.uid.as_ref()
}

fn is_of_predecessor(owner: &OwnerReference, connector: &Connector) -> bool {
    let is_connector = owner.kind == Connector::kind(&()) && owner.api_version.starts_with("vigie.dev/");
    is_connector && owner.name == connector.name_any() && !is_current(owner, connector)
}

/// Whether a Secret without an owner says in every other way that the operator made it for `connector`: restores drop
/// owners, because the UIDs are new. If not, why, as the end of a sentence about the Secret.
fn is_of(secret: &Secret, connector: &Connector) -> Result<(), String> {
    let name = connector.name_any();
    if secret.type_.as_deref() != Some(SECRET_TYPE) {
        let type_ = secret.type_.as_deref().unwrap_or("Opaque");
        return Err(format!("has the type {type_}, so vigie did not make it: its own have the type {SECRET_TYPE}"));
    }
    for (label, value) in labels(&name) {
        if secret.labels().get(&label) != Some(&value) {
            return Err(format!(
                "has no owner and lacks the label {label}={value}, so nothing says that it is this Connector's"
            ));
        }
    }
    let id = connector.effective_id();
    match text(secret, "connector_id") {
        Some(held) if held == id => Ok(()),
        Some(held) if held.len() <= 128 => Err(format!("has no owner and is for connectorID {held}, not for {id}")),
        _ => Err(format!("has no owner and does not say that it is for connectorID {id}")),
    }
}

fn own(secret: &Secret, connector: &Connector, url: Option<&str>, is_owned: bool) -> OwnSecret {
    let token = text(secret, "token").filter(|token| !token.is_empty());
    let complete = text(secret, "connector_id") == Some(&connector.effective_id()) && text(secret, "url") == url;
    OwnSecret {
        token: token.map(Digest::of),
        is_made: token.is_some_and(Token::is_made),
        complete: is_owned && complete,
        record: record(secret),
    }
}

fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}

fn record(secret: &Secret) -> Option<TokenRecord> {
    TokenRecord::parse(secret.annotations().get(TokenRecord::ANNOTATION)?)
}

/// A value that can be a token. What is wrong with another is not told more closely: length and odd characters
/// say something about the value.
fn usable(from: &SecretKeyRef, value: &[u8]) -> Result<Token, String> {
    let text = std::str::from_utf8(value).ok();
    let text = text.filter(|text| (16..=256).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()));
    text.map(|text| Token(text.to_owned())).ok_or_else(|| {
        format!(
            "the value under the key {} of Secret {} is no token: it must be 16 to 256 printable ASCII characters, without \
             spaces and without a line end",
            from.key, from.name
        )
    })
}

/// The labels of the Secret of the Connector `name`.
fn labels(name: &str) -> [(String, String); 2] {
    [
        ("vigie.dev/connector".to_owned(), name.to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "vigie".to_owned()),
    ]
}

fn empty(connector: &Connector, name: &str, namespace: &str) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels(&connector.name_any()).into()),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        ..Secret::default()
    }
}

fn fill(mut secret: Secret, connector: &Connector, content: &SecretContent<'_>) -> Secret {
    secret.annotations_mut().insert(TokenRecord::ANNOTATION.to_owned(), content.record.to_text());
    let owners = secret.owner_references_mut();
    if !owners.iter().any(|owner| is_current(owner, connector)) {
        owners.retain(|owner| !is_of_predecessor(owner, connector));
        owners.push(OwnerReference {
            controller: Some(true),
            // Blocking needs the right to update finalizers of Connectors, which the operator does not have.
            block_owner_deletion: None,
            ..connector.controller_owner_ref(&()).unwrap_or_default()
        });
    }
    let data = secret.data.get_or_insert_default();
    data.insert("connector_id".to_owned(), ByteString(connector.effective_id().into_bytes()));
    match content.url {
        Some(url) => data.insert("url".to_owned(), ByteString(url.as_bytes().to_vec())),
        None => data.remove("url"),
    };
    if let Some(token) = content.token {
        data.insert("token".to_owned(), ByteString(token.0.clone().into_bytes()));
    }
    secret
}

#[cfg(test)]
mod tests;
