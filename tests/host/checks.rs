//! Each check of the agent is made false by what breaks it on a real host, and true again.
//!
//! What depends on time, and at least one fault of each check, is told by heartbeats; the rest by `vigie agent check`,
//! which looks and judges by the same code.

mod containers;
mod gateway;
mod kernel;
mod stand_in;
mod units;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::machine::Machine;
use crate::support::process::Ran;

const VIGIE: &str = "/usr/local/bin/vigie";
const TOKEN: &str = "vgt_0123456789abcdef0123456789abcdef";
/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Makes the kernel forward packets.
const FORWARD: &str = "sysctl -q -w net.ipv4.ip_forward=1";

/// What is told about a check: its status, and its message.
type Told = (String, String);

/// The configuration of the agent, and its token.
fn configure(machine: &Machine, url: &str, rest: &str) {
    machine.write("/etc/vigie/agent.token", TOKEN);
    let head = format!("url: {url}\nallowInsecure: true\nconnector: gateways/edge-1\n");
    machine.write("/etc/vigie/agent.yaml", head + rest);
}

/// The unit of the helper, or of the agent, as an installation writes it.
fn start(machine: &Machine, unit: &str) {
    let plan = machine.run(&format!("{VIGIE} agent install --dry-run")).ok();
    let path = format!("/etc/systemd/system/{unit}");
    let file = plan.split("==> ").find_map(|file| file.strip_prefix(&format!("{path}\n"))).expect("it is printed");
    machine.write(&path, file);
    machine.run(&format!("systemctl daemon-reload && systemctl start {unit}")).ok();
}

/// What is told about each check.
fn told(checks: &Value) -> BTreeMap<String, Told> {
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let checks = checks.as_array().cloned().unwrap_or_default();
    checks.iter().map(|check| (text(check, "type"), (text(check, "status"), text(check, "message")))).collect()
}

/// Runs `vigie agent check`, with `before` in front of it; the checks and backends that it prints.
fn look_by(machine: &Machine, before: &str) -> (Value, Ran) {
    let ran = machine.run(&format!("{before} {VIGIE} agent check -o json"));
    let printed = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (printed, ran)
}

/// A fault: what breaks it, what is told then of which check, and what repairs it.
struct Fault<'a> {
    check: &'a str,
    cause: &'a str,
    status: &'a str,
    /// Words of the message.
    words: &'a [&'a str],
    cure: &'a str,
}

const fn fault<'a>(check: &'a str, cause: &'a str, status: &'a str, words: &'a [&'a str], cure: &'a str) -> Fault<'a> {
    Fault { check, cause, status, words, cure }
}

/// Whether a check is told so.
fn is_told(told: &BTreeMap<String, Told>, check: &str, status: &str, words: &[&str]) -> Result<(), String> {
    let seen = told.get(check).ok_or_else(|| format!("no {check} in {told:?}"))?;
    let is_it = seen.0 == status && words.iter().all(|word| seen.1.contains(word));
    if is_it { Ok(()) } else { Err(format!("{check} should be {status} with {words:?}: {told:#?}")) }
}

/// Makes each fault, and repairs it. The check passes before and after.
#[track_caller]
fn break_and_repair(machine: &Machine, faults: &[Fault<'_>]) {
    let now = || told(&look_by(machine, "").0["checks"]);
    for Fault { check, cause, status, words, cure } in faults {
        machine.eventually(&format!("{check} passes before {cause}"), || is_told(&now(), check, "Pass", &[]));
        machine.run(cause).ok();
        machine.eventually(cause, || is_told(&now(), check, status, words));
        machine.run(cure).ok();
    }
    machine.eventually("all passes at the end", || {
        let told = now();
        faults.iter().try_for_each(|fault| is_told(&told, fault.check, "Pass", &[]))
    });
}
