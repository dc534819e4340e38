//! Waiting for a condition, with a deadline; and watching that one never comes.

use std::time::{Duration, Instant};

/// How often a condition is looked at. Nothing is measured by it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks until `look` gives something, at most for `within`; its error says what was seen instead.
///
/// # Panics
/// When the time is over, with what was seen last.
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

/// Looks during all of `during`; `look` gives what must not be.
///
/// # Panics
/// As soon as it is seen.
pub(crate) async fn never(during: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<String>) {
    let began = Instant::now();
    while began.elapsed() < during {
        if let Some(seen) = look().await {
            panic!("after {:?}, and never allowed: {what}; seen: {seen}", began.elapsed());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
