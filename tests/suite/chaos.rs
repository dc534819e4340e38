//! Exactly once: the operator is killed, frozen, disconnected and given wrong answers, and every attempt that was
//! decided changes its workload once. The counts come from the workload's ReplicaSets and from the API server's audit
//! log, never from the operator.

use std::time::Instant;

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::remedies::{healthy, tunnel};
use crate::support::beats::Connector;
use crate::support::faults::{Fault, Faults};
use crate::support::workloads::{last_attempt, outcome};
use crate::support::world::SOON;
use crate::support::{Operator, World, eventually, seconds, text};

mod kills;
mod mix;

/// Disables the brakes: these tests cover many single attempts.
const UNBRAKED: [&str; 8] = [
    "--max-in-flight",
    "1000",
    "--max-in-flight-per-site",
    "1000",
    "--max-per-minute",
    "1000",
    "--breaker-min",
    "1000",
];

/// The writes of an attempt, in their order.
const WRITES: [&str; 5] = ["Reserved", "Patch", "Restarting", "Verifying", "Succeeded"];

/// Every attempt that was ever decided, by the history in the status.
fn decided(seen: &Value) -> Vec<String> {
    let history = seen.pointer("/status/remediation/history").and_then(Value::as_array).cloned().unwrap_or_default();
    history.iter().map(|past| text(past, "/id").to_owned()).collect()
}

/// Faults after which the attempt still succeeds, for every write.
const PASSING: [Fault; 7] = [
    Fault::Refused(409, "Conflict"),
    Fault::Refused(422, "Invalid"),
    Fault::Refused(429, "TooManyRequests"),
    Fault::Refused(500, "InternalError"),
    Fault::Lost,
    Fault::DoneAndWithheld,
    Fault::Withheld,
];
/// Further faults of a status write that the next try overcomes.
const OF_STATUS: [Fault; 3] = [Fault::Refused(403, "Forbidden"), Fault::Refused(404, "NotFound"), Fault::Overtaken];

/// One gateway for each write of the sequence and each fault: its name, the write, and the fault. The writes after the
/// act share the code of the reservation, so every second fault is enough for them.
fn cases() -> Vec<(String, &'static str, Fault)> {
    let mut all = Vec::new();
    for write in WRITES {
        let of_status = OF_STATUS.iter().filter(|_| write != "Patch");
        let every = if ["Reserved", "Patch"].contains(&write) { 1 } else { 2 };
        for (number, fault) in PASSING.iter().chain(of_status).enumerate().step_by(every) {
            all.push((format!("{}-{number}", write.to_lowercase()), write, *fault));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_a_write_nothing_is_lost_and_nothing_is_done_twice() {
    let world = World::new("chaos-faults").await;
    let faults = Faults::before(&world).await;
    let operator = world.operator_through(&faults, &[&UNBRAKED[..], &["--brake-min", "1000"]].concat()).await;
    let cases = cases();
    let made = cases.iter().map(|(name, ..)| healthy(&world, &operator, name, json!({})));
    let gateways: Vec<Connector> = stream::iter(made).buffered(8).collect().await;
    for ((name, at, fault), gateway) in cases.iter().zip(&gateways) {
        faults.plan(name, at, *fault);
        gateway.beat_with(operator.beats(), &tunnel("Fail"));
    }
    eventually(3 * SOON, "each attempt ends", async || {
        let mut going = Vec::new();
        let all = world.with_attempts(world.connectors()).await;
        for gateway in &gateways {
            let (seen, attempt) = &all[&gateway.name];
            let _ = gateway.try_beat(operator.beats(), &tunnel(if attempt.is_some() { "Pass" } else { "Fail" }));
            if outcome(seen).is_empty() {
                going.push(format!("{}: {:#}", gateway.name, seen["status"]["remediation"]));
            }
        }
        if going.is_empty() { Ok(()) } else { Err(going.join("\n")) }
    })
    .await;
    for (name, write, fault) in &cases {
        let case = format!("{name}: {write} suffers {fault:?}");
        let over = world.get(name).await;
        assert_eq!(outcome(&over), "Succeeded", "{case}: {:#}", last_attempt(&over));
        assert_eq!(decided(&over).len(), 1, "{case}: one decision, one attempt");
        assert_eq!(world.attempts_of(name).await, decided(&over), "{case}");
        for reason in ["RestartStarted", "RestartSucceeded"] {
            world.event(SOON, name, reason).await;
            assert_eq!(world.events(name, reason).await.len(), 1, "{case}: {reason}");
        }
        let sent = faults.writes().iter().filter(|sent| sent.name == *name && sent.remedy == "Patch").count();
        let is_faulted = *write == "Patch" && ![Fault::Lost, Fault::DoneAndWithheld].contains(fault);
        assert_eq!(sent, 1 + usize::from(is_faulted), "{case}: a patch that may have been applied is not sent again");
    }
    // No write loop: three seconds come in which nothing is written. A checkpoint has no state.
    let said =
        || faults.writes().into_iter().filter(|write| !write.state.is_empty() || write.remedy == "Patch").count();
    let (mut sent, mut since) = (said(), Instant::now());
    eventually(SOON, "nothing is written while nothing changes", async || {
        let count = said();
        if count != sent {
            (sent, since) = (count, Instant::now());
        }
        if since.elapsed() >= seconds(3) { Ok(()) } else { Err(format!("{count} writes")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_no_ends_the_attempt_and_is_named() {
    let world = World::new("chaos-refused").await;
    let faults = Faults::before(&world).await;
    let operator = world.operator_through(&faults, &UNBRAKED).await;
    for (name, code, reason) in
        [("forbidden", 403, "Forbidden"), ("unknown", 404, "NotFound"), ("bad", 400, "BadRequest")]
    {
        let gateway = healthy(&world, &operator, name, json!({"maxAttempts": 1})).await;
        faults.plan(name, "Patch", Fault::Refused(code, reason));
        gateway.beat_with(operator.beats(), &tunnel("Fail"));
        let seen = world.sees(SOON, name, "an outcome", |seen| !outcome(seen).is_empty()).await;
        assert_eq!(outcome(&seen), "Refused", "{seen:#}");
        assert!(text(last_attempt(&seen), "/message").contains("the test says"), "{seen:#}");
        assert_eq!(last_attempt(&seen)["restarted"], false);
        world.event(SOON, name, "RestartFailed").await;
        // A definitive refusal counts as an attempt and is not repeated.
        world.remediating(name, "GaveUp").await;
        assert_eq!(faults.writes().iter().filter(|sent| sent.name == name && sent.remedy == "Patch").count(), 1);
        assert!(world.attempts_of(name).await.is_empty());
        gateway.beat_with(operator.beats(), &tunnel("Pass"));
    }
}

/// The API server goes away directly after a write of the sequence, for longer than a leader may lead without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_goes_away_in_the_middle_finds_the_attempt_carried_on_once() {
    use crate::support::http::get;
    use crate::support::proxy::Way;
    let world = World::new("chaos-away").await;
    let faults = Faults::before(&world).await;
    let operator = world.operator_through(&faults, &UNBRAKED).await;
    for (name, write, way) in [("reserved", "Reserved", Way::Cut), ("patched", "Patch", Way::Blackhole)] {
        let gateway = healthy(&world, &operator, name, json!({"verifyWithinSeconds": 300})).await;
        faults.plan(name, write, Fault::DoneAndWithheld);
        gateway.beat_with(operator.beats(), &tunnel("Fail"));
        eventually(SOON, "the write is done", async || {
            let is_it = |sent: &crate::support::faults::Write| sent.name == name && sent.remedy == write;
            let done = faults.writes().into_iter().find(is_it).and_then(|sent| sent.code);
            done.map(drop).ok_or_else(|| "not yet".to_owned())
        })
        .await;
        operator.proxy.set(way);
        eventually(SOON, "its leadership is unconfirmed", async || match get(operator.beats(), "/api/health") {
            Ok(answer) if text(&answer.json(), "/leader") == "uncertain" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        operator.proxy.set(Way::Open);
        operator.hearing().await;
        eventually(SOON, "it is restarted, and has an outcome", async || {
            let is_restarted = !world.attempts_of(name).await.is_empty();
            let _ = gateway.try_beat(operator.beats(), &tunnel(if is_restarted { "Pass" } else { "Fail" }));
            let seen = world.get(name).await;
            if outcome(&seen) == "Succeeded" { Ok(()) } else { Err(format!("{:#}", seen["status"]["remediation"])) }
        })
        .await;
        let over = world.get(name).await;
        assert_eq!(decided(&over).len(), 1, "{over:#}");
        assert_eq!(world.attempts_of(name).await, decided(&over));
        let done = world.touches().into_iter().filter(|touch| touch.name == name && touch.is_success()).count();
        assert_eq!(done, 1, "{:?}", world.touches());
    }
}

/// Keeps beating, so that the connector does not become late while a test waits for something else.
fn beat_on(operator: &Operator, connector: &Connector, status: &str) -> crate::support::Beater {
    crate::support::Beater::start(&[operator.beats()], connector, seconds(5), tunnel(status))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_before_it_acted_changes_nothing_when_it_wakes() {
    let world = World::new("chaos-frozen").await;
    let faults = Faults::before(&world).await;
    let first = world.operator_through(&faults, &UNBRAKED).await;
    let gateway = healthy(&world, &first, "paris", json!({"verifyWithinSeconds": 300})).await;
    // Its request is delayed on the way, and arrives long after the other operator has acted.
    faults.plan("paris", "Patch", Fault::Held);
    gateway.beat_with(first.beats(), &tunnel("Fail"));
    world
        .sees(SOON, "paris", "a reservation", |seen| text(seen, "/status/remediation/current/phase") == "Reserved")
        .await;
    eventually(SOON, "its request is on its way", async || {
        let sent = faults.writes().into_iter().any(|write| write.remedy == "Patch");
        sent.then_some(()).ok_or_else(|| "not yet".to_owned())
    })
    .await;
    first.signal("STOP");
    let second = world.replica(&UNBRAKED).await;
    second.hearing().await;
    let _down = beat_on(&second, &gateway, "Fail");
    eventually(SOON, "the other operator acts", async || match world.attempts_of("paris").await.len() {
        1 => Ok(()),
        other => Err(format!("{other}")),
    })
    .await;
    first.signal("CONT");
    faults.release();
    eventually(SOON, "the old request arrives", async || {
        let sent = faults.writes().into_iter().find(|write| write.remedy == "Patch").and_then(|write| write.code);
        sent.ok_or_else(|| "not yet".to_owned())
    })
    .await;
    drop(_down);
    let _up = beat_on(&second, &gateway, "Pass");
    let over = world.sees(SOON, "paris", "an outcome", |seen| !outcome(seen).is_empty()).await;
    assert_eq!(outcome(&over), "Succeeded", "{over:#}");
    crate::support::never(seconds(5), "it restarts again", async || {
        let attempts = world.attempts_of("paris").await;
        (attempts.len() != 1).then(|| format!("{attempts:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_from_the_network_it_restarts_nothing() {
    use crate::support::proxy::Way;
    let world = World::new("chaos-cut").await;
    let operator = world.operator(&UNBRAKED).await;
    let gateway = healthy(&world, &operator, "paris", json!({})).await;
    operator.proxy.set(Way::Blackhole);
    gateway.try_beat(operator.beats(), &tunnel("Fail"));
    crate::support::never(seconds(20), "a workload is changed", async || {
        let touched = world.touches();
        (!touched.is_empty()).then(|| format!("{touched:?}"))
    })
    .await;
    // The connector recovered before an operator could act.
    let on = beat_on(&operator, &gateway, "Pass");
    eventually(SOON, "it is heard to be well", async || on.last_heard().map(drop).ok_or_else(|| "not yet".to_owned()))
        .await;
    operator.proxy.set(Way::Open);
    world.state(SOON, "paris", "Online").await;
    crate::support::never(seconds(3), "a workload is changed afterwards", async || {
        let touched = world.touches();
        (!touched.is_empty()).then(|| format!("{touched:?}"))
    })
    .await;
}
