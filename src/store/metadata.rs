//! What may be told of secrets, read without their sealed values.

use serde::Deserialize;

use super::{
    AgentRow, Error, Store,
    agent_row::OfTenant,
    gathered::{Column, Gathered, Hex},
    sqlite,
};
use crate::domain::{AgentId, Revision, SecretName, TenantId, Timestamp};

/// What may be told of a secret. The length of the sealed value tells its size class and no more.
#[derive(Clone, Debug)]
pub struct StoredSecret {
    /// Its name.
    pub name: SecretName,
    /// The agent's revision at which the value was set.
    pub version: Revision,
    /// A keyed digest of the value.
    pub fingerprint: Vec<u8>,
    /// How long the sealed value is, in bytes.
    pub sealed_bytes: usize,
    /// When the name was first set.
    pub created_at: Timestamp,
    /// When this value was set.
    pub updated_at: Timestamp,
    /// The id of the token that set it.
    pub updated_by: String,
    /// The value before, if it is kept: how long it is sealed, and until when.
    pub previous: Option<(usize, Timestamp)>,
}

/// The metadata of a secret, as it is gathered.
#[derive(Deserialize)]
pub(super) struct Row(String, i64, Hex, u32, i64, i64, String, Option<u32>, Option<i64>);

// === impl Store ===

impl Store {
    /// Reads the revision of a tenant's agent and the metadata of its secrets, sorted by name, as they
    /// were at one moment; `None` if it has no such agent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn secrets(
        &self,
        tenant: &TenantId,
        id: &AgentId,
    ) -> Result<Option<(AgentRow, Vec<StoredSecret>)>, Error> {
        self.metadata.ask(OfTenant::new(tenant, id)).await
    }
}

// === impl Row ===

impl Gathered for Row {
    const COLUMNS: &'static [Column] = &[
        Column::Plain("name"),
        Column::Plain("version"),
        Column::Bytes("fingerprint"),
        Column::Length("sealed"),
        Column::Plain("created_at"),
        Column::Plain("updated_at"),
        Column::Plain("updated_by"),
        Column::Length("previous_sealed"),
        Column::Plain("previous_until"),
    ];
    const AT_ONCE: usize = 64;
    type Secret = StoredSecret;

    fn from_row(row: &sqlite::Row<'_>, first: usize) -> sqlite::Result<Self> {
        Ok(Self(
            row.get(first)?,
            row.get(first + 1)?,
            row.get(first + 2)?,
            row.get(first + 3)?,
            row.get(first + 4)?,
            row.get(first + 5)?,
            row.get(first + 6)?,
            row.get(first + 7)?,
            row.get(first + 8)?,
        ))
    }

    fn into_secret(self) -> StoredSecret {
        let Self(
            name,
            version,
            Hex(fingerprint),
            sealed_bytes,
            created_at,
            updated_at,
            updated_by,
            previous_bytes,
            previous_until,
        ) = self;
        StoredSecret {
            name: SecretName::from_stored(name),
            version: Revision(version),
            fingerprint,
            sealed_bytes: to_usize(sealed_bytes),
            created_at: Timestamp(created_at),
            updated_at: Timestamp(updated_at),
            updated_by,
            previous: previous_bytes.map(to_usize).zip(previous_until.map(Timestamp)),
        }
    }

    fn name(secret: &StoredSecret) -> &SecretName {
        &secret.name
    }
}

/// No target of ours has a smaller `usize`.
fn to_usize(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
