//! The flags of `vigie restart`.

use clap::Args;

use crate::cluster::ConnectionArgs;
use crate::operator::flag_values as values;

/// What to restart, and whether to wait for the outcome.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  vigie restart backend orders -n shop --wait        restart it, and say whether that cured it
  vigie restart connector edge-1 --if-unhealthy      only if it is not well; for scripts
  vigie restart backend/orders --wait --timeout 300  give up waiting after five minutes

The operator restarts it, the way it does by itself: never past the breaker, a pause, a rollout that is under way or
the guards of the workload. A request is honoured for 10 minutes.

Exit codes: 0 asked for, or with --wait restarted and cured, or healthy with --if-unhealthy; 3 not restarted or not
cured; 1 could not ask; 2 wrong usage.")]
pub struct RestartArgs {
    /// The kind: connector or backend; also as KIND/NAME
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// The name of the object
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Its namespace [default: the context's]
    #[arg(short, long, value_name = "NS", value_parser = values::namespace)]
    pub namespace: Option<String>,
    /// Do nothing unless it is known to be unhealthy
    #[arg(long)]
    pub if_unhealthy: bool,
    /// Wait for the outcome, and print what happens on the way
    #[arg(long)]
    pub wait: bool,
    /// How long to wait for it, 1 to 86400
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub timeout: u32,
    /// Which cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}
