//! Agents as far as their secrets depend on them.

use sea_orm::{EntityTrait as _, FromQueryResult, QuerySelect as _};
use serde::Deserialize;

use super::{Error, columns::Hex, entity::agent, sqlite};
use crate::domain::{AgentId, KekId, RequiredSecret, Revision, TenantId};

/// A data key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKeyRow {
    /// The key-encryption key that wraps it.
    pub kek: KekId,
    /// The wrapped key.
    pub bytes: Vec<u8>,
}

/// What the secrets of an agent depend on.
#[derive(Clone, Debug)]
pub struct AgentRow {
    /// Its id.
    pub id: AgentId,
    /// Its tenant.
    pub tenant: TenantId,
    /// How often its secrets changed.
    pub revision: Revision,
    /// What it requires.
    pub required_secrets: Vec<RequiredSecret>,
    /// Its data key.
    pub key: WrappedKeyRow,
}

/// What [`AgentRow`] is read from.
#[derive(Deserialize, FromQueryResult)]
pub(super) struct AgentColumns {
    pub(super) id: String,
    pub(super) tenant_id: String,
    pub(super) revision: i64,
    pub(super) required_secrets: String,
    pub(super) kek_id: String,
    #[serde(deserialize_with = "Hex::bytes")]
    pub(super) wrapped_key: Vec<u8>,
}

// === impl AgentColumns ===

impl AgentColumns {
    /// What they are called.
    pub(super) const NAMES: [&str; 6] =
        ["id", "tenant_id", "revision", "required_secrets", "kek_id", "wrapped_key"];

    /// The same for JSON, in which bytes are [`Hex`].
    pub(super) const IN_JSON: [&str; 6] =
        ["id", "tenant_id", "revision", "required_secrets", "kek_id", "encode(wrapped_key, 'hex')"];

    /// Reads these columns of a row from the first of them on.
    pub(super) fn from_row(row: &sqlite::Row<'_>, first: usize) -> sqlite::Result<Self> {
        Ok(Self {
            id: row.get(first)?,
            tenant_id: row.get(first + 1)?,
            revision: row.get(first + 2)?,
            required_secrets: row.get(first + 3)?,
            kek_id: row.get(first + 4)?,
            wrapped_key: row.get(first + 5)?,
        })
    }

    /// A query of these columns.
    pub(super) fn select() -> sea_orm::Select<agent::Entity> {
        agent::Entity::find().select_only().columns([
            agent::Column::Id,
            agent::Column::TenantId,
            agent::Column::Revision,
            agent::Column::RequiredSecrets,
            agent::Column::KekId,
            agent::Column::WrappedKey,
        ])
    }
}

impl TryFrom<AgentColumns> for AgentRow {
    type Error = Error;

    fn try_from(row: AgentColumns) -> Result<Self, Error> {
        Ok(Self {
            required_secrets: parse_required(&row.required_secrets)?,
            id: AgentId::from_stored(row.id),
            tenant: TenantId::from_stored(row.tenant_id),
            revision: Revision(row.revision),
            key: WrappedKeyRow { kek: KekId::from_stored(row.kek_id), bytes: row.wrapped_key },
        })
    }
}

// === impl AgentRow ===

impl AgentRow {
    /// How many bytes it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let required = self.required_secrets.iter().map(|required| {
            size_of::<RequiredSecret>()
                + required.name.len()
                + required.description.len()
                + required.pattern.len()
        });
        size_of::<Self>() + self.key.bytes.len() + required.sum::<usize>()
    }
}

/// What an agent requires, as it is kept.
pub(super) fn parse_required(json: &str) -> Result<Vec<RequiredSecret>, Error> {
    serde_json::from_str(json)
        .map_err(|_unreadable| Error::Inconsistent("agents.required_secrets is our JSON"))
}
