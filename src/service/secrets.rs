//! List, and what setting and deleting share.

use serde::{Deserialize, Serialize};

use super::{Call, Error, Service};
use crate::{
    crypto::{DataKey, Fingerprint, Place},
    domain::{AuditedSecret, Revision, Scope, SecretMetadata, SecretName, SecretValue, Timestamp},
    store::{AgentRow, StoredSecret},
};

/// What is set after a write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Written {
    /// All keys now set, sorted by byte value.
    pub keys: Vec<String>,
    /// The agent's revision.
    pub revision: i64,
}

/// What is set.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The metadata of each secret, sorted by name.
    pub secrets: Vec<SecretMetadata>,
    /// The agent's revision.
    pub revision: Revision,
}

// === impl Service ===

impl Service {
    /// Lists the secrets of an agent, without their values.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `secrets:list`; [`Error::AgentNotFound`]; [`Error::Store`].
    pub async fn list_secrets(&self, call: &Call, agent: &str) -> Result<Listing, Error> {
        let id = call.needs_on(Scope::SecretsList, agent)?;
        let found = self.parts.store.secrets(call.tenant(), &id).await?;
        let found = found.ok_or(Error::AgentNotFound)?;
        let now = self.parts.clock.now();
        let secrets = found.secrets.iter().map(|secret| metadata(secret, now)).collect();
        Ok(Listing { secrets, revision: found.agent.revision })
    }
}

/// Opens a sealed value.
pub(super) fn open(
    agent: &AgentRow,
    key: &DataKey,
    name: &SecretName,
    version: Revision,
    sealed: &[u8],
) -> Result<SecretValue, Error> {
    let place = Place { tenant: &agent.tenant, agent: &agent.id, name, version };
    key.open(&place, sealed).map_err(|error| {
        tracing::error!(agent = %agent.id, key = %name, %error, "a stored secret does not open");
        Error::DataLoss { agent: agent.id.clone(), key: name.to_string() }
    })
}

/// Goes on if the agent is at the revision that the caller expects, if it expects one.
pub(super) fn expect_revision(expected: Option<Revision>, current: Revision) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != current => Err(Error::RevisionMismatch { current }),
        _ => Ok(()),
    }
}

/// How a deleted secret is audited.
pub(super) fn deleted(name: &SecretName) -> AuditedSecret {
    AuditedSecret::absent(name)
}

/// What is set after a write.
pub(super) fn written(keys: &[SecretName], revision: Revision) -> Written {
    Written { keys: keys.iter().map(ToString::to_string).collect(), revision: revision.0 }
}

fn metadata(secret: &StoredSecret, now: Timestamp) -> SecretMetadata {
    let fingerprint = Fingerprint::from_stored(&secret.fingerprint).map(|it| it.short()).unwrap_or_default();
    let previous_until = secret.previous.map(|(_, until)| until).filter(|until| now < *until);
    SecretMetadata {
        name: secret.name.clone(),
        version: secret.version,
        fingerprint,
        created_at: secret.created_at,
        updated_at: secret.updated_at,
        updated_by: secret.updated_by.clone(),
        previous_until,
    }
}
