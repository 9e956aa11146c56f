//! A transaction of PostgreSQL: a connection for the time being.

use std::fmt;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use super::line::{Line, Lines};

/// Rolled back when dropped.
pub(super) struct Transaction {
    line: Mutex<Line>,
    _place: OwnedSemaphorePermit,
}

impl Transaction {
    /// Begins one on a connection of its own.
    pub(super) async fn begin(lines: &Lines, place: OwnedSemaphorePermit) -> Result<Self, DbErr> {
        let mut line = lines.open().await?;
        line.begin().await?;
        Ok(Self { line: Mutex::new(line), _place: place })
    }

    pub(super) async fn commit(self) -> Result<(), DbErr> {
        self.line.into_inner().end("COMMIT").await
    }

    pub(super) async fn roll_back(self) -> Result<(), DbErr> {
        self.line.into_inner().end("ROLLBACK").await
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction")
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.line.lock().await.execute(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.line.lock().await.run(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.line.lock().await.query(statement).await
    }
}
