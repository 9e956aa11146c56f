//! What differs between the databases that there are.

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use crate::trace;

/// What a statement is called in a trace. Its text is not told.
const STEP: &str = "database: statement";

/// One thing on PostgreSQL, another on SQLite.
#[derive(Clone, Debug)]
pub(super) enum Engine<P, S> {
    Postgres(P),
    Sqlite(S),
}

#[async_trait]
impl<P: ConnectionTrait, S: ConnectionTrait> ConnectionTrait for Engine<P, S> {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Postgres(it) => it.get_database_backend(),
            Self::Sqlite(it) => it.get_database_backend(),
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Postgres(it) => trace::step(STEP, it.execute_raw(statement)).await,
            Self::Sqlite(it) => trace::step(STEP, it.execute_raw(statement)).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Postgres(it) => it.execute_unprepared(sql).await,
            Self::Sqlite(it) => it.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Postgres(it) => trace::step(STEP, it.query_one_raw(statement)).await,
            Self::Sqlite(it) => trace::step(STEP, it.query_one_raw(statement)).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Postgres(it) => trace::step(STEP, it.query_all_raw(statement)).await,
            Self::Sqlite(it) => trace::step(STEP, it.query_all_raw(statement)).await,
        }
    }
}
