//! Table `idempotency`: answers that a repeat of the same request gets again.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency")]
pub struct Model {
    /// The agent it was about.
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: String,
    /// The caller's name for the attempt.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// A keyed digest of the request.
    pub request_digest: Vec<u8>,
    /// What was answered, as JSON; never a value.
    pub answer: String,
    /// Microseconds since the epoch.
    pub created_at: i64,
}

/// Relations to other tables.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
