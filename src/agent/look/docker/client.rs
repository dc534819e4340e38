//! Requests to the socket of Docker or Podman.
//!
//! The paths carry no version: both take their own newest then, while Docker 20.10 refuses what 29 demands.

use std::path::Path;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// An answer of the daemon.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Answer {
    /// The HTTP status.
    pub(in crate::agent) status: u16,
    /// The body, cut at the limit.
    pub(in crate::agent) body: Vec<u8>,
    /// Whether Podman answers.
    pub(in crate::agent) is_podman: bool,
}

/// Sends one request without a body. The first `most` bytes of the answer are read.
///
/// # Errors
/// The daemon does not answer.
pub(in crate::agent) async fn request(
    socket: &Path,
    method: Method,
    path: &str,
    most: usize,
) -> Result<Answer, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", socket.display());
    let stream = UnixStream::connect(socket).await.map_err(|error| said(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| said(&error))?;
    let request = Request::builder().method(method).uri(path).header(header::HOST, "docker");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| said(&error))?;
    let exchange = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let server = answer.headers().get(header::SERVER).and_then(|server| server.to_str().ok());
        let is_podman = server.is_some_and(|server| server.starts_with("Libpod"));
        let (mut stream, mut body) = (answer.into_body(), Vec::new());
        while body.len() < most
            && let Some(frame) = stream.frame().await
        {
            body.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
        }
        body.truncate(most);
        Ok::<_, hyper::Error>(Answer { status, body, is_podman })
    };
    // The connection is driven until the answer is there, and closed then.
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let mut is_open = true;
    loop {
        tokio::select! {
            answer = &mut exchange => return answer.map_err(|error| said(&error)),
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

/// Escapes what stands in a query.
pub(in crate::agent) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
