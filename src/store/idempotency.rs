//! Answers that a repeat of the same request gets again.

use sea_orm::{ActiveValue::Set, ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::{Error, Tx, entity::idempotency};
use crate::domain::{AgentId, IdempotencyKey, Timestamp};

/// What is kept of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// A keyed digest of the request.
    pub request_digest: Vec<u8>,
    /// What was answered; never a value.
    pub answer: String,
}

impl Tx {
    /// What a locked agent was answered under this key since `since`; older answers are forgotten.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn recall(
        &self,
        id: &AgentId,
        key: &IdempotencyKey,
        since: Timestamp,
    ) -> Result<Option<Remembered>, Error> {
        idempotency::Entity::delete_many()
            .filter(idempotency::Column::AgentId.eq(id.as_str()))
            .filter(idempotency::Column::CreatedAt.lt(since.0))
            .exec(&self.0)
            .await?;
        let row = idempotency::Entity::find_by_id((id.as_str().to_owned(), key.as_str().to_owned()))
            .one(&self.0)
            .await?;
        Ok(row.map(|row| Remembered { request_digest: row.request_digest, answer: row.answer }))
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn remember(
        &self,
        id: &AgentId,
        key: &IdempotencyKey,
        remembered: Remembered,
        at: Timestamp,
    ) -> Result<(), Error> {
        let row = idempotency::ActiveModel {
            agent_id: Set(id.as_str().to_owned()),
            name: Set(key.as_str().to_owned()),
            request_digest: Set(remembered.request_digest),
            answer: Set(remembered.answer),
            created_at: Set(at.0),
        };
        idempotency::Entity::insert(row).exec_without_returning(&self.0).await?;
        Ok(())
    }
}
