//! The agent and a real operator on a real API server: what a person does on the host and sees in kubectl.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::{Value, json};

use crate::install::state;
use crate::machine::{Machine, stripped};
use crate::scene::{SERVICE, Scene, UNIT, figure, quick};
use crate::support::world::SOON;
use crate::support::{never, seconds, text};

/// Looks for a secret in the arguments and the environment of every process, until it is stopped.
struct Watch {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Where the secret was.
    found: Vec<String>,
    /// The installer was among the processes.
    has_seen_installer: bool,
}

impl Watch {
    fn start(secret: &str) -> Self {
        let (stop, secret) = (Arc::new(AtomicBool::new(false)), secret.to_owned());
        let stopped = stop.clone();
        let looking = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !stopped.load(Ordering::Acquire) {
                seen.look(&secret);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            seen
        });
        Self { stop, looking }
    }

    fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Release);
        self.looking.join().expect("it only reads")
    }
}

impl Seen {
    /// The processes of the machines are processes of this machine, too.
    fn look(&mut self, secret: &str) {
        for process in std::fs::read_dir("/proc").expect("there is a /proc").flatten() {
            for file in ["cmdline", "environ"] {
                // It may have ended.
                let text = std::fs::read(process.path().join(file)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                self.has_seen_installer |= text.contains("agent\0install\0--token-stdin");
                if text.contains(secret) {
                    self.found.push(format!("{}/{file}: {text}", process.path().display()));
                }
            }
        }
    }
}

/// The files of a machine that contain `secret`, but for what systemd keeps for the unit alone.
fn files_with(machine: &Machine, secret: &str) -> Vec<String> {
    let places = "/etc /run /usr/local /usr/lib/systemd /var/lib /var/log /root /tmp";
    let found = machine.run_with(&format!("grep -rlFs -f - {places}"), secret.as_bytes()).stdout;
    found.lines().filter(|path| !path.starts_with("/run/credentials/")).map(str::to_owned).collect()
}

/// Files with the time of their last change, and the runs of the agent's units.
fn installation(machine: &Machine) -> (String, [String; 2]) {
    let files = machine.run("find /etc /usr/local -xdev -type f -printf '%p %M %u %T@\\n' | sort").ok();
    let units = ["vigie-agent.service", "vigie-agent-helper.service"];
    (files, units.map(|unit| machine.property(unit, "InvocationID")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_script_brings_a_connector_online_and_the_uninstallation_takes_the_agent_away() {
    let mut scene = Scene::new("install", &[]).await;
    // It serves itself to the host.
    scene.operator.change_binary(Some(stripped().to_owned()));
    scene.operator.restart().await;
    scene.operator.hearing().await;
    let Scene { world, machine, .. } = &scene;
    machine.unit(UNIT, SERVICE);
    let edge = world.connector("edge-1", quick(json!({"agentRef": {"unit": UNIT}}))).await;
    let before = state(machine);

    let script = scene.vigie(&["install-command", "edge-1", "--url", &scene.url(), "--allow-insecure"]).ok();
    assert!(!script.contains(&edge.token), "without --with-token the script has none");
    machine.write("/root/install.sh", script);
    let watch = Watch::start(&edge.token);
    let began = Instant::now();
    let said = machine.run_with("bash /root/install.sh", format!("{}\n", edge.token).as_bytes()).ok();
    world.state(SOON, "edge-1", "Online").await;
    figure("install to Online", vec![began.elapsed()]);
    assert!(said.contains("the agent is installed, and the operator has heard it"), "{said}");
    let line = scene.kubectl_get("connector", "edge-1");
    assert!(line.contains("Online") && line.contains("True"), "{line}");

    let watched = watch.stop();
    assert!(watched.has_seen_installer, "the watch reads the arguments of the machine's processes");
    assert_eq!(watched.found, Vec::<String>::new());
    assert_eq!(files_with(machine, &edge.token), ["/etc/vigie/agent.token"]);
    assert_eq!(machine.run("stat -c '%a %U' /etc/vigie/agent.token").ok(), "600 root\n");
    assert!(!machine.run("journalctl --no-pager --all").ok().contains(&edge.token));

    let installed = installation(machine);
    let again = machine.run_with("bash /root/install.sh", b"").ok();
    assert!(again.contains("nothing was changed"), "{again}");
    assert_eq!(installation(machine), installed);

    assert_eq!(machine.run("cat /proc/net/ip_tables_names").ok(), "", "looking creates no table of legacy iptables");

    machine.run("systemctl stop vigie-agent.service").ok();
    let started = machine.run_with("bash /root/install.sh", b"").ok();
    assert!(started.contains("the operator has heard it"), "one that a person stopped is started: {started}");

    let installed = installation(machine);
    machine.run("echo >>/etc/systemd/system/vigie-agent.service").ok();
    let updated = machine.run_with("bash /root/install.sh", b"").ok();
    assert!(updated.contains("the operator has heard it") && !updated.contains("could not look"), "{updated}");
    let (_, [agent, _]) = installation(machine);
    assert_ne!(agent, installed.1[0], "the agent that was heard is the new one");

    machine.run("vigie agent uninstall --purge").ok();
    assert_eq!(state(machine), before);
    let is_told = |seen: &Value| text(seen, "/status/agent/stopping") == "Uninstall";
    world.sees(SOON, "edge-1", "its agent was uninstalled", is_told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_and_cures_are_in_kubectl_within_seconds_and_a_person_restarts_the_connector() {
    // vigie may restart it, and would by itself only after ten minutes.
    let remediation = json!({"mode": "Restart", "unhealthyForSeconds": 600});
    let scene = Scene::with_agent("seconds", json!({"agentRef": {"unit": UNIT}, "remediation": remediation})).await;
    let Scene { world, machine, .. } = &scene;
    machine.kill(UNIT, "KILL");
    world.state(SOON, "edge-1", "Degraded").await;
    let before = machine.property(UNIT, "InvocationID");
    let began = Instant::now();
    let executed = std::thread::scope(|scope| {
        let executed = scope.spawn(|| {
            machine.eventually("it is restarted", || match machine.property(UNIT, "InvocationID") {
                seen if !seen.is_empty() && seen != before => Ok(began.elapsed()),
                seen => Err(seen),
            })
        });
        let said = scene.vigie(&["restart", "connector", "edge-1", "--wait"]);
        assert_eq!(said.code, 0, "{said:?}");
        figure("vigie restart --wait to its end", vec![began.elapsed()]);
        executed.join().expect("it was restarted")
    });
    figure("vigie restart to the restart", vec![executed]);
    let seen = world.state(SOON, "edge-1", "Online").await;
    assert_eq!(crate::scene::restarts(&seen), 1, "{:#}", seen["status"]);

    // Last: an object whose state changes this often is not restarted.
    let mut times = Vec::new();
    for _ in 0..5 {
        for (command, state) in [("kill --signal KILL", "Degraded"), ("start", "Online")] {
            let began = Instant::now();
            machine.run(&format!("systemctl {command} {UNIT}")).ok();
            let seen = world.state(SOON, "edge-1", state).await;
            times.push(began.elapsed());
            let cause = text(&seen, "/status/diagnosis/cause");
            assert_eq!(cause, if state == "Online" { "" } else { "ProcessDown" }, "{:#}", seen["status"]);
        }
    }
    figure("fault or cure to the state in kubectl", times);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founding_connector_and_an_agent_with_one_token_cost_no_write_and_never_flap() {
    let scene = Scene::new("shared", &["--checkpoint-seconds", "3600"]).await;
    let Scene { world, machine, .. } = &scene;
    let edge = world.connector("edge-1", quick(json!({"agentRef": {"unit": UNIT}}))).await;
    let history = world.history();
    crate::incidents::founding_connector(&scene, &edge);
    scene.install(&edge, "");
    let both = |seen: &Value| {
        seen.pointer("/status/agent/connectorHeard") == Some(&json!(true))
            && seen
                .pointer("/status/checks")
                .and_then(Value::as_array)
                .is_some_and(|checks| checks.len() == 3 && checks.iter().all(|check| text(check, "/status") == "Pass"))
    };
    let seen = world.sees(SOON, "edge-1", "both are heard", both).await;
    assert_eq!(text(&seen, "/status/state"), "Online", "{:#}", seen["status"]);
    let version = async || text(&world.get("edge-1").await, "/metadata/resourceVersion").to_owned();
    let mut settled = version().await;
    // The first token is confirmed, too: once nothing was written for some intervals, nothing more follows.
    let began = Instant::now();
    loop {
        tokio::time::sleep(seconds(4)).await;
        let now = version().await;
        if now == settled {
            break;
        }
        settled = now;
        assert!(began.elapsed() < SOON, "it is written again and again: {:#}", world.get("edge-1").await["status"]);
    }
    never(seconds(12), "two senders cause a write", async || {
        let seen = world.get("edge-1").await;
        (text(&seen, "/metadata/resourceVersion") != settled).then(|| format!("{:#}", seen["status"]))
    })
    .await;
    let states = history.of_connector("edge-1");
    assert_eq!(states.last().map(String::as_str), Some("Online"), "{states:?}");
    assert_eq!(states.iter().filter(|state| *state == "Online").count(), 1, "no flapping: {states:?}");
    assert_eq!(world.events("edge-1", "DuplicateInstance").await.len(), 0);
    assert_eq!(machine.property("vigie-agent.service", "NRestarts"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_was_away_and_a_host_that_was_down_are_told_apart() {
    let mut scene = Scene::with_agent("gaps", quick(json!({"agentRef": {"unit": UNIT}}))).await;
    scene.machine.run(&format!("systemctl enable {UNIT}")).ok();
    let history = scene.world.history();

    scene.operator.kill();
    scene.machine.eventually("the agent counts the time in which it is not heard", || {
        let seen = scene.machine.run("vigie agent status");
        if seen.stdout.contains("not told    Unreachable for") { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    scene.operator.restart().await;
    let began = Instant::now();
    scene.machine.eventually("the agent is heard again", || {
        let seen = scene.machine.run("vigie agent status");
        if seen.code == 0 && !seen.stdout.contains("not told") { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    never(seconds(10), "the connector is said to have been silent", async || {
        let state = text(&scene.world.get("edge-1").await, "/status/state").to_owned();
        ["Late", "Offline", "Degraded"].contains(&&*state).then_some(state)
    })
    .await;
    // One that comes back beats as before: at most one attempt is under way when the operator returns.
    let heard = scene.operator.scrape().sum("vigie_heartbeats_total", &[]);
    let most = began.elapsed().as_secs_f64() / 4.5 + 2.0;
    assert!(heard >= 1.0 && heard <= most, "{heard} heartbeats, and at most {most}");
    scene.world.state(SOON, "edge-1", "Online").await;

    scene.machine.crash();
    let down = scene.world.state(SOON, "edge-1", "Offline").await;
    let cause = text(&down, "/status/diagnosis/cause");
    assert_eq!(cause, "HeartbeatExpired", "{:#}", down["status"]);
    scene.machine.boot();
    scene.world.state(SOON, "edge-1", "Online").await;
    // A unit of a test machine sees the boot id of the kernel, which stays the same: the words for a host that was down are
    // those of unit tests.
    let told = scene.kubectl_events("connector", "edge-1");
    assert!(!told.contains("could not reach us"), "the operator's own absence is no fault of the host: {told}");
    let states = history.of_connector("edge-1");
    assert_eq!(states.iter().filter(|state| *state == "Offline").count(), 1, "{states:?}");
}
