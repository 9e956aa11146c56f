//! What may be told of secrets, read without their sealed values.

use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::{
    AgentWith, Error, Store,
    columns::{Column, Hex, Statements},
    gathered::Gathered,
    room::Key,
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
pub(super) struct Row((String, i64, Hex, u32, i64, i64, String, Option<u32>, Option<i64>));

// === impl Store ===

impl Store {
    /// Reads a tenant's agent and the metadata of its secrets as they were at one moment; `None` if it has no such agent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn secrets(
        &self,
        tenant: &TenantId,
        id: &AgentId,
    ) -> Result<Option<Arc<AgentWith<StoredSecret>>>, Error> {
        self.lookups.agent::<Row>(tenant, id).await
    }
}

// === impl Row ===

impl Gathered for Row {
    type Secret = StoredSecret;

    fn statements() -> &'static Statements {
        static STATEMENTS: LazyLock<Statements> = LazyLock::new(|| {
            Statements::of(&[
                Column::Plain("name"),
                Column::Plain("version"),
                Column::Bytes("fingerprint"),
                Column::Length("sealed"),
                Column::Plain("created_at"),
                Column::Plain("updated_at"),
                Column::Plain("updated_by"),
                Column::Length("previous_sealed"),
                Column::Plain("previous_until"),
            ])
        });
        &STATEMENTS
    }

    fn from_row(row: &sqlite::Row<'_>) -> sqlite::Result<Self> {
        row.try_into().map(Self)
    }

    fn into_secret(self) -> StoredSecret {
        let Self((
            name,
            version,
            Hex(fingerprint),
            sealed_bytes,
            created_at,
            updated_at,
            updated_by,
            previous_bytes,
            previous_until,
        )) = self;
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

    fn bytes(secret: &StoredSecret) -> usize {
        secret.name.as_str().len() + secret.fingerprint.len() + secret.updated_by.len()
    }

    fn key(agent: AgentId) -> Key {
        Key::Metadata(agent)
    }
}

/// No target of ours has a smaller `usize`.
fn to_usize(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
