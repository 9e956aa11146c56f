//! Table `agents`: what owns secrets. Its row is the lock under which they change.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agents")]
pub struct Model {
    /// The agent's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Its tenant.
    pub tenant_id: String,
    /// Its name, unique within the tenant.
    pub name: String,
    /// The command that runs it.
    pub command: Option<String>,
    /// What it requires, as JSON.
    pub required_secrets: String,
    /// How often its secrets changed.
    pub revision: i64,
    /// The key-encryption key that wraps its data key.
    pub kek_id: String,
    /// Its data key, wrapped.
    pub wrapped_key: Vec<u8>,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Microseconds since the epoch.
    pub updated_at: i64,
}

/// Relations to other tables.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
