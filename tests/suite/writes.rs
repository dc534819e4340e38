//! Writes that fail for long, or that the API server does not keep: no loop, and all is well soon after the fault.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::remedies::{gateway, healthy, tunnel};
use crate::support::audit::Request;
use crate::support::backends::{condition, probed};
use crate::support::faults::{Call, Fault, Faults};
use crate::support::workloads::last_attempt;
use crate::support::world::SOON;
use crate::support::{Beater, Misbehave, World, eventually, never, quick, seconds, text};

/// Every way in which a call fails for long.
const FAULTS: [(&str, Fault); 9] = [
    ("forbidden", Fault::Refused(403, "Forbidden")),
    ("not-found", Fault::Refused(404, "NotFound")),
    ("conflict", Fault::Refused(409, "Conflict")),
    ("invalid", Fault::Refused(422, "Invalid")),
    ("throttled", Fault::Refused(429, "TooManyRequests")),
    ("broken", Fault::Refused(500, "InternalError")),
    ("reset", Fault::Reset),
    ("hangs", Fault::Withheld),
    ("varies", Fault::Varies),
];

/// Longer than the first waits, so that the wait between two tries has grown.
const LONG: std::time::Duration = seconds(75);

/// The tries of one call in [`LONG`]: about nine in the first minute, as the waits grow to twelve seconds.
const MAX_TRIES: usize = 12;

/// The longest wait until the next try, a try that hangs, and a margin for a busy machine.
const HEALED: std::time::Duration = seconds(90);

fn is_final(fault: Fault) -> bool {
    matches!(fault, Fault::Refused(403 | 404 | 422, _))
}

/// Asks for a restart of an object of either kind now.
fn request() -> Value {
    json!({"metadata": {"annotations": {"vigie.dev/restart-requested": jiff::Timestamp::now().to_string()}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_refused_for_long_makes_no_loop_and_heals_in_seconds() {
    let world = World::new("refused-for-long").await;
    let faults = Faults::before(&world).await;
    let target = Misbehave::start();
    let operator = world.operator_through(&faults, &["--allow-network", "127.0.0.0/8"]).await;
    let of = |call: &str, fault: &str| format!("{call}-{fault}");
    let mut edges = Vec::new();
    for (fault, _) in FAULTS {
        for call in ["status", "event"] {
            edges.push((call, fault, world.connector(&of(call, fault), json!({})).await));
            let page = target.url("/metrics");
            world.backend(&of(&format!("backend-{call}"), fault), probed(&page, json!({"metrics": {}}))).await;
        }
    }
    for (call, fault, _) in &edges {
        world.backend_is(SOON, &of(&format!("backend-{call}"), fault), "Up", "").await;
    }
    for (name, fault) in FAULTS {
        for prefix in ["", "backend-"] {
            faults.begin(Call::Status, &of(&format!("{prefix}status"), name), fault);
            faults.begin(Call::Event, &of(&format!("{prefix}event"), name), fault);
        }
        faults.begin(Call::Secret, &of("secret", name), fault);
    }
    let before = |call, name: &str| faults.calls(call, name);
    let mut counted = Vec::new();
    for (name, fault) in FAULTS {
        for prefix in ["", "backend-"] {
            let status = of(&format!("{prefix}status"), name);
            let event = of(&format!("{prefix}event"), name);
            counted.push((Call::Status, before(Call::Status, &status), status, fault));
            counted.push((Call::Event, before(Call::Event, &event), event, fault));
        }
        counted.push((Call::Secret, 0, of("secret", name), fault));
        world.create(&of("secret", name), json!({})).await;
    }
    target.set("hang");
    let _beating: Vec<_> = edges
        .iter()
        .map(|(_, _, edge)| crate::support::Beater::start(&[operator.beats()], edge, seconds(20), Value::Null))
        .collect();
    for (call, fault, _) in edges.iter().filter(|(call, _, _)| *call == "event") {
        // An event that fails delays no transition.
        world.state(SOON, &of(call, fault), "Online").await;
        world.backend_is(SOON, &of(&format!("backend-{call}"), fault), "Down", "Hung").await;
    }
    let tries = |call, from: usize, name: &str| faults.calls(call, name) - from;
    never(LONG, "a call is repeated in a loop", async || {
        let (call, from, name, _) =
            counted.iter().max_by_key(|(call, from, name, _)| tries(*call, *from, name)).expect("there are calls");
        let tries = tries(*call, *from, name);
        (tries > MAX_TRIES).then(|| format!("{tries} of {call:?} about {name}"))
    })
    .await;
    for (call, from, name, fault) in &counted {
        let tries = tries(*call, *from, name);
        assert!(tries >= 1, "{call:?} about {name} was never tried");
        if *call == Call::Event && is_final(*fault) {
            // One event for a Connector that is heard, one for a backend that is down.
            assert_eq!(tries, 1, "{name}: a refused event is not published again");
        }
    }
    // The text of an error that varies rewrites no status: the intent, the error, and one more a minute.
    let written = faults.writes().iter().filter(|write| write.name == "secret-varies").count();
    assert!(written <= 6, "{written} writes of a status because of the text of an error");

    faults.end();
    eventually(HEALED, "everything that waits is done", async || {
        let mut missing = Vec::new();
        for (name, fault) in FAULTS {
            let seen = world.get(&of("status", name)).await;
            if text(&seen, "/status/state") != "Online" {
                missing.push(of("status", name));
            }
            let seen = world.get_backend(&of("backend-status", name)).await;
            if text(&seen, "/status/state") != "Down" {
                missing.push(of("backend-status", name));
            }
            if condition(&world.get(&of("secret", name)).await, "Provisioned").0 != "True" {
                missing.push(of("secret", name));
            }
            for (prefix, reason) in [("", "Online"), ("backend-", "Down")] {
                let name = of(&format!("{prefix}event"), name);
                if !is_final(fault) && world.events(&name, reason).await.is_empty() {
                    missing.push(name);
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_fails_for_long_is_tried_now_and_then_and_happens_once() {
    let world = World::new("restart-refused").await;
    let faults = Faults::before(&world).await;
    let operator = world.operator_through(&faults, &["--brake-min", "1000", "--breaker-min", "1000"]).await;
    let cases = [
        ("throttled", Fault::Refused(429, "TooManyRequests")),
        ("broken", Fault::Refused(500, "InternalError")),
        ("conflict", Fault::Refused(409, "Conflict")),
        ("reset", Fault::Reset),
        ("varies", Fault::Varies),
    ];
    for (name, fault) in cases {
        let limits = json!({"verifyWithinSeconds": 600});
        healthy(&world, &operator, name, limits).await;
        world.patch(name, json!({"spec": {"site": name}})).await;
        faults.begin(Call::Restart, name, fault);
    }
    for (name, _) in cases {
        world.patch(name, request()).await;
    }
    for (name, _) in cases {
        eventually(SOON, &format!("{name} is tried"), async || match faults.calls(Call::Restart, name) {
            0 => Err("never".to_owned()),
            _ => Ok(()),
        })
        .await;
    }
    never(LONG, "a restart is repeated in a loop", async || {
        let most = cases.iter().map(|(name, _)| (faults.calls(Call::Restart, name), *name)).max();
        most.filter(|(tries, _)| *tries > MAX_TRIES).map(|most| format!("{most:?}"))
    })
    .await;
    faults.end();
    for (name, _) in cases {
        eventually(HEALED, &format!("{name} is restarted"), async || match world.attempts_of(name).await.len() {
            1 => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_that_fails_for_long_is_tried_now_and_then_and_happens_once() {
    let world = World::new("evict-refused").await;
    let faults = Faults::before(&world).await;
    let flags = ["--brake-min", "1000", "--breaker-min", "1000", "--max-in-flight", "20"];
    let operator = world.operator_through(&faults, &flags).await;
    let pods = async |name: &str| {
        let of = ListParams::default().labels(&format!("app={name}"));
        let found = world.api::<Pod>().list(&of).await.unwrap().items;
        found.into_iter().filter_map(|pod| pod.metadata.uid).collect::<Vec<_>>()
    };
    let mut cases = Vec::new();
    for (name, fault) in FAULTS {
        world.deployment(name, 2).await;
        let mut spec = gateway(name, json!({"verifyWithinSeconds": 600}));
        spec["site"] = json!(name);
        let connector = world.connector(name, spec).await;
        connector.beat_with(operator.beats(), &tunnel("Pass"));
        world.state(SOON, name, "Online").await;
        faults.begin(Call::Eviction, name, fault);
        let uid = pods(name).await.remove(0);
        let mut beat = tunnel("Fail");
        beat["pod_uid"] = json!(uid);
        cases.push((name, fault, uid, Beater::start(&[operator.beats()], &connector, seconds(10), beat)));
    }
    let tries = |name: &str| faults.calls(Call::Eviction, name);
    for (name, _, _, _) in &cases {
        eventually(SOON, &format!("{name} is tried"), async || match tries(name) {
            0 => Err("never".to_owned()),
            _ => Ok(()),
        })
        .await;
    }
    let before: Vec<usize> = cases.iter().map(|(name, _, _, _)| tries(name)).collect();
    never(LONG, "an eviction is repeated in a loop", async || {
        let since = cases.iter().zip(&before).map(|((name, _, _, _), before)| (tries(name) - before, *name));
        let most = since.max();
        most.filter(|(tries, _)| *tries > MAX_TRIES).map(|most| format!("{most:?}"))
    })
    .await;
    faults.end();
    for (name, _, uid, _) in cases.iter().filter(|(_, fault, _, _)| !is_final(*fault)) {
        eventually(HEALED, &format!("the pod of {name} is evicted"), async || {
            if pods(name).await.contains(uid) { Err(format!("{:#}", world.get(name).await)) } else { Ok(()) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_that_cannot_be_stored_holds_is_tried_now_and_then_and_is_stored_in_seconds() {
    let world = World::new("breaker-refused").await;
    let faults = Faults::before(&world).await;
    let operator = world.operator_through(&faults, &["--brake-min", "1000", "--max-in-flight", "1"]).await;
    let mut all = Vec::new();
    for number in 0..6 {
        let name = format!("gw-{number}");
        all.push(healthy(&world, &operator, &name, json!({"unhealthyForSeconds": 5})).await);
    }
    let tries = || faults.calls(Call::Breaker, "vigie-breaker");
    faults.begin(Call::Breaker, "vigie-breaker", FAULTS[0].1);
    let _down: Vec<_> =
        all.iter().map(|each| Beater::start(&[operator.beats()], each, seconds(2), tunnel("Fail"))).collect();
    eventually(seconds(60), "the breaker opens", async || if tries() > 0 { Ok(()) } else { Err("no".to_owned()) })
        .await;
    let (began, touched) = (std::time::Instant::now(), world.touches().len());
    for (name, fault) in FAULTS {
        faults.end();
        faults.begin(Call::Breaker, "vigie-breaker", fault);
        let before = tries();
        eventually(seconds(45), &format!("{name}: it is tried again"), async || {
            if tries() > before { Ok(()) } else { Err(format!("{before}")) }
        })
        .await;
    }
    let (tries, minutes) = (tries(), began.elapsed().as_secs_f64() / 60.0);
    assert!(tries as f64 <= MAX_TRIES as f64 * (minutes + 1.0), "{tries} tries in {minutes} minutes");
    faults.end();
    eventually(HEALED, "the breaker is stored", async || {
        let ran = world.vigie(&["breaker", "show", "--operator-namespace", &world.ns]);
        if ran.code == 3 { Ok(()) } else { Err(format!("{ran:?}")) }
    })
    .await;
    assert_eq!(world.touches().len(), touched, "nothing is restarted from the moment at which it opened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_operators_with_two_leases_the_one_that_hears_nothing_reports_no_connector_offline_and_says_so() {
    let world = World::new("two-leases").await;
    let hears = world.operator(&[]).await;
    let edge = world.connector("edge-1", quick()).await;
    let beater = Beater::start(&[hears.beats()], &edge, seconds(1), Value::Null);
    world.state(SOON, "edge-1", "Online").await;
    world.may_lead_by(["another".to_owned()]).await;
    let mut second = world.replica(&["--lease-name", "another"]).await;
    second.hearing().await;
    let from = world.requests().len();
    world.event(seconds(240), "edge-1", "AnotherWriter").await;
    let writes = |from: usize| {
        let ours = |request: &&Request| request.resource == "connectors/status" && request.verb != "get";
        world.requests().iter().skip(from).filter(ours).count()
    };
    let contested = world.requests().len();
    never(seconds(60), "it is not Online, or is written in a loop", async || {
        let state = text(&world.get("edge-1").await, "/status/state").to_owned();
        let writes = writes(contested);
        (state != "Online" || writes > 30).then(|| format!("{state}, {writes} writes"))
    })
    .await;
    assert!(writes(from) <= 60, "{} writes", writes(from));
    assert_eq!(world.events("edge-1", "Offline").await.len(), 0, "it was heard all the time");
    second.signal("TERM");
    second.ended(seconds(30)).await;
    assert!(beater.stop().iter().all(|beat| beat.status() == Some(200)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_older_definitions_nothing_is_restarted_and_no_token_is_made_and_an_update_heals_it() {
    let world = World::new("older-definitions").await;
    let faults = Faults::before(&world).await;
    let target = Misbehave::start();
    let operator =
        world.operator_through(&faults, &["--allow-network", "127.0.0.0/8", "--max-in-flight-per-site", "10"]).await;
    let edge = healthy(&world, &operator, "paris", json!({})).await;
    world.deployment("shop", 1).await;
    let mut backend = probed(&target.url("/metrics"), json!({"metrics": {}}));
    backend["workloadRef"] = json!({"kind": "Deployment", "name": "shop"});
    backend["remediation"] = json!({"mode": "Restart", "unhealthyForSeconds": 0, "verifyWithinSeconds": 60});
    world.backend("shop", backend).await;
    world.backend_is(SOON, "shop", "Up", "").await;
    let token = async || world.api::<Secret>().get("paris-connector-token").await.unwrap().data;
    let issued = token().await;

    faults.drop_members(&["/status/remediation/observedRestartRequest", "/status/token/observedRevokeRequest"]);
    let mut asks = request();
    asks["metadata"]["annotations"]["vigie.dev/revoke-requested"] = json!(jiff::Timestamp::now().to_string());
    world.patch("paris", asks).await;
    let asked = world.backends().patch("shop", &PatchParams::default(), &Patch::Merge(request())).await;
    asked.expect("a restart can be asked for");
    let is_stalled = |seen: &Value| condition(seen, "Stalled") == ("True", "StatusNotKept");
    let seen = world.sees(SOON, "paris", "it is stalled", is_stalled).await;
    assert!(seen.to_string().contains("vigie crd | kubectl apply -f -"), "{seen:#}");
    world.sees_backend(SOON, "shop", "it is stalled", is_stalled).await;
    never(seconds(20), "it is acted upon", async || {
        let restarts = world.attempts_of("paris").await.len() + world.attempts_of("shop").await.len();
        let is_same = token().await == issued;
        (restarts > 0 || !is_same).then(|| format!("{restarts} restarts, the same token: {is_same}"))
    })
    .await;
    let log = operator.log();
    let lines = log.lines().filter(|line| line.contains("ERROR") && line.contains("older than this operator"));
    // One for each kind and each set of fields.
    assert!((1..=4).contains(&lines.count()), "{log:?}");
    for name in ["paris", "shop"] {
        assert!(faults.calls(Call::Status, name) < 40, "{name}: {} writes", faults.calls(Call::Status, name));
    }

    // The definitions are updated.
    faults.drop_members(&[]);
    for name in ["paris", "shop"] {
        eventually(HEALED, &format!("{name} is restarted"), async || match world.attempts_of(name).await.len() {
            1 => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
    }
    world.sees(HEALED, "paris", "its token is delivered", |seen| condition(seen, "Provisioned").0 == "True").await;
    world.sees(HEALED, "paris", "it is not stalled", |seen| condition(seen, "Stalled").1 != "StatusNotKept").await;
    assert_ne!(token().await, issued, "it was revoked");
    let anew = world.installed("paris").await;
    let _up = crate::support::Beater::start(&[operator.beats()], &anew, seconds(2), crate::remedies::tunnel("Pass"));
    let over = world.sees(SOON, "paris", "an outcome", |seen| last_attempt(seen).is_object()).await;
    assert_eq!(text(last_attempt(&over), "/cause"), "Requested", "{over:#}");
    never(seconds(10), "one request restarts more than once", async || {
        let restarts = (world.attempts_of("paris").await.len(), world.attempts_of("shop").await.len());
        (restarts != (1, 1)).then(|| format!("{restarts:?}"))
    })
    .await;
    drop(edge);
}
