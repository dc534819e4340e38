//! A load generator: keep-alive connections, one request at a time on each, nothing pipelined.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figures::percentile;
use crate::process::cpu;

/// Not counted: connections open, caches fill.
const WARM_UP: Duration = Duration::from_millis(500);

/// Requests and their target.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    /// Whole requests; connection k sends the kth and every `connections`th after it, repeatedly.
    pub(crate) requests: Arc<Vec<Vec<u8>>>,
    /// Requests per second in total; `None` = each connection as fast as it is answered.
    pub(crate) rate: Option<f64>,
}

pub(crate) struct Result {
    pub(crate) per_second: f64,
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    /// CPU time of the server per request.
    pub(crate) server_cpu: Duration,
    /// The server's CPU time over the elapsed time: cores.
    pub(crate) server_cores: f64,
    /// CPU time of this generator per request.
    pub(crate) own_cpu: Duration,
}

impl Load {
    /// Runs for `time` after a warm-up and reads the CPU time of the server `pid` from the kernel. Any answer other
    /// than 2xx is an error: it would be another, cheaper code path.
    pub(crate) async fn run(&self, pid: u32, time: Duration) -> anyhow::Result<Result> {
        let begin = Instant::now() + WARM_UP;
        let end = begin + time;
        let mut connections = JoinSet::new();
        for number in 0..self.connections {
            connections.spawn(self.clone().connection(number, begin, end));
        }
        tokio::time::sleep_until(begin).await;
        let before = (cpu(pid)?, cpu(std::process::id())?, Instant::now());
        tokio::time::sleep_until(end).await;
        let after = (cpu(pid)?, cpu(std::process::id())?, Instant::now());
        let mut times = Vec::new();
        while let Some(ended) = connections.join_next().await {
            times.extend(ended??);
        }
        anyhow::ensure!(!times.is_empty(), "no request was answered");
        let count = times.len() as u32;
        let passed = (after.2 - before.2).as_secs_f64();
        Ok(Result {
            per_second: f64::from(count) / passed,
            median: percentile(&mut times, 50.0),
            p99: percentile(&mut times, 99.0),
            server_cpu: (after.0 - before.0) / count,
            server_cores: (after.0 - before.0).as_secs_f64() / passed,
            own_cpu: (after.1 - before.1) / count,
        })
    }

    /// The times from request to answer, of requests that were answered between `begin` and `end`.
    async fn connection(self, number: usize, begin: Instant, end: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut wire = Wire::open(self.address).await?;
        let mut times = Vec::new();
        let mut next = number % self.requests.len();
        let pause = self.rate.map(|rate| Duration::from_secs_f64(self.connections as f64 / rate));
        let mut due = Instant::now() + pause.unwrap_or_default().mul_f64(number as f64 / self.connections as f64);
        loop {
            if let Some(pause) = pause {
                tokio::time::sleep_until(due).await;
                due += pause;
            }
            let sent = Instant::now();
            let status = wire.ask(&self.requests[next]).await?;
            let answered = Instant::now();
            if !(200..300).contains(&status) {
                bail!("a request was answered {status}: {}", wire.shown());
            }
            if answered >= end {
                return Ok(times);
            }
            if sent >= begin {
                times.push(answered - sent);
            }
            next = (next + self.connections) % self.requests.len();
        }
    }
}

pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Opens the first connection to a server that is starting: within ten seconds.
    pub(crate) async fn first(address: SocketAddr) -> anyhow::Result<Self> {
        let mut tries = 0;
        loop {
            match Self::open(address).await {
                Ok(wire) => return Ok(wire),
                Err(error) if tries == 100 => return Err(error),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends one whole request and reads the whole answer; returns its status.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection after {}", self.shown());
            }
            if let Some(head) = self.buffer.windows(4).position(|at| at == b"\r\n\r\n")
                && is_whole(&self.buffer[..head], &self.buffer[head + 4..])?
            {
                let status = self.buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
                return status.context("an answer without a status");
            }
        }
    }

    /// The body of the last answer, joined if it was chunked.
    pub(crate) fn body(&self) -> String {
        let answer = self.shown();
        let Some((head, mut rest)) = answer.split_once("\r\n\r\n") else { return answer };
        if !is_chunked(head.as_bytes()) {
            return rest.to_owned();
        }
        let mut body = String::new();
        while let Some((length, chunk)) = rest.split_once("\r\n") {
            let length = usize::from_str_radix(length, 16).unwrap_or_default();
            let Some((text, next)) = chunk.split_at_checked(length).filter(|_| length > 0) else { break };
            body.push_str(text);
            rest = next.trim_start_matches("\r\n");
        }
        body
    }

    /// The last answer as text.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
}

fn is_whole(head: &[u8], body: &[u8]) -> anyhow::Result<bool> {
    match is_chunked(head) {
        // Text, in which only the last chunk has a line with a lone 0.
        true => Ok(body.ends_with(b"\r\n0\r\n\r\n")),
        false => Ok(body.len() >= content_length(head)?),
    }
}

fn is_chunked(head: &[u8]) -> bool {
    const CHUNKED: &[u8] = b"\r\ntransfer-encoding: chunked";
    head.windows(CHUNKED.len()).any(|at| at.eq_ignore_ascii_case(CHUNKED))
}

fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let at = head.windows(NAME.len()).position(|at| at.eq_ignore_ascii_case(NAME)).context("no Content-Length")?;
    let digits = head[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}
