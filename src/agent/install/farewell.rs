//! The word by which the agent says why it stops.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::agent::layout::{RUNTIME, STOPPING};
use crate::api::StopReason;

/// Leaves the word for a running agent, which reads it at SIGTERM. systemd removes the directory when the agent has stopped, and
/// without a running agent there is none, and nothing to say.
pub(super) fn leave(reason: StopReason) {
    let _ = write(&Path::new(RUNTIME).join(STOPPING), reason);
}

/// The directory belongs to the agent's user, who may have put a link there: it is replaced and not followed.
fn write(path: &Path, reason: StopReason) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).open(path)?;
    // Whatever the umask of the shell is: the agent is another user.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(reason.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
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
