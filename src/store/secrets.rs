//! Secrets: sealed values and what may be told of them.

use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, sea_query::OnConflict,
};

use super::{AgentRow, Error, Store, Tx, entity::agent, entity::secret};
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
        let found = agent::Entity::find_by_id(id.as_str())
            .filter(agent::Column::TenantId.eq(tenant.as_str()))
            .find_with_related(secret::Entity)
            .order_by_asc(secret::Column::Name)
            .all(&self.reader)
            .await?;
        let Some((agent, secrets)) = found.into_iter().next() else { return Ok(None) };
        Ok(Some((AgentRow::try_from(agent)?, secrets.into_iter().map(SealedSecret::from).collect())))
    }
}

// === impl Tx ===

impl Tx {
    /// Reads all sealed values of a locked agent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sealed_of(&self, id: &AgentId) -> Result<Vec<SealedSecret>, Error> {
        let of_agent = secret::Column::AgentId.eq(id.as_str());
        let rows = secret::Entity::find().filter(of_agent).all(&self.0).await?;
        Ok(rows.into_iter().map(SealedSecret::from).collect())
    }

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

    /// Sets or replaces values of a locked agent in one statement. A replaced one keeps the time at which
    /// its name was first set, and loses the value before it unless the write brings that along.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put_secrets(&self, id: &AgentId, writes: Vec<SealedWrite>) -> Result<(), Error> {
        if writes.is_empty() {
            return Ok(());
        }
        let rows = writes.into_iter().map(|SealedWrite { secret, at, by }| {
            let SealedSecret { name, version, fingerprint, sealed, previous } = secret;
            let previous = previous.map(|it| (it.version.0, it.sealed, it.fingerprint, it.until.0));
            let (previous_version, previous_sealed, previous_fingerprint, previous_until) = match previous {
                Some((version, sealed, fingerprint, until)) => {
                    (Some(version), Some(sealed), Some(fingerprint), Some(until))
                }
                None => (None, None, None, None),
            };
            secret::ActiveModel {
                agent_id: Set(id.as_str().to_owned()),
                name: Set(name.as_str().to_owned()),
                version: Set(version.0),
                sealed: Set(sealed),
                fingerprint: Set(fingerprint),
                created_at: Set(at.0),
                updated_at: Set(at.0),
                updated_by: Set(by),
                previous_version: Set(previous_version),
                previous_sealed: Set(previous_sealed),
                previous_fingerprint: Set(previous_fingerprint),
                previous_until: Set(previous_until),
            }
        });
        let replaced = [
            secret::Column::Version,
            secret::Column::Sealed,
            secret::Column::Fingerprint,
            secret::Column::UpdatedAt,
            secret::Column::UpdatedBy,
            secret::Column::PreviousVersion,
            secret::Column::PreviousSealed,
            secret::Column::PreviousFingerprint,
            secret::Column::PreviousUntil,
        ];
        let by_key = OnConflict::columns([secret::Column::AgentId, secret::Column::Name])
            .update_columns(replaced)
            .to_owned();
        secret::Entity::insert_many(rows).on_conflict(by_key).exec_without_returning(&self.0).await?;
        Ok(())
    }

    /// Deletes secrets of a locked agent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_secrets(&self, id: &AgentId, names: &[SecretName]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        secret::Entity::delete_many()
            .filter(secret::Column::AgentId.eq(id.as_str()))
            .filter(secret::Column::Name.is_in(names.iter().map(SecretName::as_str)))
            .exec(&self.0)
            .await?;
        Ok(())
    }
}

// === impl SealedSecret ===

impl From<secret::Model> for SealedSecret {
    fn from(row: secret::Model) -> Self {
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
