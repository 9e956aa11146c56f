//! Connections that only read.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::Semaphore;

use super::Connection;

/// How many there are. More would not read faster: each read takes microseconds, and a processor.
const READERS: usize = 4;

/// A few connections, each lent to one statement at a time. Cheap to clone.
#[derive(Clone)]
pub(in crate::store) struct Readers(Arc<Inner>);

struct Inner {
    free: Mutex<Vec<Connection>>,
    places: Semaphore,
    /// How long one is waited for.
    patience: Duration,
}

// === impl Readers ===

impl Readers {
    pub(super) fn open(path: &Path, patience: Duration) -> rusqlite::Result<Self> {
        let connections = std::iter::repeat_with(|| Connection::reading(path)).take(READERS);
        let free = Mutex::new(connections.collect::<Result<_, _>>()?);
        Ok(Self(Arc::new(Inner { free, places: Semaphore::new(READERS), patience })))
    }

    /// Whether the database answers.
    pub(in crate::store) async fn ping(&self) -> Result<(), DbErr> {
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, "SELECT 1", []);
        self.query_all_raw(statement).await.map(drop)
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers")
    }
}

#[async_trait]
impl ConnectionTrait for Readers {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    async fn execute_raw(&self, _: Statement) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom("what only reads executes nothing".to_owned()))
    }

    async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom("what only reads executes nothing".to_owned()))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let none_in_time = |_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
        let place =
            tokio::time::timeout(self.0.patience, self.0.places.acquire()).await.map_err(none_in_time)?;
        let _place = place.map_err(|_closed| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        let connection =
            self.free().pop().ok_or(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        let rows = connection.query_all_raw(statement).await;
        self.free().push(connection);
        rows
    }
}
