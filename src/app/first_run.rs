//! The first start: a place for everything, and a first token.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{StartError, keyring_file::write_private};
use crate::{
    config::Storage,
    crypto::Random,
    domain::TokenText,
    service::{Error, Service},
    store::DatabaseUrl,
};

/// The admin token that the first start makes.
#[derive(Debug)]
pub struct FirstToken {
    /// Its text, to be shown once.
    pub text: TokenText,
    /// The file that holds it.
    pub path: PathBuf,
}

/// Makes the data directory and the embedded database's file, readable by their owner only.
///
/// # Errors
/// An error that names what could not be made.
pub(super) fn prepare_directory(storage: &Storage) -> Result<(), io::Error> {
    let DatabaseUrl::Sqlite(database) = &storage.store.url else { return Ok(()) };
    let parent = database.parent().filter(|parent| !parent.as_os_str().is_empty());
    for directory in [Some(storage.data_dir.as_path()), parent].into_iter().flatten() {
        make_private_directory(directory)?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(database);
    file.map(drop).map_err(|error| named(database, &error))
}

/// Makes a directory that only its owner can enter; one that is there stays as it is.
///
/// # Errors
/// An error that names the directory.
pub(super) fn make_private_directory(directory: &Path) -> Result<(), io::Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| named(directory, &error))
}

/// Goes on if the embedded database is there: a command that only looks must not make one.
///
/// # Errors
/// An error that names the file.
pub(super) fn require_database(storage: &Storage) -> Result<(), io::Error> {
    match &storage.store.url {
        DatabaseUrl::Sqlite(path) if !path.exists() => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no database at {} (--database-url, --data-dir)", path.display()),
        )),
        DatabaseUrl::Sqlite(_) | DatabaseUrl::Postgres(_) => Ok(()),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot make {} (--data-dir, --database-url): {error}", path.display()),
    )
}

/// Makes sure that someone can call. A token that is given is added. Else the embedded database gets one
/// when it has none; it is in its file before the database knows it, so that a crash between the two loses
/// nothing.
pub(super) async fn ensure_admin(
    service: &Service,
    storage: &Storage,
    given: Option<TokenText>,
    random: &Random,
) -> Result<Option<FirstToken>, StartError> {
    if let Some(text) = given {
        service.add_admin(&text).await?;
        return Ok(None);
    }
    if service.has_tokens().await? {
        return Ok(None);
    }
    if let DatabaseUrl::Postgres(_) = storage.store.url {
        tracing::warn!(
            "no token exists and nobody can call: set SUPERSERVE_BOOTSTRAP_TOKEN (`superserve tokens generate` prints one)"
        );
        return Ok(None);
    }
    let path = storage.data_dir.join("admin-token");
    let text = match read_token(&path) {
        Some(text) => text,
        None => write_token(&path, random)?,
    };
    service.add_admin(&text).await?;
    Ok(Some(FirstToken { text, path }))
}

fn read_token(path: &Path) -> Option<TokenText> {
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).ok()?);
    TokenText::parse(text.trim_end()).ok()
}

fn write_token(path: &Path, random: &Random) -> Result<TokenText, StartError> {
    let text = random.token().map_err(Error::from)?;
    let line = zeroize::Zeroizing::new(format!("{}\n", text.expose()));
    write_private(path, line.as_bytes(), None, |temporary| fs::rename(temporary, path))
        .map_err(|error| named(path, &error))?;
    Ok(text)
}
