//! The two incidents that founded vigie, on machines like those on which they happened: from the first symptom to the cure,
//! as a person sees them in kubectl.

use serde_json::{Value, json};

use crate::machine::Machine;
use crate::scene::{Scene, UNIT, diagnosis, figure, quick, restart_soon, restarts};
use crate::support::backends::{condition, probed};
use crate::support::workloads::{last_attempt, outcome};
use crate::support::world::SOON;
use crate::support::{Connector, World, eventually, seconds, text};

/// Installs the founding connector: a loop around curl, under systemd.
pub(crate) fn founding_connector(scene: &Scene, connector: &Connector) {
    let machine = &scene.machine;
    let url = format!("{}/api/connector/heartbeat", scene.url());
    machine.write("/etc/connector.json", connector.body(&Value::Null));
    machine.run("chmod 600 /etc/connector.json").ok();
    machine.write(
        "/usr/local/bin/connector",
        format!(
            "#!/bin/sh\nwhile :; do\n  curl -sS -o /dev/null -m 5 --noproxy '*' -H 'Content-Type: application/json' \
             -d @/etc/connector.json {url}\n  sleep 3\ndone\n"
        ),
    );
    machine.run("chmod 755 /usr/local/bin/connector").ok();
    machine.unit(UNIT, "[Service]\nExecStart=/usr/local/bin/connector\nRestart=always\n");
}

/// How often systemd has started the connector.
fn starts(machine: &Machine) -> usize {
    machine.journal(UNIT).lines().filter(|line| line.contains(&format!("Started {UNIT}"))).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_hangs_beside_a_living_agent_is_named_restarted_once_and_online_again() {
    let scene = Scene::new("incident-1", &[]).await;
    let Scene { world, machine, .. } = &scene;
    let spec = quick(json!({"agentRef": {"unit": UNIT}, "remediation": restart_soon()}));
    let edge = world.connector("edge-1", spec).await;
    founding_connector(&scene, &edge);
    scene.install(&edge, "");
    let is_heard = |seen: &Value| {
        text(seen, "/status/state") == "Online"
            && seen.pointer("/status/agent/connectorHeard") == Some(&json!(true))
            && seen.pointer("/status/agent/lastSeenTime").is_some()
    };
    world.sees(SOON, "edge-1", "the connector and its agent are heard", is_heard).await;
    let before = machine.property(UNIT, "InvocationID");
    assert_eq!(starts(machine), 1);

    // systemd says "active (running)" all the time.
    machine.kill(UNIT, "STOP");
    let seen = world.state(seconds(90), "edge-1", "Degraded").await;
    assert_eq!(condition(&seen, "Healthy"), ("False", "ConnectorSilent"), "{:#}", seen["status"]);
    let (cause, message) = diagnosis(&seen);
    assert_eq!(cause, "ConnectorSilent", "{:#}", seen["status"]);
    assert!(message.contains("connector.service is active"), "{message}");
    assert_eq!(text(&seen, "/status/diagnosis/restartHelps"), "Yes", "{:#}", seen["status"]);

    let over = world.sees(seconds(90), "edge-1", "an outcome", |seen| !outcome(seen).is_empty()).await;
    let attempt = last_attempt(&over);
    assert_eq!((text(attempt, "/outcome"), text(attempt, "/cause")), ("Succeeded", "ConnectorSilent"), "{over:#}");
    let up = world.state(SOON, "edge-1", "Online").await;
    assert_eq!(restarts(&up), 1, "{:#}", up["status"]);
    assert_ne!(machine.property(UNIT, "InvocationID"), before);
    assert_eq!(
        (starts(machine), &*machine.property(UNIT, "NRestarts")),
        (2, "0"),
        "restarted once, and not by systemd"
    );
    let events = scene.kubectl_events("connector", "edge-1");
    assert!(events.contains("ConnectorSilent") && events.contains("is Online again"), "{events}");
}

/// A backend like Spring Boot's (it answers on 8081 of the host; nothing starts it by itself), and one that cannot start.
const COMPOSE: &str = "
version: '2.4'
services:
  backend:
    image: busybox:1
    command: ['sh', '-c', 'mkdir -p /tmp/actuator; echo ok >/tmp/actuator/health; exec httpd -f -p 8081 -h /tmp']
    ports: ['8081:8081']
    stop_grace_period: 1s
  looper:
    image: busybox:1
    command: ['sh', '-c', 'echo java.lang.IllegalStateException: no licence; exit 1']
    restart: always
    ports: ['8082:8082']
";

/// The start of a container.
fn started_at(machine: &Machine) -> String {
    machine.run("docker inspect -f '{{.State.StartedAt}}' shop_backend_1").ok()
}

/// A machine with compose and an agent, and the backends `orders` and `looper` on it; `orders` is Up.
async fn shop() -> Scene {
    let scene = Scene::new("incident-2", &[]).await;
    let Scene { world, machine, .. } = &scene;
    machine.docker();
    machine.compose("shop", COMPOSE);
    let vm = world.connector("vm-7", json!({})).await;
    for (name, port, service) in [("orders", 8081, "backend"), ("looper", 8082, "looper")] {
        let mut spec = probed(&format!("http://{}:{port}/actuator/health", machine.address()), json!({}));
        spec["agentRef"] = json!({"name": "vm-7", "unit": format!("compose:shop:{service}")});
        spec["remediation"] = restart_soon();
        world.backend(name, spec).await;
    }
    let probe = "http://127.0.0.1:8081/actuator/health";
    machine.unit(UNIT, crate::scene::SERVICE);
    let backends = format!("--backend orders=compose:shop:backend,{probe} --backend looper=compose:shop:looper");
    scene.install(&vm, &backends);
    up(world).await;
    scene
}

async fn up(world: &World) -> Value {
    world.backend_is(SOON, "orders", "Up", "").await
}

/// A container that dies is started once.
async fn a_dead_container_is_started(scene: &Scene) {
    let Scene { world, machine, .. } = scene;
    let before = started_at(machine);
    machine.run("kill -9 $(docker inspect -f '{{.State.Pid}}' shop_backend_1)").ok();
    let down = world.backend_is(SOON, "orders", "Down", "ContainerStopped").await;
    let (_, message) = diagnosis(&down);
    assert!(message.contains("service backend (compose project shop)") && message.contains("exit 137"), "{message}");
    let over = world.sees_backend(SOON, "orders", "an outcome", |seen| !outcome(seen).is_empty()).await;
    let attempt = last_attempt(&over);
    assert_eq!((text(attempt, "/outcome"), text(attempt, "/cause")), ("Succeeded", "ContainerStopped"), "{over:#}");
    assert_eq!(restarts(&up(world).await), 1);
    assert_ne!(started_at(machine), before);
}

/// A container that was stopped on purpose is left alone for ten minutes, unless a person asks.
async fn a_stopped_container_waits_for_a_person(scene: &Scene) {
    let Scene { world, machine, .. } = scene;
    machine.run("cd /srv/shop && docker compose stop backend").ok();
    let is_explained = |seen: &Value| {
        let (cause, message) = diagnosis(seen);
        cause == "ContainerStopped" && message.contains("was stopped on purpose")
    };
    let down = world.sees_backend(SOON, "orders", "it was stopped on purpose", is_explained).await;
    assert_eq!(text(&down, "/status/state"), "Down", "{:#}", down["status"]);
    let line = scene.kubectl_get("monitoredbackend", "orders");
    assert!(line.contains("Down") && line.contains("ContainerStopped"), "{line}");
    assert_eq!(restarts(&down), 1, "{:#}", down["status"]);

    let before = started_at(machine);
    let began = std::time::Instant::now();
    let executed = std::thread::scope(|scope| {
        let executed = scope.spawn(|| {
            machine.eventually("it is started", || match started_at(machine) {
                seen if seen != before => Ok(began.elapsed()),
                seen => Err(seen),
            })
        });
        let said = scene.vigie(&["restart", "backend", "orders", "--wait"]);
        assert_eq!(said.code, 0, "{said:?}");
        executed.join().expect("it was started")
    });
    figure("vigie restart backend to the start of the container", vec![executed]);
    assert_eq!(restarts(&up(world).await), 2);
}

/// A container that was removed cannot be restarted, and the advice creates it.
async fn an_absent_container_is_named_with_the_command(scene: &Scene) {
    let Scene { world, machine, .. } = scene;
    machine.run("cd /srv/shop && docker compose rm -sf backend").ok();
    let down = world.backend_is(SOON, "orders", "Down", "ContainerAbsent").await;
    let advice = text(&down, "/status/diagnosis/advice");
    assert!(advice.contains("cd /srv/shop && docker compose up -d backend"), "{advice}");
    machine.run("cd /srv/shop && docker compose up -d backend").ok();
    assert_eq!(restarts(&up(world).await), 2);
}

/// Packets that are lost on the way are no fault of the backend.
async fn a_port_that_is_dropped_on_the_way_is_no_reason_to_restart(scene: &Scene) {
    let Scene { world, machine, .. } = scene;
    let before = started_at(machine);
    machine
        .run(
            "nft add table ip way && nft 'add chain ip way in { type filter hook prerouting priority -400; }' && \
             nft add rule ip way in iifname eth0 tcp dport 8081 drop",
        )
        .ok();
    let down = world.backend_is(SOON, "orders", "Down", "BlockedBeforeHost").await;
    let advice = text(&down, "/status/diagnosis/advice");
    assert!(advice.contains(&format!("Allow TCP 8081 from {}", machine.host_address())), "{advice}");
    let denied = |seen: &Value| condition(seen, "Remediating") == ("False", "RestartCannotHelp");
    world.sees_backend(SOON, "orders", "a denial", denied).await;
    machine.run("nft delete table ip way").ok();
    assert_eq!((restarts(&up(world).await), started_at(machine)), (2, before));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_under_compose_is_explained_and_started_where_that_helps() {
    let scene = shop().await;
    a_dead_container_is_started(&scene).await;
    a_stopped_container_waits_for_a_person(&scene).await;
    an_absent_container_is_named_with_the_command(&scene).await;
    a_port_that_is_dropped_on_the_way_is_no_reason_to_restart(&scene).await;

    let looping = scene.world.backend_is(SOON, "looper", "Down", "CrashLoop").await;
    let (_, message) = diagnosis(&looping);
    assert!(message.contains("java.lang.IllegalStateException"), "{message}");
    eventually(SOON, "no restart is denied", async || {
        let seen = scene.world.get_backend("looper").await;
        match condition(&seen, "Remediating") {
            ("False", "NeverHealthy" | "RestartCannotHelp") if restarts(&seen) == 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
