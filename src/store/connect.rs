//! Opens the database.
//!
//! SQLite has one connection that writes and a few that read: a pool of writers would fail most of its
//! transactions with "database is locked". PostgreSQL has one pool for both.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use sea_orm::{SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::{
    ConnectOptions as _, Connection as _,
    pool::PoolOptions,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio_util::task::TaskTracker;

use super::{
    Error, Store,
    changes::Announcer,
    pool::{Deaths, Pool},
    writer::Writer,
};

/// Another process (a backup, a shell) may hold SQLite's lock this long.
const SQLITE_BUSY: Duration = Duration::from_secs(10);

/// A connection that lay idle this long is tried before it is used, and sooner after [`Deaths`]; trying each
/// time costs a round trip a call.
const TRUSTED_IDLE: Duration = Duration::from_secs(30);

/// SQLite's readers beside the one writer.
const SQLITE_READERS: u32 = 4;

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it is.
    pub url: DatabaseUrl,
    /// The most connections to PostgreSQL; SQLite has its own number.
    pub max_connections: u32,
    /// How long a call waits for a connection.
    pub acquire_timeout: Duration,
}

/// Where the database is. It prints without user, password and options.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Box<PgConnectOptions>),
}

// === impl DatabaseUrl ===

impl FromStr for DatabaseUrl {
    type Err = Error;

    /// Reads `sqlite://PATH` or `postgres://…`. The error never repeats the text: it may hold a password.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("sqlite://") {
            if path.is_empty() || path.contains(['?', '#']) {
                return Err(Error::Setup(
                    "the database URL must be sqlite://PATH without options".to_owned(),
                ));
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let options = text.parse::<PgConnectOptions>();
            return options.map(|options| Self::Postgres(Box::new(options))).map_err(
                |_hidden: sqlx::Error| {
                    Error::Setup("the database URL is not a valid postgres:// URL".to_owned())
                },
            );
        }
        Err(Error::Setup("the database URL must begin with sqlite:// or postgres://".to_owned()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(options) => write!(
                f,
                "postgres://{}:{}/{}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_default()
            ),
        }
    }
}

// === impl Store ===

impl Store {
    /// Opens the database. Its writer runs on `tasks` until the last clone of the store is dropped.
    ///
    /// # Errors
    /// [`Error::Setup`] with what to look at, when it cannot be opened.
    pub async fn open(config: &Config, tasks: &TaskTracker) -> Result<Self, Error> {
        match &config.url {
            DatabaseUrl::Sqlite(path) => open_sqlite(path, config, tasks).await,
            DatabaseUrl::Postgres(options) => open_postgres(options, config, tasks).await,
        }
    }
}

async fn open_sqlite(path: &std::path::Path, config: &Config, tasks: &TaskTracker) -> Result<Store, Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged write survives a power loss; group commit makes it affordable
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(SQLITE_BUSY)
        .foreign_keys(true)
        // What is deleted (data keys!) is overwritten, not only unlinked
        .pragma("secure_delete", "ON")
        // Pages, of each connection, in KiB; the system keeps the file in memory anyway
        .pragma("cache_size", "-2000")
        .disable_statement_logging();
    let cannot =
        |error: sqlx::Error| Error::Setup(format!("cannot open the database {}: {error}", path.display()));
    let writer = PoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options.clone())
        .await
        .map_err(cannot)?;
    let reader = PoolOptions::new()
        .max_connections(SQLITE_READERS)
        .acquire_timeout(config.acquire_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options.read_only(true).create_if_missing(false))
        .await
        .map_err(cannot)?;
    let writer = SqlxSqliteConnector::from_sqlx_sqlite_pool(writer);
    let reader = Pool::new(SqlxSqliteConnector::from_sqlx_sqlite_pool(reader), Deaths::default());
    let writer = Writer::queue(writer, tasks);
    Ok(Store::new(reader, writer, Announcer::Nobody, tasks))
}

async fn open_postgres(
    options: &PgConnectOptions,
    config: &Config,
    tasks: &TaskTracker,
) -> Result<Store, Error> {
    let options = options.clone().application_name("superserve").disable_statement_logging();
    let deaths = Deaths::default();
    let suspect = deaths.clone();
    let connections = PoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(config.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(move |connection: &mut sqlx::PgConnection, usage| {
            let is_suspect = usage.idle_for > TRUSTED_IDLE || suspect.may_concern(usage.idle_for);
            Box::pin(async move {
                if is_suspect {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options.clone())
        .await
        .map_err(|error| {
            let url = &config.url;
            Error::Setup(format!("cannot reach the database {url:?}: {error}"))
        })?;
    let pool = Pool::new(SqlxPostgresConnector::from_sqlx_postgres_pool(connections), deaths);
    let writer = Writer::Pool(pool.clone());
    let announcer = Announcer::postgres(pool.clone(), options, tasks);
    Ok(Store::new(pool, writer, announcer, tasks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_never_print_their_password() {
        let url: DatabaseUrl = "postgres://user:hunter2secret@db.example:5433/app".parse().unwrap();
        assert_eq!(format!("{url:?}"), "postgres://db.example:5433/app");
        for text in ["postgres://user:hunter2secret@[", "mysql://hunter2secret", "hunter2secret", "sqlite://"]
        {
            let error = text.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2secret"), "{error}");
        }
    }

    #[test]
    fn sqlite_urls_name_a_file() {
        let url: DatabaseUrl = "sqlite://./data/secrets.db".parse().unwrap();
        assert_eq!(format!("{url:?}"), "sqlite://./data/secrets.db");
        assert!("sqlite://x?mode=memory".parse::<DatabaseUrl>().is_err());
    }
}
