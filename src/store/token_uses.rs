//! When tokens were last used.
//!
//! They are rows of their own, and no part of the tokens': what is kept in memory of a token, here and on other servers, is
//! compared with its row at each call, and stays as it is when one is used.

use futures_util::FutureExt as _;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use super::{Error, Store, engine::Engine, rows, sqlite::Touched};
use crate::domain::{Timestamp, TokenId};

/// A statement that notes the uses of many tokens, which it reads from `$uses`: of each, the latest stays, whoever comes
/// with it and in whatever order. Those of tokens that are not there, or whose tenant is gone, it leaves out.
macro_rules! noting {
    ($uses:literal) => {
        concat!(
            "INSERT INTO token_uses (token_id, used_at) SELECT used.token_id, used.used_at FROM (",
            $uses,
            ") AS used WHERE EXISTS (SELECT 1 FROM tokens JOIN tenants ON tenants.id = tokens.tenant_id \
             WHERE tokens.id = used.token_id) \
             ORDER BY used.token_id \
             ON CONFLICT (token_id) DO UPDATE SET used_at = excluded.used_at \
             WHERE token_uses.used_at < excluded.used_at",
        )
    };
}

/// In the order of the ids, so that servers that do this at once never wait for each other in a circle.
const ON_POSTGRES: &str = noting!("SELECT * FROM unnest($1::text[], $2::bigint[]) AS new(token_id, used_at)");
const ON_SQLITE: &str = noting!("SELECT key AS token_id, value AS used_at FROM json_each(?)");

impl Store {
    /// Notes when tokens were used, each named once, in one statement for all of them.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn note_token_uses(&self, uses: &[(TokenId, Timestamp)]) -> Result<(), Error> {
        match &self.writer {
            Engine::Postgres(pool) => {
                let (ids, _) = rows::texts(uses.iter().map(|(id, _)| id.as_str()));
                let (times, _) = rows::numbers(uses.iter().map(|(_, at)| at.0));
                let statement =
                    Statement::from_sql_and_values(DbBackend::Postgres, ON_POSTGRES, [ids, times]);
                Ok(pool.execute_harmless(&statement).await?)
            }
            Engine::Sqlite(_) => {
                let uses: serde_json::Map<_, _> =
                    uses.iter().map(|(id, at)| (id.to_string(), at.0.into())).collect();
                let uses = serde_json::Value::from(uses).to_string();
                let statement = Statement::from_sql_and_values(DbBackend::Sqlite, ON_SQLITE, [uses.into()]);
                let noted = self.writer.write(Touched::Nothing, move |tx| {
                    let statement = statement.clone();
                    async move { Ok::<_, Error>(tx.0.execute_raw(statement).await.map(drop)?) }.boxed()
                });
                noted.await
            }
        }
    }
}
