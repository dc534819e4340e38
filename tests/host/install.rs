//! `vigie agent install`, `vigie agent uninstall` and the script of `vigie install-command`.

use crate::machine::Machine;

/// The program under test, where nothing else of the host is.
const VIGIE: &str = "/opt/vigie";
const TOKEN: &str = "vgt_0123456789abcdef0123456789abcdef";
/// No operator is there: nothing listens on this port.
const FLAGS: &str = "--url http://127.0.0.1:1 --allow-insecure --connector gateways/edge-1 --unit connector.service";

/// Everything that an installation could change: files with mode and content, users, and units.
pub(crate) fn state(machine: &Machine) -> String {
    let find = "find /etc /usr/local /var/lib /run/vigie* -xdev \\( -path '/var/lib/systemd*' -prune -o -printf '%p %M %u\\n' \\) 2>/dev/null | sort";
    let content = "find /etc /usr/local -xdev -type f -exec sha256sum {} + | sort";
    let units = "systemctl list-units --all --plain --no-legend 'vigie*'";
    machine.run(&format!("{find}; {content}; {units}")).ok()
}

/// The units that would be written for `systemd`, as files in /run/units.
fn write_units(machine: &Machine, systemd: u32) {
    let plan = machine.run(&format!("{VIGIE} agent install --dry-run --systemd {systemd}")).ok();
    for file in plan.split("==> ").filter(|file| !file.is_empty()) {
        let (path, text) = file.split_once('\n').expect("a path, and its text");
        machine.write(path, text.replace("/usr/local/bin/vigie", VIGIE));
    }
    machine.run("systemctl daemon-reload").ok();
}

#[test]
fn the_units_are_valid_and_their_exposure_is_at_most_two() {
    let machine = Machine::start();
    machine.copy_vigie(VIGIE);
    // A user of its own where there is no LoadCredential.
    machine.run("useradd --system vigie-agent").ok();
    for systemd in [239, 246, 247, 252] {
        write_units(&machine, systemd);
        for unit in ["vigie-agent.service", "vigie-agent-helper.service"] {
            let verified = machine.run(&format!("systemd-analyze verify /etc/systemd/system/{unit}"));
            assert_eq!((verified.code, verified.stderr.as_str()), (0, ""), "{unit} for {systemd}");
            let security = machine.run(&format!("systemd-analyze security --no-pager {unit}")).ok();
            let words =
                security.lines().find_map(|line| line.split_once("exposure level for ")).expect("it says a level").1;
            let level: f64 = words.split_whitespace().nth(1).expect("unit and level").parse().expect("a number");
            assert!(level <= 2.0, "{unit} for {systemd}: {level}\n{security}");
        }
    }
}

#[test]
fn an_installation_that_the_operator_does_not_hear_leaves_the_host_as_it_was() {
    let machine = Machine::start();
    machine.copy_vigie(VIGIE);
    let before = state(&machine);
    let failed =
        machine.run_with(&format!("{VIGIE} agent install --token-stdin {FLAGS}"), format!("{TOKEN}\n").as_bytes());
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stderr.contains("the agent is not installed"), "{failed:?}");
    assert!(!format!("{failed:?}").contains(TOKEN));
    assert_eq!(state(&machine), before);
    assert!(!machine.run("journalctl --no-pager").ok().contains(TOKEN));
}

#[test]
fn wrong_flags_and_an_absent_token_are_said_before_anything_is_changed() {
    let machine = Machine::start();
    machine.copy_vigie(VIGIE);
    let before = state(&machine);
    for (flags, code, said) in [
        ("", 2, "say --url and --connector"),
        (FLAGS, 1, "there is no token in /etc/vigie/agent.token"),
        ("--url http://127.0.0.1:1 --connector gateways/edge-1", 2, "https://"),
        ("--url https://vigie.example.com --connector edge-1", 2, "NAMESPACE/NAME"),
        ("--systemd 238", 1, "older than 239"),
    ] {
        let failed = machine.run(&format!("{VIGIE} agent install {flags}"));
        assert_eq!(failed.code, code, "{flags}: {failed:?}");
        assert!(failed.stderr.contains(said), "{flags}: {failed:?}");
        assert_eq!(state(&machine), before, "{flags}");
    }
}

#[test]
fn an_uninstallation_leaves_nothing_and_a_second_one_finds_nothing() {
    let machine = Machine::start();
    machine.copy_vigie(VIGIE);
    let before = state(&machine);
    machine.run("mkdir /etc/vigie /var/lib/vigie-agent-helper && cp /opt/vigie /usr/local/bin/vigie").ok();
    machine.write("/etc/vigie/agent.token", TOKEN);
    write_units(&machine, 252);
    machine.run("systemctl enable --quiet vigie-agent.service vigie-agent-helper.service").ok();
    machine.run("systemctl start --no-block vigie-agent.service").ok();
    let kept = machine.run(&format!("{VIGIE} agent uninstall")).ok();
    assert!(kept.contains("kept: the configuration and the token"), "{kept}");
    machine.run("test -s /etc/vigie/agent.token && test ! -e /usr/local/bin/vigie").ok();
    machine.run(&format!("{VIGIE} agent uninstall --purge")).ok();
    assert_eq!(state(&machine), before);
    assert_eq!(machine.run(&format!("{VIGIE} agent uninstall --purge")).ok(), "the agent was not installed\n");
}

/// The script that `vigie install-command` prints, with the program under test as what it downloads.
fn script(machine: &Machine, token: &str) -> String {
    let sha256 = machine.run(&format!("sha256sum {VIGIE}")).ok();
    let sha256 = sha256.split_whitespace().next().expect("the hash is the first word");
    [
        ("@TOKEN@", token),
        ("@VERSION@", "0"),
        ("@NAME@", "gateways/edge-1"),
        ("@URL@", "http://127.0.0.1:1"),
        ("@CONNECTOR@", "gateways/edge-1"),
        ("@DOWNLOAD@", &format!("file://{VIGIE}")),
        ("@SHA256@", sha256),
        ("@PROTOCOL@", ":"),
        ("@ARGUMENTS@", FLAGS),
    ]
    .into_iter()
    .fold(include_str!("../../src/cli/install_command/script.sh").to_owned(), |text, (name, value)| {
        text.replace(name, value)
    })
}

#[test]
fn a_script_that_is_cut_anywhere_leaves_the_host_as_it_was() {
    let machine = Machine::start();
    machine.copy_vigie(VIGIE);
    let before = state(&machine);
    let script = script(&machine, TOKEN);
    let call = script.rfind("vigie_install").expect("the last line calls it");
    for length in (0..script.len()).step_by(100).chain(call..call + "vigie_install".len()) {
        machine.run_with("bash -s", &script.as_bytes()[..length]);
    }
    assert_eq!(state(&machine), before);
}

#[test]
fn the_script_refuses_a_binary_that_is_another_or_does_not_run() {
    let machine = Machine::start();
    machine.copy_vigie(VIGIE);
    let before = state(&machine);
    let good = script(&machine, TOKEN);
    machine.run(&format!("printf x >>{VIGIE}")).ok();
    let refused = machine.run_with("bash -s", good.as_bytes());
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("is not that of this script"), "{refused:?}");
    assert_eq!(state(&machine), before);

    machine.write(VIGIE, "#!/bin/sh\nexit 127\n");
    let refused = machine.run_with("bash -s", script(&machine, TOKEN).as_bytes());
    assert!(refused.code == 1 && refused.stderr.contains("does not run on this host"), "{refused:?}");
    assert_eq!(state(&machine), before);

    let asked = machine.run_with("setsid bash -s", script(&machine, "").as_bytes());
    assert!(asked.code == 1 && asked.stderr.contains("no terminal to ask for the token"), "{asked:?}");
}

#[test]
fn the_script_calls_the_installer_with_the_token_on_its_standard_input_alone() {
    let machine = Machine::start();
    let recorder = "#!/bin/bash\n[ \"$1\" = --version ] && exit\n{ echo \"$@\"; env; } >/tmp/seen\nread -r token && echo \"$token\" >/tmp/token\n";
    machine.write(VIGIE, recorder);
    let text = script(&machine, TOKEN);
    for (shell, input) in [("bash -s", text.clone()), ("bash /tmp/install.sh", format!("{TOKEN}\n"))] {
        machine.write("/tmp/install.sh", script(&machine, if shell == "bash -s" { TOKEN } else { "" }));
        machine.run_with(&format!("export vigie_token=leaked; {shell}"), input.as_bytes()).ok();
        let seen = machine.run("cat /tmp/seen").ok();
        assert!(seen.starts_with("agent install --token-stdin --url http://127.0.0.1:1"), "{seen}");
        assert!(!seen.contains(TOKEN) && !seen.contains("leaked"), "{seen}");
        assert_eq!(machine.run("cat /tmp/token && rm /tmp/token").ok(), format!("{TOKEN}\n"));
    }
    assert_eq!(machine.run("find /usr/local -name '.vigie*'").ok(), "", "no file is left");
}
