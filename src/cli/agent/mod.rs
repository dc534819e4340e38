//! `vigie agent`: runs the agent and its helper, and says how they do.

pub mod args;
mod check;
mod install;
mod status;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Read};
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

/// The unit of the agent.
const UNIT: &str = "vigie-agent.service";
/// How long the helper may take to read a log.
const LOGS_LIMIT: Duration = Duration::from_secs(30);
/// Most bytes of a token that are read from stdin.
const MAX_TOKEN: u64 = 4096;

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
        Some(AgentCommand::Token) => replace_token(&read()?),
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

fn replace_token(config: &Config) -> anyhow::Result<()> {
    let mut stdin = std::io::stdin().lock();
    let mut text = String::new();
    if stdin.is_terminal() {
        eprint!("token: ");
        std::io::BufRead::read_line(&mut stdin, &mut text).context("reading the token")?;
    } else {
        stdin.take(MAX_TOKEN).read_to_string(&mut text).context("reading the token")?;
    }
    let token = beats::token::checked(&text).map_err(|error| Usage(format!("the token on stdin: {error}")))?;
    let path = config.token_file.as_deref().unwrap_or(Path::new(beats::token::DEFAULT_FILE));
    replace(path, format!("{token}\n").as_bytes())?;
    let restarted = std::process::Command::new("systemctl").args(["restart", "--", UNIT]).status();
    match restarted {
        Ok(status) if status.success() => output::print(&format!(
            "the token is in {}, and {UNIT} was restarted; see: vigie agent status\n",
            path.display()
        )),
        Ok(status) => bail!("the token is in {}; systemctl restart {UNIT}: {status}", path.display()),
        Err(error) => bail!("the token is in {}; systemctl restart {UNIT}: {error}", path.display()),
    }
}
