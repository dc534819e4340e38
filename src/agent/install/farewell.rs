//! The word by which the agent says why it stops.

use std::io;
use std::path::Path;

use crate::agent::file::{Rights, replace};
use crate::agent::layout::{RUNTIME, STOPPING};
use crate::api::StopReason;

/// Leaves the word for a running agent, which reads it at SIGTERM. systemd removes the directory when the agent has stopped, and
/// without a running agent there is none, and nothing to say.
pub(super) fn leave(reason: StopReason) {
    let _ = write(&Path::new(RUNTIME).join(STOPPING), reason);
}

/// The directory belongs to the agent's user: a link that stands there is replaced and not followed.
fn write(path: &Path, reason: StopReason) -> io::Result<()> {
    // The agent is another user.
    replace(path, reason.as_str().as_bytes(), Rights::own(0o644))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_link_in_the_place_of_the_word_is_replaced_and_not_followed() {
        let root = std::env::temp_dir().join(format!("vigie-farewell-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let (kept, word) = (root.join("kept"), root.join("stopping"));
        fs::write(&kept, "kept").unwrap();
        std::os::unix::fs::symlink(&kept, &word).unwrap();
        write(&word, StopReason::Uninstall).unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&word).unwrap(), "Uninstall");
        assert!(!fs::symlink_metadata(&word).unwrap().is_symlink());
        assert_eq!(fs::metadata(&word).unwrap().permissions().mode() & 0o777, 0o644);
        write(&word, StopReason::Update).unwrap();
        assert_eq!(fs::read_to_string(&word).unwrap(), "Update");
        assert!(write(&root.join("absent/stopping"), StopReason::Stop).is_err());
        fs::remove_dir_all(&root).unwrap();
    }
}
