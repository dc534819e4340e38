//! The flags of `vigie agent`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::SignedDuration;

use super::install::{InstallArgs, UninstallArgs};
use crate::agent::layout::{AGENT_STATE, CONFIG, HELPER_STATE, RUNTIME, SOCKET};
use crate::agent::pause;
use crate::api::Target;

/// The flags of `vigie agent`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  vigie agent check                                       every check once, and a heartbeat that is only tried
  vigie agent status                                      the last heartbeat, the checks, and what was not told yet
  vigie agent logs compose:orders:backend -n 50           the end of a log
  vigie agent pause --for 2h --reason \"disk is replaced\"  nothing is restarted meanwhile
  vigie agent token < token                               replaces the token

Without a command it runs the agent, as vigie-agent.service does.
Exit codes: 0 ok, 1 failure or could not look, 2 wrong usage or configuration, 3 what was looked at is not well.")]
pub struct AgentArgs {
    /// What to do; without it the agent runs.
    #[command(subcommand)]
    pub command: Option<AgentCommand>,
    /// The configuration
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
    /// The socket of the helper
    #[arg(long, global = true, value_name = "PATH", hide = true, default_value = SOCKET)]
    pub helper_socket: PathBuf,
    /// The folder of what the agent remembers
    #[arg(long, value_name = "DIR", hide = true, env = "STATE_DIRECTORY", default_value = AGENT_STATE)]
    pub state_dir: PathBuf,
    /// The folder of status.json
    #[arg(long, global = true, value_name = "DIR", hide = true, env = "RUNTIME_DIRECTORY", default_value = RUNTIME)]
    pub runtime_dir: PathBuf,
}

/// What to do on a host.
#[derive(Subcommand, Debug, Clone)]
pub enum AgentCommand {
    /// Looks once, and tries a heartbeat phase by phase
    Check(CheckArgs),
    /// Says how the agent does: the last heartbeat, the checks, gaps and restarts
    Status,
    /// Prints the end of the log of a unit or container of the configuration
    Logs(LogsArgs),
    /// Keeps the agent from restarting anything for a while, or ends that
    Pause(PauseArgs),
    /// Reads a new token from stdin, replaces the file and restarts the agent
    Token,
    /// Installs the agent on this host, or updates it
    Install(Box<InstallArgs>),
    /// Stops the agent and removes it from this host
    Uninstall(UninstallArgs),
    /// Runs the privileged half, as vigie-agent-helper.service does
    #[command(hide = true)]
    Helper(HelperArgs),
}

/// The flags of `vigie agent check`.
#[derive(Args, Debug, Clone)]
pub struct CheckArgs {
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: CheckOutput,
}

/// How `vigie agent check` prints.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckOutput {
    /// For people
    #[default]
    Text,
    /// Everything, as JSON
    Json,
}

/// The flags of `vigie agent logs`.
#[derive(Args, Debug, Clone)]
pub struct LogsArgs {
    /// NAME.service, container:NAME or compose:PROJECT:SERVICE
    #[arg(value_name = "TARGET")]
    pub target: Target,
    /// How many lines, 1 to 10000
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub lines: u32,
}

/// The flags of `vigie agent pause`.
#[derive(Args, Debug, Clone)]
pub struct PauseArgs {
    /// For how long, at most 168h; for example 2h or 30m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, required_unless_present = "end")]
    pub duration: Option<SignedDuration>,
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT", required_unless_present = "end",
        value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
    /// The person or team that can be asked [default: the user who runs this]
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub by: Option<String>,
    /// End the pause
    #[arg(long, conflicts_with_all = ["duration", "reason", "by"])]
    pub end: bool,
    /// The folder of the helper's state
    #[arg(long, value_name = "DIR", hide = true, default_value = HELPER_STATE)]
    pub helper_state_dir: PathBuf,
}

/// The flags of `vigie agent helper`.
#[derive(Args, Debug, Clone)]
pub struct HelperArgs {
    /// The folder of the record of restarts
    #[arg(long = "helper-state-dir", value_name = "DIR", env = "STATE_DIRECTORY", default_value = HELPER_STATE)]
    pub state: PathBuf,
    /// The user id of the agent, where no systemd starts it
    #[arg(long, value_name = "UID")]
    pub agent_user: Option<u32>,
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let duration: SignedDuration = text.parse().map_err(|_| "a duration is for example 2h or 30m".to_owned())?;
    match duration.is_positive() && duration <= pause::LONGEST {
        true => Ok(duration),
        false => Err("a pause lasts at least a second, and at most 168h".to_owned()),
    }
}
