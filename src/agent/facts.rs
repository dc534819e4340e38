//! The facts of one look at the host: what the privileged half hands to the half that judges and beats.
//!
//! Nothing in it is secret: no keys of WireGuard, no raw lines of a log, and of an environment only the names and the
//! values of a few management settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The result of one look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look<T> {
    /// What was seen.
    Seen(T),
    /// Why nothing could be seen.
    Blind(String),
}

/// Everything that one look gave. A part is absent when no check asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The clock of the host at the time of the look, in seconds since the epoch.
    pub wall_seconds: u64,
    /// The units and containers, by the name that the configuration gives them.
    #[serde(default)]
    pub targets: BTreeMap<String, Look<TargetFacts>>,
    /// Network interfaces and routes.
    #[serde(default)]
    pub network: Option<Look<Network>>,
    /// The peers of each WireGuard interface, by the name of the interface.
    #[serde(default)]
    pub tunnels: BTreeMap<String, Look<Vec<Peer>>>,
    /// Whether the kernel forwards packets.
    #[serde(default)]
    pub forwarding: Option<Look<Forwarding>>,
    /// The rules that forward and translate packets.
    #[serde(default)]
    pub firewall: Option<Firewall>,
}

/// What a configured target is at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetFacts {
    /// A unit of systemd.
    Unit(Box<UnitFacts>),
    /// A container.
    Container(Box<ContainerFacts>),
    /// There is no such container.
    Absent {
        /// The directory of its compose project, as its other containers name it.
        directory: Option<String>,
    },
}

/// How the main process of a unit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this exit code.
    Code(u32),
    /// By this signal.
    Signal(u32),
}

/// A unit of systemd, as `systemctl show` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFacts {
    /// LoadState: `loaded`, `not-found`, `masked`.
    pub load: String,
    /// ActiveState: `active`, `failed`.
    pub active: String,
    /// SubState: `running`, `auto-restart`.
    pub sub: String,
    /// Result of the last run: `success`, `exit-code`, `oom-kill`.
    pub result: String,
    /// How its main process ended, if it did.
    pub exit: Option<Exit>,
    /// How often systemd restarted it by itself.
    pub restarts: u64,
    /// Identifies the current or last run.
    pub invocation: String,
    /// Seconds since its state changed.
    pub since_seconds: Option<u64>,
    /// A start or stop of it is queued or under way.
    pub has_job: bool,
    /// Its setting Restart: `always`, `no`.
    pub policy: String,
    /// UnitFileState: `enabled`, `disabled`, `masked`.
    pub file_state: String,
    /// The addresses that its processes listen on.
    pub listens: Vec<String>,
    /// The names of the variables that the unit sets, with the values of a few.
    pub environment: BTreeMap<String, Option<String>>,
    /// The cause in its journal, where it does not run well.
    pub words: Option<String>,
}

/// A container, as Docker or Podman describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// State.Status: `running`, `exited`.
    pub status: String,
    /// State.Health.Status, where it has a health check.
    pub health: Option<String>,
    /// Exit code of its last run.
    pub exit_code: i64,
    /// Whether the kernel ended its last run because of its memory limit.
    pub oom_killed: bool,
    /// Why Docker could not start it.
    pub error: Option<String>,
    /// How often Docker restarted it by itself.
    pub restarts: u64,
    /// When its current or last run began, as Docker writes it.
    pub started_at: String,
    /// Seconds since its state changed.
    pub since_seconds: Option<u64>,
    /// Its restart policy: `always`, `no`.
    pub policy: String,
    /// Whether a person stopped it; absent when it runs, or when it cannot be told.
    pub stopped_on_purpose: Option<bool>,
    /// The directory of its compose project.
    pub directory: Option<String>,
    /// The addresses that it listens on, inside.
    pub listens: Vec<String>,
    /// The ports that are published on the host.
    pub published: Vec<String>,
    /// The names of its variables, with the values of a few.
    pub environment: BTreeMap<String, Option<String>>,
    /// The cause in its log, where it does not run well.
    pub words: Option<String>,
}

/// The network interfaces and the routes of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The interfaces.
    pub links: Vec<Link>,
    /// The routes of all tables that a rule leads to.
    pub routes: Vec<Route>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Whether it is set up (IFF_UP).
    pub is_up: bool,
    /// Its kind: `wireguard`, `tun`; absent for hardware.
    pub kind: Option<String>,
    /// Its addresses with their prefixes.
    pub addresses: Vec<IpNet>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its destination.
    pub to: IpNet,
    /// The interfaces that it leads to; empty for a route that drops packets.
    pub links: Vec<String>,
    /// What it does when it leads to no interface: `blackhole`, `unreachable`.
    pub drops: Option<String>,
    /// Its table.
    pub table: u32,
}

/// A peer of a WireGuard interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its public key, in base64.
    pub key: String,
    /// The address that packets to it are sent to.
    pub endpoint: Option<SocketAddr>,
    /// Time of the last handshake, in seconds since the epoch; absent when there was none.
    pub handshake: Option<u64>,
    /// Bytes received from it.
    pub received: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Seconds between keepalives; 0 = none.
    pub keepalive: u16,
}

/// Which packets the kernel forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarding {
    /// net.ipv4.ip_forward.
    pub v4: Option<bool>,
    /// net.ipv6.conf.all.forwarding.
    pub v6: Option<bool>,
    /// The setting of single interfaces, for IPv4 and IPv6.
    pub links: BTreeMap<String, (Option<bool>, Option<bool>)>,
}

/// The rules of the firewall, as far as they concern forwarded packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// The rules of nftables, and of iptables on top of it.
    pub nft: Look<Vec<Chain>>,
    /// The rules of legacy iptables, which nftables does not show; absent where they are not in use.
    pub legacy: Option<Look<Vec<Chain>>>,
}

/// The family of packets that a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Both,
}

/// Where packets enter a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// The translation of sources.
    Postrouting,
    /// The filter of forwarded packets.
    Forward,
}

/// A chain of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The packets that it sees.
    pub family: Family,
    /// Its table, with the family as the tool writes it: jumps stay within it.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where packets enter it; absent for a chain that only jumps lead to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// Whether it drops what no rule decided about.
    #[serde(default)]
    pub drops: bool,
    /// Its rules in their order.
    pub rules: Vec<Rule>,
}

/// A rule: all of its conditions, and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What happens then.
    pub action: Action,
}

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The source address is in one of these networks, or in none of them.
    Source {
        /// The networks.
        of: Vec<IpNet>,
        /// In none of them.
        not: bool,
    },
    /// The destination address is in one of these networks, or in none of them.
    Destination {
        /// The networks.
        of: Vec<IpNet>,
        /// In none of them.
        not: bool,
    },
    /// The packet came in by one of these interfaces, or by none of them. A name may end with `*`.
    In {
        /// The names.
        of: Vec<String>,
        /// By none of them.
        not: bool,
    },
    /// The packet leaves by one of these interfaces, or by none of them. A name may end with `*`.
    Out {
        /// The names.
        of: Vec<String>,
        /// By none of them.
        not: bool,
    },
    /// The packet is of this family.
    Family(Family),
    /// The packet has a mark.
    Mark,
    /// The packet is not the first of its connection.
    Established,
    /// Something that is not understood: its name.
    Other(String),
}

/// The action of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The source address is translated.
    Translate,
    /// The rules of another chain follow, and then the rest of this one.
    Jump(String),
    /// The rules of another chain follow instead of the rest of this one.
    Goto(String),
    /// The packet is accepted.
    Accept,
    /// The packet is dropped or rejected.
    Drop,
    /// The rest of the chain is left out.
    Return,
    /// The next rule follows.
    Continue,
    /// Something that is not understood: its name.
    Other(String),
}

impl<T> Look<T> {
    /// What was seen, or why nothing was.
    ///
    /// # Errors
    /// The reason, when nothing could be seen.
    pub fn seen(&self) -> Result<&T, &str> {
        match self {
            Self::Seen(seen) => Ok(seen),
            Self::Blind(why) => Err(why),
        }
    }
}

impl<T> From<Result<T, String>> for Look<T> {
    fn from(result: Result<T, String>) -> Self {
        result.map_or_else(Self::Blind, Self::Seen)
    }
}
