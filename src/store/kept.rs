//! Connections that are kept between statements.
//!
//! Each time a connection comes back to the driver's pool, the pool asks it for a sign of life: one round trip more
//! for each statement. What is in use all the time is kept here instead, and
//! given back now and then, so that the pool still gets to look at it.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sea_orm::{ConnAcquireErr, DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, PgPool, Postgres, pool::PoolConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{error::is_lost, pool::Deaths};

/// For so long a connection is kept from the pool at most.
const KEPT_FOR: Duration = Duration::from_secs(20);

/// Connections that are kept.
pub(super) struct Kept {
    pool: PgPool,
    /// Who may have one. Nobody waits at the pool for what is kept here: there are no more of these than the pool has
    /// connections.
    places: Semaphore,
    /// How long a place and a connection are waited for.
    patience: Duration,
    free: Mutex<Vec<Line>>,
}

/// A connection, and since when it is kept, and unused.
struct Line {
    connection: PoolConnection<Postgres>,
    kept_since: Instant,
    idle_since: Instant,
}

/// A connection in use.
struct InUse<'k> {
    line: Line,
    _place: SemaphorePermit<'k>,
}

// === impl Kept ===

impl Kept {
    /// Keeps at most so many, of more that the pool has or as many.
    pub(super) fn new(pool: PgPool, most: usize, patience: Duration) -> Self {
        Self { pool, places: Semaphore::new(most), patience, free: Mutex::default() }
    }

    pub(super) async fn query(
        &self,
        statement: Statement,
        deaths: &Deaths,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let mut used = self.take(deaths).await?;
        let (text, values) = parts(statement);
        let rows = sqlx::query_with(text, values).fetch_all(&mut *used.line.connection).await;
        let outcome = rows.map(|rows| rows.into_iter().map(QueryResult::from).collect()).map_err(failed);
        self.put_back(used, outcome.as_ref().err());
        outcome
    }

    pub(super) async fn execute(&self, statement: Statement, deaths: &Deaths) -> Result<ExecResult, DbErr> {
        let mut used = self.take(deaths).await?;
        let (text, values) = parts(statement);
        let done = sqlx::query_with(text, values).execute(&mut *used.line.connection).await;
        let outcome = done.map(ExecResult::from).map_err(failed);
        self.put_back(used, outcome.as_ref().err());
        outcome
    }

    async fn take(&self, deaths: &Deaths) -> Result<InUse<'_>, DbErr> {
        let taken = async {
            let place =
                self.places.acquire().await.map_err(|_closed| not_acquired(sqlx::Error::PoolClosed))?;
            let line = match self.trusted(deaths) {
                Some(line) => line,
                None => self.new_line().await.map_err(not_acquired)?,
            };
            Ok(InUse { line, _place: place })
        };
        let taken = tokio::time::timeout(self.patience, taken).await;
        taken.unwrap_or_else(|_elapsed| Err(not_acquired(sqlx::Error::PoolTimedOut)))
    }

    /// One that is kept. What is dropped on the way goes to the pool, which looks at it.
    fn trusted(&self, deaths: &Deaths) -> Option<Line> {
        let mut free = self.free();
        while let Some(line) = free.pop() {
            if !line.is_suspect(deaths) {
                return Some(line);
            }
        }
        None
    }

    async fn new_line(&self) -> Result<Line, sqlx::Error> {
        let connection = self.pool.acquire().await?;
        let now = Instant::now();
        Ok(Line { connection, kept_since: now, idle_since: now })
    }

    fn put_back(&self, InUse { mut line, _place }: InUse<'_>, error: Option<&DbErr>) {
        line.idle_since = Instant::now();
        if !error.is_some_and(is_lost) {
            self.free().push(line);
        }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

// === impl Line ===

impl Line {
    fn is_suspect(&self, deaths: &Deaths) -> bool {
        self.kept_since.elapsed() > KEPT_FOR || deaths.may_concern(self.idle_since.elapsed())
    }
}

/// A statement as the driver takes it. Its text is ours, and what comes from outside is bound.
fn parts(Statement { sql, values, .. }: Statement) -> (AssertSqlSafe<String>, SqlxValues) {
    (AssertSqlSafe(sql), SqlxValues(values.unwrap_or_else(|| sea_orm::Values(Vec::new()))))
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the driver's enum is open")]
fn not_acquired(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        other => DbErr::Conn(RuntimeErr::SqlxError(other.into())),
    }
}
