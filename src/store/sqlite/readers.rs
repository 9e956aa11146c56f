//! Connections that only read.
//!
//! What every call needs is a look-up of microseconds, made on the thread that asks ([`Readers::lend`]). Lists and the
//! audit trail may take long, and are read on threads that may wait; half of the connections are never theirs.

use std::{
    any::Any,
    fmt,
    ops::Deref,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sea_orm::{ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Connection,
    memory::{Memory, Recalled},
};
use crate::store::{Error, measures::Measures, room::Key};

/// How many there are. More would not read faster: each read takes a processor.
const READERS: usize = 4;

/// How many of them may be at what may take long.
const LONG_READERS: usize = 2;

/// A few connections, each lent to one at a time. Cheap to clone.
#[derive(Clone)]
pub(in crate::store) struct Readers(Arc<Inner>);

struct Inner {
    free: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
    long_places: Semaphore,
    /// How long one is waited for.
    patience: Duration,
    memory: Arc<Memory>,
    measures: Measures,
}

/// A connection that is lent, and goes back when this is dropped.
pub(in crate::store) struct Lent {
    connection: Connection,
    of: Readers,
    _place: OwnedSemaphorePermit,
}

// === impl Readers ===

impl Readers {
    pub(super) fn open(
        path: &Path,
        patience: Duration,
        memory: Arc<Memory>,
        measures: &Measures,
    ) -> rusqlite::Result<Self> {
        let connections = std::iter::repeat_with(|| Connection::reading(path, measures)).take(READERS);
        Ok(Self(Arc::new(Inner {
            free: Mutex::new(connections.collect::<Result<_, _>>()?),
            places: Arc::new(Semaphore::new(READERS)),
            long_places: Semaphore::new(LONG_READERS),
            patience,
            memory,
            measures: measures.clone(),
        })))
    }

    /// Whether the database answers.
    pub(in crate::store) async fn ping(&self) -> Result<(), DbErr> {
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, "SELECT 1", []);
        self.query_all_raw(statement).await.map(drop)
    }

    /// Gives what is asked for by a key: from memory, or by `read` and `weigh`, which says about how many bytes it takes.
    pub(in crate::store) async fn look_up<T: Any + Send + Sync>(
        &self,
        key: Key,
        read: impl FnOnce(&Connection) -> Result<Option<T>, Error>,
        weigh: impl FnOnce(&T) -> usize,
    ) -> Result<Option<Arc<T>>, Error> {
        let recalled = self.0.memory.recall(&key);
        self.0.measures.looked_up(matches!(recalled, Recalled::Known(_)));
        let reading = match recalled {
            Recalled::Known(value) => return Ok(Some(value)),
            Recalled::Unknown(reading) => reading,
        };
        let connection = self.lend().await?;
        let Some(value) = read(&connection)? else { return Ok(None) };
        let bytes = weigh(&value);
        let value = Arc::new(value);
        self.0.memory.keep(reading, key, &value, bytes);
        Ok(Some(value))
    }

    /// Lends a connection, if there is one in time.
    pub(in crate::store) async fn lend(&self) -> Result<Lent, DbErr> {
        let places = || Arc::clone(&self.0.places);
        let place = match places().try_acquire_owned() {
            Ok(place) => place,
            Err(_all_lent) => {
                let since = Instant::now();
                let place = self.in_time(places().acquire_owned()).await;
                self.0.measures.wait(since.elapsed());
                place?
            }
        };
        let connection = self.free().pop().ok_or_else(closed)?;
        Ok(Lent { connection, of: self.clone(), _place: place })
    }

    async fn in_time<T, E>(&self, place: impl Future<Output = Result<T, E>>) -> Result<T, DbErr> {
        let place = tokio::time::timeout(self.0.patience, place).await;
        place
            .map_err(|_elapsed| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
            .map_err(|_closed| closed())
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
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
        let _place = self.in_time(self.0.long_places.acquire()).await?;
        let connection = self.lend().await?;
        let reading = tokio::task::spawn_blocking(move || connection.query(&statement));
        let rows = reading.await.map_err(|_panic| DbErr::Custom("a read did not end".to_owned()))??;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }
}

// === impl Lent ===

impl Deref for Lent {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.of.free().push(self.connection.clone());
    }
}
