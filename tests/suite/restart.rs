//! Thousands of senders, and an operator that is killed while they beat.

use std::num::NonZeroU32;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};

use crate::beats::path;
use crate::support::fleet::Fleet;
use crate::support::world::SOON;
use crate::support::{Connector, Operator, World, eventually, never, seconds, text};

/// Scenario 14 says ten thousand. Each costs the test two writes beforehand, and two cores that also run fifteen other
/// tests do fewer than a hundred writes a second: a thousand fit. `make bench` starts an operator over five thousand
/// objects and holds a hundred thousand without an API server.
const SENDERS: usize = 1_000;
/// Senders whose limit, a minute, is shorter than the absence: their written status is older.
const STRICT: usize = 50;
/// Status writes per second for checkpoints; the default.
const BUDGET: f64 = 10.0;
/// All of them use one token, which the user brings: the test covers beats, not deliveries.
const TOKEN: &str = "one-token-for-all-of-them-0123456789";

fn spec(number: usize) -> Value {
    let strict = json!({"intervalSeconds": 5, "lateAfterSeconds": 30, "offlineAfterSeconds": 60});
    let patient = json!({"intervalSeconds": 10, "lateAfterSeconds": 100, "offlineAfterSeconds": 300});
    // Fifty per site, so that a silent site would be a mass silence.
    json!({
        "site": format!("s{}", number / STRICT),
        "heartbeat": if number < STRICT { strict } else { patient },
        "token": {"existingSecretRef": {"name": "shared", "key": "token"}},
    })
}

fn sender(world: &World, number: usize) -> Connector {
    let name = format!("edge-{number}");
    Connector { id: format!("{}/{name}", world.ns), name, token: TOKEN.to_owned() }
}

/// The status that an operator wrote of one beating connector: a fleet of them starts from it.
async fn remembered(world: &World, operator: &Operator) -> [Value; 2] {
    let mut found = [Value::Null, Value::Null];
    for (number, found) in [0, STRICT].into_iter().zip(&mut found) {
        let edge = sender(world, number);
        world.create(&edge.name, spec(number)).await;
        eventually(SOON, "its token is known", async || {
            let answer = edge.try_beat(operator.beats(), &Value::Null);
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
        *found = world.state(SOON, &edge.name, "Online").await["status"].clone();
    }
    found
}

/// The hash that an operator stores of the token that the user brings: it is salted with the UID of each object.
fn slow_hash(uid: &str, rounds: &Value) -> String {
    let rounds = rounds.as_u64().and_then(|rounds| u32::try_from(rounds).ok()).and_then(NonZeroU32::new);
    let rounds = rounds.expect("the hash of a token that the user brings has rounds");
    let mut hash = [0; 32];
    ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, rounds, uid.as_bytes(), TOKEN.as_bytes(), &mut hash);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates one that was heard just now, or longer ago than its limit, with the status that an operator would have
/// written.
async fn create(world: &World, number: usize, remembered: &Value) {
    let edge = sender(world, number);
    let made = world.create(&edge.name, spec(number)).await;
    let mut status = remembered.clone();
    status["connectorID"] = edge.id.into();
    let age = if number < STRICT { seconds(90) } else { seconds(0) };
    status["lastHeartbeatTime"] = (Timestamp::now() - age).to_string().into();
    let uid = made.metadata.uid.as_deref().expect("a stored object has a UID");
    status["token"]["hashes"][0]["sha256"] = slow_hash(uid, &status["token"]["hashes"][0]["rounds"]).into();
    let mut object: DynamicObject = made;
    object.data["status"] = status;
    let written = world.connectors().replace_status(&edge.name, &PostParams::default(), &object).await;
    written.unwrap_or_else(|error| panic!("the status of {}: {error}", edge.name));
}

async fn fleet(world: &World, remembered: &[Value; 2]) -> Vec<Connector> {
    let rest = (0..SENDERS).filter(|number| ![0, STRICT].contains(number));
    let made = futures::stream::iter(rest)
        .map(|number| create(world, number, &remembered[usize::from(number >= STRICT)]))
        .buffer_unordered(32);
    made.for_each(async |()| {}).await;
    (0..SENDERS).map(|number| sender(world, number)).collect()
}

async fn all_online(operator: &Operator) {
    eventually(seconds(120), "all are Online, and nothing is left to write", async || {
        // Evaluating thousands many times a second would itself be the measured load.
        tokio::time::sleep(seconds(1)).await;
        let scrape = operator.scrape();
        let online = scrape.sum("vigie_connectors", &["state=\"Online\""]);
        let pending = scrape.sum("vigie_status_write_pending", &[]);
        if online == SENDERS as f64 && pending == 0.0 {
            Ok(())
        } else {
            Err(format!("{online} Online, {pending} pending"))
        }
    })
    .await;
}

/// Every beat was answered 200, or 503 with a Retry-After, or got no answer while no operator ran.
fn nothing_else_was_answered(beating: Fleet) {
    let wrong = beating.stop();
    let allowed = |beat: &&crate::support::beats::Beaten| match &beat.answer {
        Ok(answer) => {
            answer.status == 503 && answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok())
        }
        Err(error) => !error.contains("timed out"),
    };
    let odd = wrong.iter().find(|beat| !allowed(beat));
    assert!(odd.is_none(), "{odd:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_is_killed_under_thousands_of_beats_accuses_nobody() {
    let world = World::new("thousands").await;
    let secret = json!({"metadata": {"name": "shared", "labels": {"vigie.dev/connector-credentials": "true"}}, "data": {"token": ByteString(TOKEN.into())}});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    world.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    let flags = ["--object-metrics", "off"];
    let mut operator = world.operator(&flags).await;
    let remembered = remembered(&world, &operator).await;
    operator.kill();
    let edges = fleet(&world, &remembered).await;
    // They beat against a closed port, and are heard when it opens.
    let strict = Fleet::start(operator.beats(), &edges[..STRICT], seconds(3), 2);
    let patient = Fleet::start(operator.beats(), &edges[STRICT..], seconds(5), 6);
    operator.restart().await;
    operator.hearing().await;
    all_online(&operator).await;

    let heard = || strict.heard() + patient.heard();
    let before = heard();
    let killed = Timestamp::now();
    operator.restart().await;
    operator.hearing().await;
    all_online(&operator).await;
    eventually(SOON, "each was heard again", async || {
        let now = heard() - before;
        if now >= 2 * SENDERS as u64 { Ok(()) } else { Err(format!("{now}")) }
    })
    .await;
    let until = Timestamp::now();
    for beating in [strict, patient] {
        nothing_else_was_answered(beating);
    }

    let found = world.connectors().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(found.len(), SENDERS);
    let (mut turned, mut doubted) = (0, 0);
    for edge in found {
        let edge = serde_json::to_value(edge).unwrap();
        let path = path(&edge);
        assert_eq!(text(&edge, "/status/state"), "Online", "{edge:#}");
        assert!(!path.iter().any(|to| to == "Offline"), "{path:?} in {edge:#}");
        let number = text(&edge, "/metadata/name").trim_start_matches("edge-").parse::<usize>().unwrap();
        // One whose beat came before its limit was over never became Unknown.
        doubted += usize::from((1..STRICT).contains(&number) && path.iter().any(|to| to == "Unknown"));
        turned += path.len() - 2;
    }
    assert!(doubted > 0, "the limit of the strict ones was over for some of them before they were heard");
    assert!(turned <= 4 * STRICT, "{turned} transitions: those whose limit was not over had none");
    let told = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let accused = told.iter().find(|event| event.reason.as_deref() == Some("Offline"));
    assert!(accused.is_none(), "{accused:?}");

    // No write storm: those that were heard in time are written as checkpoints within the budget.
    let written = world.requests().into_iter().filter(|write| {
        write.resource == "connectors/status"
            && write.verb != "get"
            && write.received >= killed
            && write.received <= until
    });
    let strict =
        |name: &str| name.strip_prefix("edge-").and_then(|n| n.parse().ok()).is_some_and(|n: usize| n < STRICT);
    let checkpoints = written.filter(|write| !strict(&write.name)).count() as f64;
    let took = until.duration_since(killed).as_secs_f64();
    assert!(checkpoints <= BUDGET * (took + 1.5), "{checkpoints} writes in {took} s");
    never(seconds(1), "a connector is called Offline after all", async || {
        let offline = operator.scrape().sum("vigie_connectors", &["state=\"Offline\""]);
        (offline > 0.0).then(|| offline.to_string())
    })
    .await;
}
