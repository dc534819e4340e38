//! Asks the helper.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::protocol::{Ask, Reply};
use crate::agent::layout::HELPER_UNIT;

/// Most bytes of an answer that are read.
const MAX_REPLY: u64 = 16 << 20;

/// The answer of the helper to `ask`, within `limit`.
///
/// # Errors
/// It does not answer; the message says what to look at.
pub async fn ask(socket: &Path, ask: &Ask, limit: Duration) -> Result<Reply, String> {
    let failed = |error: String| format!("{HELPER_UNIT} at {}: {error}", socket.display());
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Vec::new();
        stream.take(MAX_REPLY).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(serde_json::from_slice(&answer)?)
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", limit.as_secs()))),
    }
}
