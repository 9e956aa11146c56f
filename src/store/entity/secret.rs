//! Table `secrets`: the sealed values.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "secrets")]
pub struct Model {
    /// The agent that owns it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: String,
    /// The key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The agent's revision at which this value was set.
    pub version: i64,
    /// The value, sealed.
    pub sealed: Vec<u8>,
    /// A keyed digest of the value.
    pub fingerprint: Vec<u8>,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Microseconds since the epoch.
    pub updated_at: i64,
    /// The id of the token that set it.
    pub updated_by: String,
    /// The version of the value before; the four are NULL when none is kept.
    pub previous_version: Option<i64>,
    /// The value before, sealed.
    pub previous_sealed: Option<Vec<u8>>,
    /// A keyed digest of the value before.
    pub previous_fingerprint: Option<Vec<u8>>,
    /// Until when it is given out, in microseconds since the epoch.
    pub previous_until: Option<i64>,
}

/// Relations to other tables.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// The agent that owns it.
    #[sea_orm(belongs_to = "super::agent::Entity", from = "Column::AgentId", to = "super::agent::Column::Id")]
    Agent,
}

impl ActiveModelBehavior for ActiveModel {}

impl Related<super::agent::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Agent.def()
    }
}

impl Related<Entity> for super::agent::Entity {
    fn to() -> RelationDef {
        Relation::Agent.def().rev()
    }
}
