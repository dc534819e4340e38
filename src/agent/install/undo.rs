//! Files that are written, and written back when the installation fails.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::agent::file::{Rights, replace};

/// A file's content and rights; `None` when there was no file.
type Before = Option<(Vec<u8>, Rights)>;

/// The files that were changed, with what was there before.
#[derive(Debug, Default)]
pub(super) struct Changes {
    done: Vec<(PathBuf, Before)>,
    folders: Vec<PathBuf>,
}

impl Changes {
    /// Whether nothing was changed.
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Creates a folder, which is removed again when the installation fails.
    pub(super) fn folder(&mut self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        fs::create_dir(path)?;
        self.folders.push(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    }

    /// Writes `content` to `path`, unless it is there already with this mode. A reader sees the old file or the new one.
    /// Returns whether it wrote.
    pub(super) fn write(&mut self, path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
        let before = read(path)?;
        if before.as_ref().is_some_and(|(old, rights)| old == content && rights.mode == mode) {
            return Ok(false);
        }
        self.done.push((path.to_owned(), before));
        replace(path, content, Rights::own(mode))?;
        Ok(true)
    }

    /// Writes back what was there before. A file that cannot be written back is named.
    pub(super) fn undo(self) -> Vec<String> {
        let restore = |(path, before): (PathBuf, Before)| {
            let restored = match before {
                Some((content, rights)) => replace(&path, &content, rights),
                None => fs::remove_file(&path),
            };
            restored.err().map(|error| format!("{}: {error}", path.display()))
        };
        let failed = self.done.into_iter().rev().filter_map(restore).collect();
        // One that is not empty was used by others meanwhile.
        self.folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        failed
    }
}

fn read(path: &Path) -> io::Result<Before> {
    match fs::read(path) {
        Ok(content) => Ok(Some((content, Rights::of(&fs::metadata(path)?)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_failed_installation_leaves_files_and_folders_as_they_were() {
        let root = std::env::temp_dir().join(format!("vigie-undo-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let (old, new) = (root.join("old"), root.join("folder/new"));
        fs::write(&old, "before").unwrap();
        fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
        // Only root can give a file away: before systemd 247 the token belongs to the group of the agent.
        let group = if rustix::process::geteuid().is_root() { 65_532 } else { rustix::process::getegid().as_raw() };
        std::os::unix::fs::chown(&old, None, Some(group)).unwrap();

        let mut changes = Changes::default();
        assert!(!changes.write(&old, b"before", 0o640).unwrap(), "the same content and mode is no change");
        assert!(changes.is_empty());
        changes.folder(&root.join("folder")).unwrap();
        assert!(changes.write(&old, b"after", 0o600).unwrap());
        assert!(changes.write(&new, b"secret", 0o600).unwrap());
        assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&old).unwrap(), b"after");

        assert_eq!(changes.undo(), Vec::<String>::new());
        assert_eq!(fs::read(&old).unwrap(), b"before");
        assert_eq!(fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(&old).unwrap().gid(), group, "its group reads it again");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "neither the new file nor its folder nor a temporary one");
        fs::remove_dir_all(root).unwrap();
    }
}
