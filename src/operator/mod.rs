//! `vigie run`: the composition root, the only place that spawns.

pub mod args;
mod assembly;
mod backends;
mod connectors;
pub(crate) mod flag_values;
mod listen;
mod listening_coordinator;
mod memory;
mod rlimit;
mod shared;
mod shutdown;
mod task_group;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use args::{LogFormat, RunArgs};
use assembly::Assembly;
use listen::listen;

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// When a port cannot be opened, a file cannot be read or no cluster is found. A running operator ends only by a signal or
/// when one of its tasks panics; while the API server is unavailable, it waits for it.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    logging(args.logging.log_format, &args.logging.log)?;
    // The handlers are installed first, so that a SIGTERM during the start is not lost.
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let beats = listen("--listen", args.ports.listen)?;
    let admin = listen("--admin", args.ports.admin)?;
    let (files, memory) = (rlimit::raise(), memory::available());
    let connections = rlimit::connections(files, args.probing.probe_concurrency, memory);
    let assembly = Assembly::prepare(&args).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        heartbeat = %beats.local_addr().context("the heartbeat port")?,
        admin = %admin.local_addr().context("the admin port")?,
        connections,
        files,
        memory,
        "listening"
    );
    let running = assembly.start(beats, connections, admin)?;
    let failed = running.failed.clone();
    let by = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = failed.cancelled() => "a bug",
    };
    tracing::info!(by, "stopping");
    running.stop().await;
    tracing::info!("stopped");
    anyhow::ensure!(!failed.is_cancelled(), "a task of ours panicked (above): stopped, to be started again whole");
    Ok(())
}

fn logging(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    // kube opens a span around every reconcile and logs every failed request; the operator logs both itself.
    let filter =
        if filter.contains("kube") { filter.to_owned() } else { format!("{filter},kube_runtime=warn,kube_client=off") };
    let filter = tracing_subscriber::EnvFilter::builder().parse(filter).context("--log")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    match format {
        LogFormat::Text => lines.with_ansi(colours).with_target(false).try_init(),
        LogFormat::Json => lines.json().with_current_span(false).with_span_list(false).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}
