//! A backup in the place of the embedded database.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{BackupError, Held, contents, io_error, sync_directory, temporary::Temporary};
use crate::{
    app::{
        StartError,
        first_run::make_private_directory,
        keyring_file,
        reload::{key_set, remote_key},
    },
    config::Storage,
    crypto::Random,
    service::{Clock, fit_keys},
    store::{Contents, DatabaseUrl, Error, copy_database, has_orphaned_log, replace_database},
};

/// A backup that is in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The database.
    pub database: PathBuf,
    /// What it holds.
    pub held: Held,
    /// Where the database is that was there before.
    pub kept: Option<PathBuf>,
}

/// Where a backup comes from.
pub enum Origin<'o> {
    /// From a file.
    File(&'o Path),
    /// From whoever writes.
    Stream(Box<dyn Read + Send>),
}

// === impl Origin ===

impl fmt::Debug for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Puts a backup in the place of the embedded database, if it is whole and the keyring is the one that it needs. With
/// `replace` a database that is there, and that nobody has open, is kept under another name.
///
/// # Errors
/// [`StartError`]; nothing has changed then. With a PostgreSQL database it says what to do instead.
pub async fn restore(
    storage: &Storage,
    origin: Origin<'_>,
    replace: bool,
    progress: impl FnMut(u64, u64),
) -> Result<Restored, StartError> {
    let database = match &storage.store.url {
        DatabaseUrl::Sqlite(database) => database,
        url @ DatabaseUrl::Postgres(_) => {
            let file = match origin {
                Origin::File(path) => path.to_owned(),
                Origin::Stream(_) => PathBuf::from("secrets.dump"),
            };
            return Err(BackupError::RestoreInstead { file, url: format!("{url:?}") }.into());
        }
    };
    if has_orphaned_log(database) {
        return Err(BackupError::Orphaned(database.clone()).into());
    }
    let is_there = database.exists();
    if is_there && !replace {
        return Err(BackupError::InPlace(database.clone()).into());
    }
    if let Some(directory) = database.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        make_private_directory(directory)?;
    }
    let copy = Temporary::beside(database)?;
    match origin {
        Origin::File(path) => {
            File::open(path).map_err(|error| io_error(path, error))?;
            copy_database(path, copy.path(), progress).await?;
        }
        Origin::Stream(mut stream) => {
            let opened = File::options().write(true).open(copy.path());
            let mut file = opened.map_err(|error| io_error(copy.path(), error))?;
            // On a thread, as nobody knows when it ends
            let written = tokio::task::spawn_blocking(move || io::copy(&mut stream, &mut file)).await;
            let written = written.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            written.map_err(|error| io_error(copy.path(), error))?;
        }
    }
    let found = contents(copy.path()).await?;
    check(storage, &found).await?;
    copy.make_durable()?;
    let kept = is_there.then(|| kept_as(database));
    match &kept {
        Some(kept) => {
            replace_database(copy.path(), database, kept)?;
            sync_directory(database)?;
        }
        None => copy.put(database)?,
    }
    Ok(Restored { database: database.clone(), held: found.into(), kept })
}

/// Goes on if a server with these settings could use such a database.
async fn check(storage: &Storage, found: &Contents) -> Result<(), StartError> {
    if let Some(why) = found.schema.too_new() {
        return Err(Error::Setup(why).into());
    }
    let keys = key_set(remote_key(storage)?, keyring_file::load(&storage.keyring)?, &Random::new());
    fit_keys(found.keys.clone(), &found.usage, keys.as_ref()).await?;
    Ok(())
}

/// What the database is called that gives way: by the time in microseconds, so that no other one has that name.
fn kept_as(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(format!(".replaced-{}", Clock::system().now().0));
    path.into()
}
