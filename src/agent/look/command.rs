//! Runs one program of the host and reads what it prints.

use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// Most bytes of an error that are read.
const MAX_ERROR: u64 = 4096;

/// The output of `program`, of at most `most` bytes. A dropped future kills it.
pub(in crate::agent) async fn output(program: &str, arguments: &[&str], most: u64) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("{program}: {error}"),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(said)?;
    let (printed, complaint) = (child.stdout.take(), child.stderr.take());
    let (printed, complaint) = tokio::join!(read(printed, most + 1), read(complaint, MAX_ERROR));
    let printed = printed.map_err(said)?;
    if printed.len() as u64 > most {
        return Err(format!("{program} prints more than {} KiB", most >> 10));
    }
    let status = child.wait().await.map_err(said)?;
    if status.success() {
        return Ok(printed);
    }
    let complaint = complaint.unwrap_or_default();
    let first = String::from_utf8_lossy(&complaint);
    let first = first.lines().next().unwrap_or_default().trim();
    Err(format!("{program}: {}", if first.is_empty() { status.to_string() } else { first.to_owned() }))
}

async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(most).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
