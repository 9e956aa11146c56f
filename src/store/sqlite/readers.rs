//! Connections that only read.

use std::{
    fmt,
    ops::Deref,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::{Semaphore, SemaphorePermit};

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

/// A connection that is lent, and goes back when this is dropped.
pub(in crate::store) struct Lent<'r> {
    connection: Connection,
    of: &'r Readers,
    _place: SemaphorePermit<'r>,
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

    /// Lends a connection, if there is one in time.
    pub(in crate::store) async fn lend(&self) -> Result<Lent<'_>, DbErr> {
        let closed = || DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed);
        let place = match self.0.places.try_acquire() {
            Ok(place) => place,
            Err(_all_lent) => tokio::time::timeout(self.0.patience, self.0.places.acquire())
                .await
                .map_err(|_elapsed| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
                .map_err(|_closed| closed())?,
        };
        let connection = self.free().pop().ok_or_else(closed)?;
        Ok(Lent { connection, of: self, _place: place })
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Lent<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.of.free().push(self.connection.clone());
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
        self.lend().await?.query_all_raw(statement).await
    }
}
