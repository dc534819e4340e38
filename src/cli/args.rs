//! The definition of the command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

#[cfg(target_os = "linux")]
use super::agent::args::AgentArgs;
use super::breaker::BreakerCommand;
use super::diagnose::args::DiagnoseCommand;
use super::install_command::InstallCommandArgs;
use super::probe::args::ProbeArgs;
use super::restart::args::RestartArgs;
use crate::cluster::ConnectionArgs;
use crate::operator::args::RunArgs;
use crate::operator::flag_values as values;

/// Keeps connectors honest and running: says what state each is in, why, since when, and what to do.
#[derive(Parser, Debug)]
#[command(
    name = "vigie",
    version,
    after_help = "Examples:
  vigie get -A                         every connector, exact to the last beat
  vigie get edge-1 -n gateways -w      one connector, as it changes
  vigie token show edge-1 -n gateways  the token to install it with
  vigie crd | kubectl apply -f -       teach a cluster the kind Connector

Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 what was looked at is not well."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Runs the operator
    ///
    /// Each flag can be given as an environment variable instead; lists are separated by commas there. The cluster
    /// is the one of KUBECONFIG, or the one that this runs in.
    Run(Box<RunArgs>),
    /// Prints the custom resource definitions as YAML
    Crd,
    /// Lists connectors, exact to the last beat when the operator can be reached, or backends
    Get(GetArgs),
    /// Says why a backend or a connector is not well, and what to do; needs no operator
    #[command(subcommand)]
    Diagnose(DiagnoseCommand),
    /// Probes a URL once, phase by phase, and says what the operator would conclude
    Probe(Box<ProbeArgs>),
    /// Shows, rotates or revokes the token of a connector
    #[command(subcommand)]
    Token(TokenCommand),
    /// Asks the operator to restart what a connector or a backend stands for, and says what came of it
    Restart(RestartArgs),
    /// Runs the agent on the host of a connector or of a backend, and says how it does
    #[cfg(target_os = "linux")]
    Agent(Box<AgentArgs>),
    /// Prints the script that installs the agent on the host of a connector
    InstallCommand(Box<InstallCommandArgs>),
    /// Shows or resets the breaker, which holds back every restart once too much turned unhealthy at once
    #[command(subcommand)]
    Breaker(BreakerCommand),
}

/// The flags of `vigie get`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  vigie get                                 the connectors of the current namespace
  vigie get connectors -A -o wide           all of them, with health, site, address and token age
  vigie get edge-1 -o yaml                  everything that is known of one
  vigie get -A -w                           as it changes
  vigie get backends -o wide                the backends, with advice, Prometheus' word, target and site
  vigie get --operator http://localhost:9090

The operator is asked at --operator, or else through the API server (Service vigie in the operator's namespace).
When it cannot be reached, what was last written to the status is shown, and stderr says so.")]
pub struct GetArgs {
    /// The kind: connectors or backends; it may be left out [default: connectors]
    #[arg(value_name = "KIND")]
    pub kind: Option<String>,
    /// The name of one object
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The namespace [default: the context's]
    #[arg(short, long, value_name = "NS", value_parser = values::namespace)]
    pub namespace: Option<String>,
    /// Every namespace
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Output,
    /// Keep looking, and print what changes
    #[arg(short, long)]
    pub watch: bool,
    /// Where the operator's admin port is, for example http://localhost:9090
    #[arg(long, value_name = "URL", env = "VIGIE_OPERATOR", value_parser = values::url)]
    pub operator: Option<String>,
    /// A file with the token for an operator that runs with --admin-auth=kubernetes
    #[arg(long, value_name = "FILE", env = "VIGIE_OPERATOR_TOKEN_FILE")]
    pub operator_token_file: Option<PathBuf>,
    /// The namespace that the operator runs in
    #[arg(long, value_name = "NS", env = "VIGIE_OPERATOR_NAMESPACE", default_value = "vigie",
        value_parser = values::namespace)]
    pub operator_namespace: String,
    /// Which cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// How `vigie get` prints.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// One line each
    #[default]
    Table,
    /// One longer line each
    Wide,
    /// Everything, as JSON
    Json,
    /// Everything, as YAML
    Yaml,
}

/// What to do with a token.
#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  vigie token show edge-1 -n gateways            print it, and nothing else
  vigie token rotate edge-1 -n gateways --wait   a new one; the old one lives on for its grace
  vigie token revoke edge-1 -n gateways          end every token at once, because one leaked")]
pub enum TokenCommand {
    /// Prints the token from its Secret, and nothing else
    Show(TokenArgs),
    /// Has a new token made; the old one works until the new one is used, or its grace is over
    Rotate(TokenChange),
    /// Ends every token at once and has a new one made; the connector is cut off until it has that
    Revoke(RevokeArgs),
}

/// Which connector's token.
#[derive(Args, Debug, Clone)]
pub struct TokenArgs {
    /// The connector
    #[arg(value_name = "NAME", value_parser = values::name)]
    pub name: String,
    /// Its namespace [default: the context's]
    #[arg(short, long, value_name = "NS", value_parser = values::namespace)]
    pub namespace: Option<String>,
    /// Which cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// Which connector's token, and whether to wait for the operator.
#[derive(Args, Debug, Clone)]
pub struct TokenChange {
    /// Which one.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Wait until the operator has made the new token
    #[arg(long)]
    pub wait: bool,
    /// How long to wait for it, 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub timeout: u32,
}

/// The flags of `vigie token revoke`.
#[derive(Args, Debug, Clone)]
pub struct RevokeArgs {
    /// Which one.
    #[command(flatten)]
    pub change: TokenChange,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// The command line under the name that it was called by: as a kubectl plugin it is `kubectl vigie` in every help
/// text and example.
pub fn command(as_plugin: bool) -> clap::Command {
    let command = Cli::command();
    if as_plugin { rename(command.bin_name("kubectl vigie").display_name("kubectl vigie")) } else { command }
}

fn rename(command: clap::Command) -> clap::Command {
    let examples = command.get_after_help().map(|help| plugin_examples(&help.to_string()));
    let command = match examples {
        Some(examples) => command.after_help(examples),
        None => command,
    };
    command.mut_subcommands(rename)
}

/// Only the examples: they are the lines that begin with two spaces.
fn plugin_examples(help: &str) -> String {
    let lines = help.lines().map(|line| match line.strip_prefix("  vigie ") {
        Some(rest) => format!("  kubectl vigie {rest}"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}
