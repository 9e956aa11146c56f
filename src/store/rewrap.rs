//! Data keys that get another wrapping: how each is wrapped, page by page, and the exchange for a new wrapping.
//!
//! An exchange takes place only where the old wrapping is still the one that was read. So it may be done twice, by two
//! at once, or be given up half way, and nothing is lost.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::join_all};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, QueryResult, Statement};

use super::{
    Error, Store, Tx, WrappedKeyRow,
    engine::Engine,
    pool::Pool,
    rows::{blobs, texts},
    sqlite,
};
use crate::domain::{AgentId, KekId, TenantId};

/// An agent and how its data key is wrapped.
#[derive(Clone, Debug)]
pub struct Wrapping {
    /// The agent.
    pub agent: AgentId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its data key.
    pub key: WrappedKeyRow,
}

/// The same data key, wrapped anew.
#[derive(Clone, Debug)]
pub struct Rewrapped {
    /// The agent, as it was read.
    pub before: Wrapping,
    /// Its data key from now on.
    pub key: WrappedKeyRow,
}

/// How many statements are under way at once where each is to be about one agent.
const SIDE_BY_SIDE: usize = 8;

const PAGE: &str = "SELECT id, tenant_id, kek_id, wrapped_key FROM agents WHERE";

/// On SQLite.
const EXCHANGE_ONE: &str = "UPDATE agents SET kek_id = ?, wrapped_key = ? \
                            WHERE id = ? AND kek_id = ? AND wrapped_key = ?";

/// On PostgreSQL. Rows that somebody else holds are left alone, so that nobody waits and nothing can end in a deadlock.
const EXCHANGE: &str = "WITH mine AS MATERIALIZED (SELECT agents.id, new.kek_id, new.wrapped_key \
     FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bytea[]) \
     AS new(id, old_kek, old_wrapped, kek_id, wrapped_key) \
     JOIN agents ON agents.id = new.id AND agents.kek_id = new.old_kek AND agents.wrapped_key = new.old_wrapped \
     FOR UPDATE OF agents SKIP LOCKED), \
     done AS (UPDATE agents SET kek_id = mine.kek_id, wrapped_key = mine.wrapped_key \
     FROM mine WHERE agents.id = mine.id RETURNING agents.id) SELECT COUNT(*) FROM done";

// === impl Store ===

impl Store {
    /// Reads how the data keys of agents, of any tenant, are wrapped: by id, the first of them after one, at most so many.
    ///
    /// Not only of those under some key: PostgreSQL, which cannot know how many these are, would rather read the whole
    /// table for each page.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn wrappings(&self, after: Option<&AgentId>, at_most: usize) -> Result<Vec<Wrapping>, Error> {
        let after = after.map_or("", AgentId::as_str);
        let rows = match &self.reader {
            Engine::Postgres(pool) => read(pool, after, at_most).await?,
            Engine::Sqlite(readers) => read_rows(&*readers.lend().await?, after, at_most)?,
        };
        let rows = rows.into_iter().map(|(id, tenant, kek, bytes)| Wrapping {
            agent: AgentId::from_stored(id),
            tenant: TenantId::from_stored(tenant),
            key: WrappedKeyRow { kek: KekId::from_stored(kek), bytes },
        });
        Ok(rows.collect())
    }

    /// Exchanges wrappings, and says how many: not those that are others by now, nor, on PostgreSQL, those of agents that
    /// somebody is at just then.
    ///
    /// # Errors
    /// [`Error`]; on SQLite, and where statements are shared, nothing is exchanged then.
    pub async fn exchange(&self, rewrapped: Vec<Rewrapped>) -> Result<u64, Error> {
        let Engine::Postgres(pool) = &self.writer else {
            let rewrapped = Arc::new(rewrapped);
            return self
                .write(move |tx| {
                    let rewrapped = Arc::clone(&rewrapped);
                    async move { tx.exchange(&rewrapped).await }.boxed()
                })
                .await;
        };
        if self.batching {
            return exchange(pool, &rewrapped).await;
        }
        let mut exchanged = 0;
        for some in rewrapped.chunks(SIDE_BY_SIDE) {
            for one in join_all(some.chunks(1).map(|one| exchange(pool, one))).await {
                exchanged += one?;
            }
        }
        Ok(exchanged)
    }
}

type Columns = (String, String, String, Vec<u8>);

async fn read(pool: &Pool, after: &str, at_most: usize) -> Result<Vec<Columns>, DbErr> {
    // The limit stands in the text: for one that is bound PostgreSQL plans as if a tenth of the table were asked for
    let text = format!("{PAGE} id > $1 ORDER BY id LIMIT {at_most}");
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, text, [after.into()]);
    pool.query_all_raw(statement).await?.iter().map(QueryResult::try_get_many_by_index).collect()
}

fn read_rows(connection: &sqlite::Connection, after: &str, at_most: usize) -> Result<Vec<Columns>, DbErr> {
    let text = format!("{PAGE} id > ? ORDER BY id LIMIT {at_most}");
    let mut rows = Vec::with_capacity(at_most);
    connection.read(&text, [after], |row| {
        rows.push((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        Ok(())
    })?;
    Ok(rows)
}

async fn exchange(pool: &Pool, rewrapped: &[Rewrapped]) -> Result<u64, Error> {
    let before = || rewrapped.iter().map(|it| &it.before);
    let parameters = [
        texts(before().map(|it| it.agent.as_str())).0,
        texts(before().map(|it| it.key.kek.as_str())).0,
        blobs(before().map(|it| it.key.bytes.as_slice())).0,
        texts(rewrapped.iter().map(|it| it.key.kek.as_str())).0,
        blobs(rewrapped.iter().map(|it| it.key.bytes.as_slice())).0,
    ];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, EXCHANGE, parameters);
    // As a read is it done again where its connection was lost: a second time it finds nothing to do
    let rows = pool.query_all_raw(statement).await?;
    let exchanged = rows.first().map(|row| row.try_get_by_index::<i64>(0)).transpose()?;
    Ok(exchanged.unwrap_or_default().unsigned_abs())
}

// === impl Tx ===

impl Tx {
    async fn exchange(&self, rewrapped: &[Rewrapped]) -> Result<u64, Error> {
        let mut exchanged = 0;
        for Rewrapped { before, key } in rewrapped {
            let values = [
                key.kek.as_str().into(),
                key.bytes.as_slice().into(),
                before.agent.as_str().into(),
                before.key.kek.as_str().into(),
                before.key.bytes.as_slice().into(),
            ];
            let statement = Statement::from_sql_and_values(DbBackend::Sqlite, EXCHANGE_ONE, values);
            exchanged += self.0.execute_raw(statement).await?.rows_affected();
        }
        Ok(exchanged)
    }
}
