//! Tokens that users bring: compared on blocking threads, a few at a time, and a few wrong ones a minute.

use std::num::NonZeroU32;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::tests::{DAY, Town, connector, coordinator};
use super::*;
use crate::heartbeat::credentials::SLOW_HASHES;
use crate::heartbeat::fake::{Fake, options};
use crate::heartbeat::payload::parse;
use crate::heartbeat::routes::router;

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// So few that no comparison takes long.
const ROUNDS: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// A Connector whose tokens a user brings: the slow hashes of `held`, the newest first.
fn brought(name: &str, version: u32, held: &[&str]) -> Connector {
    let generations = (1..=held.len()).rev();
    let hash = |(token, generation): (&&str, usize)| {
        let sha256 = Digest::slow(token, &format!("uid of {name}"), ROUNDS).to_hex();
        json!({ "generation": generation, "sha256": sha256, "rounds": ROUNDS.get() })
    };
    let hashes: Vec<Value> = held.iter().zip(generations).map(hash).collect();
    let spec = json!({ "token": { "existingSecretRef": { "name": "mine", "key": "token" } } });
    connector(name, DAY, version, spec, json!({ "token": { "generation": held.len(), "hashes": hashes } }))
}

fn say(town: &Town, id: &str, token: &str) -> Reply {
    let body = json!({ "connector_id": id, "token": token }).to_string();
    town.registry.receive(&parse(body.as_bytes(), None).unwrap(), FROM)
}

fn say_compared(town: &Town, id: &str, token: &str, compared: &Compared) -> Reply {
    let body = json!({ "connector_id": id, "token": token }).to_string();
    town.registry.receive_compared(&parse(body.as_bytes(), None).unwrap(), FROM, compared)
}

fn comparison(reply: Reply) -> crate::heartbeat::slow_hash::Comparison {
    match reply {
        Reply::Uncompared(comparison) => *comparison,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_slow_hash_is_computed_on_the_thread_that_hears_heartbeats() {
    let town = coordinator(Role::Leader);
    let names: Vec<_> = (0..20).map(|number| format!("edge-{number}")).collect();
    for name in &names {
        town.upsert(&brought(name, 1, &["0123456789abcdef", "of-yesterday-0123"]));
    }
    let registry = Arc::new(town.registry);
    let port = router(registry, options(&Arc::new(Fake::default())));
    let on_this_thread = SLOW_HASHES.get();
    let beat = |name: &str, token: &str| {
        let body = json!({ "connector_id": format!("edge/{name}"), "token": token }).to_string();
        port.clone().oneshot(Request::post("/api/connector/heartbeat").body(Body::from(body)).unwrap())
    };
    for token in ["0123456789abcdef", "of-yesterday-0123", "0123456789abcdef", "a-wrong-one-012345"] {
        let answers = futures::future::join_all(names.iter().map(|name| beat(name, token))).await;
        let wanted = if token.starts_with("a-wrong") { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().status() == wanted), "{token}: {answers:?}");
    }
    assert_eq!(SLOW_HASHES.get(), on_this_thread, "heartbeats are heard on this thread");
}

#[tokio::test]
async fn of_wrong_tokens_that_come_at_once_only_twenty_are_compared_and_right_ones_count_for_nothing() {
    let town = coordinator(Role::Leader);
    town.upsert(&brought("paris", 1, &["0123456789abcdef"]));
    let asked: Vec<_> = (0..50).map(|number| say(&town, "edge/paris", &format!("a-guess-0123-{number}"))).collect();
    let compared = asked.iter().filter(|reply| matches!(reply, Reply::Uncompared(_))).count();
    assert_eq!(compared, 20, "none of them has been compared yet");
    assert!(matches!(asked[20], Reply::NotCompared { .. }), "{:?}", asked[20]);

    let town = coordinator(Role::Leader);
    for version in 2..40 {
        let token = format!("the-value-of-version-{version}");
        town.upsert(&brought("paris", version, &[&token]));
        let compared = comparison(say(&town, "edge/paris", &token)).run().await;
        let is_right = |reply: &Reply| matches!(reply, Reply::Accepted { .. } | Reply::TooOften { .. });
        let reply = say_compared(&town, "edge/paris", &token, &compared);
        assert!(is_right(&reply), "{reply:?}");
        assert!(is_right(&say(&town, "edge/paris", &token)), "it is known now");
    }
}

#[tokio::test]
async fn a_token_that_was_not_compared_in_time_or_with_the_hashes_of_now_is_put_off() {
    let town = coordinator(Role::Leader);
    town.upsert(&brought("paris", 1, &["0123456789abcdef"]));
    for _ in 0..30 {
        comparison(say(&town, "edge/paris", "0123456789abcdef"));
        let reply = say_compared(&town, "edge/paris", "0123456789abcdef", &Compared::default());
        assert!(matches!(reply, Reply::NotLoaded { .. }), "it counts as no wrong one: {reply:?}");
    }
    let before = comparison(say(&town, "edge/paris", "the-next-one-0123")).run().await;
    town.upsert(&brought("paris", 2, &["the-next-one-0123", "0123456789abcdef"]));
    let reply = say_compared(&town, "edge/paris", "the-next-one-0123", &before);
    assert!(matches!(reply, Reply::NotLoaded { .. }), "{reply:?}");
    let compared = comparison(say(&town, "edge/paris", "the-next-one-0123")).run().await;
    let reply = say_compared(&town, "edge/paris", "the-next-one-0123", &compared);
    assert!(matches!(reply, Reply::Accepted { .. }), "{reply:?}");
    let wrong = comparison(say(&town, "edge/paris", "a-wrong-one-01234"));
    assert!(!format!("{wrong:?}").contains("a-wrong-one"), "{wrong:?}");
    let reply = say_compared(&town, "edge/paris", "a-wrong-one-01234", &wrong.run().await);
    assert!(matches!(reply, Reply::Rejected { known: true }), "{reply:?}");
}
