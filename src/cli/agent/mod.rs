//! `vigie agent`: runs the agent and its helper, and says how they do.

pub mod args;
mod check;
mod install;
mod status;
#[cfg(test)]
mod tests;
mod token;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;

use self::args::{AgentArgs, AgentCommand, HelperArgs, LogsArgs, PauseArgs};
use super::{Usage, output};
use crate::agent::config::Config;
use crate::agent::file::{self, Rights};
use crate::agent::helper::protocol::{Ask, Reply};
use crate::agent::helper::{self, client};
use crate::agent::pause::Pause;
use crate::agent::{beats, pause};

/// How long the helper may take to read a log.
const LOGS_LIMIT: Duration = Duration::from_secs(30);

/// Runs the agent, or the command about it.
///
/// # Errors
/// [`Usage`] for a wrong configuration, [`super::Unwell`] when the host or the connection is not well, else why it failed.
pub(super) async fn agent(args: AgentArgs) -> anyhow::Result<()> {
    let AgentArgs { command, config, helper_socket, state_dir, runtime_dir } = args;
    let read = || Config::read(&config).map_err(|error| Usage(error.to_string()));
    match command {
        None => {
            log();
            let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
            let options = beats::Options { helper: helper_socket, state: state_dir, runtime: runtime_dir, credentials };
            beats::run(read()?, options).await
        }
        Some(AgentCommand::Helper(HelperArgs { state, agent_user })) => {
            log();
            helper::run(read()?, helper::Options { socket: helper_socket, state, agent_user }).await
        }
        Some(AgentCommand::Check(check)) => check::check(read()?, &helper_socket, check.output).await,
        Some(AgentCommand::Status) => status::print(&runtime_dir),
        Some(AgentCommand::Logs(logs)) => print_log(&helper_socket, logs).await,
        Some(AgentCommand::Pause(pause)) => pause_restarts(pause),
        Some(AgentCommand::Install(args)) => install::install(*args).await,
        Some(AgentCommand::Uninstall(args)) => install::uninstall(&args),
        Some(AgentCommand::Token) => token::replace(&read()?),
    }
}

/// Log lines go to the journal, which has the time of each.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("VIGIE_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    lines.without_time().with_target(false).init();
}

async fn print_log(socket: &Path, args: LogsArgs) -> anyhow::Result<()> {
    let LogsArgs { target, lines } = args;
    match client::ask(socket, &Ask::Tail { target, lines }, LOGS_LIMIT).await {
        Ok(Reply::Log(text)) => output::print(&text),
        Ok(Reply::Refused(error)) => bail!(error),
        Ok(other) => bail!("the helper answers with {other:?}"),
        Err(error) => bail!(error),
    }
}

fn pause_restarts(args: PauseArgs) -> anyhow::Result<()> {
    let PauseArgs { duration, reason, by, end, helper_state_dir } = args;
    let file = pause::file(&helper_state_dir);
    if end {
        return match std::fs::remove_file(&file) {
            Ok(()) => output::print("the pause is over: restarts that the operator asks for are done again\n"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => output::print("there was no pause\n"),
            Err(error) => Err(error).with_context(|| format!("removing {}", file.display())),
        };
    }
    let (Some(duration), Some(reason)) = (duration, reason) else {
        return Err(Usage("--for and --reason".into()).into());
    };
    let user = |name: &str| std::env::var(name).ok().filter(|user| !user.is_empty());
    let by = by.or_else(|| user("SUDO_USER")).or_else(|| user("USER")).unwrap_or_else(|| "root".to_owned());
    let until = Timestamp::now().checked_add(duration)?;
    let text = format!("nothing is restarted on this host until {until:.0}; end it: vigie agent pause --end\n");
    replace(&file, &serde_json::to_vec(&Pause { by, reason, until })?)?;
    output::print(&text)
}

/// Replaces a file in one step. It keeps its owner and its rights; a new one is its owner's alone.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let rights = std::fs::metadata(path).map_or(Rights::own(0o600), |before| Rights::of(&before));
    file::replace(path, bytes, rights).with_context(|| format!("writing {}", path.display()))
}
