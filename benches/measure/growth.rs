//! The cost of a target as the number of targets grows: the operator's probe rounds, without an API server.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::compare::microseconds;
use crate::figures::{judge, say};
use crate::prober::Order;
use crate::process::{Part, exact_cpu, memory};
use crate::targets::Targets;

/// Number of targets and probe interval in seconds: first typical fleets, then 100 probes/s whatever the number.
const FLEETS: [(usize, i32); 6] = [(100, 15), (1_000, 15), (10_000, 15), (100, 1), (1_000, 10), (10_000, 100)];
const MEASURED: Duration = Duration::from_secs(30);
/// CPU per probe of the largest fleet over that of the middle one, at the same rate of probes: within the uncertainty
/// of the measurement.
const FLAT: f64 = 1.25;

pub(crate) async fn measure() -> anyhow::Result<()> {
    println!("growth: the rounds of so many targets, {} s each", MEASURED.as_secs());
    let mut grown = Vec::new();
    for (count, interval) in FLEETS {
        grown.push(Grown::measured(count, interval).await.with_context(|| format!("measuring {count} targets"))?);
    }
    for fleet in &grown {
        say(&format!("{} targets every {} s", fleet.count, fleet.interval), fleet);
    }
    let [_, thousand, many, _, paced_thousand, paced_many] = grown.as_slice() else { return Ok(()) };
    let each = (many.memory as f64 - thousand.memory as f64) / (many.count - thousand.count) as f64;
    say("bytes for each target more, from 1,000 to 10,000", format!("{each:.0}"));
    let ratio = paced_many.cpu / paced_thousand.cpu;
    let goal = format!("≤ {FLAT}");
    judge("CPU per probe at 100/s, 10,000 targets / 1,000", format!("{ratio:.2}"), &goal, ratio <= FLAT);
    let ratio = many.cpu / thousand.cpu;
    judge("CPU per probe every 15 s, 10,000 targets / 1,000", format!("{ratio:.2}"), &goal, ratio <= FLAT);
    Ok(())
}

struct Grown {
    count: usize,
    interval: i32,
    /// µs per probe.
    cpu: f64,
    rate: f64,
    cores: f64,
    /// Resident bytes in addition to those without targets.
    memory: u64,
}

impl Grown {
    async fn measured(count: usize, interval: i32) -> anyhow::Result<Self> {
        let targets = Targets::open().await?;
        let args = [targets.port.to_string(), count.to_string(), interval.to_string()];
        let mut part = Part::start(&["probe", "rounds", &args[0], &args[1], &args[2]])?;
        part.line()?;
        let pid = part.pid();
        let empty = memory(pid)?.0;
        part.tell(Order::Paced(0))?;
        // New targets are probed at once.
        targets.wait_for(count as u64).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = (exact_cpu(pid)?, targets.served(), Instant::now());
        tokio::time::sleep(MEASURED).await;
        let after = (exact_cpu(pid)?, targets.served(), Instant::now());
        let (spent, probes, passed) = (after.0.saturating_sub(before.0), after.1 - before.1, after.2 - before.2);
        let cpu = microseconds(spent) / probes as f64;
        let (rate, cores) = (probes as f64 / passed.as_secs_f64(), spent.as_secs_f64() / passed.as_secs_f64());
        Ok(Self { count, interval, cpu, rate, cores, memory: memory(pid)?.0.saturating_sub(empty) })
    }
}

impl std::fmt::Display for Grown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, rate, cores, .. } = self;
        let each = self.memory as f64 / self.count as f64;
        write!(f, "{rate:.0} probes/s, {cpu:.0} µs each, {cores:.4} cores; {each:.0} bytes each")
    }
}
