//! Senders and servers that attack an operator: each runs until it is dropped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Between two connections of one attacker that was refused: an attacker may be fast, and must not starve the machine.
const PAUSE: Duration = Duration::from_millis(20);

/// How many connections an attacker opens each second at most, for the same reason: more at once only overflow the queue of
/// the kernel.
const OPENED_EACH_SECOND: u64 = 1000;

/// The address of the attacker that holds connections: another one than that of the senders that are attacked.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Connections whose request never ends; a connection that the server closes is opened again.
#[derive(Debug)]
pub(crate) struct HalfOpen(#[expect(dead_code, reason = "its drop ends the attack")] JoinSet<()>);

impl HalfOpen {
    /// Opens this many connections to `to`; each sends a head of `pad` bytes without its end.
    pub(crate) fn start(to: SocketAddr, connections: usize, pad: usize) -> Self {
        let head = format!("POST /api/connector/heartbeat HTTP/1.1\r\nHost: vigie\r\nX-Pad: {}", "x".repeat(pad));
        let head: Arc<str> = head.into();
        let pause = PAUSE.max(Duration::from_secs(connections as u64 / OPENED_EACH_SECOND));
        let mut all = JoinSet::new();
        for number in 0..connections as u64 {
            let head = head.clone();
            all.spawn(async move {
                sleep(Duration::from_millis(number * 1000 / OPENED_EACH_SECOND)).await;
                loop {
                    hold(to, head.as_bytes()).await;
                    sleep(pause).await;
                }
            });
        }
        Self(all)
    }
}

/// Keeps one connection with a half-sent request until the server closes it.
async fn hold(to: SocketAddr, head: &[u8]) {
    let Ok(mut stream) = connect_from(STRANGER.into(), to).await else { return };
    if stream.write_all(head).await.is_ok() {
        let _ = stream.read(&mut [0; 512]).await;
    }
}

async fn connect_from(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}

/// Whole requests without a pause, each over a connection of its own.
#[derive(Debug)]
pub(crate) struct Flood {
    sent: Arc<AtomicU64>,
    _senders: JoinSet<()>,
}

impl Flood {
    /// Starts `senders` that send the request that `next` returns for a running number.
    pub(crate) fn start(to: SocketAddr, senders: usize, next: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let (sent, next) = (Arc::new(AtomicU64::new(0)), Arc::new(next));
        let mut all = JoinSet::new();
        for _ in 0..senders {
            let (sent, next) = (sent.clone(), next.clone());
            all.spawn(async move {
                loop {
                    let request = next(sent.fetch_add(1, Ordering::Relaxed));
                    let _ = timeout(Duration::from_secs(5), ask(to, &request)).await;
                    sleep(PAUSE).await;
                }
            });
        }
        Self { sent, _senders: all }
    }

    /// Number of requests so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

async fn ask(to: SocketAddr, request: &[u8]) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(request).await?;
    stream.read(&mut [0; 1024]).await
}

/// The answer of a server that lies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lie {
    /// Accepts, reads, and never answers.
    Silence,
    /// One MiB of text on which a regular expression can backtrack.
    LongText,
    /// Headers without an end.
    EndlessHeaders,
    /// A list of targets, as Prometheus answers, without an end.
    EndlessTargets,
}

/// A server on a free port that lies to every client.
#[derive(Debug)]
pub(crate) struct Liar {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Liar {
    pub(crate) async fn start(lie: Lie) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), lie).await
    }

    /// The same on another address of this machine: no EndpointSlice may name one of 127.0.0.0/8.
    pub(crate) async fn outside_loopback(lie: Lie) -> Self {
        // Connecting a UDP socket sends nothing; it chooses the address from which packets would be sent.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let chosen = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
        Self::at(chosen.expect("this machine has an address besides loopback").ip(), lie).await
    }

    async fn at(ip: IpAddr, lie: Lie) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU64::new(0));
        let counted = connections.clone();
        let accept = tokio::spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                all.spawn(async move { drop(serve(client, lie).await) });
                while all.try_join_next().is_some() {}
            }
        });
        Self { address, connections, task: accept.abort_handle() }
    }

    /// Number of connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, lie: Lie) -> std::io::Result<()> {
    if client.read(&mut [0; 4096]).await? == 0 {
        return Ok(());
    }
    match lie {
        Lie::Silence => std::future::pending().await,
        Lie::LongText => {
            let text = "ab".repeat(512 * 1024);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", text.len());
            client.write_all(head.as_bytes()).await?;
            client.write_all(text.as_bytes()).await
        }
        Lie::EndlessHeaders => {
            client.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            repeat(&mut client, &"X-More: of the same\r\n".repeat(1000)).await
        }
        Lie::EndlessTargets => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
            client.write_all(head.as_bytes()).await?;
            client.write_all(br#"{"status":"success","data":{"activeTargets":[{}"#).await?;
            repeat(&mut client, &",{}".repeat(10_000)).await
        }
    }
}

async fn repeat(client: &mut TcpStream, text: &str) -> std::io::Result<()> {
    loop {
        client.write_all(text.as_bytes()).await?;
    }
}
