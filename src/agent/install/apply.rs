//! Writes and starts, waits until the operator has heard the agent, or puts everything back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;

use super::detect::{Found, Wanted, configuration, legacy_iptables};
use super::farewell;
use super::heard::{Heard, heard};
use super::undo::Changes;
use super::units::{CREDENTIALS_SINCE, Host, OLDEST, agent, helper};
use crate::agent::beats::status::Status;
use crate::agent::config::{BadConfig, Config};
use crate::agent::layout::{
    AGENT_STATE, AGENT_UNIT, BINARY, CONFIG, CONFIG_FOLDER, HELPER_STATE, HELPER_UNIT, PRIVATE_AGENT_STATE, RUNTIME,
    TOKEN, UNITS, USER,
};
use crate::api::StopReason;

/// How long the first answer of the operator may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the agent's status is read meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How old the last answer may be where nothing was changed: as long as the longest interval of heartbeats.
const RECENT: jiff::SignedDuration = jiff::SignedDuration::from_secs(3600);
/// What the two units keep.
const STATE: [&str; 3] = [PRIVATE_AGENT_STATE, AGENT_STATE, HELPER_STATE];

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
    let config = Path::new(CONFIG);
    let text = match (config.exists(), &install.wanted) {
        (true, _) => None,
        (false, Some(wanted)) => {
            let token_file = (host.systemd < CREDENTIALS_SINCE).then_some(TOKEN);
            Some(configuration(wanted, &Found::look(), token_file))
        }
        (false, None) => {
            return Err(BadConfig(format!("{CONFIG} is not there: say --url and --connector")).into());
        }
    };
    match &text {
        Some(text) => drop(Config::parse(text, CONFIG)?),
        None => drop(Config::read(config)?),
    }
    changes.folder(Path::new(CONFIG_FOLDER))?;
    if let Some(text) = text {
        write_file(changes, config, text.as_bytes(), 0o644)?;
    }
    write_token(changes, install.token.as_deref(), host)?;
    let own = std::env::current_exe().context("finding this program")?;
    let binary = fs::read(&own).with_context(|| format!("reading {}", own.display()))?;
    write_file(changes, Path::new(BINARY), &binary, 0o755)?;
    for (name, text) in [(AGENT_UNIT, agent(host)), (HELPER_UNIT, helper(host))] {
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
    let is_active = |unit| run("systemctl", &["is-active", "--quiet", unit]).is_ok();
    let is_running = [HELPER_UNIT, AGENT_UNIT].into_iter().all(is_active);
    let unchanged = changes.is_empty() && is_running;
    let mut stopped = began;
    if !unchanged {
        run("systemctl", &["daemon-reload"])?;
        run("systemctl", &["enable", "--quiet", HELPER_UNIT, AGENT_UNIT])?;
        farewell::leave(StopReason::Update);
        // Only answers to the new process count: one to the old process may have been to another token.
        run("systemctl", &["stop", HELPER_UNIT, AGENT_UNIT])?;
        stopped = Timestamp::now();
        // An earlier failure is not one of this start.
        let _ = run("systemctl", &["reset-failed", HELPER_UNIT, AGENT_UNIT]);
        run("systemctl", &["start", "--no-block", HELPER_UNIT, AGENT_UNIT])?;
    }
    let since = if unchanged { began - RECENT } else { stopped };
    let checks = wait(since).await?;
    let head = if unchanged {
        "the agent was installed already: nothing was changed"
    } else {
        "the agent is installed, and the operator has heard it"
    };
    Ok(format!("{head}\n{}\nits configuration is {CONFIG}\n", checks.join("\n")))
}

async fn wait(since: Timestamp) -> anyhow::Result<Vec<String>> {
    let ends = tokio::time::Instant::now() + PATIENCE;
    loop {
        let reason = match heard(Status::read(Path::new(RUNTIME)).ok().as_ref(), since) {
            Heard::Yes { checks } => return Ok(checks),
            Heard::NotYet(reason) => reason,
        };
        for unit in [AGENT_UNIT, HELPER_UNIT] {
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
        let _ = run("systemctl", &["stop", AGENT_UNIT, HELPER_UNIT]);
        let _ = run("systemctl", &["disable", "--quiet", AGENT_UNIT, HELPER_UNIT]);
    }
    for left in changes.undo() {
        eprintln!("it cannot be put back: {left}");
    }
    if wrote {
        let _ = run("systemctl", &["daemon-reload"]);
        let _ = run("systemctl", &["reset-failed", AGENT_UNIT, HELPER_UNIT]);
        if Path::new(UNITS).join(AGENT_UNIT).exists() {
            let _ = run("systemctl", &["enable", "--quiet", "--now", HELPER_UNIT, AGENT_UNIT]);
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
    let units = [AGENT_UNIT, HELPER_UNIT].map(|name| Path::new(UNITS).join(name));
    if units.iter().any(|unit| unit.exists()) {
        farewell::leave(StopReason::Uninstall);
        run("systemctl", &["disable", "--quiet", "--now", AGENT_UNIT, HELPER_UNIT])?;
    }
    let mut removed = Vec::new();
    let drop_ins = [AGENT_UNIT, HELPER_UNIT].map(|name| Path::new(UNITS).join(format!("{name}.d")));
    let state = STATE.map(PathBuf::from);
    let kept = [PathBuf::from(CONFIG_FOLDER)];
    let kept: &[PathBuf] = if purge { &kept } else { &[] };
    for path in units.iter().chain(&drop_ins).chain(&state).chain(kept).chain([&PathBuf::from(BINARY)]) {
        if remove(path).with_context(|| format!("removing {}", path.display()))? {
            removed.push(path.clone());
        }
    }
    let _ = run("systemctl", &["daemon-reload"]);
    // They are not loaded any more, unless they had failed.
    let _ = run("systemctl", &["reset-failed", AGENT_UNIT, HELPER_UNIT]);
    if purge && run("id", &["-u", USER]).is_ok() {
        run("userdel", &[USER])?;
    }
    Ok(Removed(removed))
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
