//! 100,000 connectors that beat every 30 s, and their cost; 1,000 of them expire within a second, and the lag of the
//! verdict.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::SignedDuration;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vigie::api::{Connector, ConnectorState};
use vigie::health::liveness::Presence;
use vigie::heartbeat::entry::Entry;
use vigie::heartbeat::payload;
use vigie::heartbeat::registry::Registry;
use vigie::heartbeat::routes::{HeartbeatSink as _, Reply};
use vigie::time::Now;

use crate::figures::{Repeated, judge, percentile, say};
use crate::fleet::{self, Past};
use crate::load::Load;
use crate::operator::Operator;
use crate::process::{Part, cpu, until_dismissed};
use crate::servers;

const CONNECTORS: usize = 100_000;
/// All of them every 30 s.
const RATE: f64 = 100_000.0 / 30.0;
/// Duration of the measurement. With the preceding steps, all waves expire within it.
const TIME: Duration = Duration::from_secs(22);
/// Connectors in a wave.
const WAVE: usize = 1_000;
/// Waves of connectors all over the fleet that turn Offline, each within a second; then a whole site turns Late.
const WAVES: usize = 5;
/// The first wave expires this many seconds after the start: by then the fleet is loaded, and beats.
const FIRST: f64 = 6.0;
/// Seconds between two waves.
const APART: f64 = 2.5;
/// Defaults of a connector, in seconds (`docs/design/api.md`).
const LATE: f64 = 90.0;
const OFFLINE: f64 = 300.0;

/// The wave with which connector `i` falls silent, if any. The waves take fifty of each of their sites; the last one is
/// a site of its own.
fn wave(i: usize) -> Option<usize> {
    if i % 100 == 7 {
        return Some(WAVES);
    }
    i.is_multiple_of(20).then_some((i / 20) % WAVES)
}

fn connector(i: usize, now: Now) -> Connector {
    let within = (i / 100) as f64 / WAVE as f64;
    let site = if i % 100 == 7 { "dark".to_owned() } else { format!("site-{:03}", (i / 20) % 100) };
    let (state, heard_ago) = match wave(i) {
        Some(WAVES) => (ConnectorState::Online, LATE - FIRST - APART * WAVES as f64 - within),
        Some(wave) => (ConnectorState::Late, OFFLINE - FIRST - APART * wave as f64 - within),
        // The longest silence first: the deadlines are spread like those of a fleet that has run for long.
        None => (ConnectorState::Online, 80.0 * (1.0 - i as f64 / CONNECTORS as f64)),
    };
    let past = Past { state, heard_ago: SignedDuration::from_secs_f64(heard_ago), site, interval: 30 };
    fleet::connector(i, past, now.wall)
}

fn beating() -> impl Iterator<Item = usize> {
    (0..CONNECTORS).filter(|i| wave(*i).is_none())
}

/// Both ways: beats by call, and beats over HTTP.
pub(crate) async fn measure() -> anyhow::Result<()> {
    println!("{CONNECTORS} connectors, {RATE:.0} beats per second by call (parsed and heard, no HTTP)");
    let report = Part::start(&["expiry", "direct"])?.finish()?;
    let (cores, lags) = report.split_once('\n').context("an unexpected report")?;
    let cores: f64 = cores.parse().context("an unexpected report")?;
    judge("cores", format!("{cores:.3}"), "≤ 0.5", cores <= 0.5);
    judge_lags(lags)?;

    println!("{CONNECTORS} connectors, {RATE:.0} beats per second over HTTP, 256 connections kept alive");
    let mut part = Part::start(&["expiry", "http"])?;
    let address: SocketAddr = part.line()?.parse().context("the server's address")?;
    let requests = beating().map(|i| fleet::request(&fleet::beat(&fleet::id(i), &fleet::token(i)))).collect();
    let load = Load { address, connections: 256, requests: Arc::new(requests), rate: Some(RATE) };
    let result = load.run(part.pid(), TIME).await?;
    say("beats per second, as sent", format!("{:.0}", result.per_second));
    judge("cores", format!("{:.3}", result.server_cores), "≤ 0.5", result.server_cores <= 0.5);
    say("CPU per beat, µs", format!("{:.1}", result.server_cpu.as_secs_f64() * 1e6));
    say("answered within, median and 99 %", format!("{:?}, {:?}", result.median, result.p99));
    judge_lags(&part.finish()?)
}

fn judge_lags(report: &str) -> anyhow::Result<()> {
    let mut waves = vec![Vec::new(); WAVES + 1];
    for line in report.lines() {
        let (wave, lag) = line.split_once('\t').context("an unexpected report")?;
        let wave: usize = wave.parse()?;
        waves.get_mut(wave).context("an unexpected report")?.push(Duration::from_micros(lag.parse()?));
    }
    for (number, lags) in waves.iter().enumerate() {
        anyhow::ensure!(lags.len() == WAVE, "wave {number}: {} verdicts instead of {WAVE}", lags.len());
    }
    let mut dark = waves.pop().context("no wave of a whole site")?;
    let at = |percent| waves.iter().cloned().map(|mut lags| milliseconds(percentile(&mut lags, percent))).collect();
    let (median, p99, most): (Repeated, Repeated, Repeated) = (at(50.0), at(99.0), at(100.0));
    println!("  from deadline to verdict, {WAVES} waves of {WAVE} within a second");
    say("median, ms", format!("{median:.1}"));
    judge("99 %, ms", format!("{p99:.1}"), "≤ 100", p99.median() <= 100.0);
    say("longest, ms", format!("{most:.1}"));
    let p99 = milliseconds(percentile(&mut dark, 99.0));
    judge("99 %, ms, a site of 1000 that falls silent as a whole", format!("{p99:.1}"), "≤ 100", p99 <= 100.0);
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The wave of a connector and its lag, for each verdict.
type Lags = Arc<Mutex<Vec<(usize, Duration)>>>;

/// The measured process: `direct` beats to itself, `http` receives beats.
pub(crate) async fn child(way: &str) -> anyhow::Result<()> {
    let lags = Lags::default();
    let operator = Operator::start(Box::new({
        let lags = lags.clone();
        let reported = Mutex::new(HashSet::new());
        move |registry, entry| {
            let (verdict, lag) = look(registry, entry);
            let Some(wave) = expired(entry, verdict) else { return };
            // When a whole site is silent all of its members are woken once more: that is no verdict on them.
            if reported.lock().insert(entry.number) {
                lags.lock().push((wave, lag));
            }
        }
    }));
    let now = operator.registry.clock().read();
    for i in 0..CONNECTORS {
        operator.keep(&operator.upsert(&connector(i, now), now)?);
    }
    operator.settled().await;
    match way {
        "direct" => println!("{}", direct(&operator.registry).await?),
        "http" => {
            let stop = CancellationToken::new();
            let listener = servers::listen().await?;
            let served = tokio::spawn(servers::serve_registry(operator.registry.clone(), listener, stop.clone()));
            until_dismissed().await;
            stop.cancel();
            served.await?;
        }
        other => bail!("no such way: {other}"),
    }
    for (wave, lag) in lags.lock().iter() {
        println!("{wave}\t{}", lag.as_micros());
    }
    Ok(())
}

/// The presence that the controller would see, and the time since the deadline.
fn look(registry: &Registry, entry: &Entry) -> (Presence, Duration) {
    let now = registry.clock().now();
    let verdict = entry.snapshot(registry.listening.listening(now), now).verdict;
    (verdict.presence, now.since(verdict.since))
}

/// The wave that expired; WAVES + 1 for an unexpected expiry, which makes the report invalid.
fn expired(entry: &Entry, presence: Presence) -> Option<usize> {
    let number = entry.identity.key.name.rsplit('-').next().and_then(|digits| digits.parse().ok());
    match (number.and_then(wave), presence) {
        (Some(WAVES), Presence::Late) => Some(WAVES),
        (Some(wave), Presence::Offline) if wave < WAVES => Some(wave),
        (None, Presence::Late | Presence::Offline | Presence::Unknown) => Some(WAVES + 1),
        _ => None,
    }
}

/// Beats at the rate for the time; returns the cores that this process used meanwhile.
async fn direct(registry: &Registry) -> anyhow::Result<f64> {
    const STEP: Duration = Duration::from_millis(5);
    let bodies: Vec<String> = beating().map(|i| fleet::beat(&fleet::id(i), &fleet::token(i))).collect();
    let me = std::process::id();
    let (begin, before) = (Instant::now(), cpu(me)?);
    let mut tick = tokio::time::interval(STEP);
    let mut sent = 0;
    while begin.elapsed() < TIME {
        tick.tick().await;
        let due = (begin.elapsed().as_secs_f64() * RATE) as usize;
        for body in (sent..due).map(|at| &bodies[at % bodies.len()]) {
            let reply = registry.receive(&payload::parse(body.as_bytes(), None)?, IpAddr::V4(Ipv4Addr::LOCALHOST));
            anyhow::ensure!(matches!(reply, Reply::Accepted { .. }), "a beat was answered {reply:?}");
        }
        sent = due;
    }
    Ok((cpu(me)? - before).as_secs_f64() / begin.elapsed().as_secs_f64())
}
