//! A token is valid for one connector: delivered, rotated with grace, revoked, and never shown.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use crate::beats::said;
use crate::support::http::get;
use crate::support::world::SOON;
use crate::support::{Beater, Connector, Operator, World, eventually, quick, seconds, text, time};

fn status(edge: &Connector, operator: &Operator) -> u16 {
    edge.status(operator.beats())
}

/// For a token that the test took from the status: the test may read it before the operator accepts it, because the
/// operator accepts a token when its own status write has been answered.
async fn is_accepted(edge: &Connector, operator: &Operator, what: &str) {
    eventually(SOON, what, async || match status(edge, operator) {
        200 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
}

async fn is_refused(edge: &Connector, operator: &Operator, what: &str) {
    eventually(SOON, what, async || match status(edge, operator) {
        401 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
}

/// Waits until the Secret holds another token than this one.
async fn newer(world: &World, old: &Connector) -> Connector {
    eventually(SOON, &format!("a new token for {}", old.name), async || {
        let found = world.installed(&old.name).await;
        if found.token == old.token { Err("the old one".to_owned()) } else { Ok(found) }
    })
    .await
}

async fn rotate(world: &World, old: &Connector, token: Value) -> Connector {
    world.patch(&old.name, json!({"spec": {"token": token}})).await;
    let new = newer(world, old).await;
    let wanted = token["rotationGeneration"].clone();
    world
        .sees(SOON, &old.name, "the new token is delivered", |seen| {
            seen["status"]["token"]["observedRotationGeneration"] == wanted
                && said(seen, "Provisioned").starts_with("True")
        })
        .await;
    new
}

fn generation(seen: &Value) -> i64 {
    seen.pointer("/status/token/generation").and_then(Value::as_i64).unwrap_or(0)
}

fn secret(name: &str, key: &str, value: &str) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("vigie.dev/connector-credentials".to_owned(), "true".to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(key.to_owned(), ByteString(value.as_bytes().to_vec()))])),
        ..Secret::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_delivered_in_a_secret_that_goes_with_its_connector() {
    let world = World::new("delivery").await;
    let operator = world.operator(&["--public-url", "http://127.0.0.1:9"]).await;
    let edge = world.connector("edge-1", json!({"connectorID": "site-a:edge-1"})).await;
    assert_eq!(edge.id, "site-a:edge-1");
    let found = world.api::<Secret>().get("edge-1-connector-token").await.unwrap();
    assert_eq!(found.type_.as_deref(), Some("vigie.dev/connector-token"));
    let labels = found.metadata.labels.unwrap_or_default();
    assert_eq!(labels.get("vigie.dev/connector").map(String::as_str), Some("edge-1"));
    assert_eq!(labels.get("app.kubernetes.io/managed-by").map(String::as_str), Some("vigie"));
    assert_eq!(found.data.unwrap()["url"].0, b"http://127.0.0.1:9");
    let object = world.get("edge-1").await;
    assert_eq!(found.metadata.owner_references.unwrap()[0].uid, text(&object, "/metadata/uid"));
    assert!(edge.token.starts_with("vgt_") && edge.token.len() == 4 + 43, "32 random bytes in base64url");
    assert_eq!(status(&edge, &operator), 200);
    assert_eq!(world.vigie(&["token", "show", "edge-1", "-n", &world.ns]).ok().trim(), edge.token);

    world.connectors().delete("edge-1", &DeleteParams::default()).await.unwrap();
    eventually(SOON, "the Secret goes with its Connector", async || {
        let found = world.api::<Secret>().get_opt("edge-1-connector-token").await.map_err(|e| e.to_string())?;
        if found.is_none() { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await;
    world.secrets_were_asked_for_by_name();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_keeps_the_old_token_until_the_new_one_is_used() {
    let world = World::new("rotation").await;
    let operator = world.operator(&[]).await;
    let old = world.connector("edge-1", quick()).await;
    assert_eq!(status(&old, &operator), 200);

    let pending = rotate(&world, &old, json!({"rotationGeneration": 1, "graceSeconds": 600})).await;
    let first = world.get("edge-1").await;
    assert_eq!(text(&first, "/status/token/rotation"), "Pending");
    let deadline = time(&first, "/status/token/graceUntil");
    assert_eq!(status(&old, &operator), 200, "the old one works on");
    assert_eq!(world.installed("edge-1").await.token, pending.token, "and its use does not discard the new one");

    let next = rotate(&world, &pending, json!({"rotationGeneration": 2})).await;
    let second = world.get("edge-1").await;
    assert_eq!(time(&second, "/status/token/graceUntil"), deadline, "raising it again keeps the deadline");
    assert_eq!(generation(&second), generation(&first) + 1);
    is_refused(&pending, &operator, "a pending token that was replaced before its first use is over").await;
    assert_eq!(status(&old, &operator), 200, "the old one still works");

    assert_eq!(status(&next, &operator), 200);
    is_refused(&old, &operator, "the first use of the new token ends the old one").await;
    assert_eq!(status(&next, &operator), 200);
    world.sees(SOON, "edge-1", "Confirmed", |seen| text(seen, "/status/token/rotation") == "Confirmed").await;
    world.event(SOON, "edge-1", "TokenRotated").await;
    assert_eq!(world.events("edge-1", "TokenRotated").await.len(), 1);
    let hashes = world.get("edge-1").await["status"]["token"]["hashes"].as_array().unwrap().len();
    assert!(hashes <= 4, "{hashes}");
    world.secrets_were_asked_for_by_name();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_its_grace_an_old_token_is_refused_whether_the_new_one_was_used_or_not() {
    let world = World::new("grace").await;
    let operator = world.operator(&[]).await;
    let old = world.connector("edge-1", quick()).await;
    assert_eq!(status(&old, &operator), 200);
    let new = rotate(&world, &old, json!({"rotationGeneration": 1, "graceSeconds": 8})).await;
    let until = time(&world.get("edge-1").await, "/status/token/graceUntil");
    let answer = status(&old, &operator);
    assert!(answer == 200 || Timestamp::now() >= until, "{answer} before {until}");
    is_refused(&old, &operator, "the grace is over").await;
    assert!(Timestamp::now() >= until, "refused before {until}");
    assert_eq!(status(&new, &operator), 200);

    let newest = rotate(&world, &new, json!({"rotationGeneration": 2, "graceSeconds": 0})).await;
    is_refused(&new, &operator, "a grace of 0 ends the old one at once").await;
    assert_eq!(status(&newest, &operator), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_rotations_at_once_one_is_delivered() {
    let world = World::new("tworaises").await;
    let operator = world.operator(&[]).await;
    let old = world.connector("edge-1", quick()).await;
    assert_eq!(status(&old, &operator), 200);
    let raise = || world.patch("edge-1", json!({"spec": {"token": {"rotationGeneration": 5}}}));
    futures::join!(raise(), raise());
    let new = newer(&world, &old).await;
    assert_eq!(status(&new, &operator), 200);
    is_refused(&old, &operator, "the old one is over").await;
    let seen = world.get("edge-1").await;
    assert_eq!(generation(&seen), 2, "one delivery for one generation that was asked for");
    let show = world.vigie(&["token", "rotate", "edge-1", "-n", &world.ns, "--wait"]).ok();
    assert!(show.contains("rotation 6"), "{show}");
    let third = newer(&world, &new).await;
    assert_eq!(status(&third, &operator), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_refused_while_it_beats_and_that_is_the_cause() {
    let world = World::new("revoke").await;
    let operator = world.operator(&[]).await;
    let old = world.connector("edge-1", quick()).await;
    let beater = Beater::start(&[operator.beats()], &old, seconds(4), Value::Null);
    world.state(SOON, "edge-1", "Online").await;
    world.vigie(&["token", "revoke", "edge-1", "-n", &world.ns, "--yes", "--wait"]).ok();
    // The API server knows the revocation before the operator has the answer to its own write.
    is_refused(&old, &operator, "it is revoked").await;
    let revoked = Timestamp::now();
    let new = newer(&world, &old).await;
    let seen = world
        .sees(seconds(60), "edge-1", "not Online, because of TokenRevoked", |seen| {
            text(seen, "/status/state") != "Online" && text(seen, "/status/diagnosis/cause") == "TokenRevoked"
        })
        .await;
    let refused = beater.stop().into_iter().filter(|beat| beat.sent > revoked);
    assert!(refused.into_iter().all(|beat| beat.status() == Some(401)), "every beat after the revocation is refused");
    assert!(time(&seen, "/status/token/lastRejectedTime") >= time(&seen, "/status/lastHeartbeatTime") - seconds(1));
    assert!(text(&seen, "/status/diagnosis/advice").contains("edge-1-connector-token"), "{seen:#}");
    world.event(SOON, "edge-1", "TokenRevoked").await;
    assert_eq!(status(&new, &operator), 200);
    let online = world.state(SOON, "edge-1", "Online").await;
    assert_eq!(online.pointer("/status/diagnosis"), None);
    assert_eq!(world.events("edge-1", "TokenRevoked").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_secret_is_delivered_anew_and_revokes_nothing() {
    let world = World::new("secretgone").await;
    let operator = world.operator(&[]).await;
    let mut edge = world.connector("edge-1", quick()).await;
    assert_eq!(status(&edge, &operator), 200);
    world.state(SOON, "edge-1", "Online").await;
    let secrets = world.api::<Secret>();
    secrets.delete("edge-1-connector-token", &DeleteParams::default()).await.unwrap();
    world.nudge("edge-1").await;
    let new = newer(&world, &edge).await;
    let seen = world
        .sees(SOON, "edge-1", "provisioned again", |seen| {
            generation(seen) == 2 && said(seen, "Provisioned") == "True/Provisioned"
        })
        .await;
    assert_eq!(text(&seen, "/status/token/rotation"), "Pending");
    assert_eq!(status(&edge, &operator), 200, "the old one lives on through its grace");
    world.event(SOON, "edge-1", "TokenSecretRecreated").await;
    assert_eq!(status(&new, &operator), 200);
    is_refused(&edge, &operator, "the first use of the new one ends the old one").await;

    // Repeatedly: each deletion leads to one delivery, and to no loop.
    edge = new;
    let audit = world.requests().len();
    for _ in 0..5 {
        secrets.delete("edge-1-connector-token", &DeleteParams::default()).await.unwrap();
        world.nudge("edge-1").await;
        edge = newer(&world, &edge).await;
    }
    assert_eq!(status(&edge, &operator), 200);
    let asked: Vec<_> =
        world.requests().into_iter().skip(audit).filter(|r| r.resource == "secrets" && r.verb != "get").collect();
    assert!(asked.len() <= 2 * 5, "{} writes of Secrets for 5 deletions: {asked:?}", asked.len());
    let deliveries = generation(&world.get("edge-1").await);
    assert!(deliveries <= 2 + 5, "{deliveries} deliveries for 6 deletions");
    world.secrets_were_asked_for_by_name();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_not_ours_is_never_touched() {
    let world = World::new("foreign").await;
    let _operator = world.operator(&[]).await;
    let secrets = world.api::<Secret>();
    let foreign = secret("edge-1-connector-token", "token", "somebody else's and precious");
    let foreign = secrets.create(&PostParams::default(), &foreign).await.unwrap();
    world.create("edge-1", json!({})).await;
    let seen = world.sees(SOON, "edge-1", "not provisioned", |seen| {
        seen.pointer("/status/conditions").is_some() && said(seen, "Provisioned") == "False/TokenSecretConflict"
    });
    let seen = seen.await;
    assert_eq!(said(&seen, "Ready"), "False/TokenSecretConflict");
    assert_eq!(text(&seen, "/status/diagnosis/cause"), "TokenSecretConflict");
    world.nudge("edge-1").await;
    let after = secrets.get("edge-1-connector-token").await.unwrap();
    assert_eq!(after.metadata.resource_version, foreign.metadata.resource_version);
    secrets.delete("edge-1-connector-token", &DeleteParams::default()).await.unwrap();
    world.nudge("edge-1").await;
    world.installed("edge-1").await;
    world.sees(SOON, "edge-1", "provisioned", |seen| said(seen, "Provisioned") == "True/Provisioned").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_the_user_brings_is_read_and_never_written() {
    let world = World::new("brought").await;
    let operator = world.operator(&[]).await;
    let secrets = world.api::<Secret>();
    world.create("edge-1", json!({"token": {"existingSecretRef": {"name": "mine", "key": "key"}}})).await;
    let seen = world.sees(SOON, "edge-1", "SecretNotFound", |seen| {
        seen.pointer("/status/conditions").is_some() && said(seen, "Accepted") == "False/SecretNotFound"
    });
    let seen = seen.await;
    assert_eq!(said(&seen, "Stalled"), "True/SecretNotFound");
    assert!(text(crate::beats::condition(&seen, "Accepted"), "/message").contains("mine"), "{seen:#}");

    // A Secret without the label: it is not used, and no message describes it.
    let mut other = secret("mine", "key", "precious-and-not-meant-for-this");
    other.metadata.labels = None;
    secrets.create(&PostParams::default(), &other).await.unwrap();
    world.nudge("edge-1").await;
    world
        .sees(SOON, "edge-1", "the label is asked for, whether or not there is a Secret", |found| {
            found["status"]["observedGeneration"] == found["metadata"]["generation"]
                && text(crate::beats::condition(found, "Accepted"), "/message")
                    == text(crate::beats::condition(&seen, "Accepted"), "/message")
        })
        .await;
    assert!(text(crate::beats::condition(&seen, "Accepted"), "/message").contains("connector-credentials"), "{seen:#}");
    let edge = Connector {
        name: "edge-1".to_owned(),
        id: format!("{}/edge-1", world.ns),
        token: "precious-and-not-meant-for-this".to_owned(),
    };
    assert_ne!(status(&edge, &operator), 200);
    secrets.delete("mine", &DeleteParams::default()).await.unwrap();
    secrets.create(&PostParams::default(), &secret("mine", "key", "too short")).await.unwrap();
    world.nudge("edge-1").await;
    world
        .sees(SOON, "edge-1", "TokenSecretInvalid", |seen| said(seen, "Provisioned") == "False/TokenSecretInvalid")
        .await;

    let first = "the first value, 0123456789".replace([' ', ','], "-");
    let put = async |value: &str| {
        let old = secrets.get("mine").await.unwrap();
        let mut new = secret("mine", "key", value);
        new.metadata.resource_version = old.metadata.resource_version;
        secrets.replace("mine", &PostParams::default(), &new).await.unwrap();
        world.nudge("edge-1").await;
    };
    put(&first).await;
    world.sees(SOON, "edge-1", "provisioned", |seen| said(seen, "Provisioned") == "True/Provisioned").await;
    let edge = Connector { name: "edge-1".to_owned(), id: format!("{}/edge-1", world.ns), token: first };
    is_accepted(&edge, &operator, "the user's value is a token").await;

    let second = edge.with_token("the-second-value-0123456789");
    put(&second.token).await;
    is_refused(&edge, &operator, "a changed value replaces the old one").await;
    is_accepted(&second, &operator, "and is the token now").await;
    let seen = world.get("edge-1").await;
    let hashes = seen["status"]["token"]["hashes"].as_array().unwrap();
    assert!(hashes.iter().all(|hash| hash["rounds"] == 10_000), "no plain hash of what a person chose: {hashes:?}");
    let writes: Vec<_> = world.requests().into_iter().filter(|r| r.resource == "secrets" && r.verb != "get").collect();
    assert!(writes.is_empty(), "{writes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_deleted_while_it_beats_is_gone_and_created_again_has_a_new_token() {
    let world = World::new("deleted").await;
    let operator = world.operator(&[]).await;
    let old = world.connector("edge-1", quick()).await;
    let other = world.connector("edge-2", quick()).await;
    let _others = Beater::start(&[operator.beats()], &other, seconds(2), Value::Null);
    let beater = Beater::start(&[operator.beats()], &old, seconds(4), Value::Null);
    world.state(SOON, "edge-1", "Online").await;
    world.connectors().delete("edge-1", &DeleteParams::default()).await.unwrap();
    let deleted = Timestamp::now();
    eventually(SOON, "the sender is answered 401", async || {
        let last = beater.beats().into_iter().rev().find(|beat| beat.sent > deleted);
        if last.as_ref().and_then(|beat| beat.status()) == Some(401) { Ok(()) } else { Err(format!("{last:?}")) }
    })
    .await;
    eventually(SOON, "it is removed everywhere", async || {
        let scrape = operator.scrape();
        let series: Vec<_> = scrape.0.lines().filter(|line| line.contains("name=\"edge-1\"")).collect();
        let secret = world.api::<Secret>().get_opt("edge-1-connector-token").await.map_err(|e| e.to_string())?;
        match (series.is_empty(), secret.is_none(), operator.view("edge-1")) {
            (true, true, None) => Ok(()),
            other => Err(format!("{other:?} {series:?}")),
        }
    })
    .await;
    // It keeps beating past its deadlines: nothing is created again.
    crate::support::never(seconds(8), "something was created for a deleted Connector", async || {
        let secret = world.api::<Secret>().get_opt("edge-1-connector-token").await.ok().flatten();
        let object = world.connectors().get_opt("edge-1").await.ok().flatten();
        (secret.is_some() || object.is_some()).then(|| format!("{secret:?} {object:?}"))
    })
    .await;
    assert_eq!(operator.scrape().state_of("edge-2").as_deref(), Some("Online"));

    let new = world.connector("edge-1", quick()).await;
    assert_ne!(new.token, old.token);
    assert_eq!(status(&new, &operator), 200);
    assert_eq!(status(&old, &operator), 401, "the old token is unknown");
    assert_eq!(get(operator.admin(), "/readyz").unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_never_written_anywhere_but_into_its_secret() {
    let world = World::new("leaks").await;
    let operator = world.operator(&["--log", "debug"]).await;
    let first = world.connector("edge-1", quick()).await;
    let mut secrets = vec![first.token.clone()];
    assert_eq!(status(&first, &operator), 200);
    let wrong = first.with_token("vgt_wrong-and-still-nobodys-business");
    assert_eq!(status(&wrong, &operator), 401);
    secrets.push(wrong.token);
    let second = rotate(&world, &first, json!({"rotationGeneration": 1})).await;
    assert_eq!(status(&second, &operator), 200);
    is_refused(&first, &operator, "the first one is over").await;
    let broken = format!(r#"{{"connector_id": "{}", "token": "{}", "sequence": -1}}"#, second.id, second.token);
    let answer = crate::support::http::post_beat(operator.beats(), broken.as_bytes()).unwrap();
    assert_eq!(answer.status, 400);
    assert!(!answer.body.contains(&second.token), "{answer:?}");
    secrets.push(second.token.clone());
    world.vigie(&["token", "revoke", "edge-1", "-n", &world.ns, "--yes", "--wait"]).ok();
    let third = newer(&world, &second).await;
    assert_eq!(status(&third, &operator), 200);
    secrets.push(third.token.clone());

    let events = world.api::<k8s_openapi::api::events::v1::Event>().list(&ListParams::default()).await.unwrap().items;
    assert!(!events.is_empty());
    let core = world.api::<k8s_openapi::api::core::v1::Event>().list(&ListParams::default()).await.unwrap().items;
    let argv = operator.command_line();
    let places = [
        ("log", operator.log()),
        ("events", serde_json::to_string(&events).unwrap() + &serde_json::to_string(&core).unwrap()),
        ("object", world.get("edge-1").await.to_string()),
        ("metrics", operator.scrape().0),
        ("API", operator.view("edge-1").unwrap().to_string()),
        ("command line and environment", argv),
    ];
    for (place, content) in places {
        assert!(!content.is_empty(), "nothing in {place} proves nothing");
        for token in &secrets {
            assert!(!content.contains(token.trim_start_matches("vgt_")), "a token is in the {place}");
        }
    }
    world.secrets_were_asked_for_by_name();
}
