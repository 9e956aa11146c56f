//! Opens the database.
//!
//! SQLite has one connection that writes and a few that read (`sqlite`): a pool of writers would fail most of its
//! transactions with "database is locked". PostgreSQL has one pool for both.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, pool::PoolOptions, postgres::PgConnectOptions};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::{
    Error, Store,
    changes::Announcer,
    engine::Engine,
    hosts::{Hosts, expect_writable},
    kept::Kept,
    line::{Lines, Moves},
    measures::Measures,
    pool::{Deaths, Pool},
    scout::Scout,
    sqlite,
};

/// A connection that lay idle this long is tried before it is used, and sooner after [`Deaths`]; trying each
/// time costs a round trip a call.
const TRUSTED_IDLE: Duration = Duration::from_secs(30);

/// The pause before the servers of a database are asked again which of them takes writes.
const SEARCH_EVERY: Duration = Duration::from_millis(200);

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it is.
    pub url: DatabaseUrl,
    /// The most connections to PostgreSQL; SQLite has its own number.
    pub max_connections: u32,
    /// How long a call waits for a connection, and for a database that is between two servers.
    pub acquire_timeout: Duration,
    /// How long a statement may take on PostgreSQL until its connection counts as lost: no shorter than anybody waits
    /// for it, as it may be waiting for a lock.
    pub statement_timeout: Duration,
    /// Whether word of changes goes by LISTEN/NOTIFY, on PostgreSQL.
    pub notifications: bool,
    /// Whether calls about several agents may share a statement, on PostgreSQL.
    pub batching: bool,
}

/// Where the database is. It prints without user, password and options.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server, or several of which one takes writes.
    Postgres(Hosts),
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
            return text.parse().map(Self::Postgres);
        }
        Err(Error::Setup("the database URL must begin with sqlite:// or postgres://".to_owned()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(hosts) => hosts.fmt(f),
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
            DatabaseUrl::Sqlite(path) => open_sqlite(path, config, tasks),
            DatabaseUrl::Postgres(hosts) => open_postgres(hosts, config, tasks).await,
        }
    }
}

fn open_sqlite(path: &Path, config: &Config, tasks: &TaskTracker) -> Result<Store, Error> {
    let measures = Measures::default();
    let (readers, queue) = sqlite::open(path, config.acquire_timeout, &measures, tasks)?;
    // A statement costs little, so that there is nothing to be had by sharing it
    let batching = false;
    let (reader, writer) = (Engine::Sqlite(readers), Engine::Sqlite(queue));
    Ok(Store::new(reader, writer, Announcer::Nobody, measures, batching, tasks))
}

async fn open_postgres(hosts: &Hosts, config: &Config, tasks: &TaskTracker) -> Result<Store, Error> {
    let hosts =
        hosts.clone().map(|options| options.application_name("superserve").disable_statement_logging());
    let cannot = |error: sqlx::Error| {
        let url = &config.url;
        Error::Setup(format!("cannot reach the database {url:?} (--database-url): {error}"))
    };
    let deaths = Deaths::default();
    let (teller, moves) = watch::channel(None);
    let (pool, scout) = if let [only] = hosts.all() {
        let options = pool_options(config, &deaths, &moves);
        (options.connect_with(only.clone()).await.map_err(cannot)?, None)
    } else {
        let (host, post) = find(&hosts, config.acquire_timeout).await.map_err(cannot)?;
        let options = pool_options(config, &deaths, &moves);
        let pool = options.connect_with(host.clone()).await.map_err(cannot)?;
        let (call, calls) = mpsc::channel(1);
        let scout = Scout { hosts, host, pool: pool.clone(), deaths: deaths.clone(), moved: teller };
        tasks.spawn(scout.follow(post, calls));
        (pool, Some(call))
    };
    let measures = Measures::default();
    let shares = Shares::of(config.max_connections as usize);
    let lines = Lines {
        pool: pool.clone(),
        moves: moves.clone(),
        limit: config.statement_timeout,
        tasks: tasks.clone(),
        measures: measures.clone(),
    };
    let kept = Kept::new(lines.clone(), shares.statements, config.acquire_timeout);
    let reader = Pool::new(lines, kept, shares.transactions, deaths, config.acquire_timeout, scout);
    let announcer = if config.notifications {
        Announcer::postgres(reader.clone(), pool, moves, tasks)
    } else {
        Announcer::Nobody
    };
    let (reader, writer) = (Engine::Postgres(reader.clone()), Engine::Postgres(reader));
    Ok(Store::new(reader, writer, announcer, measures, config.batching, tasks))
}

/// How many connections are for what, so that nothing has to wait until all of something else is done. One more listens, and
/// one asks for readiness.
struct Shares {
    /// Each for a statement at a time.
    statements: usize,
    /// Each for a transaction, which may wait for a lock.
    transactions: usize,
}

impl Shares {
    fn of(all: usize) -> Self {
        let statements = (all / 2).max(1);
        Self { statements, transactions: all.saturating_sub(statements + 2).max(1) }
    }
}

/// Waits for a server that takes writes.
pub(super) async fn find(
    hosts: &Hosts,
    limit: Duration,
) -> Result<(PgConnectOptions, PgConnection), sqlx::Error> {
    let until = Instant::now() + limit;
    loop {
        match hosts.primary().await {
            Err(_) if Instant::now() < until => tokio::time::sleep(SEARCH_EVERY).await,
            outcome => return outcome,
        }
    }
}

fn pool_options(config: &Config, deaths: &Deaths, moves: &Moves) -> PoolOptions<sqlx::Postgres> {
    let (deaths, moves, limit) = (deaths.clone(), moves.clone(), config.statement_timeout);
    PoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(config.acquire_timeout)
        .test_before_acquire(false)
        // A proxy may still lead to the server that was the right one a moment ago
        .after_connect(move |connection, _usage| {
            Box::pin(async move {
                expect_writable(connection).await?;
                prepare(connection, limit).await;
                Ok(())
            })
        })
        .before_acquire(move |connection, usage| {
            // The server before may be one that would have to be waited for
            let is_left = moves.borrow().is_some_and(|at| usage.age > at.elapsed());
            let is_suspect = usage.idle_for > TRUSTED_IDLE || deaths.may_concern(usage.idle_for);
            let deaths = deaths.clone();
            Box::pin(async move {
                if is_left {
                    return Ok(false);
                }
                if is_suspect {
                    expect_writable(connection).await.inspect_err(|_dead| deaths.note())?;
                }
                Ok(true)
            })
        })
}

/// What our connections are set to, each of which what speaks PostgreSQL may not know; it then does as it likes.
///
/// A prepared statement is planned once: for the arrays that we ask with PostgreSQL takes a plan of each call's own for the
/// cheaper one, and planning then takes several times as long as the look-up in an index that comes out of it. It is not
/// compiled either, which PostgreSQL does for each call anew where its plan looks dear: a table that was not analyzed yet
/// is enough, and takes milliseconds. And what nobody waits for any more ends on the server too, also where it waits for a
/// lock.
async fn prepare(connection: &mut PgConnection, limit: Duration) {
    let limit = format!("SET statement_timeout = {}", limit.as_millis());
    for setting in ["SET plan_cache_mode = force_generic_plan", "SET jit = off", &limit] {
        let set = sqlx::raw_sql(AssertSqlSafe(setting.to_owned())).execute(&mut *connection).await;
        if let Err(error) = set {
            tracing::debug!(%error, setting, "a setting is not known");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_never_print_their_password() {
        let url: DatabaseUrl = "postgres://user:hunter2secret@db.example:5433/app".parse().unwrap();
        assert_eq!(format!("{url:?}"), "postgres://db.example:5433/app");
        let url: DatabaseUrl = "postgres://user:hunter2secret@one,two:5433/app".parse().unwrap();
        assert_eq!(format!("{url:?}"), "postgres://one:5432,two:5433/app");
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
