//! The command line: parsing, dispatch, and exit codes.

#[cfg(target_os = "linux")]
pub mod agent;
pub mod args;
pub mod breaker;
pub mod crd;
pub mod diagnose;
mod get;
pub mod install_command;
mod output;
pub mod probe;
pub mod restart;
#[cfg(test)]
mod tests;
mod token;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::FromArgMatches;

use args::{Cli, Command, TokenCommand};

/// The field manager of writes by commands, in `metadata.managedFields`.
const FIELD_MANAGER: &str = "vigie-cli";

/// The time limit for blocking tasks at the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// The command failed; stderr has the reason.
const FAILURE: u8 = 1;
/// The command line was wrong; clap uses the same code.
const WRONG_USAGE: u8 = 2;
/// The command succeeded, and the object is not healthy.
const UNWELL: u8 = 3;

/// A command line that parses but is invalid.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// The object is not healthy; the details were printed on stdout.
#[derive(Debug, thiserror::Error)]
#[error("it is not well")]
pub(crate) struct Unwell;

/// Runs the command line `args`. The first is the name that the process was called by.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let command = args::command(args.first().is_some_and(|called| is_plugin(called.as_ref())));
    let parsed = command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // When the terminal is gone, only the exit code is left to report the error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(WRONG_USAGE));
        }
    };
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe, as in `vigie get | head`.
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<Unwell>() => ExitCode::from(UNWELL),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { WRONG_USAGE } else { FAILURE })
        }
    }
}

/// kubectl runs plugins from PATH by the name `kubectl-vigie`; Windows adds a suffix.
fn is_plugin(called: &Path) -> bool {
    called.file_stem().is_some_and(|stem| stem == "kubectl-vigie")
}

fn execute(command: Command) -> anyhow::Result<()> {
    let mut runtime = match command {
        Command::Run(_) => tokio::runtime::Builder::new_multi_thread(),
        #[cfg(target_os = "linux")]
        Command::Agent(_) => tokio::runtime::Builder::new_current_thread(),
        Command::Breaker(_)
        | Command::Crd
        | Command::Diagnose(_)
        | Command::Get(_)
        | Command::InstallCommand(_)
        | Command::Probe(_)
        | Command::Restart(_)
        | Command::Token(_) => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().build().context("starting the runtime")?;
    let done = runtime.block_on(dispatch(command));
    // A name look-up cannot be cancelled. Without a reachable DNS server it takes longer than the 10 s after a SIGTERM.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    done
}

/// Runs the command.
async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Diagnose(command) => match diagnose::diagnose(command).await? {
            diagnose::ExitHealth::Well => Ok(()),
            diagnose::ExitHealth::Unwell => Err(Unwell.into()),
        },
        #[cfg(target_os = "linux")]
        Command::Agent(args) => agent::agent(*args).await,
        Command::Breaker(command) => breaker::breaker(command).await,
        Command::Restart(args) => restart::restart(args).await,
        Command::Run(args) => crate::operator::run(*args).await,
        Command::Crd => Ok(crd::print(&mut std::io::stdout().lock())?),
        Command::InstallCommand(args) => install_command::print(*args).await,
        Command::Get(args) => get::get(args).await,
        Command::Probe(args) => probe::probe(*args).await,
        Command::Token(TokenCommand::Show(args)) => token::show(args).await,
        Command::Token(TokenCommand::Rotate(args)) => token::rotate(args).await,
        Command::Token(TokenCommand::Revoke(args)) => token::revoke(args).await,
    }
}
