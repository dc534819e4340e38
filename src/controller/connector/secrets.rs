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
use crate::heartbeat::credentials::{Digest, ROUNDS};

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

    /// Reads the token that the user brings; `None` when there is no such Secret with the label and the key. Which of them is
    /// missing is not told: that would show what any Secret of the namespace holds.
    ///
    /// # Errors
    /// The read failed.
    pub async fn read_supplied(
        &self,
        connector: &Connector,
        from: &SecretKeyRef,
    ) -> Result<Option<SecretState>, CallError> {
        let what = format!("reading Secret {}/{}", self.namespace, from.name);
        let secret = match within(&what, CALL_TIMEOUT, self.api.get(&from.name)).await {
            Ok(secret) => secret,
            Err(CallError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (label, wanted) = CREDENTIALS_LABEL;
        let is_meant = secret.labels().get(label).map(String::as_str) == Some(wanted);
        let value = secret.data.as_ref().and_then(|data| data.get(&from.key)).filter(|_| is_meant);
        let uid = connector.metadata.uid.as_deref().unwrap_or_default();
        Ok(value.map(|value| SecretState::Supplied(usable(from, &value.0, uid))))
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
                let secret = fill(empty(&name, &self.namespace), connector, content);
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

/// The hashes of a value that can be a token. What is wrong with another is not told more closely: length and odd characters
/// say something about the value.
fn usable(from: &SecretKeyRef, value: &[u8], uid: &str) -> Result<Supplied, String> {
    let text = std::str::from_utf8(value).ok();
    let text = text.filter(|text| (16..=256).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()));
    text.map(|text| Supplied { plain: Digest::of(text), slow: Digest::slow(text, uid, ROUNDS) }).ok_or_else(|| {
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

fn empty(name: &str, namespace: &str) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        ..Secret::default()
    }
}

fn fill(mut secret: Secret, connector: &Connector, content: &SecretContent<'_>) -> Secret {
    secret.labels_mut().extend(labels(&connector.name_any()));
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
    fn a_brought_token_is_16_to_256_printable_characters_and_nothing_is_told_about_another() {
        let from = SecretKeyRef { name: "mine".into(), key: "token".into() };
        let slow = Digest::slow("0123456789abcdef", "u1", ROUNDS);
        assert_eq!(
            usable(&from, b"0123456789abcdef", "u1"),
            Ok(Supplied { plain: Digest::of("0123456789abcdef"), slow })
        );
        assert!(usable(&from, &[b'x'; 256], "u1").is_ok());
        let mut told = Vec::new();
        for value in [
            &b"0123456789abcde"[..],
            &[b'x'; 257][..],
            &b"0123456789abcdef\n"[..],
            &[0xff; 20][..],
            "0123456789abcdéf".as_bytes(),
            b"",
        ] {
            told.push(usable(&from, value, "u1").expect_err("unusable"));
        }
        assert!(told[0].contains("Secret mine") && told[0].contains("16 to 256"), "{}", told[0]);
        assert!(told.iter().all(|one| *one == told[0]), "each is refused in the same words: {told:?}");
    }

    const UID: &str = "0b1f6c3e-0000-4000-8000-000000000001";

    fn connector() -> Connector {
        let meta = serde_json::json!({ "name": "paris", "namespace": "edge", "uid": UID, "creationTimestamp": "2026-03-01T00:00:00Z" });
        serde_json::from_value(serde_json::json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": {} })).unwrap()
    }

    /// The Secret as the operator writes it, and as the API server keeps it.
    fn written() -> Secret {
        let token = Token("vgt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned());
        let written_time = "2026-03-01T00:00:05Z".parse().ok();
        let record = TokenRecord { generation: 3, written_time, ..TokenRecord::default() };
        let content = SecretContent { url: None, record, token: Some(&token) };
        let mut secret = fill(empty("paris-connector-token", "edge"), &connector(), &content);
        secret.metadata.creation_timestamp = serde_json::from_value("2026-03-01T00:00:05Z".into()).unwrap();
        secret
    }

    fn own_of(secret: &Secret) -> OwnSecret {
        match recognise(secret, &connector(), None) {
            SecretState::Ours(own) => own,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_is_ours_by_its_owner_and_a_restored_one_by_all_that_it_says() {
        let secret = written();
        let own = own_of(&secret);
        assert!(own.complete && own.is_made && own.token.is_some(), "{own:?}");
        assert_eq!(own.record.as_ref().map(|record| record.generation), Some(3));
        // As Velero restores it: no owner, labels of its own.
        let mut restored = secret.clone();
        restored.metadata.owner_references = None;
        restored.labels_mut().insert("velero.io/restore-name".to_owned(), "nightly".to_owned());
        let found = own_of(&restored);
        assert!(!found.complete && found.token == own.token, "its owner is to be written");
        let content = SecretContent { url: None, record: TokenRecord::default(), token: None };
        let mended = fill(restored.clone(), &connector(), &content);
        assert_eq!(mended.owner_references()[0].uid, UID);
        assert_eq!(mended.data, secret.data);
        assert!(mended.labels().contains_key("velero.io/restore-name"));
    }

    #[test]
    fn what_does_not_say_that_it_is_ours_is_not_touched_and_the_reason_is_named() {
        let orphan = || {
            let mut secret = written();
            secret.metadata.owner_references = None;
            secret
        };
        let mut typed = orphan();
        typed.type_ = Some("Opaque".to_owned());
        let mut unlabelled = orphan();
        unlabelled.labels_mut().remove("vigie.dev/connector");
        let mut of_another = orphan();
        of_another.labels_mut().insert("vigie.dev/connector".to_owned(), "lyon".to_owned());
        let mut other_id = orphan();
        other_id.data.as_mut().unwrap().insert("connector_id".to_owned(), ByteString(b"edge/lyon".to_vec()));
        let mut no_id = orphan();
        no_id.data = None;
        let mut managed = orphan();
        managed.owner_references_mut().push(OwnerReference {
            kind: "SealedSecret".to_owned(),
            name: "paris".to_owned(),
            ..OwnerReference::default()
        });
        for (secret, word) in [
            (typed, "type Opaque"),
            (unlabelled, "vigie.dev/connector=paris"),
            (of_another, "vigie.dev/connector=paris"),
            (other_id, "edge/lyon"),
            (no_id, "edge/paris"),
            (managed, "SealedSecret paris"),
        ] {
            match recognise(&secret, &connector(), None) {
                SecretState::Foreign(why) => assert!(why.contains(word), "{word}: {why}"),
                other => panic!("{word}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_secret_of_a_predecessor_is_waited_out_and_a_restored_copy_of_it_is_ours() {
        let mut left = written();
        left.owner_references_mut()[0].uid = "of the deleted one".to_owned();
        assert!(matches!(recognise(&left, &connector(), None), SecretState::Predecessors(_)));
        // Younger than its last write: a copy from a backup whose owner is stale.
        let mut restored = left.clone();
        restored.metadata.creation_timestamp = serde_json::from_value("2026-03-02T00:00:00Z".into()).unwrap();
        assert!(own_of(&restored).token.is_some());
        let content = SecretContent { url: None, record: TokenRecord::default(), token: None };
        let mended = fill(restored, &connector(), &content);
        let uids: Vec<_> = mended.metadata.owner_references.iter().flatten().map(|owner| owner.uid.as_str()).collect();
        assert_eq!(uids, [UID], "the stale owner would have it collected");
        // Of a version that kept no record, the label of the restore says so.
        let mut old = left.clone();
        old.annotations_mut().clear();
        assert!(matches!(recognise(&old, &connector(), None), SecretState::Predecessors(_)));
        old.labels_mut().insert(RESTORED_LABEL.to_owned(), "nightly".to_owned());
        assert!(own_of(&old).record.is_none());
        // With a record the label says nothing: it stays for ever, and a later predecessor is one all the same.
        left.labels_mut().insert(RESTORED_LABEL.to_owned(), "nightly".to_owned());
        assert!(matches!(recognise(&left, &connector(), None), SecretState::Predecessors(_)));
    }
}
