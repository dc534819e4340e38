//! CPU time per HTTP probe, compared with a common alternative, on the same servers: a new connection for each probe,
//! the whole body read.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::compare::{microseconds, ratio};
use crate::figures::{Repeated, judge, say};
use crate::load::Wire;
use crate::prober::Order;
use crate::process::{Part, exact_cpu};
use crate::targets::{self, Targets};

/// Many short turns rather than few long ones: a disturbance of the machine then affects both of a pair.
const ROUNDS: usize = 15;
const TURN: Duration = Duration::from_secs(2);
/// Not counted: connections open, caches fill.
const WARM_UP: Duration = Duration::from_millis(500);
/// The rate of a steady fleet of 6,000 backends at 15 s.
const RATE: u32 = 400;
/// Arguments of the operator's rounds that result in the same rate.
const BACKENDS: (&str, &str) = ("6000", "15");
/// Number of concurrent probes without a pause.
const AT_ONCE: usize = 16;

pub(crate) async fn measure() -> anyhow::Result<()> {
    println!(
        "probes: {ROUNDS} rounds of {} s for each, one after the other, median (lowest to highest)",
        TURN.as_secs()
    );
    let targets = Targets::open().await?;
    let port = targets.port.to_string();
    let mut engine = Side::ours("vigie's prober", &["probe", "engine", &port])?;
    let mut rounds =
        Side::ours("vigie's rounds: schedule, probe, judge", &["probe", "rounds", &port, BACKENDS.0, BACKENDS.1])?;
    let mut others = Side::blackbox(targets.port).await?;
    // All backends are added, and had their first probe.
    rounds.order(Order::Paced(RATE)).await?;
    targets.wait_for(BACKENDS.0.parse()?).await?;
    rounds.order(Order::Rest).await?;
    let (paced, fast) = (Order::Paced(RATE), Order::Fast(AT_ONCE));
    for order in [paced, fast] {
        for _ in 0..ROUNDS {
            engine.turn(&targets, order).await?;
            if matches!(order, Order::Paced(_)) {
                rounds.turn(&targets, order).await?;
            }
            if let Some(blackbox) = &mut others {
                blackbox.turn(&targets, order).await?;
            }
        }
    }
    report(&engine, &rounds, others.as_ref());
    Ok(())
}

fn report(engine: &Side, rounds: &Side, others: Option<&Side>) {
    let paced = |side: &Side| side.cpu.iter().take(ROUNDS).copied().collect::<Vec<_>>();
    let fast = |side: &Side| side.cpu.iter().skip(ROUNDS).copied().collect::<Vec<_>>();
    let all = |values: Vec<f64>| values.into_iter().collect::<Repeated>();
    for side in [Some(engine), Some(rounds), others].into_iter().flatten() {
        println!("{}", side.name);
        say(&format!("CPU per probe at {RATE} probes/s, µs"), format!("{:.1}", all(paced(side))));
        if side.cpu.len() > ROUNDS {
            say(&format!("CPU per probe, {AT_ONCE} at a time without a pause, µs"), format!("{:.1}", all(fast(side))));
            let per_core = fast(side).iter().map(|micros| 1e6 / micros).collect();
            say("probes/s for each core that it then uses", all(per_core));
            let rate = side.rate.iter().skip(ROUNDS).copied().collect();
            say("probes/s then, beside the targets and who asks", all(rate));
        }
    }
    let Some(blackbox) = others else {
        say("blackbox-exporter / vigie", "not measured: no blackbox-exporter (see scripts/bench)");
        return;
    };
    println!("ratios of paired turns, CPU per probe, blackbox-exporter / vigie");
    let compare = |what: &str, theirs: Vec<f64>, ours: Vec<f64>| {
        let ratio = ratio(&theirs, &ours);
        judge(what, format!("{ratio:.1}"), "≥ 5", ratio.median() >= 5.0);
    };
    compare(&format!("the prober, {RATE} probes/s"), paced(blackbox), paced(engine));
    compare("the prober, without a pause", fast(blackbox), fast(engine));
    compare(&format!("the rounds, {RATE} probes/s"), paced(blackbox), paced(rounds));
}

/// One of the compared probers.
struct Side {
    name: &'static str,
    part: Part,
    /// A prober that needs a request for each probe gets it from this program.
    asked: Option<Asked>,
    /// µs per probe, turn by turn.
    cpu: Vec<f64>,
    rate: Vec<f64>,
}

struct Asked {
    address: SocketAddr,
    port: u16,
    askers: JoinSet<anyhow::Result<()>>,
}

impl Side {
    fn ours(name: &'static str, args: &[&str]) -> anyhow::Result<Self> {
        let mut part = Part::start(args)?;
        part.line().with_context(|| format!("starting {name}"))?;
        Ok(Self { name, part, asked: None, cpu: Vec::new(), rate: Vec::new() })
    }

    /// Debian's blackbox-exporter with its default configuration, if scripts/bench could get it.
    async fn blackbox(port: u16) -> anyhow::Result<Option<Self>> {
        let Some(root) = std::env::var_os("BLACKBOX").filter(|path| !path.is_empty()).map(PathBuf::from) else {
            return Ok(None);
        };
        // Freed for the exporter; no other process here opens a port in between.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let listen = format!("--web.listen-address={address}");
        let config = format!("--config.file={}", root.join("etc/prometheus/blackbox.yml").display());
        let program = root.join("usr/bin/prometheus-blackbox-exporter");
        let part = Part::run(&program, &[&listen, &config, "--log.level=error"], Stdio::null())?;
        Wire::first(address).await.context("waiting for the blackbox-exporter")?;
        let asked = Some(Asked { address, port, askers: JoinSet::new() });
        let (cpu, rate) = Default::default();
        Ok(Some(Self { name: "Debian's blackbox-exporter", part, asked, cpu, rate }))
    }

    async fn order(&mut self, order: Order) -> anyhow::Result<()> {
        match &mut self.asked {
            None => self.part.tell(order),
            Some(asked) => asked.order(order).await,
        }
    }

    /// Runs its turn. The number of probes is the number of requests that the targets served.
    async fn turn(&mut self, targets: &Targets, order: Order) -> anyhow::Result<()> {
        self.order(order).await?;
        tokio::time::sleep(WARM_UP).await;
        let before = (exact_cpu(self.part.pid())?, targets.served(), Instant::now());
        tokio::time::sleep(TURN).await;
        let after = (exact_cpu(self.part.pid())?, targets.served(), Instant::now());
        self.order(Order::Rest).await?;
        targets.wait_for_silence().await;
        let count = after.1 - before.1;
        anyhow::ensure!(count > 100, "{} made {count} probes", self.name);
        self.cpu.push(microseconds(after.0.saturating_sub(before.0)) / count as f64);
        self.rate.push(count as f64 / (after.2 - before.2).as_secs_f64());
        Ok(())
    }
}

impl Asked {
    async fn order(&mut self, order: Order) -> anyhow::Result<()> {
        while let Some(ended) = self.askers.try_join_next() {
            ended??;
        }
        self.askers.shutdown().await;
        let pause = |rate| Some(Duration::from_secs(1) * AT_ONCE as u32 / rate);
        let pause = match order {
            Order::Paced(rate) => pause(rate),
            Order::Fast(_) => None,
            Order::Rest => return Ok(()),
        };
        for number in 0..AT_ONCE {
            self.askers.spawn(ask(self.address, self.port, number, pause));
        }
        Ok(())
    }
}

/// Requests one probe after the other on a keep-alive connection, like a Prometheus.
async fn ask(address: SocketAddr, port: u16, number: usize, pause: Option<Duration>) -> anyhow::Result<()> {
    let mut wire = Wire::open(address).await?;
    let pause = pause.unwrap_or_default();
    let mut due = tokio::time::Instant::now() + pause.mul_f64(number as f64 / AT_ONCE as f64);
    for i in (number..).step_by(AT_ONCE) {
        tokio::time::sleep_until(due).await;
        due += pause;
        let target = targets::url(i % 250, port);
        let request = format!("GET /probe?module=http_2xx&target={target} HTTP/1.1\r\nHost: blackbox.example\r\n\r\n");
        let status = wire.ask(request.as_bytes()).await?;
        let passed = wire.body().contains("\nprobe_success 1\n");
        anyhow::ensure!(status == 200 && passed, "the blackbox-exporter answered {status}: {}", wire.shown());
    }
    Ok(())
}
