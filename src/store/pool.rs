//! Connections to the database, any of which may have died since it was used.
//!
//! When PostgreSQL restarts, or something on the way drops what is idle, every connection of the pool is dead
//! and says so only to whom uses it next. To try each one before it is used would cost a round trip a call. So
//! what can be done twice without harm is done again when its connection turns out to be dead, for as long as a
//! call waits for a connection; and from then on whatever was there at that time is tried before it is used.
//! A connection to a server that has become a standby counts as dead.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult,
    SqlxPostgresConnector, Statement,
};
use sqlx::pool::PoolOptions;
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout_at,
};

use super::{
    error::{is_contended, is_lost},
    kept::Kept,
    line::Lines,
    measures::Measures,
    patience::{CONTENDED, patiently},
    transaction::Transaction,
};

/// What was in use when a connection was found dead is back in the pool by then, or finds out by itself.
const IN_USE: Duration = Duration::from_secs(1);

/// A pool of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    lines: Lines,
    /// Who may begin a transaction.
    transactions: Arc<Semaphore>,
    /// For single statements.
    kept: Arc<Kept>,
    deaths: Deaths,
    /// How long what lost its connection is done again.
    patience: Duration,
    /// Those who met others take turns.
    turns: Arc<tokio::sync::Mutex<()>>,
    /// Who looks for the database when a connection was found dead.
    scout: Option<mpsc::Sender<()>>,
}

/// When a connection was last found dead. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Deaths(Arc<Mutex<Option<Instant>>>);

// === impl Pool ===

impl Pool {
    /// A pool whose connections are tried, before they are used, if `deaths` [may concern](Deaths::may_concern)
    /// them.
    pub(super) fn new(
        lines: Lines,
        kept: Kept,
        transactions: usize,
        deaths: Deaths,
        patience: Duration,
        scout: Option<mpsc::Sender<()>>,
    ) -> Self {
        let transactions = Arc::new(Semaphore::new(transactions));
        Self { lines, transactions, kept: Arc::new(kept), deaths, patience, turns: Arc::default(), scout }
    }

    /// Whether a connection was found dead so lately.
    pub(super) fn has_died_within(&self, time: Duration) -> bool {
        self.deaths.may_concern(time)
    }

    /// Waits for the turn of a transaction that met others and is to be run again. Where a database ends all but one
    /// of those that meet, they would else go on ending each other, and who came first would not be served first.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns.lock().await
    }

    /// How long what lost its connection is done again.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether the database answers: now, and not after a wait.
    pub(super) async fn ping(&self) -> Result<(), DbErr> {
        let ask = async || self.lines.open().await?.ping().await;
        match self.noted(ask().await) {
            Err(error) if is_lost(&error) => ask().await,
            outcome => outcome,
        }
    }

    /// Begins a transaction. Who has lost a connection already waits for another until then only.
    pub(super) async fn begin(&self, until: Option<Instant>) -> Result<Transaction, DbErr> {
        // For a place and a connection together no longer than for a connection alone
        let since = Instant::now();
        let patient_until = since + self.patience;
        let until = until.map_or(patient_until, |until| until.min(patient_until));
        let begun = async {
            let place = Arc::clone(&self.transactions).acquire_owned().await;
            Transaction::begin(&self.lines, place.map_err(|_closed| none_in_time())?).await
        };
        let begun = in_time(Some(until), begun).await;
        self.lines.measures.wait(since.elapsed());
        self.noted(begun)
    }

    /// Executes what does no harm if it is done twice, and again as a read.
    pub(super) async fn execute_harmless(&self, statement: &Statement) -> Result<(), DbErr> {
        self.again(|| self.kept.execute(statement.clone(), &self.deaths)).await?;
        Ok(())
    }

    /// Executes what must not be done twice, and returns rows.
    pub(super) async fn query_once(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.noted(self.kept.query(statement, &self.deaths).await)
    }

    /// Other connections, without a limit on a statement, for what takes as long as it takes.
    pub(super) fn connections(&self) -> DatabaseConnection {
        let options = PoolOptions::new().max_connections(2).acquire_timeout(self.patience);
        let pool = options.connect_lazy_with((*self.lines.pool.connect_options()).clone());
        SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
    }

    /// Passes an outcome on, and takes note if its connection was dead.
    pub(super) fn noted<T>(&self, outcome: Result<T, DbErr>) -> Result<T, DbErr> {
        if outcome.as_ref().is_err_and(is_lost) {
            self.lost_one();
        }
        outcome
    }

    pub(super) fn measures(&self) -> &Measures {
        &self.lines.measures
    }

    /// The driver's pool and what is kept from it, to count their connections.
    pub(super) fn counted(&self) -> (sqlx::PgPool, Weak<Kept>) {
        (self.lines.pool.clone(), Arc::downgrade(&self.kept))
    }

    /// A connection was found dead.
    pub(super) fn lost_one(&self) {
        self.lines.measures.lost_connection();
        self.deaths.note();
        if let Some(scout) = &self.scout {
            // One call is enough, and it may be on its way
            let _is_called = scout.try_send(()).is_ok();
        }
    }

    /// Does what does no harm if it is done twice; again where its connection was dead or another transaction in the
    /// way. Whose patience ends is told the same as who has waited for a connection in vain, so that nobody makes
    /// others wait for it once more.
    async fn again<T, F>(&self, act: impl Fn() -> F) -> Result<T, DbErr>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        let until = Instant::now() + self.patience;
        let has_lost = AtomicBool::new(false);
        let noted = async || {
            let until = has_lost.load(Ordering::Relaxed).then_some(until);
            let outcome = self.noted(in_time(until, act()).await);
            has_lost.fetch_or(outcome.as_ref().is_err_and(is_lost), Ordering::Relaxed);
            outcome
        };
        let limit = |error: &DbErr| {
            if is_lost(error) { Some(self.patience) } else { is_contended(error).then_some(CONTENDED) }
        };
        patiently(limit, noted).await.map_err(|error| {
            if !is_lost(&error) {
                return error;
            }
            tracing::debug!(%error, "a connection was lost again and again");
            none_in_time()
        })
    }
}

/// Waits for something until then, if there is a limit.
async fn in_time<T>(
    until: Option<Instant>,
    something: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    match until {
        Some(until) => {
            timeout_at(until.into(), something).await.unwrap_or_else(|_elapsed| Err(none_in_time()))
        }
        None => something.await,
    }
}

fn none_in_time() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)
}

/// Queries are taken for reads, and done again; what is executed is not.
#[async_trait]
impl ConnectionTrait for Pool {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.noted(self.kept.execute(statement, &self.deaths).await)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let run = async { self.lines.open().await?.run(sql).await };
        self.noted(run.await)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.again(|| self.kept.query(statement.clone(), &self.deaths)).await
    }
}

// === impl Deaths ===

impl Deaths {
    /// Whether a connection that lay idle for so long may have died with the last one that was found dead: it was
    /// in the pool at that time, or back in it soon after.
    pub(super) fn may_concern(&self, idle_for: Duration) -> bool {
        self.lock().is_some_and(|found| found.elapsed() < idle_for.saturating_add(IN_USE))
    }

    /// One was found dead.
    pub(super) fn note(&self) {
        *self.lock() = Some(Instant::now());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_when_one_was_found_dead_is_suspect() {
        let deaths = Deaths::default();
        assert!(!deaths.may_concern(Duration::MAX), "none was found dead");
        deaths.note();
        assert!(deaths.may_concern(Duration::MAX));
        assert!(deaths.may_concern(Duration::ZERO), "it may have been in use");
        *deaths.lock() = Instant::now().checked_sub(2 * IN_USE);
        assert!(!deaths.may_concern(Duration::ZERO), "it was used since");
    }
}
