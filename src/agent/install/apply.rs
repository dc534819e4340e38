//! Writes and starts, waits until the operator has heard the agent, or puts everything back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;

use super::detect::{Found, Wanted, configuration, legacy_iptables};
use super::heard::{Heard, RUNTIME, STATUS, heard};
use super::undo::Changes;
use super::units::{AGENT, CREDENTIALS_SINCE, HELPER, Host, OLDEST, USER, agent, helper};
use super::{BINARY, TOKEN};
use crate::agent::beats::STOPPING;
use crate::agent::config::{BadConfig, Config, DEFAULT_PATH};
use crate::agent::file::{Rights, replace};
use crate::api::StopReason;

/// How long the first answer of the operator may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the agent's status is read meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How old the last answer may be where nothing was changed: as long as the longest interval of heartbeats.
const RECENT: jiff::SignedDuration = jiff::SignedDuration::from_secs(3600);
/// The folder of units that an administrator adds.
const UNITS: &str = "/etc/systemd/system";
/// What the two units keep. The first is where systemd puts the state of a dynamic user.
const STATE: [&str; 3] = ["/var/lib/private/vigie-agent", "/var/lib/vigie-agent", "/var/lib/vigie-agent-helper"];

/// What to install.
#[derive(Debug)]
pub struct Install {
    /// For a host without configuration.
    pub wanted: Option<Wanted>,
    /// A new token; `None` keeps the one that is there.
    pub token: Option<String>,
    /// Takes the host for one with this systemd.
    pub systemd: Option<u32>,
}

/// Installs, or updates, and returns the text to print.
///
/// # Errors
/// A precondition is not met, or the operator has not heard the agent; then the host is as before.
pub async fn install(install: Install) -> anyhow::Result<String> {
    ensure!(rustix::process::geteuid().is_root(), "only root can install the agent");
    ensure!(Path::new("/run/systemd/system").is_dir(), "this host does not run systemd; see docs/agent.md for others");
    let systemd = install.systemd.map_or_else(systemd_version, Ok)?;
    ensure!(systemd >= OLDEST, "systemd {systemd} is older than {OLDEST}, the oldest that the units are written for");
    let host = Host { systemd, legacy_iptables: legacy_iptables() };
    let began = Timestamp::now();
    let mut changes = Changes::default();
    let user_is_new = ensure_user(host)?;
    let done = match write(&mut changes, &install, host) {
        Ok(()) => start(&changes, began).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(text) => Ok(text),
        Err(error) => {
            let state = if changes.is_empty() { "nothing was changed" } else { "the host is as it was before" };
            put_back(changes, user_is_new);
            Err(error.context(format!("the agent is not installed, and {state}")))
        }
    }
}

fn write(changes: &mut Changes, install: &Install, host: Host) -> anyhow::Result<()> {
    let config = Path::new(DEFAULT_PATH);
    let text = match (config.exists(), &install.wanted) {
        (true, _) => None,
        (false, Some(wanted)) => {
            let token_file = (host.systemd < CREDENTIALS_SINCE).then_some(TOKEN);
            Some(configuration(wanted, &Found::look(), token_file))
        }
        (false, None) => {
            return Err(BadConfig(format!("{DEFAULT_PATH} is not there: say --url and --connector")).into());
        }
    };
    match &text {
        Some(text) => drop(Config::parse(text, DEFAULT_PATH)?),
        None => drop(Config::read(config)?),
    }
    changes.folder(Path::new("/etc/vigie"))?;
    if let Some(text) = text {
        write_file(changes, config, text.as_bytes(), 0o644)?;
    }
    write_token(changes, install.token.as_deref(), host)?;
    let own = std::env::current_exe().context("finding this program")?;
    let binary = fs::read(&own).with_context(|| format!("reading {}", own.display()))?;
    write_file(changes, Path::new(BINARY), &binary, 0o755)?;
    for (name, text) in [(AGENT, agent(host, BINARY)), (HELPER, helper(host, BINARY))] {
        write_file(changes, &Path::new(UNITS).join(name), text.as_bytes(), 0o644)?;
    }
    Ok(())
}

fn write_file(changes: &mut Changes, path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    changes.write(path, content, mode).map(drop).with_context(|| format!("writing {}", path.display()))
}

/// The token is root's; before systemd 247 the agent's group reads it.
fn write_token(changes: &mut Changes, token: Option<&str>, host: Host) -> anyhow::Result<()> {
    let path = Path::new(TOKEN);
    let by_group = host.systemd < CREDENTIALS_SINCE;
    let mode = if by_group { 0o440 } else { 0o600 };
    match token {
        Some(token) => write_file(changes, path, format!("{token}\n").as_bytes(), mode)?,
        None => ensure!(path.exists(), "there is no token in {TOKEN}, and none was given: --token-stdin reads it"),
    }
    if by_group {
        run("chgrp", &[USER, TOKEN])?;
    }
    Ok(())
}

/// The agent's user where systemd makes none. Returns whether it is new.
fn ensure_user(host: Host) -> anyhow::Result<bool> {
    if host.systemd >= CREDENTIALS_SINCE || run("id", &["-u", USER]).is_ok() {
        return Ok(false);
    }
    run(
        "useradd",
        &[
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
            USER,
        ],
    )?;
    Ok(true)
}

/// Starts what was changed, and waits for the operator's answer.
async fn start(changes: &Changes, began: Timestamp) -> anyhow::Result<String> {
    // Of several units in one call systemctl would say whether one of them is active.
    let is_running = [HELPER, AGENT].iter().all(|unit| run("systemctl", &["is-active", "--quiet", unit]).is_ok());
    let unchanged = changes.is_empty() && is_running;
    let mut stopped = began;
    if !unchanged {
        run("systemctl", &["daemon-reload"])?;
        run("systemctl", &["enable", "--quiet", HELPER, AGENT])?;
        announce(Path::new(RUNTIME), StopReason::Update);
        // Only answers to the new process count: one to the old process may have been to another token.
        run("systemctl", &["stop", HELPER, AGENT])?;
        stopped = Timestamp::now();
        // An earlier failure is not one of this start.
        let _ = run("systemctl", &["reset-failed", HELPER, AGENT]);
        run("systemctl", &["start", "--no-block", HELPER, AGENT])?;
    }
    let since = if unchanged { began - RECENT } else { stopped };
    let checks = wait(since).await?;
    let head = if unchanged {
        "the agent was installed already: nothing was changed"
    } else {
        "the agent is installed, and the operator has heard it"
    };
    Ok(format!("{head}\n{}\nits configuration is {DEFAULT_PATH}\n", checks.join("\n")))
}

async fn wait(since: Timestamp) -> anyhow::Result<Vec<String>> {
    let ends = tokio::time::Instant::now() + PATIENCE;
    loop {
        let reason = match heard(&fs::read_to_string(STATUS).unwrap_or_default(), since) {
            Heard::Yes { checks } => return Ok(checks),
            Heard::NotYet(reason) => reason,
        };
        for unit in [AGENT, HELPER] {
            // RestartPreventExitStatus: only a wrong configuration ends one for good.
            if run("systemctl", &["is-failed", "--quiet", unit]).is_ok() {
                bail!("{unit} has failed: {}", last_words(unit));
            }
        }
        if tokio::time::Instant::now() >= ends {
            bail!("the operator has not heard it within {} s: {reason}", PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn last_words(unit: &str) -> String {
    let log = run("journalctl", &["--unit", unit, "--lines", "3", "--output", "cat", "--no-pager"]);
    log.map_or_else(|_| format!("journalctl -u {unit}"), |log| log.trim().replace('\n', "; "))
}

fn put_back(changes: Changes, user_is_new: bool) {
    let wrote = !changes.is_empty();
    if wrote {
        let _ = run("systemctl", &["stop", AGENT, HELPER]);
        let _ = run("systemctl", &["disable", "--quiet", AGENT, HELPER]);
    }
    for left in changes.undo() {
        eprintln!("it cannot be put back: {left}");
    }
    if wrote {
        let _ = run("systemctl", &["daemon-reload"]);
        let _ = run("systemctl", &["reset-failed", AGENT, HELPER]);
        if Path::new(UNITS).join(AGENT).exists() {
            let _ = run("systemctl", &["enable", "--quiet", "--now", HELPER, AGENT]);
        } else {
            STATE.iter().for_each(|path| drop(remove(Path::new(path))));
        }
    }
    if user_is_new {
        let _ = run("userdel", &[USER]);
    }
}

/// What an uninstallation removed.
#[derive(Debug, PartialEq, Eq)]
pub struct Removed(
    /// The files and folders.
    pub Vec<PathBuf>,
);

/// Stops the agent, and removes its units, its state and its binary; with `purge` its configuration and its token.
///
/// # Errors
/// Something cannot be removed; a second run goes on.
pub fn uninstall(purge: bool) -> anyhow::Result<Removed> {
    ensure!(rustix::process::geteuid().is_root(), "only root can uninstall the agent");
    let units = [AGENT, HELPER].map(|name| Path::new(UNITS).join(name));
    if units.iter().any(|unit| unit.exists()) {
        announce(Path::new(RUNTIME), StopReason::Uninstall);
        run("systemctl", &["disable", "--quiet", "--now", AGENT, HELPER])?;
    }
    let mut removed = Vec::new();
    let drop_ins = [AGENT, HELPER].map(|name| Path::new(UNITS).join(format!("{name}.d")));
    let state = STATE.map(PathBuf::from);
    let kept = [PathBuf::from("/etc/vigie")];
    let kept: &[PathBuf] = if purge { &kept } else { &[] };
    for path in units.iter().chain(&drop_ins).chain(&state).chain(kept).chain([&PathBuf::from(BINARY)]) {
        if remove(path).with_context(|| format!("removing {}", path.display()))? {
            removed.push(path.clone());
        }
    }
    let _ = run("systemctl", &["daemon-reload"]);
    // They are not loaded any more, unless they had failed.
    let _ = run("systemctl", &["reset-failed", AGENT, HELPER]);
    if purge && run("id", &["-u", USER]).is_ok() {
        run("userdel", &[USER])?;
    }
    Ok(Removed(removed))
}

/// Leaves the reason of the stop that follows, for the agent's last heartbeat. systemd removes the file with its folder,
/// which is there only while the agent runs. The folder belongs to the agent's user: a link in it is not followed.
fn announce(runtime: &Path, reason: StopReason) {
    let _ = replace(&runtime.join(STOPPING), reason.as_str().as_bytes(), Rights::own(0o644));
}

/// Whether there was something.
fn remove(path: &Path) -> std::io::Result<bool> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn systemd_version() -> anyhow::Result<u32> {
    let output = run("systemctl", &["--version"])?;
    version_in(&output).with_context(|| format!("systemctl --version says no version: {output:?}"))
}

/// `systemd 252 (252.38-1~deb12u1)`, also `systemd 256~rc3`.
fn version_in(output: &str) -> Option<u32> {
    let word = output.strip_prefix("systemd ")?.split(|c: char| !c.is_ascii_digit()).next()?;
    word.parse().ok()
}

/// What the program printed.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let doing = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().with_context(doing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    bail!("{}: {}{}{said}", doing(), output.status, if said.is_empty() { "" } else { ": " })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_stop_replaces_a_link_and_is_read_by_the_agent() {
        let runtime = std::env::temp_dir().join(format!("vigie-announce-{}", std::process::id()));
        fs::create_dir_all(&runtime).unwrap();
        let (file, other) = (runtime.join(STOPPING), runtime.join("other"));
        fs::write(&other, "kept").unwrap();
        std::os::unix::fs::symlink(&other, &file).unwrap();
        announce(&runtime, StopReason::Uninstall);
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
        assert_eq!(StopReason::of(&fs::read_to_string(&file).unwrap()), StopReason::Uninstall);
        fs::remove_dir_all(&runtime).unwrap();
        announce(&runtime, StopReason::Update);
        assert!(!runtime.exists(), "no agent runs, and nothing is left behind");
    }

    #[test]
    fn the_version_is_the_number_in_the_first_line() {
        for (output, version) in [
            ("systemd 252 (252.38-1~deb12u1)\n+PAM +AUDIT", Some(252)),
            ("systemd 239 (239-82.el8)\n", Some(239)),
            ("systemd 256~rc3\n", Some(256)),
            ("", None),
            ("upstart 1", None),
        ] {
            assert_eq!(version_in(output), version, "{output:?}");
        }
    }
}
