//! The agent and its helper on a test machine, with the units that the installer writes.

use crate::machine::Machine;
use crate::stand_in::StandIn;

/// The program under test, where the units have it.
pub(crate) const VIGIE: &str = "/usr/local/bin/vigie";
pub(crate) const AGENT: &str = "vigie-agent.service";
pub(crate) const HELPER: &str = "vigie-agent-helper.service";
/// The records of the helper.
pub(crate) const ACTIONS: &str = "/var/lib/vigie-agent-helper/actions.json";

/// Writes the configuration, whose keys beside the operator are `keys`, and starts both units.
pub(crate) fn start(machine: &Machine, operator: &StandIn, keys: &str) {
    machine.copy_vigie(VIGIE);
    configure(machine, operator, keys);
    machine.write("/etc/vigie/agent.token", "vgt_0123456789abcdef0123456789abcdef\n");
    let plan = machine.run(&format!("chmod 600 /etc/vigie/agent.token && {VIGIE} agent install --dry-run")).ok();
    for file in plan.split("==> ").filter(|file| !file.is_empty()) {
        let (path, text) = file.split_once('\n').expect("a path, and its text");
        machine.write(path, text);
    }
    for unit in [AGENT, HELPER] {
        // The pause before a restart of the agent itself is no subject of a test.
        machine.write(&format!("/etc/systemd/system/{unit}.d/test.conf"), "[Service]\nRestartSec=100ms\n");
    }
    machine.run(&format!("systemctl daemon-reload && systemctl enable --quiet --now {HELPER} {AGENT}")).ok();
}

/// Writes the configuration. Both halves read it when they start.
pub(crate) fn configure(machine: &Machine, operator: &StandIn, keys: &str) {
    let url = format!("http://{}:{}", machine.host_address(), operator.port);
    let head = format!("url: {url}\nallowInsecure: true\nconnector: gateways/edge-1\n");
    machine.write("/etc/vigie/agent.yaml", format!("{head}{keys}"));
}

/// Kills the main process of a unit.
pub(crate) fn kill(machine: &Machine, unit: &str) {
    // Its process may just have ended, and systemd starts the next.
    machine.run(&format!("systemctl kill --kill-whom=main --signal=KILL {unit}"));
}

/// A process that asks the helper.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    /// In the unit of the agent, with its user.
    Agent,
    /// With the user of the agent, and in no unit.
    UserOfAgent,
    /// Another user.
    Nobody,
}

/// Sends each line to the helper, over a connection of its own, and returns the answers, one a line.
pub(crate) fn ask(machine: &Machine, asker: Asker, lines: &str) -> String {
    let pid = machine.property(AGENT, "MainPID");
    let group = match asker {
        Asker::Agent => {
            "open('/sys/fs/cgroup/system.slice/vigie-agent.service/cgroup.procs', 'w').write(str(os.getpid()))"
        }
        Asker::UserOfAgent | Asker::Nobody => "pass",
    };
    let user = match asker {
        Asker::Agent | Asker::UserOfAgent => format!("os.stat('/proc/{pid}').st_uid"),
        Asker::Nobody => "65534".to_owned(),
    };
    machine.write("/opt/ask.py", format!("import os, socket, sys\n{group}\nos.setuid({user})\n{ASK}"));
    machine.run_with("python3 /opt/ask.py", lines.as_bytes()).ok()
}

const ASK: &str = "
for line in sys.stdin.buffer:
    with socket.socket(socket.AF_UNIX) as helper:
        helper.connect('/run/vigie-agent-helper/helper.sock')
        try:
            helper.sendall(line)
        except ConnectionError:
            pass
        answer = b''
        try:
            while piece := helper.recv(65536):
                answer += piece
        except ConnectionError:
            pass
        print(answer.decode().strip(), flush=True)
";

/// The line that asks for a restart.
pub(crate) fn restart_line(id: &str, target: &str) -> String {
    format!("{{\"verb\":\"restart\",\"id\":\"{id}\",\"target\":\"{target}\",\"notAfter\":\"2100-01-01T00:00:00Z\"}}\n")
}
