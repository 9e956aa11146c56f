//! A backup of the embedded database while a server uses it. The keyring is in none: who has a backup alone has nothing.

mod restore;
mod temporary;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

pub use restore::{Origin, Restored, restore};

use super::{StartError, first_run::require_database};
use crate::{
    config::Storage,
    crypto::check_value_fingerprint,
    store::{Care, Contents, DatabaseUrl, Error, copy_database},
};
use temporary::Temporary;

/// Why no backup is made, or none is put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL has programs for it.
    #[error(
        "a PostgreSQL database is backed up by PostgreSQL's own program: pg_dump --format=custom --no-owner \
         --file={} --dbname='{url}', which takes user and password from PGUSER and PGPASSWORD or from ~/.pgpass", file.display()
    )]
    DumpInstead {
        /// Where to.
        file: PathBuf,
        /// The database, without user and password.
        url: String,
    },
    /// PostgreSQL has programs for it.
    #[error(
        "a PostgreSQL database is restored by PostgreSQL's own program, into an empty database and while no server runs: \
         pg_restore --no-owner --single-transaction --dbname='{url}' {}, which takes user and password from PGUSER and \
         PGPASSWORD or from ~/.pgpass", file.display()
    )]
    RestoreInstead {
        /// From where.
        file: PathBuf,
        /// The database, without user and password.
        url: String,
    },
    /// Something is there already.
    #[error("{} is there already: name another file, or give --overwrite", .0.display())]
    Exists(PathBuf),
    /// That is the database.
    #[error("{} is the database itself: name another file", .0.display())]
    Itself(PathBuf),
    /// A database is there already.
    #[error(
        "there is a database at {} already: give --replace to have the backup in its place, and what is there kept beside \
         it under another name", .0.display()
    )]
    InPlace(PathBuf),
    /// A log whose database is gone.
    #[error(
        "there is no database at {}, but a log of one ({}-wal), which would be taken for the backup's: move that away, and \
         run this again", .0.display(), .0.display()
    )]
    Orphaned(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// A backup that was made, and looked at again.
#[derive(Debug)]
pub struct BackedUp {
    /// Its size in bytes.
    pub bytes: u64,
    /// What it holds.
    pub held: Held,
    /// The backup itself, where it has no name.
    pub file: Option<File>,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The newest migration of its schema.
    pub schema: String,
    /// How many tenants.
    pub tenants: u64,
    /// How many agents.
    pub agents: u64,
    /// How many secrets.
    pub secrets: u64,
    /// Id and fingerprint of each key that it needs, and how many agents need it.
    pub keys: Vec<(String, String, u64)>,
}

/// Where a backup goes.
#[derive(Clone, Copy, Debug)]
pub enum Target<'t> {
    /// Into a file.
    File {
        /// Its name.
        path: &'t Path,
        /// Whether one that is there may be overwritten.
        overwrite: bool,
    },
    /// Into a file beside the database that has no name, for whoever reads it.
    Nameless,
}

/// Makes a backup of the embedded database, which has all that was acknowledged before this is called. It is there as a
/// whole or not at all. `progress` is told how many pages are copied, and of how many.
///
/// # Errors
/// [`StartError`]; also with a PostgreSQL database, where it says what to do instead.
pub async fn backup(
    storage: &Storage,
    target: Target<'_>,
    progress: impl FnMut(u64, u64),
) -> Result<BackedUp, StartError> {
    let database = match &storage.store.url {
        DatabaseUrl::Sqlite(database) => database,
        url @ DatabaseUrl::Postgres(_) => {
            let file = match target {
                Target::File { path, .. } => path.to_owned(),
                Target::Nameless => PathBuf::from("secrets.dump"),
            };
            return Err(BackupError::DumpInstead { file, url: format!("{url:?}") }.into());
        }
    };
    require_database(storage)?;
    if let Target::File { path, overwrite: false } = target
        && path.exists()
    {
        return Err(BackupError::Exists(path.to_owned()).into());
    }
    if let Target::File { path, .. } = target
        && is_same(path, database)
    {
        return Err(BackupError::Itself(path.to_owned()).into());
    }
    let beside = match target {
        Target::File { path, .. } => path,
        Target::Nameless => database.as_path(),
    };
    let copy = Temporary::beside(beside)?;
    copy_database(database, copy.path(), progress).await?;
    let held = Held::of(copy.path()).await?;
    let bytes = copy.make_durable()?;
    let file = match target {
        Target::File { path, overwrite: true } => copy.replace(path).map(|()| None)?,
        Target::File { path, overwrite: false } => copy.put(path).map(|()| None)?,
        Target::Nameless => Some(File::open(copy.path()).map_err(|error| io_error(copy.path(), error))?),
    };
    Ok(BackedUp { bytes, held, file })
}

// === impl Held ===

impl Held {
    /// Looks at a whole file.
    async fn of(path: &Path) -> Result<Self, Error> {
        Ok(Self::from(contents(path).await?))
    }
}

impl From<Contents> for Held {
    fn from(contents: Contents) -> Self {
        let Contents { schema, tenants, agents, secrets, keys, usage, .. } = contents;
        let agents_of = |id| usage.iter().find(|(used, _)| used == id).map_or(0, |(_, agents)| *agents);
        let keys = keys
            .iter()
            .map(|key| (key.id.to_string(), check_value_fingerprint(&key.check_value), agents_of(&key.id)));
        // What wraps nothing is needed by nobody
        let keys = keys.filter(|(.., agents)| *agents > 0).collect();
        Self { schema: schema.newest().to_owned(), tenants, agents, secrets, keys }
    }
}

/// Reads all of a file, on a thread that may take its time.
async fn contents(path: &Path) -> Result<Contents, Error> {
    let path = path.to_owned();
    let looked = tokio::task::spawn_blocking(move || Contents::of(&path, Care::Whole));
    looked.await.unwrap_or_else(|_panic| Err(Error::Setup("the backup could not be looked at".to_owned())))
}

/// Whether two names are of one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let inode = |path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((inode(one), inode(other)), (Ok(one), Ok(other)) if one == other)
}

fn io_error(path: &Path, error: io::Error) -> BackupError {
    BackupError::Io { path: path.to_owned(), error }
}

/// Has the names in the directory of a file survive a loss of power.
fn sync_directory(path: &Path) -> Result<(), BackupError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| io_error(directory, error))
}

/// Takes a file away that may not be there.
fn remove(path: &Path) {
    // What matters was said already
    drop(fs::remove_file(path));
}
