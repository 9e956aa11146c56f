//! What may be told of secrets, read without their sealed values.

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, FromQueryResult, JoinType, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, RelationTrait as _,
    sea_query::{Expr, Func, SimpleExpr},
};

use super::{
    AgentRow, Error, Store, Tx,
    entity::{agent, secret},
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

#[derive(FromQueryResult)]
struct MetadataRow {
    name: String,
    version: i64,
    fingerprint: Vec<u8>,
    sealed_bytes: i64,
    created_at: i64,
    updated_at: i64,
    updated_by: String,
    previous_bytes: Option<i64>,
    previous_until: Option<i64>,
}

/// An agent beside one of its secrets; the secret's columns are NULL when it has none.
#[derive(FromQueryResult)]
struct JoinedRow {
    #[sea_orm(nested)]
    agent: agent::Model,
    secret_name: Option<String>,
    secret_version: Option<i64>,
    secret_fingerprint: Option<Vec<u8>>,
    secret_sealed_bytes: Option<i64>,
    secret_created_at: Option<i64>,
    secret_updated_at: Option<i64>,
    secret_updated_by: Option<String>,
    secret_previous_bytes: Option<i64>,
    secret_previous_until: Option<i64>,
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
        let Some((agent, secrets)) = self.agent_with_metadata(tenant, id).await? else { return Ok(None) };
        Ok(Some((AgentRow::try_from(agent)?, secrets)))
    }

    /// One statement: an agent beside the metadata of each of its secrets.
    pub(super) async fn agent_with_metadata(
        &self,
        tenant: &TenantId,
        id: &AgentId,
    ) -> Result<Option<(agent::Model, Vec<StoredSecret>)>, Error> {
        let rows = agent::Entity::find_by_id(id.as_str())
            .filter(agent::Column::TenantId.eq(tenant.as_str()))
            .join(JoinType::LeftJoin, secret::Relation::Agent.def().rev())
            .column_as(secret::Column::Name, "secret_name")
            .column_as(secret::Column::Version, "secret_version")
            .column_as(secret::Column::Fingerprint, "secret_fingerprint")
            .column_as(secret::Column::CreatedAt, "secret_created_at")
            .column_as(secret::Column::UpdatedAt, "secret_updated_at")
            .column_as(secret::Column::UpdatedBy, "secret_updated_by")
            .column_as(secret::Column::PreviousUntil, "secret_previous_until")
            .expr_as(length_of(secret::Column::Sealed), "secret_sealed_bytes")
            .expr_as(length_of(secret::Column::PreviousSealed), "secret_previous_bytes")
            .order_by_asc(secret::Column::Name)
            .into_model::<JoinedRow>()
            .all(&self.reader)
            .await?;
        let mut agent = None;
        let mut secrets = Vec::with_capacity(rows.len());
        for row in rows {
            secrets.extend(row.secret());
            agent = Some(row.agent);
        }
        Ok(agent.map(|agent| (agent, secrets)))
    }
}

// === impl Tx ===

impl Tx {
    /// Reads the metadata of a locked agent's secrets, sorted by name, without the sealed values.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stored_secrets(&self, id: &AgentId) -> Result<Vec<StoredSecret>, Error> {
        let rows = secret::Entity::find()
            .select_only()
            .columns([
                secret::Column::Name,
                secret::Column::Version,
                secret::Column::Fingerprint,
                secret::Column::CreatedAt,
                secret::Column::UpdatedAt,
                secret::Column::UpdatedBy,
                secret::Column::PreviousUntil,
            ])
            .expr_as(length_of(secret::Column::Sealed), "sealed_bytes")
            .expr_as(length_of(secret::Column::PreviousSealed), "previous_bytes")
            .filter(secret::Column::AgentId.eq(id.as_str()))
            .order_by_asc(secret::Column::Name)
            .into_model::<MetadataRow>()
            .all(&self.0)
            .await?;
        Ok(rows.into_iter().map(StoredSecret::from).collect())
    }
}

// === impl StoredSecret ===

impl From<MetadataRow> for StoredSecret {
    fn from(row: MetadataRow) -> Self {
        let MetadataRow {
            name,
            version,
            fingerprint,
            sealed_bytes,
            created_at,
            updated_at,
            updated_by,
            previous_bytes,
            previous_until,
        } = row;
        let bytes = |length: i64| usize::try_from(length).unwrap_or(usize::MAX);
        Self {
            name: SecretName::from_stored(name),
            version: Revision(version),
            fingerprint,
            sealed_bytes: bytes(sealed_bytes),
            created_at: Timestamp(created_at),
            updated_at: Timestamp(updated_at),
            updated_by,
            previous: previous_bytes
                .zip(previous_until)
                .map(|(length, until)| (bytes(length), Timestamp(until))),
        }
    }
}

// === impl JoinedRow ===

impl JoinedRow {
    fn secret(&self) -> Option<StoredSecret> {
        let row = MetadataRow {
            name: self.secret_name.clone()?,
            version: self.secret_version?,
            fingerprint: self.secret_fingerprint.clone()?,
            sealed_bytes: self.secret_sealed_bytes?,
            created_at: self.secret_created_at?,
            updated_at: self.secret_updated_at?,
            updated_by: self.secret_updated_by.clone()?,
            previous_bytes: self.secret_previous_bytes,
            previous_until: self.secret_previous_until,
        };
        Some(StoredSecret::from(row))
    }
}

/// The length of a sealed value, so that it need not be read to be known.
fn length_of(column: secret::Column) -> SimpleExpr {
    let length = Func::cust("LENGTH").arg(Expr::col((secret::Entity, column)));
    Func::cast_as(length, "BIGINT").into()
}
