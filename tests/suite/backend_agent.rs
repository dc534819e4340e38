//! Backends outside the cluster whose host has an agent: the second founding incident, from the first failing probe to the
//! cure. The heartbeats of the agent are made by hand.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::support::backends::{condition, probed};
use crate::support::beats::Connector;
use crate::support::operator::{Operator, free_port};
use crate::support::workloads::{last_attempt, outcome};
use crate::support::world::SOON;
use crate::support::{Beater, World, eventually, never, seconds, text};

/// Flags of an operator whose backends are processes of this machine.
const LOCAL: [&str; 2] = ["--allow-network", "127.0.0.0/8"];
const UNIT: &str = "compose:shop:orders";

/// The process of a backend: it answers every request with 200 until it is stopped.
struct Process {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Process {
    fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let server = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let mut request = [0; 4096];
                // A prober that is gone needs no answer.
                let _ = stream.read(&mut request);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            }
        });
        Self { address, stop, server: Some(server) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// A heartbeat of the agent on `vm-7`, which looks after the backend `orders`, with more about it.
fn says(more: Value) -> Value {
    let mut backend = json!({"name": "orders", "unit": UNIT});
    backend.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"agent": true, "hostname": "vm-7", "boot_id": "b1", "backends": [backend]})
}

fn runs() -> Value {
    says(json!({"state": "Running", "since_seconds": 3600, "probe": {"ok": true, "status": 200}}))
}

/// A backend on a machine with an agent, which is Up, and its Connector.
async fn up(world: &World, operator: &Operator, port: u16) -> Connector {
    let connector = world.connector("vm-7", json!({})).await;
    connector.beat_with(operator.beats(), &runs());
    let mut spec = probed(&format!("http://127.0.0.1:{port}/"), json!({}));
    spec["agentRef"] = json!({"name": "vm-7", "unit": UNIT});
    spec["remediation"] =
        json!({"mode": "Restart", "unhealthyForSeconds": 1, "backoffSeconds": 1, "verifyWithinSeconds": 60});
    world.backend("orders", spec).await;
    world.backend_is(SOON, "orders", "Up", "").await;
    connector
}

/// Beats like this until the backend has the cause; the heartbeats continue until the result is dropped.
async fn explained(
    world: &World,
    operator: &Operator,
    connector: &Connector,
    beat: Value,
    cause: &str,
) -> (Value, Beater) {
    let beater = Beater::start(&[operator.beats()], connector, seconds(2), beat);
    (world.backend_is(SOON, "orders", "Down", cause).await, beater)
}

fn restarts(seen: &Value) -> i64 {
    seen.pointer("/status/remediation/restarts").and_then(Value::as_i64).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_container_is_started_once_by_its_agent_and_the_next_probes_say_up() {
    let world = World::new("backend-agent").await;
    let operator = world.operator(&LOCAL).await;
    let port = free_port();
    let process = Process::start(port);
    let connector = up(&world, &operator, port).await;

    drop(process);
    let exited = says(json!({"state": "Exited", "since_seconds": 4, "exit_code": 137, "policy": "no",
        "words": "java.net.SocketException"}));
    let (down, beater) = explained(&world, &operator, &connector, exited.clone(), "ContainerStopped").await;
    for part in ["service orders (compose project shop) on vm-7", "exit 137", "SocketException"] {
        assert!(text(&down, "/status/diagnosis/message").contains(part), "{part}: {down:#}");
    }
    assert_eq!(text(&down, "/status/diagnosis/restartHelps"), "Once", "{down:#}");
    assert_eq!(text(&down, "/status/agent/state"), "Exited", "{down:#}");
    drop(beater);

    let action = eventually(SOON, "an action rides in an answer to the agent", async || {
        let answer = connector.try_beat(operator.beats(), &exited).json();
        answer.pointer("/actions/0").cloned().ok_or_else(|| answer.to_string())
    })
    .await;
    assert_eq!((text(&action, "/type"), text(&action, "/target")), ("Restart", UNIT), "{action}");
    let id = text(&action, "/id").to_owned();
    // The agent starts the container, and says so; its beats continue without another action.
    let process = Process::start(port);
    let mut done = runs();
    done["restarts"] = json!([{"target": UNIT, "id": id, "result": "Succeeded"}]);
    let beater = Beater::start(&[operator.beats()], &connector, seconds(2), done);
    let over = world.sees_backend(SOON, "orders", "an outcome", |seen| !outcome(seen).is_empty()).await;
    let past = last_attempt(&over);
    assert_eq!((text(past, "/outcome"), text(past, "/id")), ("Succeeded", &*id), "{over:#}");
    assert_eq!((&past["restarted"], &past["cured"]), (&json!(true), &json!(true)), "{over:#}");
    let up = world.backend_is(SOON, "orders", "Up", "").await;
    assert_eq!(restarts(&up), 1, "exactly once: {up:#}");
    for beaten in beater.stop() {
        let answer = beaten.answer.unwrap().json();
        assert!(!answer["actions"].to_string().contains("Restart"), "after the result: {answer}");
    }
    drop(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_restart_cures_is_named_and_left_alone() {
    let world = World::new("backend-agent-no").await;
    let operator = world.operator(&LOCAL).await;
    let port = free_port();
    let process = Process::start(port);
    let connector = up(&world, &operator, port).await;

    drop(process);
    let absent = says(json!({"state": "Absent", "message": "cd /srv/shop && docker compose up -d orders"}));
    let (seen, beater) = explained(&world, &operator, &connector, absent, "ContainerAbsent").await;
    let advice = text(&seen, "/status/diagnosis/advice");
    assert!(advice.contains("cd /srv/shop && docker compose up -d orders"), "{advice}");
    drop(beater);
    let elsewhere = says(json!({"state": "Running", "since_seconds": 3600, "probe": {"ok": true, "status": 200},
        "published": ["198.51.100.21:8081->8081/tcp"]}));
    let (seen, beater) = explained(&world, &operator, &connector, elsewhere, "BlockedBeforeHost").await;
    assert_eq!(text(&seen, "/status/diagnosis/restartHelps"), "No", "{seen:#}");
    let denied = |seen: &Value| condition(seen, "Remediating") == ("False", "RestartCannotHelp");
    let seen = world.sees_backend(SOON, "orders", "a denial", denied).await;
    assert_eq!((restarts(&seen), seen.pointer("/status/remediation/current")), (0, None), "{seen:#}");
    for beaten in beater.stop() {
        assert_eq!(beaten.answer.unwrap().json()["actions"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_speaks_only_for_backends_that_name_it() {
    let world = World::new("backend-agent-foreign").await;
    let operator = world.operator(&LOCAL).await;
    let port = free_port();
    let process = Process::start(port);
    let connector = up(&world, &operator, port).await;
    let thief = world.connector("thief", json!({})).await;

    drop(process);
    let lie = says(json!({"state": "Absent", "message": "delete everything"}));
    let liar = Beater::start(&[operator.beats()], &thief, seconds(2), lie);
    let truth = says(json!({"state": "Restarting", "restarts": 1, "exit_code": 1}));
    let (seen, beater) = explained(&world, &operator, &connector, truth, "RestartingLocally").await;
    assert!(!seen.to_string().contains("delete everything"), "{seen:#}");
    assert_eq!(text(&seen, "/status/agent/connector"), "vm-7", "{seen:#}");
    for beaten in liar.stop() {
        assert_eq!(beaten.answer.unwrap().json()["actions"], json!([]), "and is told nothing about them");
    }
    drop(beater);

    // A name that leads nowhere is told at once, and stops no probe.
    let nowhere = json!({"spec": {"agentRef": {"name": "gone"}}});
    let patch = kube::api::Patch::Merge(&nowhere);
    world.backends().patch("orders", &kube::api::PatchParams::default(), &patch).await.unwrap();
    let refused = |seen: &Value| condition(seen, "Accepted") == ("False", "AgentNotFound");
    let seen = world.sees_backend(SOON, "orders", "the reference is refused", refused).await;
    assert_eq!(text(&seen, "/status/state"), "Down", "{seen:#}");
    let _process = Process::start(port);
    let probed = |seen: &Value| condition(seen, "Available").0 == "True";
    world.sees_backend(SOON, "orders", "it is probed all the same", probed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_says_is_probed_and_explained_long_before_the_next_turn_and_its_end_too() {
    let world = World::new("backend-agent-news").await;
    let operator = world.operator(&LOCAL).await;
    let port = free_port();
    let process = Process::start(port);
    let connector = world.connector("vm-7", json!({})).await;
    connector.beat_with(operator.beats(), &runs());
    let probe = json!({"intervalSeconds": 300, "timeoutSeconds": 2, "failureThreshold": 3, "successThreshold": 1});
    let mut spec = probed(&format!("http://127.0.0.1:{port}/"), probe);
    spec["agentRef"] = json!({"name": "vm-7", "unit": UNIT});
    world.backend("orders", spec).await;
    world.backend_is(SOON, "orders", "Up", "").await;

    drop(process);
    // One heartbeat, and nothing after it. A turn comes once in 300 s.
    connector.beat_with(operator.beats(), &says(json!({"state": "Exited", "since_seconds": 4, "exit_code": 137})));
    let down = world.backend_is(SOON, "orders", "Down", "ContainerStopped").await;
    assert_eq!(text(&down, "/status/agent/state"), "Exited", "{down:#}");
    let removed = says(json!({"state": "Absent"}));
    connector.beat_with(operator.beats(), &removed);
    world.backend_is(SOON, "orders", "Down", "ContainerAbsent").await;
    let _process = Process::start(port);
    connector.beat_with(operator.beats(), &runs());
    world.backend_is(SOON, "orders", "Up", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_was_stopped_on_purpose_is_left_alone_and_says_until_when() {
    let world = World::new("backend-agent-meant").await;
    let operator = world.operator(&LOCAL).await;
    let port = free_port();
    let process = Process::start(port);
    let connector = up(&world, &operator, port).await;

    drop(process);
    let meant = says(json!({"state": "Exited", "since_seconds": 4, "exit_code": 143, "stopped_on_purpose": true}));
    let (seen, beater) = explained(&world, &operator, &connector, meant, "ContainerStopped").await;
    assert!(text(&seen, "/status/diagnosis/message").contains("stopped on purpose"), "{seen:#}");
    let denied = |seen: &Value| condition(seen, "Remediating") == ("False", "NotLongEnough");
    let seen = world.sees_backend(SOON, "orders", "a denial", denied).await;
    let conditions = seen["status"]["conditions"].as_array().unwrap();
    let said = conditions.iter().find(|one| one["type"] == "Remediating").unwrap();
    for part in ["a stop on purpose", "600 s"] {
        assert!(text(said, "/message").contains(part), "{part}: {said}");
    }
    // unhealthyForSeconds is 1: any other stop would have been asked for by now.
    never(seconds(10), "it is asked to start it", async || {
        let seen = world.get_backend("orders").await;
        (restarts(&seen) != 0 || seen.pointer("/status/remediation/current").is_some()).then(|| format!("{seen:#}"))
    })
    .await;
    for beaten in beater.stop() {
        assert_eq!(beaten.answer.unwrap().json()["actions"], json!([]));
    }
}
