//! The token Secrets: read and written by name, one at a time; never listed, never watched.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, PostParams};
use kube::{Resource as _, ResourceExt as _};

use super::token::SecretState;
use crate::api::{Connector, SecretKeyRef};
use crate::cluster::{CALL_TIMEOUT, CallError, FIELD_MANAGER, within};
use crate::heartbeat::credentials::Digest;

/// The type of the Secrets that the operator makes.
pub const SECRET_TYPE: &str = "vigie.dev/connector-token";

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

    /// Its hash.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
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

    /// Reads the token that the user brings; `None` when there is no such Secret or no such key.
    ///
    /// # Errors
    /// The read failed.
    pub async fn read_supplied(&self, from: &SecretKeyRef) -> Result<Option<SecretState>, CallError> {
        let what = format!("reading Secret {}/{}", self.namespace, from.name);
        let secret = match within(&what, CALL_TIMEOUT, self.api.get(&from.name)).await {
            Ok(secret) => secret,
            Err(CallError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(value) = secret.data.as_ref().and_then(|data| data.get(&from.key)) else { return Ok(None) };
        Ok(Some(SecretState::Supplied(usable(from, &value.0))))
    }

    /// Writes `token` to the Secret; `None` keeps its token and repairs the other keys.
    ///
    /// # Errors
    /// The write failed; `AlreadyExists` and `Conflict` mean that another client was faster: read it again.
    pub async fn write(
        &self,
        connector: &Connector,
        url: Option<&str>,
        found: Option<Secret>,
        token: Option<&Token>,
    ) -> Result<(), CallError> {
        let name = connector.token_secret_name();
        let what = format!("writing Secret {}/{name}", self.namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match found {
            None => {
                let secret = fill(empty(connector, &name, &self.namespace), connector, url, token);
                within(&what, CALL_TIMEOUT, self.api.create(&params, &secret)).await.map(drop)
            }
            Some(secret) => {
                let secret = fill(secret, connector, url, token);
                within(&what, CALL_TIMEOUT, self.api.replace(&name, &params, &secret)).await.map(drop)
            }
        }
    }
}

fn recognise(secret: &Secret, connector: &Connector, url: Option<&str>) -> SecretState {
    let uid = connector.metadata.uid.as_deref();
    let owners = secret.metadata.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| Some(owner.uid.as_str()) == uid) {
        let text = |key: &str| {
            let value = secret.data.as_ref()?.get(key)?;
            std::str::from_utf8(&value.0).ok()
        };
        let token = text("token").filter(|token| !token.is_empty()).map(Digest::of);
        let complete = text("connector_id") == Some(&connector.effective_id()) && text("url") == url;
        return SecretState::Ours { token, complete };
    }
    let name = connector.name_any();
    let of_predecessor = owners.iter().any(|owner| {
        owner.kind == Connector::kind(&()) && owner.name == name && owner.api_version.starts_with("vigie.dev/")
    });
    match &secret.metadata.creation_timestamp {
        // Counted from when *this* Connector came: the Secret itself may be years old.
        Some(_) if of_predecessor => match &connector.metadata.creation_timestamp {
            Some(created) => SecretState::Predecessors(created.0),
            None => SecretState::Foreign,
        },
        _ => SecretState::Foreign,
    }
}

fn usable(from: &SecretKeyRef, value: &[u8]) -> Result<Digest, String> {
    let place = format!("key {} of Secret {}", from.key, from.name);
    let Ok(text) = std::str::from_utf8(value) else { return Err(format!("{place} is not UTF-8 text")) };
    let length = text.chars().count();
    if !(16..=256).contains(&length) {
        return Err(format!("{place} has {length} characters; a token has 16 to 256"));
    }
    if let Some(at) = text.chars().position(|c| !c.is_ascii_graphic()) {
        return Err(format!(
            "{place} has a character that is not printable ASCII, at position {} (a line end, perhaps)",
            at + 1
        ));
    }
    Ok(Digest::of(text))
}

fn empty(connector: &Connector, name: &str, namespace: &str) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([
                ("vigie.dev/connector".to_owned(), connector.name_any()),
                ("app.kubernetes.io/managed-by".to_owned(), "vigie".to_owned()),
            ])),
            owner_references: Some(vec![OwnerReference {
                controller: Some(true),
                // Blocking needs the right to update finalizers of Connectors, which the operator does not have.
                block_owner_deletion: None,
                ..connector.controller_owner_ref(&()).unwrap_or_default()
            }]),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        ..Secret::default()
    }
}

fn fill(mut secret: Secret, connector: &Connector, url: Option<&str>, token: Option<&Token>) -> Secret {
    let data = secret.data.get_or_insert_default();
    data.insert("connector_id".to_owned(), ByteString(connector.effective_id().into_bytes()));
    match url {
        Some(url) => data.insert("url".to_owned(), ByteString(url.as_bytes().to_vec())),
        None => data.remove("url"),
    };
    if let Some(token) = token {
        data.insert("token".to_owned(), ByteString(token.0.clone().into_bytes()));
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_random_and_never_shown() {
        let (one, other) = (Token::random(), Token::random());
        assert_ne!(one.0, other.0);
        assert!(one.0.starts_with("vgt_") && one.0.len() == 47, "{}", one.0.len());
        assert!(!format!("{one:?}").contains(&one.0));
    }

    #[test]
    fn a_brought_token_is_16_to_256_printable_characters_and_what_is_wrong_is_named() {
        let from = SecretKeyRef { name: "mine".into(), key: "token".into() };
        assert!(usable(&from, b"0123456789abcdef").is_ok());
        assert!(usable(&from, &[b'x'; 256]).is_ok());
        for (value, problem) in [
            (&b"0123456789abcde"[..], "15 characters"),
            (&[b'x'; 257][..], "257 characters"),
            (&b"0123456789abcdef\n"[..], "position 17"),
            (&[0xff; 20][..], "UTF-8"),
            ("0123456789abcdéf".as_bytes(), "position 15"),
        ] {
            let said = usable(&from, value).expect_err("unusable");
            assert!(said.contains(problem) && said.contains("Secret mine"), "{said}");
        }
    }
}
