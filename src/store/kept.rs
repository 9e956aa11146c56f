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

use sea_orm::{DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    error::is_lost,
    line::{Line, Lines, not_acquired},
    pool::Deaths,
};

/// For so long a connection is kept from the pool at most.
const KEPT_FOR: Duration = Duration::from_secs(20);

/// Connections that are kept.
pub(super) struct Kept {
    lines: Lines,
    /// Who may have one. Nobody waits at the pool for what is kept here: there are no more of these than the pool has
    /// connections.
    places: Semaphore,
    /// How long a place and a connection are waited for.
    patience: Duration,
    free: Mutex<Vec<KeptLine>>,
}

/// A connection, and since when it is kept, and unused.
struct KeptLine {
    line: Line,
    kept_since: Instant,
    idle_since: Instant,
}

/// A connection in use.
struct InUse<'k> {
    kept: KeptLine,
    _place: SemaphorePermit<'k>,
}

// === impl Kept ===

impl Kept {
    /// Keeps at most so many, of more that the pool has or as many.
    pub(super) fn new(lines: Lines, most: usize, patience: Duration) -> Self {
        Self { lines, places: Semaphore::new(most), patience, free: Mutex::default() }
    }

    pub(super) async fn query(
        &self,
        statement: Statement,
        deaths: &Deaths,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let mut used = self.take(deaths).await?;
        let outcome = used.kept.line.query(statement).await;
        self.put_back(used, outcome.as_ref().err());
        outcome
    }

    pub(super) async fn execute(&self, statement: Statement, deaths: &Deaths) -> Result<ExecResult, DbErr> {
        let mut used = self.take(deaths).await?;
        let outcome = used.kept.line.execute(statement).await;
        self.put_back(used, outcome.as_ref().err());
        outcome
    }

    /// How many of them nobody uses.
    pub(super) fn unused(&self) -> usize {
        self.free().len()
    }

    async fn take(&self, deaths: &Deaths) -> Result<InUse<'_>, DbErr> {
        let since = Instant::now();
        let taken = async {
            let place =
                self.places.acquire().await.map_err(|_closed| not_acquired(sqlx::Error::PoolClosed))?;
            let kept = match self.trusted(deaths) {
                Some(kept) => kept,
                None => KeptLine::from(self.lines.open().await?),
            };
            Ok(InUse { kept, _place: place })
        };
        let taken = tokio::time::timeout(self.patience, taken).await;
        self.lines.measures.wait(since.elapsed());
        taken.unwrap_or_else(|_elapsed| Err(not_acquired(sqlx::Error::PoolTimedOut)))
    }

    /// One that is kept. What is dropped on the way goes to the pool, which looks at it.
    fn trusted(&self, deaths: &Deaths) -> Option<KeptLine> {
        let mut free = self.free();
        while let Some(kept) = free.pop() {
            if !kept.is_suspect(deaths) {
                return Some(kept);
            }
        }
        None
    }

    fn put_back(&self, InUse { mut kept, _place }: InUse<'_>, error: Option<&DbErr>) {
        kept.idle_since = Instant::now();
        if !error.is_some_and(is_lost) {
            self.free().push(kept);
        }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<KeptLine>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

// === impl KeptLine ===

impl KeptLine {
    fn is_suspect(&self, deaths: &Deaths) -> bool {
        self.line.is_left()
            || self.kept_since.elapsed() > KEPT_FOR
            || deaths.may_concern(self.idle_since.elapsed())
    }
}

impl From<Line> for KeptLine {
    fn from(line: Line) -> Self {
        let now = Instant::now();
        Self { line, kept_since: now, idle_since: now }
    }
}
