//! A pause of restarts by a person on the host. The helper keeps it, and refuses restarts while it lasts.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::api::AgentPause;

/// Longest pause: a longer one is a change of the configuration.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 7);

/// A pause, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The person who paused.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it ends.
    pub until: Timestamp,
}

/// The file in the folder of the helper's state.
pub fn file(state: &Path) -> PathBuf {
    state.join("paused.json")
}

/// The pause that lasts at `now`. A file that cannot be read counts as one: a person wanted to pause.
pub fn current(path: &Path, now: Timestamp) -> Option<AgentPause> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(unreadable(path, &error.to_string())),
    };
    let pause: Pause = match serde_json::from_slice(&bytes) {
        Ok(pause) => pause,
        Err(error) => return Some(unreadable(path, &error.to_string())),
    };
    // The clock of the host may have been set back since.
    let left = pause.until.duration_since(now).min(LONGEST);
    let seconds = u64::try_from(left.as_secs()).ok().filter(|seconds| *seconds > 0)?;
    Some(AgentPause { by: Some(pause.by), reason: Some(pause.reason), seconds: Some(seconds) })
}

fn unreadable(path: &Path, error: &str) -> AgentPause {
    AgentPause { by: None, reason: Some(format!("{} cannot be read: {error}", path.display())), seconds: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lasts_until_its_end_and_a_damaged_one_until_it_is_removed() {
        let path = std::env::temp_dir().join(format!("vigie-paused-{}.json", std::process::id()));
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(current(&path, now), None);
        let pause = Pause { by: "ops".into(), reason: "disk".into(), until: now + SignedDuration::from_mins(2) };
        std::fs::write(&path, serde_json::to_vec(&pause).unwrap()).unwrap();
        assert_eq!(current(&path, now).unwrap().seconds, Some(120));
        assert_eq!(current(&path, now + SignedDuration::from_mins(2)), None);
        let year = current(&path, now - SignedDuration::from_hours(9000)).unwrap();
        assert_eq!(year.seconds, Some(7 * 86_400));
        std::fs::write(&path, b"{").unwrap();
        assert!(current(&path, now).unwrap().reason.unwrap().contains("cannot be read"));
        std::fs::remove_file(path).unwrap();
    }
}
