//! Waits for a condition with a deadline, and checks that a condition never occurs.

use std::time::{Duration, Instant};

/// The polling interval. No measurement depends on it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Polls until `look` returns Ok, at most for `within`; its error describes the state seen instead.
///
/// # Panics
/// When the time is over, with the last error.
pub(crate) async fn eventually<T>(within: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        let seen = match look().await {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(began.elapsed() < within, "not within {within:?}: {what}; last seen: {seen}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Polls during all of `during`; `look` returns a description of a forbidden state.
///
/// # Panics
/// As soon as it returns one.
pub(crate) async fn never(during: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<String>) {
    let began = Instant::now();
    while began.elapsed() < during {
        if let Some(seen) = look().await {
            panic!("after {:?}, and never allowed: {what}; seen: {seen}", began.elapsed());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
