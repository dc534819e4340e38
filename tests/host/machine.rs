//! A test machine: a real systemd in namespaces of its own, with what a gateway or a VM has (see
//! `tests/support/machine/supervise.sh`). It ends with its [`Machine`], and also when the test is killed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::process::{Ran, run};

/// How long a step may take that takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

/// The two addresses of the overlay network: of the gateway, and of its peer.
pub(crate) const OVERLAY: [&str; 2] = ["100.64.0.1", "100.64.0.2"];

/// A running machine.
pub(crate) struct Machine {
    supervisor: Child,
    /// Its end ends the machine; `None` only while this is dropped.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    up: Up,
}

/// The words of the line `up` of the supervisor.
struct Up {
    init: String,
    host_address: String,
    address: String,
    shared: PathBuf,
}

impl Machine {
    /// Debian 12 with Docker and WireGuard, booted to `running`.
    pub(crate) fn start() -> Self {
        Self::start_kind("machine")
    }

    /// A machine with the root file system `kind` of `rootfs.sh`.
    pub(crate) fn start_kind(kind: &str) -> Self {
        let rootfs = run(Command::new(tool("rootfs.sh")).arg(kind)).ok();
        let mut supervisor = Command::new(tool("supervise.sh"))
            .arg(rootfs.trim())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the supervisor starts");
        let commands = supervisor.stdin.take();
        let mut answers = BufReader::new(supervisor.stdout.take().expect("it is piped"));
        let up = Up::read(&mut answers);
        let machine = Self { supervisor, commands, answers, up };
        machine.booted();
        machine
    }

    fn booted(&self) {
        self.eventually("it has booted", || {
            let state = self.run("systemctl is-system-running --wait");
            if state.stdout.trim() == "running" { Ok(()) } else { Err(format!("{state:?}{}", self.failed_units())) }
        });
    }

    fn failed_units(&self) -> String {
        self.run("systemctl --failed --no-legend --plain").stdout
    }

    /// Kills every process of the machine at once, as a loss of power does; its disk stays.
    pub(crate) fn crash(&mut self) {
        self.tell("crash");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the supervisor answers");
        assert_eq!(answer, "crashed\n");
    }

    /// Boots a crashed machine, with another boot id.
    pub(crate) fn boot(&mut self) {
        self.tell("boot");
        self.up = Up::read(&mut self.answers);
        self.booted();
    }

    fn tell(&mut self, command: &str) {
        let commands = self.commands.as_mut().expect("it is there until the end");
        writeln!(commands, "{command}").expect("the supervisor reads");
    }

    /// The address at which the machine reaches this one: an operator listens there.
    pub(crate) fn host_address(&self) -> &str {
        &self.up.host_address
    }

    /// The address at which this machine reaches it.
    pub(crate) fn address(&self) -> &str {
        &self.up.address
    }

    /// A command in the machine, as its root.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.up.init]);
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--"]);
        command.args(["env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb"]);
        command.arg(program);
        command
    }

    /// Runs a line of shell in the machine, as its root.
    pub(crate) fn run(&self, line: &str) -> Ran {
        run(self.command("sh").args(["-c", line]))
    }

    /// Runs a line of shell with `input` on its standard input.
    pub(crate) fn run_with(&self, line: &str, input: &[u8]) -> Ran {
        let mut command = self.command("sh");
        command.args(["-c", line]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nsenter starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        // The command may end before it has read everything.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("the writer ends");
        output.into()
    }

    /// Writes a file of the machine; its folder is created.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        self.run_with(&format!("mkdir -p \"$(dirname {path})\" && cat >{path}"), content.as_ref()).ok();
    }

    /// Copies a file or a program of this machine to `to`, with its mode.
    pub(crate) fn copy(&self, from: &Path, to: &str) {
        let name = from.file_name().expect("it is a file").to_string_lossy().into_owned();
        std::fs::copy(from, self.up.shared.join(&name)).expect("it is copied");
        self.run(&format!("mkdir -p \"$(dirname {to})\" && cp -p /mnt/shared/{name} {to} && rm /mnt/shared/{name}"))
            .ok();
    }

    /// Copies the program under test to `to`.
    pub(crate) fn copy_vigie(&self, to: &str) {
        self.copy(stripped(), to);
    }

    /// Installs a unit and starts it.
    pub(crate) fn unit(&self, name: &str, content: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), content);
        self.run(&format!("systemctl daemon-reload && systemctl start {name}")).ok();
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        self.run(&format!("systemctl show {unit} --property {property} --value")).ok().trim().to_owned()
    }

    /// Sends `signal` to every process of a unit.
    pub(crate) fn kill(&self, unit: &str, signal: &str) {
        self.run(&format!("systemctl kill --signal {signal} {unit}")).ok();
    }

    /// The journal of a unit, of all boots.
    pub(crate) fn journal(&self, unit: &str) -> String {
        self.run(&format!("journalctl --no-pager --output short-iso --unit {unit}")).ok()
    }

    /// Starts Docker, and imports the image `busybox:1`.
    pub(crate) fn docker(&self) {
        self.run("systemctl start docker && docker import /usr/share/vigie-tests/busybox.tar busybox:1").ok();
    }

    /// Writes `/srv/PROJECT/docker-compose.yml`, and starts its services.
    pub(crate) fn compose(&self, project: &str, content: &str) {
        self.write(&format!("/srv/{project}/docker-compose.yml"), content);
        self.run(&format!("cd /srv/{project} && docker compose up -d")).ok();
    }

    /// Makes the machine a gateway: its `wg-quick@wg0.service` (wireguard-go) has a peer in the network namespace
    /// `peer`, at 192.0.2.2:51820, that answers. Waits for the handshake.
    pub(crate) fn wireguard(&self) {
        self.run_with("sh -eu", WIREGUARD.as_bytes()).ok();
        self.unit("wireguard-peer.service", WIREGUARD_PEER);
        self.run("systemctl start wg-quick@wg0.service").ok();
        self.eventually("wg0 has shaken hands", || {
            let seen = self.run("wg show wg0 latest-handshakes");
            let age = seen.stdout.split_whitespace().nth(1).unwrap_or("0").to_owned();
            if age == "0" { Err(format!("{seen:?}")) } else { Ok(()) }
        });
    }

    /// Runs a line of shell where the peer of [`Machine::wireguard`] runs: its `wg0` is there.
    pub(crate) fn run_at_peer(&self, line: &str) -> Ran {
        let pid = self.property("wireguard-peer.service", "MainPID");
        run(self.command("nsenter").args(["--target", &pid, "--mount", "--net", "--", "sh", "-c", line]))
    }

    /// Looks until `look` gives Ok; its error says what was seen instead.
    #[track_caller]
    pub(crate) fn eventually<T>(&self, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
        let began = Instant::now();
        loop {
            match look() {
                Ok(found) => return found,
                Err(seen) => assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}; last seen: {seen}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Files that are there as long as the machine is: of its init, of its network, of its cgroup.
    pub(crate) fn traces(&self) -> Vec<PathBuf> {
        let number = self.up.host_address.split('.').nth(2).expect("it is an IPv4 address");
        let cgroups = run(Command::new("findmnt").args(["-t", "cgroup2", "-n", "-o", "TARGET"])).ok();
        let cgroups = Path::new(cgroups.lines().next().expect("there is one"));
        vec![
            Path::new("/proc").join(&self.up.init),
            Path::new("/sys/class/net").join(format!("vigie-m{number}")),
            cgroups.join(format!("vigie-machine-{number}")),
        ]
    }

    /// The process on this machine whose end ends the test machine.
    pub(crate) fn supervisor(&self) -> u32 {
        self.supervisor.id()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.supervisor.wait();
    }
}

impl Up {
    fn read(answers: &mut impl BufRead) -> Self {
        let mut line = String::new();
        answers.read_line(&mut line).expect("the supervisor answers");
        let mut words = line.split_whitespace().map(str::to_owned);
        assert_eq!(words.next().as_deref(), Some("up"), "the test machine does not start; see above: {line:?}");
        let mut word = || words.next().expect("the line has five words");
        Self { init: word(), host_address: word(), address: word(), shared: word().into() }
    }
}

/// The program under test without its debug information: it is copied to machines, and downloaded by them.
pub(crate) fn stripped() -> &'static Path {
    static STRIPPED: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    STRIPPED.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vigie");
        run(Command::new("strip").args(["--strip-debug", "-o"]).arg(&path).arg(env!("CARGO_BIN_EXE_vigie"))).ok();
        path
    })
}

/// A script of the test machines.
pub(crate) fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/machine").join(name)
}

/// The wire between the gateway and its peer, and the configuration of both ends.
const WIREGUARD: &str = "
ip netns add peer
ip link add wire type veth peer name wire netns peer
ip addr add 192.0.2.1/24 dev wire
ip link set wire up
ip -n peer addr add 192.0.2.2/24 dev wire
ip -n peer link set wire up
ip -n peer link set lo up
umask 077
mkdir -p /etc/wireguard /etc/wireguard-peer /run/wireguard
gateway=$(wg genkey) peer=$(wg genkey)
cat >/etc/wireguard/wg0.conf <<EOF
[Interface]
PrivateKey = $gateway
Address = 100.64.0.1/32
ListenPort = 51820
[Peer]
PublicKey = $(echo $peer | wg pubkey)
Endpoint = 192.0.2.2:51820
AllowedIPs = 100.64.0.0/10
PersistentKeepalive = 25
EOF
cat >/etc/wireguard-peer/wg0.conf <<EOF
[Interface]
PrivateKey = $peer
Address = 100.64.0.2/32
ListenPort = 51820
[Peer]
PublicKey = $(echo $gateway | wg pubkey)
AllowedIPs = 100.64.0.1/32
EOF
";

/// wireguard-go keeps its sockets in /run/wireguard: both ends are called wg0, so the peer has that folder of its own.
const WIREGUARD_PEER: &str = "
[Service]
NetworkNamespacePath=/run/netns/peer
TemporaryFileSystem=/run/wireguard
ExecStart=/bin/sh -c 'wg-quick up /etc/wireguard-peer/wg0.conf && exec sleep infinity'
";
