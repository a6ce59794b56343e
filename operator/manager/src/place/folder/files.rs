//! Writing into a folder that a gateway reads at the same time: whole files, and one writer at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// A file that did not exist is for its owner alone.
const PRIVATE: u32 = 0o600;

/// Held by the one process of ours that may change a folder; given back when dropped.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _dir: File,
}

impl FolderLock {
    /// Waits until no other process of ours changes the folder.
    pub(crate) fn take(dir: &Path) -> io::Result<Self> {
        let file = File::open(dir)?;
        file.lock()?;
        Ok(Self { _dir: file })
    }
}

/// Replaces a file as a whole: a gateway that reads the folder at this moment sees the old one or the new one.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "the file must have a name in a folder");
    let (dir, name) = (path.parent().ok_or_else(missing)?, path.file_name().ok_or_else(missing)?);
    let mode = match std::fs::symlink_metadata(path) {
        Ok(data) if data.is_symlink() => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a link: change the file that it leads to"));
        }
        Ok(data) => data.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => PRIVATE,
        Err(error) => return Err(error),
    };
    let temporary = dir.join(format!(".{}.new", name.to_string_lossy()));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(PRIVATE).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions_and_a_link_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.yaml");
        write(&path, "one").expect("written");
        let mode = |path: &Path| std::fs::metadata(path).expect("data").permissions().mode() & 0o777;
        assert_eq!(mode(&path), PRIVATE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
        write(&path, "two").expect("written");
        assert_eq!((mode(&path), std::fs::read_to_string(&path).expect("read").as_str()), (0o640, "two"));
        let link = folder.path().join("link.yaml");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(write(&link, "three").is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "two");
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 2, "nothing is left over");
    }

    #[test]
    fn one_writer_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = FolderLock::take(folder.path()).expect("held");
        let other = File::open(folder.path()).expect("opened");
        assert!(other.try_lock().is_err());
        drop(held);
        assert!(other.try_lock().is_ok());
    }
}
