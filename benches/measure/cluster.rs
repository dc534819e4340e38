//! 5,000 Connectors on a real API server: the operator from a standing start to a steady fleet, and through restarts.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use vigie::api::{Connector, ConnectorSpec, ConnectorState};

use crate::figures::say;
use crate::fleet;
use crate::kubernetes::Cluster;
use crate::load::Wire;
use crate::process::{Part, cpu, memory};

const CONNECTORS: usize = 5_000;
/// All of them every 30 s.
const RATE: f64 = CONNECTORS as f64 / 30.0;
const CONNECTIONS: usize = 50;
/// For so long nothing but checkpoints and the lease is written before a fleet counts as steady.
const SETTLED: Duration = Duration::from_secs(15);
const STEADY: Duration = Duration::from_secs(120);
/// For each thing that is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) async fn measure() -> anyhow::Result<()> {
    println!("cluster: {CONNECTORS} Connectors on an API server and etcd of the same machine");
    let cluster = Cluster::up()?;
    let client = cluster.client().await?;
    let begin = Instant::now();
    create(&client).await?;
    say("created by this program, s", format!("{:.1}", begin.elapsed().as_secs_f64()));
    let ports = Ports::free()?;

    let mut operator = Running::start(&cluster, ports)?;
    operator.report_start(ports).await?;
    provisioned(&cluster, &client, &operator).await?;
    operator.report_memory("when all are provisioned")?;

    let beats = Beats::start(ports.beats, tokens(&client).await?);
    let begin = Timestamp::now();
    all_online(ports).await?;
    let writes = cluster.writes(begin, Timestamp::now())?;
    println!("all beat, every 30 s");
    say("from the first beat to all Online, s", format!("{:.1}", seconds_since(begin)));
    say("writes meanwhile", &writes);
    settled(&cluster).await?;
    say(
        "from the first beat to all of it written and told, s",
        format!("{:.1}", seconds_since(begin) - SETTLED.as_secs_f64()),
    );
    steady(&cluster, &operator).await?;

    println!("killed (SIGKILL) and started again, beats going on");
    drop(operator);
    operator = Running::start(&cluster, ports)?;
    operator.report_restart(ports, &beats, &client).await?;
    println!("stopped (SIGTERM) and started again, beats going on");
    let begin = Instant::now();
    operator.terminate()?;
    say("from SIGTERM to its end, s", format!("{:.1}", begin.elapsed().as_secs_f64()));
    operator = Running::start(&cluster, ports)?;
    operator.report_restart(ports, &beats, &client).await?;
    say("beats answered 200 in all", beats.heard.load(Ordering::Relaxed));
    say("beats refused or lost while none was listening", beats.lost.load(Ordering::Relaxed));
    operator.terminate()
}

async fn create(client: &kube::Client) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": fleet::NAMESPACE } }))?;
    namespaces.create(&PostParams::default(), &namespace).await?;
    let api: Api<Connector> = Api::namespaced(client.clone(), fleet::NAMESPACE);
    futures::stream::iter(0..CONNECTORS)
        .map(|i| {
            let api = api.clone();
            async move {
                let spec = ConnectorSpec { site: Some(format!("site-{:02}", i % 50)), ..ConnectorSpec::default() };
                let connector = Connector::new(&format!("edge-{i:06}"), spec);
                api.create(&PostParams::default(), &connector).await.map(drop)
            }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
        .context("creating the Connectors")
}

/// Waits until each Connector has its token, and tells from the audit log when that was.
async fn provisioned(cluster: &Cluster, client: &kube::Client, operator: &Running) -> anyhow::Result<()> {
    let api: Api<Connector> = Api::namespaced(client.clone(), fleet::NAMESPACE);
    until(Duration::from_secs(3), "every Connector to be provisioned", async || {
        // From the API server's memory: asking costs little and delays nobody.
        let list = api.list(&ListParams::default().match_any()).await?;
        let provisioned = |connector: &&Connector| {
            let conditions = connector.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == "Provisioned" && condition.status == "True")
        };
        Ok(list.items.iter().filter(provisioned).count() == CONNECTORS)
    })
    .await?;
    let writes = cluster.writes(operator.started, Timestamp::now())?;
    let since_start = |(count, at): (u64, Option<Timestamp>)| match at {
        Some(at) => format!(
            "{count}, the last after {:.1} s",
            (at - operator.started).total(jiff::Unit::Second).unwrap_or(f64::NAN)
        ),
        None => "none".to_owned(),
    };
    println!("provisioning of all {CONNECTORS} from nothing");
    say("Secrets created", since_start(writes.of("create secrets")));
    say("statuses written", since_start(writes.of("update connectors/status")));
    say("all writes", &writes);
    Ok(())
}

async fn tokens(client: &kube::Client) -> anyhow::Result<Vec<Vec<u8>>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), fleet::NAMESPACE);
    let secrets = api.list(&ListParams::default()).await?;
    let text = |secret: &Secret, key: &str| {
        let value = secret.data.as_ref()?.get(key)?;
        String::from_utf8(value.0.clone()).ok()
    };
    let request = |secret: &Secret| {
        let (id, token) =
            text(secret, "connector_id").zip(text(secret, "token")).context("a Secret without a token")?;
        Ok(fleet::request(&fleet::beat(&id, &token)))
    };
    let requests: Vec<_> = secrets.items.iter().map(request).collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(requests.len() == CONNECTORS, "{} tokens instead of {CONNECTORS}", requests.len());
    Ok(requests)
}

/// Waits until transitions are written and events are told.
async fn settled(cluster: &Cluster) -> anyhow::Result<()> {
    until(Duration::from_secs(3), "the fleet to be steady", async || {
        let now = Timestamp::now();
        let writes = cluster.writes(now - SETTLED, now)?;
        Ok(writes.of("update connectors/status").0 + writes.of("create events").0 == 0)
    })
    .await
}

async fn steady(cluster: &Cluster, operator: &Running) -> anyhow::Result<()> {
    let (begin, before) = (Timestamp::now(), cpu(operator.part.pid())?);
    tokio::time::sleep(STEADY).await;
    let (end, after) = (Timestamp::now(), cpu(operator.part.pid())?);
    let writes = cluster.writes(begin, end)?;
    let minutes = STEADY.as_secs_f64() / 60.0;
    println!("steady, {} s", STEADY.as_secs());
    say("API writes per minute", format!("{:.0}", writes.all() as f64 / minutes));
    say("of these", &writes);
    say("cores", format!("{:.3}", (after - before).as_secs_f64() / STEADY.as_secs_f64()));
    operator.report_memory("when steady")
}

#[derive(Clone, Copy)]
struct Ports {
    beats: SocketAddr,
    admin: SocketAddr,
}

impl Ports {
    fn free() -> anyhow::Result<Self> {
        let (beats, admin) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        Ok(Self { beats: beats.local_addr()?, admin: admin.local_addr()? })
    }

    async fn get(self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.admin).await?;
        // HTTP/1.0: the answer ends with the connection, however long it is.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let head =
            answer.windows(4).position(|at| at == b"\r\n\r\n").context("an answer without an end of its head")?;
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        Ok((status.context("an answer without a status")?, answer.split_off(head + 4)))
    }

    /// How many connectors are in which state, as the operator says.
    async fn states(self) -> anyhow::Result<BTreeMap<String, usize>> {
        let (status, body) = self.get("/api/v1/connectors").await?;
        anyhow::ensure!(status == 200, "the admin port answered {status}");
        let answer: Value = serde_json::from_slice(&body)?;
        let items = answer.get("items").and_then(Value::as_array).context("a list without items")?;
        let mut states = BTreeMap::new();
        for item in items {
            let state = item.get("state").and_then(Value::as_str).context("a connector without a state")?;
            *states.entry(state.to_owned()).or_default() += 1;
        }
        Ok(states)
    }
}

/// `vigie run`, as it is released.
struct Running {
    part: Part,
    started: Timestamp,
}

impl Running {
    fn start(cluster: &Cluster, ports: Ports) -> anyhow::Result<Self> {
        let kubeconfig = cluster.kubeconfig();
        let (beats, admin) = (ports.beats.to_string(), ports.admin.to_string());
        let kubeconfig = kubeconfig.to_str().context("the path of the kubeconfig")?;
        let mut args = vec!["run", "--kubeconfig", kubeconfig, "--log", "warn"];
        args.extend(["--listen", &beats, "--admin", &admin]);
        let started = Timestamp::now();
        let part = Part::run(Path::new(env!("CARGO_BIN_EXE_vigie")), &args, Stdio::inherit())?;
        Ok(Self { part, started })
    }

    async fn report_start(&self, ports: Ports) -> anyhow::Result<()> {
        self.ready(ports).await?;
        say("from start to ready (/readyz), s", format!("{:.2}", seconds_since(self.started)));
        self.report_memory("when ready")
    }

    async fn ready(&self, ports: Ports) -> anyhow::Result<()> {
        until(Duration::from_millis(10), "the operator to be ready", async || {
            // Nobody listens yet at first.
            Ok(ports.get("/readyz").await.is_ok_and(|(status, _)| status == 200))
        })
        .await
    }

    /// After a restart: when it hears, when all are Online, and that it told nobody a falsehood meanwhile.
    async fn report_restart(&self, ports: Ports, beats: &Beats, client: &kube::Client) -> anyhow::Result<()> {
        let heard = beats.heard.load(Ordering::Relaxed);
        self.ready(ports).await?;
        say("from start to ready (/readyz), s", format!("{:.2}", seconds_since(self.started)));
        let first = ports.states().await?;
        let first: Vec<_> = first.iter().map(|(state, count)| format!("{count} {state}")).collect();
        say("states as first told", first.join(", "));
        until(Duration::from_millis(5), "a beat to be heard", async || Ok(beats.heard.load(Ordering::Relaxed) > heard))
            .await?;
        say("from start to the first beat heard, s", format!("{:.2}", seconds_since(self.started)));
        all_online(ports).await?;
        say("from start to all Online, s", format!("{:.1}", seconds_since(self.started)));
        // Another round of beats, and what followed from them is written.
        tokio::time::sleep(Duration::from_secs(40)).await;
        let api: Api<Connector> = Api::namespaced(client.clone(), fleet::NAMESPACE);
        let list = api.list(&ListParams::default()).await?;
        let (mut offline, mut unknown) = (0, 0);
        for transition in
            list.items.iter().filter_map(|item| item.status.as_ref()).flat_map(|status| &status.transitions)
        {
            offline += usize::from(transition.to == ConnectorState::Offline.as_str());
            unknown += usize::from(transition.to == ConnectorState::Unknown.as_str());
        }
        say("transitions to Offline, to Unknown, ever", format!("{offline}, {unknown}"));
        self.report_memory("then")
    }

    fn report_memory(&self, when: &str) -> anyhow::Result<()> {
        let (now, most) = memory(self.part.pid())?;
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let figures = format!("{:.1} (at most {:.1})", mebibytes(now), mebibytes(most));
        say(&format!("resident memory {when}, MiB"), figures);
        Ok(())
    }

    fn terminate(self) -> anyhow::Result<()> {
        let status = Command::new("kill").args(["-TERM", &self.part.pid().to_string()]).status()?;
        anyhow::ensure!(status.success(), "the operator could not be asked to stop");
        self.part.finish().map(drop)
    }
}

async fn all_online(ports: Ports) -> anyhow::Result<()> {
    until(Duration::from_millis(500), "every connector to be Online", async || {
        let states = ports.states().await?;
        Ok(states.get("Online") == Some(&CONNECTORS))
    })
    .await
}

async fn until(
    every: Duration,
    what: &str,
    mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !is_so().await? {
        anyhow::ensure!(begin.elapsed() < PATIENCE, "waited {} s in vain for {what}", PATIENCE.as_secs());
        tokio::time::sleep(every).await;
    }
    Ok(())
}

fn seconds_since(begin: Timestamp) -> f64 {
    (Timestamp::now() - begin).total(jiff::Unit::Second).unwrap_or(f64::NAN)
}

/// The fleet's beats, which go on whatever happens to the operator.
struct Beats {
    heard: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Beats {
    fn start(address: SocketAddr, requests: Vec<Vec<u8>>) -> Self {
        let beats = Self { heard: Arc::default(), lost: Arc::default(), over: Arc::default() };
        let requests = Arc::new(requests);
        for number in 0..CONNECTIONS {
            let (heard, lost, over) = (beats.heard.clone(), beats.lost.clone(), beats.over.clone());
            let requests = requests.clone();
            tokio::spawn(async move {
                let pause = Duration::from_secs_f64(CONNECTIONS as f64 / RATE);
                let mut tick = tokio::time::interval(pause);
                tokio::time::sleep(pause.mul_f64(number as f64 / CONNECTIONS as f64)).await;
                tick.reset();
                let mut wire = None;
                for request in requests.iter().skip(number).step_by(CONNECTIONS).cycle() {
                    tick.tick().await;
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let answered = ask(&mut wire, address, request).await;
                    let counter = if answered.is_ok_and(|status| status == 200) { &heard } else { &lost };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        beats
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// One try, on the connection that is there or on a new one.
async fn ask(wire: &mut Option<Wire>, address: SocketAddr, request: &[u8]) -> anyhow::Result<u16> {
    let mut open = match wire.take() {
        Some(open) => open,
        None => Wire::open(address).await?,
    };
    let status = open.ask(request).await?;
    *wire = Some(open);
    Ok(status)
}
