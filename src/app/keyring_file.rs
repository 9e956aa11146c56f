//! The keyring in its file: mode 0600 unless somebody has given it another, replaced as a whole or not at all.
//!
//! What takes its place belongs to whom it belonged: a server that runs as another user than the operator reads it on.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::reload::key_set;
use crate::{
    config::Storage,
    crypto::{CryptoError, Keyring, KeyringError, Random},
    service::{Clock, Error, KeySet, KeyUse, RemoteKey, survey_keys},
    store::{DatabaseUrl, Store},
};

/// Why there is no keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringFileError {
    /// The file is not there, and none may be made.
    #[error(
        "there is no keyring at {}: make one with `superserve keys generate --keyring {}`, keep a copy of it \
         apart from the database, and give it with --keyring", .0.display(), .0.display()
    )]
    Missing(PathBuf),
    /// The file is gone, but the database was written with its keys.
    #[error(
        "there is no keyring at {}, but the database was written with keys: it needs {needed}. Without them its secrets \
         cannot be read. Put the keyring file back, or give its place with --keyring", path.display()
    )]
    Lost {
        /// Where it was looked for.
        path: PathBuf,
        /// The keys that the database needs, each with its fingerprint.
        needed: String,
    },
    /// The file is no keyring.
    #[error("the keyring {} (--keyring) cannot be used: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: KeyringError,
    },
    /// The file cannot be read or written.
    #[error("the keyring {} (--keyring): {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No key could be made.
    #[error("{0}")]
    Crypto(#[from] CryptoError),
    /// The database could not be asked.
    #[error("{0}")]
    Database(#[from] Error),
}

/// Waits until nobody else changes the keyring, until this is dropped. It is the directory that is locked: the file is
/// another one after each change.
///
/// # Errors
/// [`KeyringFileError::Io`].
pub(super) fn lock(path: &Path) -> Result<File, KeyringFileError> {
    let file = real(path).unwrap_or_else(|_not_there| path.to_owned());
    let locked = File::open(directory_of(&file)).and_then(|directory| directory.lock().map(|()| directory));
    locked.map_err(|error| KeyringFileError::Io { path: path.to_owned(), error })
}

/// The file itself, where a path leads to it by links.
fn real(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads the keyring; `None` if there is no file.
///
/// # Errors
/// [`KeyringFileError`].
pub(super) fn load(path: &Path) -> Result<Option<Keyring>, KeyringFileError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyringFileError::Io { path: path.to_owned(), error }),
    };
    let keyring = Keyring::parse(&bytes);
    keyring.map(Some).map_err(|error| KeyringFileError::Unusable { path: path.to_owned(), error })
}

/// Writes a new keyring; a file that is there already stays as it is.
///
/// # Errors
/// [`KeyringFileError::Io`].
pub(super) fn create(path: &Path, keyring: &Keyring) -> Result<(), KeyringFileError> {
    write(path, keyring, None, |temporary| {
        // Unlike a rename, a link never replaces what another process has put there
        fs::hard_link(temporary, path)?;
        fs::remove_file(temporary)
    })
}

/// Writes a keyring in the place of the one that is there, with the owner and the mode of that.
///
/// # Errors
/// [`KeyringFileError::Io`], also when it belongs to somebody else and cannot be given to him; it stays as it is then.
pub(super) fn replace(path: &Path, keyring: &Keyring) -> Result<(), KeyringFileError> {
    let failed = |error| KeyringFileError::Io { path: path.to_owned(), error };
    let file = real(path).map_err(failed)?;
    let before = fs::metadata(&file).map_err(failed)?;
    write(&file, keyring, Some(&before), |temporary| fs::rename(temporary, &file))
}

fn write(
    path: &Path,
    keyring: &Keyring,
    like: Option<&Metadata>,
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), KeyringFileError> {
    write_private(path, &keyring.to_json(), like, put)
        .map_err(|error| KeyringFileError::Io { path: path.to_owned(), error })
}

/// Writes a file that only its owner can read, or who could read the one that it is to be `like`, so that it is there as a
/// whole after a crash or not at all.
pub(super) fn write_private(
    path: &Path,
    content: &[u8],
    like: Option<&Metadata>,
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let directory = directory_of(path);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = directory.join(name);
    let written = open_new(&temporary)
        .and_then(|mut file| {
            like.map_or(Ok(()), |like| make_like(&file, like))?;
            file.write_all(content).and_then(|()| file.sync_all())
        })
        .and_then(|()| put(&temporary))
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        // It may not be there; what matters is said already
        drop(fs::remove_file(&temporary));
    }
    written
}

/// A file that was not there: nothing is followed, and nobody has opened it.
fn open_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    match options.open(path) {
        // A process of this id was killed as it wrote
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)
        }
        opened => opened,
    }
}

fn make_like(file: &File, like: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        fchown(file, Some(like.uid()), Some(like.gid())).map_err(|error| {
            let (uid, gid) = (like.uid(), like.gid());
            let why = format!("it belongs to the user {uid} and the group {gid}, who could not read it any more: run this as that user, or as root ({error})");
            io::Error::new(error.kind(), why)
        })?;
    }
    file.set_permissions(like.permissions())
}

/// Reads the keyring, which nobody needs where a provider outside wraps. With the embedded database, the first start makes it; a database that was written
/// with keys never gets new ones instead.
pub(super) async fn load_or_create(
    storage: &Storage,
    remote: Option<RemoteKey>,
    store: &Store,
    random: &Random,
    clock: &Clock,
) -> Result<KeySet, KeyringFileError> {
    let path = &storage.keyring;
    if let Some(keys) = key_set(remote.clone(), load(path)?, random) {
        return Ok(keys);
    }
    let known = survey_keys(store, None).await?;
    if !known.is_empty() {
        // One of a provider that is to be left for a keyring is not lost: there is none yet
        let needed: Vec<_> = needed(&known).collect();
        let is_to_be_made = needed.iter().all(|key| remote.as_ref().is_some_and(|it| it.id == key.id));
        return Err(if is_to_be_made {
            KeyringFileError::Missing(path.clone())
        } else {
            KeyringFileError::Lost { path: path.clone(), needed: name_all(&needed) }
        });
    }
    match storage.store.url {
        DatabaseUrl::Postgres(_) => Err(KeyringFileError::Missing(path.clone())),
        DatabaseUrl::Sqlite(_) => {
            let keyring = Keyring::generate(random, clock.now())?;
            create(path, &keyring)?;
            tracing::info!(path = %path.display(), key = %keyring.primary().id(), "keyring made: back it up, apart from the database");
            Ok(KeySet::of_keyring(keyring, random))
        }
    }
}

/// The keys that wrap agents' data keys, and the one in use.
fn needed(known: &[KeyUse]) -> impl Iterator<Item = &KeyUse> {
    let in_use = known.iter().filter(|key| key.primary_since.is_some()).max_by_key(|key| key.primary_since);
    let in_use = in_use.map(|key| &key.id);
    let is_needed = move |key: &&KeyUse| key.agents > 0 || in_use.is_none_or(|id| *id == key.id);
    known.iter().filter(is_needed)
}

fn name_all(keys: &[&KeyUse]) -> String {
    let name = |key: &&KeyUse| {
        format!("{} of the fingerprint {} (for {} agent(s))", key.id, key.fingerprint, key.agents)
    };
    keys.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_keyring_is_private_and_never_overwritten_by_create() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        assert!(load(&path).unwrap().is_none());
        let random = Random::new();
        let first = Keyring::generate(&random, Clock::system().now()).unwrap();
        create(&path, &first).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = Keyring::generate(&random, Clock::system().now()).unwrap();
        assert!(create(&path, &second).is_err());
        assert_eq!(load(&path).unwrap().unwrap().primary().id(), first.primary().id());
        replace(&path, &second).unwrap();
        assert_eq!(load(&path).unwrap().unwrap().primary().id(), second.primary().id());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_in_the_way_of_a_new_file_is_not_followed_and_lends_it_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("keyring.json"), directory.path().join("other"));
        let temporary = directory.path().join(format!("keyring.json.{}.new", std::process::id()));
        let keyring = Keyring::generate(&Random::new(), Clock::system().now()).unwrap();
        fs::write(&other, "untouched").unwrap();
        symlink(&other, &temporary).unwrap();
        create(&path, &keyring).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"untouched");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());

        fs::write(&temporary, "left over").unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o666)).unwrap();
        replace(&path, &keyring).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(load(&path).unwrap().is_some() && !temporary.exists());
    }

    #[test]
    fn a_link_to_a_keyring_stays_one_and_the_mode_that_somebody_gave_it() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file.json"), directory.path().join("link.json"));
        let mut keyring = Keyring::generate(&Random::new(), Clock::system().now()).unwrap();
        create(&file, &keyring).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file.json", &link).unwrap();
        keyring.add_key(&Random::new(), Clock::system().now()).unwrap();
        let _locked = lock(&link).unwrap();
        replace(&link, &keyring).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(load(&file).unwrap().unwrap().entries().count(), 2);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
