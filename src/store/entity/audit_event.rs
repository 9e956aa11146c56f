//! Table `audit_events`: who did what. Rows are added and never changed.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_events")]
pub struct Model {
    /// The agent it was done to; empty for what concerns the tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: String,
    /// Its id, which sorts by time.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// The tenant.
    pub tenant_id: String,
    /// Microseconds since the epoch.
    pub at: i64,
    /// What was done.
    pub action: String,
    /// The id of the token that did it.
    pub actor: String,
    /// The id of the request.
    pub request_id: String,
    /// The caller's address.
    pub remote: String,
    /// The secrets it touched, as JSON: names, versions, fingerprints.
    pub secrets: String,
    /// The agent's revision after it.
    pub revision: i64,
    /// The run a resolve named.
    pub run_id: String,
    /// What else it was about.
    pub subject: String,
}

/// Relations to other tables.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
