//! Connections to PostgreSQL in use.
//!
//! A machine that goes without a word closes no connection. What waits for its answer would wait until TCP gives up,
//! a quarter of an hour, and so would a connection's place in the pool. So nothing is waited for longer than a statement
//! may take, nor once another server has the database. What ends so is lost, as if it had been cut off: the connection
//! is closed without a word, and nobody knows what became of the statement.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use sea_orm::{ConnAcquireErr, DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::{sync::watch, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    hosts::ANSWER,
    measures::{Kind, Measures},
};

/// When another server was found to have the database.
pub(super) type Moves = watch::Receiver<Option<Instant>>;

/// Where connections come from. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines {
    pub(super) pool: PgPool,
    /// What is under way ends with these.
    pub(super) moves: Moves,
    /// The longest that a statement may take.
    pub(super) limit: Duration,
    /// Connections that come back are looked at here.
    pub(super) tasks: TaskTracker,
    pub(super) measures: Measures,
}

/// A connection in use. When dropped it goes back to the pool, if it is still good for anything.
pub(super) struct Line {
    /// `None` once it was lost.
    connection: Option<PoolConnection<Postgres>>,
    /// Those since it was opened.
    moves: Moves,
    limit: Duration,
    tasks: TaskTracker,
    measures: Measures,
    /// Since when a statement is under way.
    busy_since: Option<Instant>,
    /// A transaction is to be rolled back.
    is_open: bool,
}

// === impl Lines ===

impl Lines {
    /// Waits for a connection as long as the pool does.
    pub(super) async fn open(&self) -> Result<Line, DbErr> {
        let mut moves = self.moves.clone();
        moves.mark_unchanged();
        // Who waits for the server before is better off with the one that has the database now
        let acquired = within(self.limit, &mut moves, Box::pin(self.pool.acquire())).await;
        let connection = acquired.unwrap_or_else(|| Err(silent())).map_err(not_acquired)?;
        Ok(Line {
            connection: Some(connection),
            moves,
            limit: self.limit,
            tasks: self.tasks.clone(),
            measures: self.measures.clone(),
            busy_since: None,
            is_open: false,
        })
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

// === impl Line ===

impl Line {
    pub(super) async fn query(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let kind = Kind::of(&statement.sql);
        let (text, values) = parts(statement);
        let rows =
            self.ask(kind, |connection| Box::pin(sqlx::query_with(text, values).fetch_all(connection)));
        Ok(rows.await?.into_iter().map(QueryResult::from).collect())
    }

    pub(super) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let kind = Kind::of(&statement.sql);
        let (text, values) = parts(statement);
        let done = self.ask(kind, |connection| Box::pin(sqlx::query_with(text, values).execute(connection)));
        done.await.map(ExecResult::from)
    }

    /// Runs a text of ours as it is.
    pub(super) async fn run(&mut self, text: &str) -> Result<ExecResult, DbErr> {
        let kind = Kind::of(text);
        let text = AssertSqlSafe(text.to_owned());
        let done = self.ask(kind, |connection| Box::pin(sqlx::raw_sql(text).execute(connection)));
        done.await.map(ExecResult::from)
    }

    /// Has a statement answered, as long as it may take.
    async fn ask<T>(
        &mut self,
        kind: Kind,
        statement: impl for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, DbErr> {
        let Some(connection) = &mut self.connection else { return Err(failed(silent())) };
        let since = Instant::now();
        self.busy_since = Some(since);
        let answer = within(self.limit, &mut self.moves, statement(connection)).await;
        self.measures.statement(kind, since);
        self.answered(answer)
    }

    /// Whether the server answers, which takes it no time.
    pub(super) async fn ping(&mut self) -> Result<(), DbErr> {
        let Some(connection) = &mut self.connection else { return Err(failed(silent())) };
        let answer = within(ANSWER, &mut self.moves, connection.ping()).await;
        self.answered(answer)
    }

    /// Begins a transaction, which is rolled back unless it is ended.
    pub(super) async fn begin(&mut self) -> Result<(), DbErr> {
        self.is_open = true;
        self.run("BEGIN").await.map(drop)
    }

    /// Ends the transaction by `COMMIT` or `ROLLBACK`. Whatever PostgreSQL answers, there is none any more.
    pub(super) async fn end(&mut self, word: &str) -> Result<(), DbErr> {
        let outcome = self.run(word).await;
        self.is_open = false;
        outcome.map(drop)
    }

    /// Whether it is of no more use: lost, or to the server before.
    pub(super) fn is_left(&self) -> bool {
        self.connection.is_none() || self.moves.has_changed().unwrap_or(false)
    }

    fn answered<T>(&mut self, answer: Option<Result<T, sqlx::Error>>) -> Result<T, DbErr> {
        self.busy_since = None;
        let answer = answer.unwrap_or_else(|| {
            close(self.connection.take());
            Err(silent())
        });
        answer.map_err(failed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // A statement that nobody awaits any more keeps its place in the pool for as long as it may take: it is still
        // under way on the server
        let rest = self.busy_since.map(|since| self.limit.saturating_sub(since.elapsed()));
        let limit = rest.unwrap_or_default().max(ANSWER);
        self.tasks.spawn(give_back(connection, self.is_open, limit, self.moves.clone()));
    }
}

async fn give_back(
    mut connection: PoolConnection<Postgres>,
    is_open: bool,
    limit: Duration,
    mut moves: Moves,
) {
    if is_open {
        let rolled_back = sqlx::raw_sql("ROLLBACK").execute(&mut *connection);
        if !matches!(within(limit, &mut moves, rolled_back).await, Some(Ok(_))) {
            return close(Some(connection));
        }
    }
    // The pool asks it for a sign of life. Given up, it is closed and its place free
    let _is_back = within(limit, &mut moves, connection.return_to_pool()).await;
}

/// Without a word: the other end may never take it.
fn close(connection: Option<PoolConnection<Postgres>>) {
    drop(connection.map(PoolConnection::detach));
}

/// Waits for an answer; not once the limit is over or another server has the database.
async fn within<T>(limit: Duration, moves: &mut Moves, answer: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = timeout(limit, answer) => answer.ok(),
        // Where a database has one server, nobody tells
        Ok(()) = moves.changed() => None,
    }
}

/// A statement as the driver takes it. Its text is ours, and what comes from outside is bound.
fn parts(Statement { sql, values, .. }: Statement) -> (AssertSqlSafe<String>, SqlxValues) {
    (AssertSqlSafe(sql), SqlxValues(values.unwrap_or_else(|| sea_orm::Values(Vec::new()))))
}

fn silent() -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server did not answer").into()
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the driver's enum is open")]
pub(super) fn not_acquired(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        other => DbErr::Conn(RuntimeErr::SqlxError(other.into())),
    }
}
