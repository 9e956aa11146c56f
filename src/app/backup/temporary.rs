//! A file on its way: private, beside the place where it will be, and gone if it does not get there.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{BackupError, io_error, remove, sync_directory};

/// A file that is removed when this is dropped, with what SQLite may have put beside it.
#[derive(Debug)]
pub(super) struct Temporary(PathBuf);

// === impl Temporary ===

impl Temporary {
    /// Makes an empty file that only its owner can read.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub(super) fn beside(place: &Path) -> Result<Self, BackupError> {
        let mut path = place.as_os_str().to_owned();
        path.push(format!(".{}.new", std::process::id()));
        let path = PathBuf::from(path);
        // What has this name is of a process of the same number that was killed
        remove(&path);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.map(|_empty| Self(path.clone())).map_err(|error| io_error(&path, error))
    }

    /// Its name.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Waits until it is on the disk, and says how many bytes it has.
    pub(super) fn make_durable(&self) -> Result<u64, BackupError> {
        let synced = File::open(&self.0).and_then(|file| file.sync_all().and_then(|()| file.metadata()));
        synced.map(|metadata| metadata.len()).map_err(|error| io_error(&self.0, error))
    }

    /// Puts it where nothing is.
    pub(super) fn put(&self, place: &Path) -> Result<(), BackupError> {
        // Unlike a rename, a link never replaces what another process has put there
        fs::hard_link(&self.0, place).map_err(|error| io_error(place, error))?;
        sync_directory(place)
    }

    /// Puts it in the place of what is there.
    pub(super) fn replace(&self, place: &Path) -> Result<(), BackupError> {
        fs::rename(&self.0, place).map_err(|error| io_error(place, error))?;
        sync_directory(place)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.0.as_os_str().to_owned();
            path.push(suffix);
            remove(Path::new(&path));
        }
    }
}
