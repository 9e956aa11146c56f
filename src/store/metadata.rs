//! What may be told of secrets, read without their sealed values.

use std::collections::HashMap;

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, FromQueryResult, JoinType, QueryFilter as _, QuerySelect as _, RelationTrait as _,
    sea_query::{Expr, Func, SimpleExpr},
};

use super::{
    AgentRow, Error, Store,
    agent_row::{AgentColumns, OfTenant},
    batch::Together,
    entity::{agent, secret},
    pool::Pool,
    rows::is_among,
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

/// An agent beside one of its secrets; the secret's columns are NULL when it has none.
#[derive(FromQueryResult)]
struct JoinedRow {
    #[sea_orm(nested)]
    agent: AgentColumns,
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
    let backend = connection.get_database_backend();
    let rows = AgentColumns::select()
        .filter(is_among((agent::Entity, agent::Column::Id), agents, backend))
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
        .into_model::<JoinedRow>()
        .all(connection)
        .await?;
    let mut found: HashMap<AgentId, AgentWithMetadata> = HashMap::new();
    for row in rows {
        let (agent, secret) = row.split();
        let (_, secrets) = agent.entry_in(&mut found)?;
        secrets.extend(secret);
    }
    for (_, secrets) in found.values_mut() {
        secrets.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(found)
}

// === impl JoinedRow ===

impl JoinedRow {
    fn split(self) -> (AgentColumns, Option<StoredSecret>) {
        let Self {
            agent,
            secret_name,
            secret_version,
            secret_fingerprint,
            secret_sealed_bytes,
            secret_created_at,
            secret_updated_at,
            secret_updated_by,
            secret_previous_bytes,
            secret_previous_until,
        } = self;
        let bytes = |length: i64| usize::try_from(length).unwrap_or(usize::MAX);
        let secret = || {
            Some(StoredSecret {
                name: SecretName::from_stored(secret_name?),
                version: Revision(secret_version?),
                fingerprint: secret_fingerprint?,
                sealed_bytes: bytes(secret_sealed_bytes?),
                created_at: Timestamp(secret_created_at?),
                updated_at: Timestamp(secret_updated_at?),
                updated_by: secret_updated_by?,
                previous: secret_previous_bytes
                    .zip(secret_previous_until)
                    .map(|(length, until)| (bytes(length), Timestamp(until))),
            })
        };
        (agent, secret())
    }
}

/// The length of a sealed value, so that it need not be read to be known.
fn length_of(column: secret::Column) -> SimpleExpr {
    let length = Func::cust("LENGTH").arg(Expr::col((secret::Entity, column)));
    Func::cast_as(length, "BIGINT").into()
}
