//! Servers in turns: A, B, A, B, under the same load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::figures::{Repeated, say};
use crate::load::Load;
use crate::process::Part;

/// One of the compared servers.
pub(crate) struct Contender {
    name: &'static str,
    part: Part,
    load: Load,
    pub(crate) per_second: Vec<f64>,
    pub(crate) cpu: Vec<f64>,
    median: Repeated,
    p99: Repeated,
    own_cpu: Repeated,
}

impl Contender {
    pub(crate) fn new(
        name: &'static str,
        part: Part,
        address: SocketAddr,
        connections: usize,
        requests: Vec<Vec<u8>>,
    ) -> Self {
        let load = Load { address, connections, requests: Arc::new(requests), rate: None };
        let (per_second, cpu) = Default::default();
        let (median, p99, own_cpu) = Default::default();
        Self { name, part, load, per_second, cpu, median, p99, own_cpu }
    }

    /// Starts a server of this program, which prints its address.
    pub(crate) fn start(
        name: &'static str,
        args: &[&str],
        connections: usize,
        requests: Vec<Vec<u8>>,
    ) -> anyhow::Result<Self> {
        let mut part = Part::start(args)?;
        let address = part.line()?.parse().with_context(|| format!("the address of {name}"))?;
        Ok(Self::new(name, part, address, connections, requests))
    }

    pub(crate) async fn turn(&mut self, time: Duration) -> anyhow::Result<()> {
        let result = self.load.run(self.part.pid(), time).await.with_context(|| format!("asking {}", self.name))?;
        self.per_second.push(result.per_second);
        self.cpu.push(microseconds(result.server_cpu));
        self.median.add(microseconds(result.median));
        self.p99.add(microseconds(result.p99));
        self.own_cpu.add(microseconds(result.own_cpu));
        Ok(())
    }

    pub(crate) fn report(&self) {
        let all = |values: &[f64]| values.iter().copied().collect::<Repeated>();
        println!("{}", self.name);
        say("requests per second", all(&self.per_second));
        say("CPU of the server per request, µs", format!("{:.1}", all(&self.cpu)));
        say("answered within, median, µs", &self.median);
        say("answered within, 99 %, µs", &self.p99);
        say("CPU of the generator per request, µs", format!("{:.1}", self.own_cpu));
    }
}

/// The ratios of paired turns.
pub(crate) fn ratio(of: &[f64], to: &[f64]) -> Repeated {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}

pub(crate) fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
