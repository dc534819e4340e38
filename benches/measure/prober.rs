//! The probing side, in processes of its own: the prober alone, and the operator's rounds without an API server. Both
//! follow the orders on their standard input, one a line, until it ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use hyper::{Request as HttpRequest, Response};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vigie::api::{MonitoredBackend, Time};
use vigie::cluster::events::Reporter;
use vigie::leadership::{Leadership, Role};
use vigie::metrics::Metrics;
use vigie::monitor::context::{Monitor, Parts, ProbeSettings};
use vigie::monitor::{scheduler, target};
use vigie::probe::{HttpOptions, Policy, Prober, Request, TlsOptions};
use vigie::time::Clock;

use crate::targets;

/// Number of targets that the prober alone probes in turn.
const TARGETS: usize = 250;
/// The default of --probe-concurrency of `vigie run`.
const PLACES: usize = 256;

/// The load from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// This many probes a second, evenly spread; the rounds have their own rate.
    Paced(u32),
    /// This many at a time, without a pause.
    Fast(usize),
    /// No probes.
    Rest,
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Paced(rate) => write!(f, "paced {rate}"),
            Self::Fast(at_once) => write!(f, "fast {at_once}"),
            Self::Rest => f.write_str("rest"),
        }
    }
}

impl std::str::FromStr for Order {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        Ok(match line.split_once(' ').unwrap_or((line, "")) {
            ("paced", rate) => Self::Paced(rate.parse()?),
            ("fast", at_once) => Self::Fast(at_once.parse()?),
            ("rest", "") => Self::Rest,
            _ => bail!("no such order: {line}"),
        })
    }
}

/// The orders from standard input.
fn orders() -> mpsc::UnboundedReceiver<anyhow::Result<Order>> {
    let (sender, orders) = mpsc::unbounded_channel();
    // A thread, not a task: a read of the standard input cannot be cancelled.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let order = line.map_err(anyhow::Error::from).and_then(|line| line.parse());
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    orders
}

fn policy() -> anyhow::Result<Policy> {
    Ok(Policy { allow: vec!["127.0.0.0/8".parse()?], ..Policy::default() })
}

/// The prober alone, with the default options of a backend.
pub(crate) async fn engine(port: u16) -> anyhow::Result<()> {
    let prober = Arc::new(Prober::new(policy()?));
    let requests: Arc<Vec<Request>> = Arc::new((0..TARGETS).map(|i| request(i, port)).collect::<anyhow::Result<_>>()?);
    let mut orders = orders();
    println!("ready");
    let mut work = JoinSet::new();
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Some(ended) = work.join_next() => match ended {
                Ok(failed) => return failed,
                Err(_) => continue,
            },
        };
        let Some(order) = order else { return Ok(()) };
        work.shutdown().await;
        match order? {
            Order::Rest => {}
            Order::Paced(rate) => drop(work.spawn(paced(prober.clone(), requests.clone(), rate))),
            Order::Fast(at_once) => {
                for number in 0..at_once {
                    let (prober, requests) = (prober.clone(), requests.clone());
                    work.spawn(async move {
                        for request in requests.iter().cycle().skip(number * TARGETS / at_once) {
                            one(&prober, request).await?;
                        }
                        Ok(())
                    });
                }
            }
        }
    }
}

async fn paced(prober: Arc<Prober>, requests: Arc<Vec<Request>>, rate: u32) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut under_way = JoinSet::new();
    for number in 0.. {
        tick.tick().await;
        let (prober, requests) = (prober.clone(), requests.clone());
        // Each in a task of its own, like the operator's.
        under_way.spawn(async move { one(&prober, &requests[number % TARGETS]).await });
        while let Some(ended) = under_way.try_join_next() {
            ended??;
        }
    }
    Ok(())
}

async fn one(prober: &Prober, request: &Request) -> anyhow::Result<()> {
    let outcome = prober.probe(request).await;
    outcome.result.map_err(|failure| anyhow::anyhow!("a probe failed: {}", failure.message))
}

fn request(i: usize, port: u16) -> anyhow::Result<Request> {
    let target = target::of_url(&targets::url(i, port)).map_err(|why| anyhow::anyhow!(why))?;
    let timeout = Duration::from_secs(5);
    Ok(Request { target, timeout, http: HttpOptions::default(), tls: TlsOptions::default(), metrics: None })
}

/// The operator's rounds, schedule and memory of this many backends, each probed every `interval` seconds: everything
/// except the watch, the reconciles and their writes. It adds the backends with its first order.
pub(crate) async fn rounds(port: u16, count: usize, interval: i32) -> anyhow::Result<()> {
    let clock = Clock::default();
    let (leadership, led) = watch::channel(Leadership::follower());
    let settings = ProbeSettings { pod: None, policy: policy()?, probe_concurrency: PLACES, prometheus_url: None };
    let (monitor, commands) = Monitor::new(parts(clock, led), settings);
    let work = tokio::spawn(scheduler::run(monitor.clone(), commands, CancellationToken::new()));
    let mut orders = orders();
    println!("ready");
    while let Some(order) = orders.recv().await {
        let role = match order? {
            Order::Rest => Role::Follower,
            Order::Paced(_) | Order::Fast(_) => Role::Leader,
        };
        let now = clock.now();
        let write_until = now + Duration::from_secs(3600);
        let (acquired_at, holder) = (Some(now), None);
        leadership.send_replace(Leadership { role, holder, epoch: 1, acquired_at, write_until, resigned: false });
        if monitor.backends.is_empty() {
            for i in 0..count {
                monitor.upsert(&backend(i, port, interval)?);
            }
        }
    }
    work.abort();
    Ok(())
}

fn parts(clock: Clock, leadership: watch::Receiver<Leadership>) -> Parts {
    let client = empty_api_server();
    Parts {
        reporter: Reporter { client: client.clone(), instance: "measured".to_owned() },
        client,
        clock,
        leadership,
        metrics: Arc::new(Metrics::register(&mut prometheus_client::registry::Registry::default())),
        watchdog: vigie::schedule::Watchdog::new(clock),
        wake: Box::new(|_| {}),
        agents: Box::new(|_, _| None),
    }
}

/// A client of an API server without objects.
fn empty_api_server() -> kube::Client {
    let service = tower::service_fn(async |_: HttpRequest<Body>| {
        let status =
            json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404 });
        let response = Response::builder().status(404).body(Body::from(status.to_string().into_bytes()));
        Ok::<_, std::convert::Infallible>(response.expect("its parts are constants"))
    });
    kube::Client::new(service, "default")
}

/// The object as the API server would store it.
fn backend(i: usize, port: u16, interval: i32) -> anyhow::Result<MonitoredBackend> {
    let mut backend: MonitoredBackend = serde_json::from_value(manifest(i, port, interval))?;
    backend.metadata.uid = Some(format!("00000000-0000-4000-8000-{i:012x}"));
    backend.metadata.generation = Some(1);
    backend.metadata.resource_version = Some((1_000 + i).to_string());
    backend.metadata.creation_timestamp = Some(Time(Timestamp::now()));
    Ok(backend)
}

pub(crate) const NAMESPACE: &str = "shop";

/// Backend `i` as a person would write it.
pub(crate) fn manifest(i: usize, port: u16, interval: i32) -> serde_json::Value {
    json!({
        "apiVersion": "vigie.dev/v1alpha1",
        "kind": "MonitoredBackend",
        "metadata": { "name": format!("backend-{i:06}"), "namespace": NAMESPACE },
        "spec": { "target": { "url": targets::url(i, port) }, "probe": { "intervalSeconds": interval } },
    })
}
