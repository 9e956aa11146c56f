//! Table `keys`: which key-encryption keys this database was written with.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "keys")]
pub struct Model {
    /// The key's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// By it a wrong key under the right id is recognised.
    pub check_value: Vec<u8>,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Since when it wraps; microseconds since the epoch.
    pub primary_since: Option<i64>,
}

/// Relations to other tables.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
