//! Measures the cost of vigie: `scripts/bench` (or `make bench`), figures in docs/performance.md.
//!
//! All comparisons are made within one run, in turns, by one load generator. Servers are child processes, so that their
//! CPU time and memory are measured separately.

mod backends;
mod beats;
mod cluster;
mod compare;
mod expiry;
mod figures;
mod fleet;
mod growth;
mod kubernetes;
mod load;
mod memory;
mod operator;
mod prober;
mod probes;
mod process;
mod running;
mod servers;
mod targets;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<()> {
    // cargo adds `--bench` to the arguments.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["beats"] => runtime(false)?.block_on(or_interrupted(beats::measure())),
        ["registry"] => registry(),
        ["cluster"] => runtime(true)?.block_on(or_interrupted(cluster::measure())),
        ["probes"] => runtime(false)?.block_on(or_interrupted(probes::measure())),
        ["growth"] => runtime(false)?.block_on(or_interrupted(growth::measure())),
        ["backends"] => runtime(true)?.block_on(or_interrupted(backends::measure())),
        // The other arguments are internal: this program starts its servers with them.
        ["serve", "bare"] => runtime(true)?.block_on(servers::bare()),
        ["serve", "vigie", connectors] => {
            runtime(true)?.block_on(servers::vigie(connectors.parse().context("the number of connectors")?))
        }
        ["memory", beat, connectors] => {
            runtime(true)?.block_on(memory::child(beat, connectors.parse().context("the number of connectors")?))
        }
        ["expiry", way] => runtime(true)?.block_on(expiry::child(way)),
        ["probe", "engine", port] => runtime(true)?.block_on(prober::engine(port.parse()?)),
        ["probe", "rounds", port, count, interval] => {
            runtime(true)?.block_on(prober::rounds(port.parse()?, count.parse()?, interval.parse()?))
        }
        _ => bail!("usage: scripts/bench [PART]…, of: beats registry cluster probes growth backends"),
    }
}

/// 100,000 connectors, no API server.
fn registry() -> anyhow::Result<()> {
    memory::measure()?;
    runtime(false)?.block_on(or_interrupted(expiry::measure()))
}

/// An interrupt ends the measurement like an error: servers and cluster are stopped.
async fn or_interrupted(measurement: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = measurement => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

/// A server gets a thread for each core, as `vigie run` does; a generator has one.
fn runtime(many_threads: bool) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = match many_threads {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build().context("starting the runtime")
}
