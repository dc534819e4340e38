//! The end of a log, for a person on the host.

use std::path::Path;
use std::time::Duration;

use hyper::Method;

use super::docker;
use crate::agent::look::command::output;
use crate::agent::look::docker::client::request;
use crate::agent::look::docker::parse::without_heads;
use crate::api::Target;

/// Most bytes of a log.
const MAX_LOG: usize = 4 << 20;
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The last `lines` lines of the log of `target`.
pub(super) async fn tail(socket: &Path, target: &Target, lines: u32) -> Result<String, String> {
    let read = async {
        match target {
            Target::Unit(unit) => {
                let (unit, lines) = (format!("--unit={unit}"), format!("--lines={lines}"));
                let arguments = ["--no-pager", "--quiet", "--output=short-iso", &lines, &unit];
                output("journalctl", &arguments, MAX_LOG as u64).await
            }
            Target::Container(_) | Target::Compose { .. } => of_container(socket, target, lines).await,
        }
    };
    let read = tokio::time::timeout(LIMIT, read).await;
    let bytes = read.unwrap_or_else(|_| Err(format!("the log was not there within {} s", LIMIT.as_secs())))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn of_container(socket: &Path, target: &Target, lines: u32) -> Result<Vec<u8>, String> {
    let seen = docker::observe(socket, target, None).await?;
    let run = seen.run.ok_or_else(|| format!("{target} does not exist"))?;
    let path = format!("/containers/{}/logs?stdout=1&stderr=1&timestamps=1&tail={lines}", run.id);
    let answer = request(socket, Method::GET, &path, MAX_LOG).await?;
    match answer.status {
        200 => Ok(without_heads(&answer.body)),
        status => Err(format!("the container engine answers {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heads_of_a_log_are_left_out() {
        assert_eq!(without_heads(b"\x01\0\0\0\0\0\0\x03ab\n\x02\0\0\0\0\0\0\x02c\n"), b"ab\nc\n");
        assert_eq!(without_heads(b"a terminal\n"), b"a terminal\n");
        assert_eq!(without_heads(b"\x01\0\0\0\xff\xff\xff\xffcut"), b"cut");
    }
}
