//! What may be told of secrets, read without their sealed values.

use std::collections::HashMap;

use async_trait::async_trait;
use sea_orm::ConnectionTrait;
use serde::Deserialize;

use super::{
    AgentRow, Error, Store,
    agent_row::OfTenant,
    batch::Together,
    gathered::{self, Column, Gathered, Hex},
    pool::Pool,
};
use crate::domain::{AgentId, Revision, SecretName, TenantId, Timestamp};

/// An agent, and the metadata of its secrets, sorted by name.
pub(super) type AgentWithMetadata = (AgentRow, Vec<StoredSecret>);

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
struct Row(String, i64, Hex, usize, i64, i64, String, Option<usize>, Option<i64>);

/// Reads agents with the metadata of their secrets, many in one statement.
pub(super) struct Metadata(pub(super) Pool);

#[async_trait]
impl Together for Metadata {
    type Item = OfTenant;
    type Outcome = Option<AgentWithMetadata>;
    const AT_ONCE: usize = 64;

    async fn run(&self, items: &[OfTenant]) -> Result<Vec<Option<AgentWithMetadata>>, Error> {
        let found = read(&self.0, items.iter().map(OfTenant::id).collect()).await?;
        Ok(items.iter().map(|item| item.pick(&found, |(agent, _)| agent)).collect())
    }
}

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

/// Reads agents of any tenant with the metadata of their secrets, as they were at one moment.
pub(super) async fn read(
    connection: &impl ConnectionTrait,
    agents: Vec<String>,
) -> Result<HashMap<AgentId, AgentWithMetadata>, Error> {
    gathered::read::<Row>(connection, agents).await
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
    type Secret = StoredSecret;

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
            sealed_bytes,
            created_at: Timestamp(created_at),
            updated_at: Timestamp(updated_at),
            updated_by,
            previous: previous_bytes.zip(previous_until.map(Timestamp)),
        }
    }

    fn name(secret: &StoredSecret) -> &SecretName {
        &secret.name
    }
}
