//! A connection that answers at once: its methods are async because sea-orm's are, and never wait for another task.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use rusqlite::{
    OpenFlags, Row, ToSql,
    types::{ToSqlOutput, ValueRef},
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseConnectionType, DbBackend, DbErr, ExecResult,
    ProxyDatabaseConnection, ProxyDatabaseTrait, ProxyExecResult, ProxyRow, QueryResult, Statement, Value,
};

use super::{BUSY, BUSY_READING, checkpoint::LONGEST, error::to_db_err};
use crate::store::measures::{Kind, Measures};

/// Statements that are kept prepared. There are some fifty of them, and some with a text for each number of values.
const PREPARED: usize = 256;

/// A connection to the database. Cheap to clone.
#[derive(Clone)]
pub(in crate::store) struct Connection {
    of: Arc<Mutex<rusqlite::Connection>>,
    measures: Measures,
}

/// A value as it is bound.
struct Bound<'v>(&'v Value);

// === impl Connection ===

impl Connection {
    /// Opens the one that writes, and makes the file if there is none.
    pub(super) fn writing(path: &Path, measures: &Measures) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = open(path, flags)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // An acknowledged write survives a power loss; group commit makes it affordable
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        // What is deleted (data keys!) is overwritten, not only unlinked
        connection.pragma_update(None, "secure_delete", "ON")?;
        // In KiB; the system keeps the file in memory anyway. Each commit that follows a balancing of a B-tree goes through
        // all of these pages (sqlite3PcacheTruncate), so that more of them cost more than reading one again
        connection.pragma_update(None, "cache_size", -4_000)?;
        connection.pragma_update(None, "wal_autocheckpoint", LONGEST)?;
        // From here on the log has its index
        connection.query_row("PRAGMA schema_version", [], |_row| Ok(()))?;
        Ok(Self::new(connection, measures))
    }

    /// Opens one that makes checkpoints.
    pub(super) fn moving(path: &Path, measures: &Measures) -> rusqlite::Result<Self> {
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(Self::new(connection, measures))
    }

    /// Opens one that only reads.
    pub(super) fn reading(path: &Path, measures: &Measures) -> rusqlite::Result<Self> {
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY_READING)?;
        connection.pragma_update(None, "cache_size", -2_000)?;
        Ok(Self::new(connection, measures))
    }

    fn new(connection: rusqlite::Connection, measures: &Measures) -> Self {
        Self { of: Arc::new(Mutex::new(connection)), measures: measures.clone() }
    }

    /// The file, as SQLite calls it.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        let connection = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        connection.path().map(PathBuf::from).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn measures(&self) -> &Measures {
        &self.measures
    }

    /// How many rows were changed since it was opened.
    pub(super) fn changes(&self) -> u64 {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).total_changes()
    }

    /// Executes a statement of transactions, which returns nothing and has no parameters.
    pub(in crate::store) fn control(&self, statement: &'static str) -> Result<(), DbErr> {
        self.measured(statement, |connection| connection.prepare_cached(statement)?.execute([]).map(drop))
    }

    /// Makes a checkpoint of this kind, which does not wait for readers or the writer, and says how many pages are in
    /// the log and how many of them were moved.
    pub(super) fn checkpoint(&self, kind: &'static str) -> Result<(i64, i64), DbErr> {
        self.with(|connection| {
            let pages = |row: &Row<'_>| Ok((row.get(1)?, row.get(2)?));
            connection.query_row(&format!("PRAGMA wal_checkpoint({kind})"), [], pages)
        })
    }

    /// Takes back what a transaction has done so far, if there is one: after some errors SQLite has done so itself.
    pub(in crate::store) fn roll_back(&self) {
        let rolled_back =
            self.with(
                |connection| {
                    if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") }
                },
            );
        if let Err(error) = rolled_back {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    /// The same connection as sea-orm's own kind. It begins no transactions.
    pub(in crate::store) fn for_migrations(&self) -> DatabaseConnection {
        let proxy = ProxyDatabaseConnection::new(DbBackend::Sqlite, Arc::new(Box::new(self.clone())));
        DatabaseConnectionType::ProxyDatabaseConnection(Arc::new(proxy)).into()
    }

    /// Executes a statement, and says how many rows it changed.
    pub(in crate::store) fn execute(&self, text: &str, values: &[Value]) -> Result<u64, DbErr> {
        self.measured(text, |connection| {
            let changed = connection.prepare_cached(text)?.execute(parameters(values))?;
            Ok(changed as u64)
        })
    }

    fn execute_for_orm(&self, statement: &Statement) -> Result<ProxyExecResult, DbErr> {
        let rows_affected = self.execute(&statement.sql, values(statement))?;
        Ok(ProxyExecResult { last_insert_id: 0, rows_affected })
    }

    /// Reads rows as sea-orm wants them.
    pub(super) fn query(&self, statement: &Statement) -> Result<Vec<ProxyRow>, DbErr> {
        self.measured(&statement.sql, |connection| {
            let mut prepared = connection.prepare_cached(&statement.sql)?;
            let names: Vec<_> = prepared.column_names().into_iter().map(str::to_owned).collect();
            let rows = prepared.query_map(parameters(values(statement)), |row| to_row(&names, row))?;
            rows.collect()
        })
    }

    /// Reads rows as they are.
    pub(in crate::store) fn read(
        &self,
        text: &str,
        parameters: impl rusqlite::Params,
        mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), DbErr> {
        self.measured(text, |connection| {
            let mut prepared = connection.prepare_cached(text)?;
            let mut rows = prepared.query(parameters)?;
            while let Some(row) = rows.next()? {
                each(row)?;
            }
            Ok(())
        })
    }

    fn measured<T>(
        &self,
        text: &str,
        act: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DbErr> {
        let since = Instant::now();
        let outcome = self.with(act);
        self.measures.statement(Kind::of(text), since);
        outcome
    }

    fn with<T>(&self, act: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>) -> Result<T, DbErr> {
        act(&self.of.lock().unwrap_or_else(PoisonError::into_inner)).map_err(|error| to_db_err(&error))
    }
}

fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<rusqlite::Connection> {
    // One thread at a time is in a connection anyway
    let connection = rusqlite::Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    // What a statement may have to take back is else written to a file for each transaction
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn values(statement: &Statement) -> &[Value] {
    statement.values.as_ref().map_or(&[], |values| &values.0)
}

fn parameters(values: &[Value]) -> impl rusqlite::Params {
    rusqlite::params_from_iter(values.iter().map(Bound))
}

fn to_row(names: &[String], row: &Row<'_>) -> rusqlite::Result<ProxyRow> {
    let mut values = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        let value = match row.get_ref(place)? {
            ValueRef::Null => Value::BigInt(None),
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(_) => row.get::<_, String>(place)?.into(),
            ValueRef::Blob(bytes) => bytes.to_vec().into(),
        };
        values.insert(name.clone(), value);
    }
    Ok(ProxyRow { values })
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

#[async_trait]
impl ConnectionTrait for Connection {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.execute_for_orm(&statement).map(ExecResult::from)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.with(|connection| connection.execute_batch(sql)).map(|()| ProxyExecResult::default().into())
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        Ok(self.query(&statement)?.into_iter().map(QueryResult::from).collect())
    }
}

/// For migrations, which take no connection but sea-orm's own. Transactions are begun and ended by those who can be
/// told when that fails.
#[async_trait]
impl ProxyDatabaseTrait for Connection {
    async fn query(&self, statement: Statement) -> Result<Vec<ProxyRow>, DbErr> {
        self.query(&statement)
    }

    async fn execute(&self, statement: Statement) -> Result<ProxyExecResult, DbErr> {
        self.execute_for_orm(&statement)
    }
}

// === impl Bound ===

impl ToSql for Bound<'_> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "sea-orm has many types, our tables three")]
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self.0 {
            Value::Int(number) => number.map_or(ValueRef::Null, |number| ValueRef::Integer(number.into())),
            Value::BigInt(number) => number.map_or(ValueRef::Null, ValueRef::Integer),
            // Limits
            Value::BigUnsigned(Some(number)) => ValueRef::Integer(i64::try_from(*number).unwrap_or(i64::MAX)),
            Value::String(text) => {
                text.as_ref().map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
            }
            Value::Bytes(bytes) => bytes.as_ref().map_or(ValueRef::Null, |bytes| ValueRef::Blob(bytes)),
            _ => {
                let cause = "a value of this type is bound nowhere yet";
                return Err(rusqlite::Error::ToSqlConversionFailure(cause.into()));
            }
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}
