//! A tunnel of the kernel, in a virtual machine: the kernel of the tests may have none.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::machine::{stripped, tool};

/// Runs `script` in a virtual machine whose kernel has WireGuard, with the program under test; what it prints.
fn in_virtual_machine(script: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host").join(script);
    let mut command = Command::new(tool("kernel.sh"));
    // An open standard input: its end would end the virtual machine.
    command.arg(script).arg(stripped()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("kernel.sh starts");
    let stdin = child.stdin.take();
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_kernel_tunnel_is_looked_at_as_it_is() {
    let said = in_virtual_machine("kernel_handshake.sh");
    let expect = |name: &str, lines: [&[&str]; 2]| {
        let (_, part) = said.split_once(&format!("== {name}\n")).unwrap_or_else(|| panic!("no {name}: {said}"));
        let part = part.split("\n== ").next().unwrap_or_default();
        for (check, words) in ["WireGuardInterface", "WireGuardHandshake"].into_iter().zip(lines) {
            let line = part.lines().find(|line| line.starts_with(check)).unwrap_or_default();
            assert!(words.iter().all(|word| line.contains(word)), "{name}: {words:?} in {line:?}: {said}");
        }
    };
    let is_up = &[" Pass ", "wg0 is up with 100.64.0.1/32"][..];
    let silent = &[" Fail ", "at 192.0.2.2:51820: last handshake 60 min ago", "UDP filtered"][..];
    expect("well", [is_up, &[" Pass ", "last handshake"]]);
    expect("silent", [is_up, silent]);
    expect("down", [&[" Fail ", "wg0 is down: ip link set wg0 up"], silent]);
    expect("well again", [is_up, &[" Pass ", "last handshake"]]);
    expect("gone", [&[" Fail ", "wg0 does not exist: wg-quick up wg0"], &[" Unknown ", "wg0 does not exist"]]);
}
