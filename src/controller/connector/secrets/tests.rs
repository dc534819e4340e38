//! Token Secrets: written, recognised, restored.

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
    assert_eq!(usable(&from, b"0123456789abcdef").unwrap().0, "0123456789abcdef");
    assert!(usable(&from, &[b'x'; 256]).is_ok());
    let mut told = Vec::new();
    for value in [
        &b"0123456789abcde"[..],
        &[b'x'; 257][..],
        &b"0123456789abcdef\n"[..],
        &[0xff; 20][..],
        "0123456789abcdéf".as_bytes(),
        b"",
    ] {
        told.push(usable(&from, value).expect_err("unusable"));
    }
    assert!(told[0].contains("Secret mine") && told[0].contains("16 to 256"), "{}", told[0]);
    assert!(told.iter().all(|one| *one == told[0]), "each is refused in the same words: {told:?}");
}

const UID: &str = "0b1f6c3e-0000-4000-8000-000000000001";

fn connector() -> Connector {
    let meta = serde_json::json!({ "name": "paris", "namespace": "edge", "uid": UID, "creationTimestamp": "2026-03-01T00:00:00Z" });
    serde_json::from_value(
        serde_json::json!({ "apiVersion": "vigie.dev/v1alpha1", "kind": "Connector", "metadata": meta, "spec": {} }),
    )
    .unwrap()
}

/// The Secret as the operator writes it, and as the API server keeps it.
fn written() -> Secret {
    let token = Token("vgt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned());
    let written_time = "2026-03-01T00:00:05Z".parse().ok();
    let record = TokenRecord { generation: 3, written_time, ..TokenRecord::default() };
    let content = SecretContent { url: None, record, token: Some(&token) };
    let mut secret = fill(empty(&connector(), "paris-connector-token", "edge"), &connector(), &content);
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
