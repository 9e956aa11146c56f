//! Connections to the database, any of which may have died since it was used.
//!
//! When PostgreSQL restarts, or something on the way drops what is idle, every connection of the pool is dead
//! and says so only to whom uses it next. To try each one before it is used would cost a round trip a call. So
//! what can be done twice without harm is done again when its connection turns out to be dead; and from then on
//! whatever lay idle at that time is tried before it is used.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult,
    Statement, TransactionTrait as _,
};

use super::{Error, error::is_dead_connection};

/// How often it is tried in all: a connection may die even between the moment at which it is tried and its use.
const TRIES: u32 = 3;

/// A pool of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    connections: DatabaseConnection,
    deaths: Deaths,
}

/// When a connection was last found dead. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Deaths(Arc<Mutex<Option<Instant>>>);

// === impl Pool ===

impl Pool {
    /// A pool whose connections are tried, before they are used, if `deaths` [may concern](Deaths::may_concern)
    /// them.
    pub(super) fn new(connections: DatabaseConnection, deaths: Deaths) -> Self {
        Self { connections, deaths }
    }

    /// Whether the database answers.
    pub(super) async fn ping(&self) -> Result<(), DbErr> {
        self.surely(|| self.connections.ping()).await
    }

    /// Begins a transaction. Nothing has happened in it when that fails.
    pub(super) async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        self.surely(|| self.connections.begin()).await
    }

    /// Executes what does no harm if it is done twice.
    pub(super) async fn execute_harmless(&self, statement: &Statement) -> Result<(), Error> {
        self.surely(|| self.connections.execute_raw(statement.clone())).await?;
        Ok(())
    }

    /// The connections as they are.
    pub(super) fn connections(&self) -> &DatabaseConnection {
        &self.connections
    }

    /// Does it, and again if its connection was dead.
    async fn surely<T, F>(&self, act: impl Fn() -> F) -> Result<T, DbErr>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        for _ in 1..TRIES {
            match act().await {
                Err(error) if is_dead_connection(&error) => self.deaths.note(),
                outcome => return outcome,
            }
        }
        act().await
    }
}

/// Queries are taken for reads, and done again; what is executed is not.
#[async_trait]
impl ConnectionTrait for Pool {
    fn get_database_backend(&self) -> DbBackend {
        self.connections.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.connections.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.connections.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.surely(|| self.connections.query_one_raw(statement.clone())).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.surely(|| self.connections.query_all_raw(statement.clone())).await
    }
}

// === impl Deaths ===

impl Deaths {
    /// Whether a connection that lay idle for so long may have died with the last one that was found dead.
    pub(super) fn may_concern(&self, idle_for: Duration) -> bool {
        self.lock().is_some_and(|found| found.elapsed() < idle_for)
    }

    fn note(&self) {
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
    fn what_lay_idle_when_one_was_found_dead_is_suspect() {
        let deaths = Deaths::default();
        assert!(!deaths.may_concern(Duration::MAX), "none was found dead");
        deaths.note();
        assert!(deaths.may_concern(Duration::MAX));
        assert!(!deaths.may_concern(Duration::ZERO), "it was used since");
    }
}
