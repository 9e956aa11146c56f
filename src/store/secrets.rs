//! Secrets: sealed values.

use std::collections::HashMap;

use async_trait::async_trait;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, FromQueryResult, JoinType, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, RelationTrait as _,
};

use super::{
    AgentRow, Error, Store, Tx,
    agent_row::{AgentColumns, OfTenant},
    batch::Together,
    entity::{agent, secret},
    pool::Pool,
    rows::is_among,
};
use crate::domain::{AgentId, Revision, SecretName, TenantId, Timestamp};

/// A sealed value.
#[derive(Clone, Debug)]
pub struct SealedSecret {
    /// Its name.
    pub name: SecretName,
    /// The agent's revision at which it was set.
    pub version: Revision,
    /// A keyed digest of the value.
    pub fingerprint: Vec<u8>,
    /// The sealed value.
    pub sealed: Vec<u8>,
    /// The value before, if it is kept.
    pub previous: Option<PreviousSecret>,
}

/// The value that a secret had before, kept for an overlap.
#[derive(Clone, Debug)]
pub struct PreviousSecret {
    /// The agent's revision at which it was set.
    pub version: Revision,
    /// A keyed digest of it.
    pub fingerprint: Vec<u8>,
    /// The sealed value.
    pub sealed: Vec<u8>,
    /// Until when it is given out.
    pub until: Timestamp,
}

/// A value to store.
#[derive(Clone, Debug)]
pub struct SealedWrite {
    /// The sealed value.
    pub secret: SealedSecret,
    /// Now.
    pub at: Timestamp,
    /// The id of the token that sets it.
    pub by: String,
}

/// An agent, and its sealed values, sorted by name.
pub(super) type AgentWithValues = (AgentRow, Vec<SealedSecret>);

/// An agent beside one of its secrets; the secret's columns are NULL when it has none.
#[derive(FromQueryResult)]
struct JoinedRow {
    #[sea_orm(nested)]
    agent: AgentColumns,
    #[sea_orm(nested)]
    secret: Option<SecretColumns>,
}

#[derive(FromQueryResult)]
struct SecretColumns {
    name: String,
    version: i64,
    sealed: Vec<u8>,
    fingerprint: Vec<u8>,
    previous_version: Option<i64>,
    previous_sealed: Option<Vec<u8>>,
    previous_fingerprint: Option<Vec<u8>>,
    previous_until: Option<i64>,
}

/// Reads agents with their sealed values, many in one statement.
pub(super) struct Values(pub(super) Pool);

#[async_trait]
impl Together for Values {
    type Item = OfTenant;
    type Outcome = Option<AgentWithValues>;
    /// An agent's values may take a megabyte.
    const AT_ONCE: usize = 32;

    async fn run(&self, items: &[OfTenant]) -> Result<Vec<Option<AgentWithValues>>, Error> {
        let found = read(&self.0, items.iter().map(OfTenant::id).collect()).await?;
        Ok(items.iter().map(|item| item.pick(&found, |(agent, _)| agent)).collect())
    }
}

// === impl Store ===

impl Store {
    /// Reads a tenant's agent and all its sealed values, sorted by name, as they were at one moment;
    /// `None` if it has no such agent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sealed_secrets(
        &self,
        tenant: &TenantId,
        id: &AgentId,
    ) -> Result<Option<(AgentRow, Vec<SealedSecret>)>, Error> {
        self.values.ask(OfTenant::new(tenant, id)).await
    }
}

/// Reads agents of any tenant with their sealed values, as they were at one moment.
pub(super) async fn read(
    connection: &impl ConnectionTrait,
    agents: Vec<String>,
) -> Result<HashMap<AgentId, AgentWithValues>, Error> {
    let backend = connection.get_database_backend();
    let rows = AgentColumns::select()
        .filter(is_among((agent::Entity, agent::Column::Id), agents, backend))
        .join(JoinType::LeftJoin, secret::Relation::Agent.def().rev())
        .columns([
            secret::Column::Name,
            secret::Column::Version,
            secret::Column::Sealed,
            secret::Column::Fingerprint,
            secret::Column::PreviousVersion,
            secret::Column::PreviousSealed,
            secret::Column::PreviousFingerprint,
            secret::Column::PreviousUntil,
        ])
        .into_model::<JoinedRow>()
        .all(connection)
        .await?;
    let mut found: HashMap<AgentId, AgentWithValues> = HashMap::new();
    for JoinedRow { agent, secret } in rows {
        let (_, secrets) = agent.entry_in(&mut found)?;
        secrets.extend(secret.map(SealedSecret::from));
    }
    for (_, secrets) in found.values_mut() {
        secrets.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(found)
}

// === impl Tx ===

impl Tx {
    /// The names of an agent's secrets, sorted by byte value.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn secret_names(&self, id: &AgentId) -> Result<Vec<SecretName>, Error> {
        let names: Vec<String> = secret::Entity::find()
            .select_only()
            .column(secret::Column::Name)
            .filter(secret::Column::AgentId.eq(id.as_str()))
            .order_by_asc(secret::Column::Name)
            .into_tuple()
            .all(&self.0)
            .await?;
        Ok(names.into_iter().map(SecretName::from_stored).collect())
    }
}

// === impl SealedSecret ===

impl From<SecretColumns> for SealedSecret {
    fn from(row: SecretColumns) -> Self {
        let kept = (row.previous_version, row.previous_sealed, row.previous_fingerprint, row.previous_until);
        let previous = match kept {
            (Some(version), Some(sealed), Some(fingerprint), Some(until)) => Some(PreviousSecret {
                version: Revision(version),
                fingerprint,
                sealed,
                until: Timestamp(until),
            }),
            _ => None,
        };
        Self {
            name: SecretName::from_stored(row.name),
            version: Revision(row.version),
            fingerprint: row.fingerprint,
            sealed: row.sealed,
            previous,
        }
    }
}
