//! The probed servers: minimal HTTP servers on loopback addresses, and black holes in their place.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::try_join_all;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// Number of addresses, because fleets are on many hosts: one host gets 16 concurrent probes at most.
const HOSTS: usize = 250;
/// Bytes in the body of every answer.
const BODY: usize = 1024;
/// A client of a black hole has no answer after this time.
const NO_ANSWER: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(120);

/// The URL of target `i`: its host, and a path of its own that distinguishes it from the others there.
pub(crate) fn url(i: usize, port: u16) -> String {
    format!("http://{}:{port}/target/{i}", host(i % HOSTS))
}

fn host(number: usize) -> IpAddr {
    // From 127.0.1.1 on; there are fewer than 255.
    Ipv4Addr::new(127, 0, 1, number as u8 + 1).into()
}

/// Every fourth host.
fn may_be_holed(number: usize) -> bool {
    number % 4 == 3
}

/// Whether target `i` is on one of the hosts that [`Targets::hole`] replaces.
pub(crate) fn is_holed(i: usize) -> bool {
    may_be_holed(i % HOSTS)
}

/// All of them, on one port.
pub(crate) struct Targets {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    serving: Vec<JoinHandle<()>>,
    /// Listeners that accept no connection, each with the one connection that fills its queue.
    holes: Vec<(TcpListener, TcpStream)>,
}

#[derive(Default)]
struct Shared {
    served: AtomicU64,
    arrivals: Mutex<Vec<Arrival>>,
}

/// One connection of a probe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) target: usize,
    pub(crate) at: Timestamp,
}

impl Targets {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let shared = Arc::<Shared>::default();
        let first = TcpListener::bind(SocketAddr::new(host(0), 0)).await?;
        let port = first.local_addr()?.port();
        let mut serving = vec![tokio::spawn(serve(first, shared.clone()))];
        for number in 1..HOSTS {
            let address = SocketAddr::new(host(number), port);
            let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
            serving.push(tokio::spawn(serve(listener, shared.clone())));
        }
        Ok(Self { port, shared, serving, holes: Vec::new() })
    }

    /// Number of answered requests so far.
    pub(crate) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// The arrivals since the last call.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.shared.arrivals.lock())
    }

    /// Returns when `count` requests have been answered in total; within two minutes.
    pub(crate) async fn wait_for(&self, count: u64) -> anyhow::Result<()> {
        let begin = Instant::now();
        while self.served() < count {
            anyhow::ensure!(begin.elapsed() < PATIENCE, "{} of {count} probes came", self.served());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Returns when there was no request for a while.
    pub(crate) async fn wait_for_silence(&self) {
        loop {
            let before = self.served();
            tokio::time::sleep(Duration::from_millis(50)).await;
            if self.served() == before {
                return;
            }
        }
    }

    /// Every fourth host no longer answers any attempt to connect, as if a firewall dropped it.
    pub(crate) async fn hole(&mut self) -> anyhow::Result<()> {
        let mut holes = Vec::new();
        for (number, serving) in self.serving.iter_mut().enumerate().filter(|(number, _)| may_be_holed(*number)) {
            serving.abort();
            // Its listener is closed with it.
            let _ = serving.await;
            holes.push(hole(SocketAddr::new(host(number), self.port)));
        }
        self.holes = try_join_all(holes).await?;
        Ok(())
    }
}

/// Replaces a server. A queue of length 0 holds one connection; while that is never accepted, the kernel drops further
/// connections.
async fn hole(address: SocketAddr) -> anyhow::Result<(TcpListener, TcpStream)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(0)?;
    let filling = TcpStream::connect(address).await?;
    let next = tokio::time::timeout(NO_ANSWER, TcpStream::connect(address)).await;
    anyhow::ensure!(next.is_err(), "{address} is no black hole: the second to connect was answered");
    Ok((listener, filling))
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // The client has gone, or this process has no free descriptors: the next one may be served.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (at, shared) = (Timestamp::now(), shared.clone());
        tokio::spawn(async move {
            if let Some(target) = answer(stream).await {
                shared.served.fetch_add(1, Ordering::Relaxed);
                shared.arrivals.lock().push(Arrival { target, at });
            }
        });
    }
}

/// Answers one request and returns the number of its target.
async fn answer(mut stream: TcpStream) -> Option<usize> {
    let mut buffer = Vec::with_capacity(1024);
    while !buffer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
    let mut answer = format!("{head}Content-Length: {BODY}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + BODY, b'.');
    stream.write_all(&answer).await.ok()?;
    let path = std::str::from_utf8(&buffer).ok()?.split(' ').nth(1)?;
    path.rsplit('/').next()?.parse().ok()
}
