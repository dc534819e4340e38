//! Calls to the API server for a person at a terminal.

use std::time::Duration;

use anyhow::bail;

use super::describe;

/// The time limit of one call: a person waits for it, and kube has no limit.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Awaits one call to the API server.
///
/// # Errors
/// The API server's own message, or a timeout after 10 s; `doing` begins the sentence.
pub async fn ask<T>(doing: &str, call: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => bail!("{doing}: {}", describe(&error)),
        Err(_) => bail!("{doing}: the API server did not answer within {} s", CALL_TIMEOUT.as_secs()),
    }
}
