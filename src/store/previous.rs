//! Values before: the end of their overlap, and that nothing of them is kept after it.

use futures_util::FutureExt as _;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, ExprTrait as _, QueryFilter as _, UpdateMany, Value,
    sea_query::{Expr, LockBehavior, LockType, Query},
};

use super::{Error, Store, Tx, entity::secret};
use crate::domain::{AgentId, SecretName, Timestamp};

// === impl Store ===

impl Store {
    /// Clears values before, of all agents, that are not given out any more; at most so many, and says how many.
    /// Rows that somebody else is at, another replica for one, are left to him.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn clear_ended_previous(&self, now: Timestamp, at_most: u64) -> Result<u64, Error> {
        self.write(move |tx| {
            async move {
                let key = [secret::Column::AgentId, secret::Column::Name];
                let mut ended = Query::select();
                ended
                    .columns(key)
                    .from(secret::Entity)
                    .and_where(Expr::col(secret::Column::PreviousUntil).lte(now.0))
                    .limit(at_most)
                    .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
                let is_ended = Expr::tuple(key.map(Expr::col)).in_subquery(ended);
                Ok(cleared().filter(is_ended).exec(&tx.0).await?.rows_affected)
            }
            .boxed()
        })
        .await
    }
}

// === impl Tx ===

impl Tx {
    /// Moves the end of the overlap of these secrets of a locked agent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn move_previous_until(
        &self,
        id: &AgentId,
        names: &[SecretName],
        until: Timestamp,
    ) -> Result<(), Error> {
        secret::Entity::update_many()
            .col_expr(secret::Column::PreviousUntil, Expr::value(until.0))
            .filter(secret::Column::AgentId.eq(id.as_str()))
            .filter(secret::Column::Name.is_in(names.iter().map(SecretName::as_str)))
            // What was cleared in between does not come back
            .filter(secret::Column::PreviousSealed.is_not_null())
            .exec(&self.0)
            .await?;
        Ok(())
    }

    /// Clears the values before of these secrets of a locked agent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn end_previous(&self, id: &AgentId, names: &[SecretName]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        cleared()
            .filter(secret::Column::AgentId.eq(id.as_str()))
            .filter(secret::Column::Name.is_in(names.iter().map(SecretName::as_str)))
            .exec(&self.0)
            .await?;
        Ok(())
    }
}

/// An update that leaves nothing of a value before.
fn cleared() -> UpdateMany<secret::Entity> {
    secret::Entity::update_many()
        .col_expr(secret::Column::PreviousVersion, Expr::value(Value::BigInt(None)))
        .col_expr(secret::Column::PreviousSealed, Expr::value(Value::Bytes(None)))
        .col_expr(secret::Column::PreviousFingerprint, Expr::value(Value::Bytes(None)))
        .col_expr(secret::Column::PreviousUntil, Expr::value(Value::BigInt(None)))
}
