//! 2,000 MonitoredBackends on a real API server: their cost, and the lag of their probes; then the same with a quarter
//! of them black-holed.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use tokio::time::Instant;
use vigie::api::MonitoredBackend;
use vigie::schedule::{phase_of, turn_after};

use crate::figures::{judge, percentile, say};
use crate::kubernetes::Cluster;
use crate::prober::{NAMESPACE, manifest};
use crate::process::cpu;
use crate::running::{Ports, Running, seconds_since, until};
use crate::targets::{Arrival, Targets, is_holed};

const BACKENDS: usize = 2_000;
const INTERVAL: Duration = Duration::from_secs(15);
/// Duration of the measurement of each state.
const STEADY: Duration = Duration::from_secs(120);
/// A fleet counts as steady after this long with no writes but checkpoints and the lease.
const SETTLED: Duration = Duration::from_secs(15);
/// From the moment a quarter begins to hang until each of them was probed often enough to be Down.
const GOING_DARK: Duration = Duration::from_secs(60);
/// Tolerated difference of the healthy ones' lag between two measurements of the same, in milliseconds.
const NOISE: f64 = 10.0;
/// Tolerated difference between the operator's two clocks and ours: a probe that is early by less is on time.
const EARLY: SignedDuration = SignedDuration::from_millis(500);

pub(crate) async fn measure() -> anyhow::Result<()> {
    println!(
        "backends: {BACKENDS} MonitoredBackends every {} s, API server and etcd of the same machine",
        INTERVAL.as_secs()
    );
    let cluster = Cluster::up()?;
    let client = cluster.client().await?;
    let mut targets = Targets::open().await?;
    create(&client, targets.port).await?;
    let places = places(&client).await?;
    let holed = (0..BACKENDS).filter(|i| is_holed(*i)).count();

    let ports = Ports::free()?;
    let operator = Running::start(&cluster, ports, &["--allow-network", "127.0.0.0/8"])?;
    operator.report_start(ports).await?;
    in_state(ports, "Up", BACKENDS).await?;
    say("from start to all Up, s", format!("{:.1}", seconds_since(operator.started)));
    settled(&cluster).await?;
    let run = Run { cluster, operator, ports, places };
    let well = run.measured("all are well", &targets, STEADY).await?;

    targets.hole().await?;
    let begin = Timestamp::now();
    let darkening = run.measured(&format!("{holed} of them begin to hang"), &targets, GOING_DARK).await?;
    in_state(ports, "Down", holed).await?;
    say(&format!("from then until {holed} are Down, s, at most"), format!("{:.1}", seconds_since(begin)));
    settled(&run.cluster).await?;
    let dark = run.measured(&format!("{holed} of them hang"), &targets, STEADY).await?;
    for (when, lag) in [("while they begin to hang", darkening), ("while they hang", dark)] {
        let what = format!("p99 lag of the healthy {when}, timers less, less that before, ms");
        judge(&what, format!("{:.1}", lag - well), &format!("≤ {NOISE}"), lag - well <= NOISE);
    }
    run.operator.terminate()
}

async fn create(client: &kube::Client, port: u16) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
    namespaces.create(&PostParams::default(), &namespace).await?;
    let api: Api<MonitoredBackend> = Api::namespaced(client.clone(), NAMESPACE);
    futures::stream::iter(0..BACKENDS)
        .map(|i| {
            let api = api.clone();
            async move {
                let backend: MonitoredBackend = serde_json::from_value(manifest(i, port, INTERVAL.as_secs() as i32))?;
                api.create(&PostParams::default(), &backend).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
        .context("creating the MonitoredBackends")
}

/// The offset of each target within the interval, by its number.
async fn places(client: &kube::Client) -> anyhow::Result<HashMap<usize, u64>> {
    let api: Api<MonitoredBackend> = Api::namespaced(client.clone(), NAMESPACE);
    let list = api.list(&ListParams::default()).await?;
    let place = |backend: &MonitoredBackend| {
        let number = backend.name_any().rsplit('-').next()?.parse().ok()?;
        Some((number, phase_of(backend.metadata.uid.as_deref()?)))
    };
    list.items.iter().map(|backend| place(backend).context("a backend without a number or UID")).collect()
}

async fn in_state(ports: Ports, state: &str, count: usize) -> anyhow::Result<()> {
    until(Duration::from_millis(500), &format!("{count} backends to be {state}"), async || {
        Ok(ports.states("backends").await?.get(state) == Some(&count))
    })
    .await
}

/// Waits until transitions are written and events are published.
async fn settled(cluster: &Cluster) -> anyhow::Result<()> {
    until(Duration::from_secs(3), "the fleet to be steady", async || {
        let now = Timestamp::now();
        let writes = cluster.writes(now - SETTLED, now)?;
        Ok(writes.of("update monitoredbackends/status").0 + writes.of("create events").0 == 0)
    })
    .await
}

struct Run {
    cluster: Cluster,
    operator: Running,
    ports: Ports,
    places: HashMap<usize, u64>,
}

impl Run {
    /// The difference between the 99th percentile of the healthy ones' lag and that of an idle timer, in milliseconds.
    async fn measured(&self, when: &str, targets: &Targets, time: Duration) -> anyhow::Result<f64> {
        println!("{when}, {} s", time.as_secs());
        let pid = self.operator.part.pid();
        let before = (Timestamp::now(), cpu(pid)?, Counted::read(self.ports).await?);
        drop(targets.arrivals());
        let mut ours = lateness(time).await;
        let arrivals = targets.arrivals();
        let after = (Timestamp::now(), cpu(pid)?, Counted::read(self.ports).await?);
        let spent = (after.1 - before.1).as_secs_f64();
        let counted = after.2.less(&before.2);
        say("cores", format!("{:.3}", spent / time.as_secs_f64()));
        say("CPU per probe, everything that the operator does, µs", format!("{:.0}", spent * 1e6 / counted.started));
        self.operator.report_memory("then")?;
        let mut lags = self.lags(&arrivals);
        let p99 = percentile(&mut lags, 99.0).as_secs_f64() * 1e3;
        let (median, most) = (percentile(&mut lags, 50.0), lags.last().copied().unwrap_or_default());
        say("probes of the healthy that arrived", lags.len());
        say(
            "from turn to arrival, ms: median, 99 %, longest",
            format!("{:.1}, {p99:.1}, {:.1}", median.as_secs_f64() * 1e3, most.as_secs_f64() * 1e3),
        );
        let ours = percentile(&mut ours, 99.0).as_secs_f64() * 1e3;
        say("how late a timer of this program is meanwhile, 99 %, ms", format!("{ours:.1}"));
        say("the operator's own count, of all probes", &counted);
        say("API writes", self.cluster.writes(before.0, after.0)?);
        Ok((p99 - ours).max(0.0))
    }

    /// The lag of each probe of a target that is healthy throughout, by the target's clock.
    fn lags(&self, arrivals: &[Arrival]) -> Vec<Duration> {
        let lag = |arrival: &Arrival| {
            let place = self.places.get(&arrival.target)?;
            let next = turn_after(arrival.at + EARLY, INTERVAL, *place);
            let late = arrival.at.duration_since(next) + SignedDuration::try_from(INTERVAL).ok()?;
            Some(Duration::try_from(late).unwrap_or_default())
        };
        arrivals.iter().filter(|arrival| !is_holed(arrival.target)).filter_map(lag).collect()
    }
}

/// The lag of timers in an idle process: the machine's own share of the lag.
async fn lateness(time: Duration) -> Vec<Duration> {
    let end = Instant::now() + time;
    let mut late = Vec::new();
    while Instant::now() < end {
        let due = Instant::now() + Duration::from_millis(50);
        tokio::time::sleep_until(due).await;
        late.push(due.elapsed());
    }
    late
}

/// The operator's own counts of its probes.
struct Counted {
    /// Upper bound of the lag in seconds, and the number of probes that started within it.
    within: Vec<(String, f64)>,
    started: f64,
    missed: f64,
}

impl Counted {
    async fn read(ports: Ports) -> anyhow::Result<Self> {
        let (status, body) = ports.get("/metrics").await?;
        anyhow::ensure!(status == 200, "the metrics were answered {status}");
        let text = String::from_utf8(body)?;
        let sample = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            line.trim().parse::<f64>().with_context(|| format!("reading {name}"))
        };
        let bucket = |line: &str| {
            let (bound, count) = line.strip_prefix("vigie_probe_start_lag_seconds_bucket{le=\"")?.split_once("\"} ")?;
            Some((bound.to_owned(), count.parse().ok()?))
        };
        Ok(Self {
            within: text.lines().filter_map(bucket).collect(),
            started: sample("vigie_probe_start_lag_seconds_count")?,
            missed: sample("vigie_probe_missed_windows_total")?,
        })
    }

    fn less(&self, before: &Self) -> Self {
        let pairs = self.within.iter().zip(&before.within);
        Self {
            within: pairs.map(|((bound, now), (_, then))| (bound.clone(), now - then)).collect(),
            started: self.started - before.started,
            missed: self.missed - before.missed,
        }
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound = self.within.iter().find(|(_, within)| *within >= 0.99 * self.started);
        let bound = bound.map_or("?", |(bound, _)| bound);
        write!(f, "{:.0} started, 99 % of them within {bound} s; {:.0} windows missed", self.started, self.missed)
    }
}
