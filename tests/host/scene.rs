//! A machine, and an operator that listens at the other end of its wire, on a real API server.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::machine::{Machine, stripped};
use crate::support::operator::free_port;
use crate::support::process::{Ran, run};
use crate::support::world::SOON;
use crate::support::{Connector, Operator, World, text};

/// The unit of the connector.
pub(crate) const UNIT: &str = "connector.service";

/// A connector that runs and sends nothing: its agent beats alone. systemd does not restart one that was killed.
pub(crate) const SERVICE: &str = "
[Service]
ExecStart=/bin/sleep infinity
Restart=on-failure
RestartPreventExitStatus=SIGKILL
[Install]
WantedBy=multi-user.target
";

/// A machine and an operator. The namespace goes first, and the machine last.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) operator: Operator,
    pub(crate) machine: Machine,
}

impl Scene {
    pub(crate) async fn new(name: &str, flags: &[&str]) -> Self {
        let world = World::new(name).await;
        let machine = Machine::start();
        let listen = format!("{}:{}", machine.host_address(), free_port());
        // The addresses of the machines are of a range for benchmarks, which an operator does not probe by itself.
        let of_machines = ["--listen", &listen, "--allow-network", "198.18.0.0/15"];
        let operator = world.operator(&[&of_machines[..], flags].concat()).await;
        Self { world, operator, machine }
    }

    /// The operator, as the machine reaches it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.operator.beats())
    }

    /// Installs the agent of `connector` by `vigie agent install`, which waits until the operator has heard it.
    pub(crate) fn install(&self, connector: &Connector, flags: &str) {
        self.machine.copy_vigie("/opt/vigie");
        let (url, id) = (self.url(), &connector.id);
        let line = format!(
            "/opt/vigie agent install --token-stdin --url {url} --allow-insecure --connector {id} --unit {UNIT} {flags}"
        );
        self.machine.run_with(&line, format!("{}\n", connector.token).as_bytes()).ok();
    }

    /// A machine on which `vigie agent` looks after a connector that is a plain unit, and is Online.
    pub(crate) async fn with_agent(name: &str, spec: Value) -> Self {
        let scene = Self::new(name, &[]).await;
        scene.machine.unit(UNIT, SERVICE);
        let edge = scene.world.connector("edge-1", spec).await;
        scene.install(&edge, "");
        scene.world.state(SOON, "edge-1", "Online").await;
        scene
    }

    /// Runs `vigie` as a person does, with the administrator's kubeconfig, in this namespace.
    pub(crate) fn vigie(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(stripped());
        command.args(args).args(["-n", &self.world.ns]).env("KUBECONFIG", self.world.cluster.kubeconfig());
        run(&mut command)
    }

    /// What `kubectl get` prints of one object: a line without the head.
    pub(crate) fn kubectl_get(&self, kind: &str, name: &str) -> String {
        self.world.kubectl(&["get", kind, name, "--no-headers"]).ok()
    }

    /// What `kubectl events` prints of one object.
    pub(crate) fn kubectl_events(&self, kind: &str, name: &str) -> String {
        self.world.kubectl(&["events", "--for", &format!("{kind}/{name}")]).ok()
    }
}

/// The smallest limits of heartbeats, with more of a spec.
pub(crate) fn quick(more: Value) -> Value {
    let mut spec = crate::support::quick();
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// A policy that acts as soon as it may.
pub(crate) fn restart_soon() -> Value {
    json!({"mode": "Restart", "unhealthyForSeconds": 1, "backoffSeconds": 1, "verifyWithinSeconds": 60})
}

/// The number of restarts in a status.
pub(crate) fn restarts(seen: &Value) -> i64 {
    seen.pointer("/status/remediation/restarts").and_then(Value::as_i64).unwrap_or_default()
}

/// Prints a figure: `figure: NAME MEDIAN P95 (ALL)`. Nothing depends on it: a test asserts no speed.
pub(crate) fn figure(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1].as_secs_f64();
    let mut all = String::new();
    for time in &times {
        let _ = write!(all, " {:.1}", time.as_secs_f64());
    }
    println!("figure: {name}: median {:.1} s, 95 % {:.1} s, of{all}", at(0.5), at(0.95));
}

/// The cause and the message of a diagnosis.
pub(crate) fn diagnosis(seen: &Value) -> (&str, &str) {
    (text(seen, "/status/diagnosis/cause"), text(seen, "/status/diagnosis/message"))
}
