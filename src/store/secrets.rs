//! Secrets: sealed values.

use std::sync::{Arc, LazyLock};

use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use serde::Deserialize;

use super::{
    AgentWith, Error, Store, Tx,
    columns::{Column, Hex, Statements},
    entity::secret,
    gathered::Gathered,
    room::Key,
    sqlite,
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

/// A sealed value, as it is gathered.
#[derive(Deserialize)]
pub(super) struct Row((String, i64, Hex, Hex, Option<i64>, Hex, Hex, Option<i64>));

// === impl Store ===

impl Store {
    /// Reads a tenant's agent and all its sealed values as they were at one moment; `None` if it has no such agent.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sealed_secrets(
        &self,
        tenant: &TenantId,
        id: &AgentId,
    ) -> Result<Option<Arc<AgentWith<SealedSecret>>>, Error> {
        self.values.agent::<Row>(tenant, id).await
    }
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

// === impl Row ===

impl Gathered for Row {
    type Secret = SealedSecret;

    fn statements() -> &'static Statements {
        static STATEMENTS: LazyLock<Statements> = LazyLock::new(|| {
            Statements::of(&[
                Column::Plain("name"),
                Column::Plain("version"),
                Column::Bytes("fingerprint"),
                Column::Bytes("sealed"),
                Column::Plain("previous_version"),
                Column::Bytes("previous_fingerprint"),
                Column::Bytes("previous_sealed"),
                Column::Plain("previous_until"),
            ])
        });
        &STATEMENTS
    }

    fn from_row(row: &sqlite::Row<'_>) -> sqlite::Result<Self> {
        row.try_into().map(Self)
    }

    fn into_secret(self) -> SealedSecret {
        let Self((name, version, Hex(fingerprint), Hex(sealed), kept, kept_fingerprint, kept_sealed, until)) =
            self;
        let previous = match (kept, kept_fingerprint.some(), kept_sealed.some(), until) {
            (Some(version), Some(fingerprint), Some(sealed), Some(until)) => Some(PreviousSecret {
                version: Revision(version),
                fingerprint,
                sealed,
                until: Timestamp(until),
            }),
            _ => None,
        };
        SealedSecret {
            name: SecretName::from_stored(name),
            version: Revision(version),
            fingerprint,
            sealed,
            previous,
        }
    }

    fn name(secret: &SealedSecret) -> &SecretName {
        &secret.name
    }

    fn bytes(secret: &SealedSecret) -> usize {
        let previous = secret.previous.as_ref();
        let previous = previous.map_or(0, |previous| previous.fingerprint.len() + previous.sealed.len());
        secret.name.as_str().len() + secret.fingerprint.len() + secret.sealed.len() + previous
    }

    fn key(agent: AgentId) -> Key {
        Key::Values(agent)
    }
}
