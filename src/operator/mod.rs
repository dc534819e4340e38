//! `vigie run`: the composition root, the only place that spawns.

pub mod args;
mod assembly;
mod backends;
mod connectors;
pub(crate) mod flag_values;
mod listen;
mod listening_coordinator;
mod log;
mod memory;
mod rlimit;
mod shared;
mod shutdown;
mod task_group;
mod watchdog;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use args::RunArgs;
use assembly::Assembly;
use listen::listen;
use shutdown::{Ending, Running};

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// When a port cannot be opened, a file cannot be read or no cluster is found. A running operator ends only by a signal or
/// when one of its tasks panics; while the API server is unavailable, it waits for it.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    log::start(args.logging.log_format, &args.logging.log)?;
    // The handlers are installed first, so that a SIGTERM during the start is not lost.
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    loop {
        let running = start(&args).await?;
        let (failed, restored) = (running.failed.clone(), running.restored.clone());
        let (by, ending) = tokio::select! {
            _ = terminate.recv() => ("SIGTERM", Ending::ForGood),
            _ = interrupt.recv() => ("SIGINT", Ending::ForGood),
            () = failed.cancelled() => ("a bug", Ending::ForGood),
            () = restored.cancelled() => ("a restored etcd", Ending::ToStartAnew),
        };
        tracing::info!(by, "stopping");
        running.stop(ending).await;
        tracing::info!("stopped");
        anyhow::ensure!(!failed.is_cancelled(), "a task of ours panicked (above): stopped, to be started again whole");
        if ending == Ending::ForGood {
            return Ok(());
        }
    }
}

/// Opens the ports, reads the configuration and starts every task.
///
/// All state of the operator belongs to what is started here. So a second start forgets everything: every watch lists anew,
/// and nothing is compared with what was read before.
async fn start(args: &RunArgs) -> anyhow::Result<Running> {
    let beats = listen("--listen", args.ports.listen)?;
    let admin = listen("--admin", args.ports.admin)?;
    let (files, memory) = (rlimit::raise(), memory::available());
    let connections = rlimit::connections(files, args.probing.probe_concurrency, memory);
    let assembly = Assembly::prepare(args).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        heartbeat = %beats.local_addr().context("the heartbeat port")?,
        admin = %admin.local_addr().context("the admin port")?,
        connections,
        files,
        memory,
        "listening"
    );
    assembly.start(beats, connections, admin)
}
