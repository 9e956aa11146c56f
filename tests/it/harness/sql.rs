//! A connection to a server's database, past the server.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rusqlite::types::Value as Cell;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database as SeaDatabase, DatabaseConnection, DbBackend, DbErr,
    ProxyDatabaseTrait, ProxyExecResult, ProxyRow, QueryResult, Statement, Value,
};

use super::{Database, server::Server};

/// Rows behind the server's back.
#[derive(Debug)]
pub(crate) struct Sql(DatabaseConnection);

/// SQLite's file.
#[derive(Debug)]
struct File(Mutex<rusqlite::Connection>);

// === impl Server ===

impl Server {
    /// Connects to its database behind its back.
    pub(crate) async fn backdoor(&self) -> Sql {
        Sql::connect(self).await
    }
}

// === impl Sql ===

impl Sql {
    /// Connects to the database that a server was given.
    pub(crate) async fn connect(server: &Server) -> Self {
        match server.database() {
            Database::Sqlite => {
                Self::open(&format!("sqlite://{}", server.data_dir().join("secrets.db").display())).await
            }
            Database::Postgres(database) => Self::open(database.url()).await,
        }
    }

    /// Connects to a database.
    pub(crate) async fn open(url: &str) -> Self {
        let connected = if let Some(path) = url.strip_prefix("sqlite://") {
            let file = rusqlite::Connection::open(path).expect("the file opens");
            file.busy_timeout(Duration::from_secs(10)).expect("SQLite waits");
            SeaDatabase::connect_proxy(DbBackend::Sqlite, Arc::new(Box::new(File(Mutex::new(file))))).await
        } else {
            // One connection, so that BEGIN and COMMIT meet
            let options = ConnectOptions::new(url).max_connections(1).sqlx_logging(false).to_owned();
            SeaDatabase::connect(options).await
        };
        Self(connected.expect("the database answers"))
    }

    fn backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    /// Whether it is SQLite.
    pub(crate) fn is_sqlite(&self) -> bool {
        self.backend() == DbBackend::Sqlite
    }

    /// Runs statements as they are.
    pub(crate) async fn run(&self, statements: &str) {
        self.0.execute_unprepared(statements).await.expect("the database obeys");
    }

    /// Runs one statement with parameters `$1`, `$2`, … and says how many rows it changed.
    pub(crate) async fn change(&self, statement: &str, values: impl IntoIterator<Item = Value>) -> u64 {
        let statement = Statement::from_sql_and_values(self.backend(), statement, values);
        self.0.execute_raw(statement).await.expect("the database obeys").rows_affected()
    }

    /// The one row of a query.
    pub(crate) async fn row(&self, query: &str, values: impl IntoIterator<Item = Value>) -> QueryResult {
        let statement = Statement::from_sql_and_values(self.backend(), query, values);
        self.0.query_one_raw(statement).await.expect("the database answers").expect("a row")
    }

    /// Makes every writer of this agent wait until this connection is dropped: on SQLite, of all agents.
    pub(crate) async fn block_writers(&self, agent: &str) {
        if self.is_sqlite() {
            self.run("BEGIN IMMEDIATE").await;
        } else {
            self.run(&format!("BEGIN; SELECT 1 FROM agents WHERE id = '{agent}' FOR UPDATE")).await;
        }
    }
}

// === impl File ===

#[expect(clippy::wildcard_enum_match_arm, reason = "sea-orm has many types")]
fn bound(values: Option<sea_orm::Values>) -> impl rusqlite::Params {
    let cell = |value| match value {
        Value::String(text) => text.map_or(Cell::Null, Cell::Text),
        Value::Bytes(bytes) => bytes.map_or(Cell::Null, Cell::Blob),
        Value::BigInt(number) => number.map_or(Cell::Null, Cell::Integer),
        other => panic!("no test binds {other:?} yet"),
    };
    rusqlite::params_from_iter(values.into_iter().flat_map(|values| values.0).map(cell))
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives it away")]
fn failed(error: rusqlite::Error) -> DbErr {
    DbErr::Custom(error.to_string())
}

#[async_trait::async_trait]
impl ProxyDatabaseTrait for File {
    async fn query(&self, statement: Statement) -> Result<Vec<ProxyRow>, DbErr> {
        let file = self.0.lock().expect("no panic before");
        let mut prepared = file.prepare(&statement.sql).map_err(failed)?;
        let names: Vec<_> = prepared.column_names().into_iter().map(str::to_owned).collect();
        let rows = prepared.query_map(bound(statement.values), |row| {
            let value = |place| {
                rusqlite::Result::<Value>::Ok(match row.get(place)? {
                    Cell::Null => Value::BigInt(None),
                    Cell::Integer(number) => number.into(),
                    Cell::Real(number) => number.into(),
                    Cell::Text(text) => text.into(),
                    Cell::Blob(bytes) => bytes.into(),
                })
            };
            let values = names.iter().enumerate().map(|(place, name)| Ok((name.clone(), value(place)?)));
            Ok(ProxyRow { values: values.collect::<rusqlite::Result<_>>()? })
        });
        rows.and_then(Iterator::collect).map_err(failed)
    }

    async fn execute(&self, statement: Statement) -> Result<ProxyExecResult, DbErr> {
        let file = self.0.lock().expect("no panic before");
        let rows_affected = match statement.values {
            Some(values) => file.execute(&statement.sql, bound(Some(values))).map_err(failed)? as u64,
            None => file.execute_batch(&statement.sql).map(|()| 0).map_err(failed)?,
        };
        Ok(ProxyExecResult { last_insert_id: 0, rows_affected })
    }
}
