//! Files that are replaced in one step: a reader sees the old content or the new one.

use std::fs::{self, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// The mode and the owner of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Its mode, without the type of the file.
    pub mode: u32,
    /// The ids of its user and group; `None` = those of this process.
    pub owner: Option<(u32, u32)>,
}

impl Rights {
    /// This mode, for the user and the group of this process.
    pub const fn own(mode: u32) -> Self {
        Self { mode, owner: None }
    }

    /// Those of a file that is there.
    pub fn of(file: &Metadata) -> Self {
        Self { mode: file.mode() & 0o7777, owner: Some((file.uid(), file.gid())) }
    }
}

/// Replaces the content of `path`, and waits until the disk has it. No other user can read the new content before it has
/// these rights.
///
/// # Errors
/// Nothing was replaced.
pub fn replace(path: &Path, content: &[u8], rights: Rights) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    let written = write_new(&temporary, content, rights).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Replaces the content of `path`, without waiting for the disk.
///
/// # Errors
/// Nothing was replaced.
pub fn replace_unsynced(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, content)?;
    fs::rename(temporary, path)
}

fn write_new(path: &Path, content: &[u8], rights: Rights) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    if let Some((user, group)) = rights.owner {
        fchown(&file, Some(user), Some(group))?;
    }
    // After the change of the owner, which takes the bits for other identities away.
    file.set_permissions(Permissions::from_mode(rights.mode))?;
    file.sync_all()
}
