//! HTTP by hand, over a plain socket: the bytes on the wire are exactly those of the test.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Timeout of an answer. Far above the promised times: it detects hanging, not slowness.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header; its name is compared without case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// Whether it is the 503 of an operator that the machine stalled for more than 2 s: until it has read its Lease,
    /// another may lead. On a loaded machine this answer is correct, and most tests do not cover it.
    pub(crate) fn is_frozen(&self) -> bool {
        self.status == 503 && self.body.contains("\"not_confirmed\"")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When the body is no JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

pub(crate) struct Session {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Session {
    pub(crate) fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, rest: Vec::new() })
    }

    /// Sends these bytes unchanged.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn receive(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(end) = find(&self.rest, b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest.drain(..end);
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status in {head:?}")))?;
        let mut answer = Answer { status, head, body: String::new() };
        let body = match (answer.header("content-length").map(str::parse), answer.header("transfer-encoding")) {
            (Some(Ok(length)), _) => self.take(length)?,
            (_, Some("chunked")) => self.chunks()?,
            _ => Vec::new(),
        };
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Ok(answer)
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")),
            n => {
                self.rest.extend_from_slice(&buffer[..n]);
                Ok(())
            }
        }
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.rest.len() < length {
            self.more()?;
        }
        Ok(self.rest.drain(..length).collect())
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = find(&self.rest, b"\r\n") {
                    break end;
                }
                self.more()?;
            };
            let line = self.take(end + 2)?;
            let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).map_err(io::Error::other)?;
            body.extend(self.take(size)?);
            self.take(2)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Sends `bytes` over a new connection and reads one answer. An answer before everything was read (413) counts, too.
pub(crate) fn exchange(to: SocketAddr, bytes: &[u8]) -> io::Result<Answer> {
    let mut session = Session::open(to)?;
    let sent = session.send(bytes);
    session.receive().map_err(|error| sent.err().unwrap_or(error))
}

pub(crate) fn get(to: SocketAddr, path: &str) -> io::Result<Answer> {
    get_as(to, path, None)
}

/// `GET path` with a bearer token.
pub(crate) fn get_as(to: SocketAddr, path: &str, bearer: Option<&str>) -> io::Result<Answer> {
    let authorization = bearer.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    exchange(to, format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{authorization}Connection: close\r\n\r\n").as_bytes())
}

/// The bytes of `POST /api/connector/heartbeat` with this body, and more header lines.
pub(crate) fn beat_request(body: &[u8], more: &str) -> Vec<u8> {
    let mut bytes = format!(
        "POST /api/connector/heartbeat HTTP/1.1\r\nHost: vigie\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// `POST /api/connector/heartbeat` with this body, over a connection of its own.
pub(crate) fn post_beat(to: SocketAddr, body: &[u8]) -> io::Result<Answer> {
    exchange(to, &beat_request(body, "Connection: close\r\n"))
}
