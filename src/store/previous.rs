//! Values before: the end of their overlap, and that nothing of them is kept after it.

use futures_util::FutureExt as _;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, ExprTrait as _, QueryFilter as _, UpdateMany, Value,
    sea_query::{Expr, LockBehavior, LockType, Query},
};

use super::{Error, Store, entity::secret};
use crate::domain::Timestamp;

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

/// An update that gives a value before out until another time, or clears it. What was cleared in between does not
/// come back.
pub(super) fn keep_until(until: Option<Timestamp>) -> UpdateMany<secret::Entity> {
    match until {
        Some(until) => secret::Entity::update_many()
            .col_expr(secret::Column::PreviousUntil, Expr::value(until.0))
            .filter(secret::Column::PreviousSealed.is_not_null()),
        None => cleared(),
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
