//! Table `tokens`: who may call.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tokens")]
pub struct Model {
    /// The token's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// SHA-256 of its text, unique.
    pub hash: Vec<u8>,
    /// Its tenant.
    pub tenant_id: String,
    /// What it is for.
    pub name: String,
    /// What it may do, words parted by spaces.
    pub scopes: String,
    /// The agents it is limited to, ids parted by spaces; NULL for all.
    pub agents: Option<String>,
    /// The address of its owner.
    pub email: String,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Microseconds since the epoch; NULL for never.
    pub expires_at: Option<i64>,
    /// Microseconds since the epoch; NULL for not.
    pub revoked_at: Option<i64>,
    /// The token that a rotation has put in its place; NULL for none.
    pub replaced_by: Option<String>,
}

/// Relations to other tables.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
