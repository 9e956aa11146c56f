//! Table `tenants`: who is kept apart from whom.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    /// The tenant's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Its name, unique.
    pub name: String,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Microseconds since the epoch; since then it is being deleted.
    pub deleted_at: Option<i64>,
}

/// Relations to other tables.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
