//! `~/.superserve/auth.json`: the token that `login` keeps.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{bounded, failure::Failure, random};

const DIRECTORY: &str = ".superserve";
const FILE: &str = "auth.json";

/// More than any token needs, in bytes.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// Who may read it: the owner.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
const OTHERS: u32 = 0o077;

/// Where the token is kept.
pub(crate) struct AuthFile {
    directory: PathBuf,
}

/// What was read.
pub(crate) struct Kept {
    /// The token.
    pub(crate) token: Zeroizing<String>,
    /// Others than the owner may read the file.
    pub(crate) is_exposed: bool,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Content {
    token: String,
}

// === impl AuthFile ===

impl AuthFile {
    /// The file of the person with this home directory.
    pub(crate) fn of_home(home: &Path) -> Self {
        Self { directory: home.join(DIRECTORY) }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// The token in it; `None` if there is no file.
    ///
    /// # Errors
    /// When it cannot be read or is something else.
    pub(crate) fn read(&self) -> Result<Option<Kept>, Failure> {
        let path = self.path();
        let bytes = match bounded::read_file(&path, MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(self.failed("read", &error)),
        };
        // The parser's own message may show a piece of the file
        let content: Content = serde_json::from_slice(&bytes).map_err(|_unshown| {
            Failure::local(format!("{} does not hold a token.", path.display()))
                .hint("Write it anew with `superserve login`, or remove it with `superserve logout`.")
        })?;
        let mode = fs::metadata(&path).map_err(|error| self.failed("read", &error))?.permissions().mode();
        Ok(Some(Kept { token: Zeroizing::new(content.token.clone()), is_exposed: mode & OTHERS != 0 }))
    }

    /// Keeps a token: all of the new file is there, or all of the old one, whatever happens.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, token: &str) -> Result<(), Failure> {
        let content = Content { token: token.to_owned() };
        let text = serde_json::to_vec(&content).map(Zeroizing::new);
        let text = text.map_err(|error| self.failed("write", &error.into()))?;
        let suffix = u64::from_le_bytes(random::bytes()?);
        let temporary = self.directory.join(format!(".{FILE}.{suffix:016x}"));
        let written = self.make_directory().and_then(|()| self.replace(&temporary, &text));
        written.map_err(|error| {
            // Left behind only if it was made; if it cannot be removed there is nothing better to do
            let _removed = fs::remove_file(&temporary);
            self.failed("write", &error)
        })
    }

    /// Removes the file. Says whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn remove(&self) -> Result<bool, Failure> {
        match fs::remove_file(self.path()) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(self.failed("remove", &error)),
        }
    }

    fn make_directory(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&self.directory)?;
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(DIRECTORY_MODE))
    }

    fn replace(&self, temporary: &Path, text: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(temporary)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(temporary, self.path())?;
        File::open(&self.directory)?.sync_all()
    }

    fn failed(&self, verb: &str, error: &io::Error) -> Failure {
        Failure::local(format!("Cannot {verb} {}: {error}.", self.path().display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_reads_what_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let file = AuthFile::of_home(home.path());
        assert!(file.read().unwrap().is_none());
        file.write("first").unwrap();
        file.write("second").unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), r#"{"token":"second"}"#);
        assert_eq!(mode(&file.path()), 0o600);
        assert_eq!(mode(&home.path().join(".superserve")), 0o700);
        let names: Vec<_> = fs::read_dir(home.path().join(".superserve")).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left behind");
        let kept = file.read().unwrap().unwrap();
        assert_eq!((kept.token.as_str(), kept.is_exposed), ("second", false));
    }

    #[test]
    fn wide_permissions_are_seen_and_narrowed() {
        let home = tempfile::tempdir().unwrap();
        let file = AuthFile::of_home(home.path());
        file.write("t").unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(home.path().join(".superserve"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(file.read().unwrap().unwrap().is_exposed);
        file.write("t").unwrap();
        assert_eq!(mode(&file.path()), 0o600);
        assert_eq!(mode(&home.path().join(".superserve")), 0o700);
    }

    #[test]
    fn a_broken_file_is_named_and_not_shown() {
        let home = tempfile::tempdir().unwrap();
        let file = AuthFile::of_home(home.path());
        file.write("t").unwrap();
        fs::write(file.path(), r#"{"token": "sentinel"#).unwrap();
        let message = file.read().err().unwrap().to_string();
        assert!(message.contains("auth.json") && !message.contains("sentinel"), "{message}");
    }

    #[test]
    fn removing_tells_whether_there_was_one() {
        let home = tempfile::tempdir().unwrap();
        let file = AuthFile::of_home(home.path());
        assert!(!file.remove().unwrap());
        file.write("t").unwrap();
        assert!(file.remove().unwrap());
        assert!(!file.path().exists());
    }
}
