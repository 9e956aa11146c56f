//! Delete.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{
    Call, Error, Service,
    idempotency::{self, Attempt, revision_bytes},
    secrets::{Written, deleted, expect_revision, written},
};
use crate::{
    crypto::DataKey,
    domain::{Action, AgentId, IdempotencyKey, Revision, Scope, SecretName},
    store::Tx,
};

/// What to delete.
#[derive(Debug)]
pub struct DeleteSecret {
    /// The agent's id as the caller wrote it.
    pub agent: String,
    /// The key as the caller wrote it.
    pub key: String,
    /// Go on only if the agent is at this revision.
    pub expected_revision: Option<Revision>,
    /// The caller's name for this attempt; empty for none.
    pub idempotency_key: String,
}

/// A delete that was checked as far as can be without the database.
struct PreparedDelete {
    call: Call,
    agent: AgentId,
    key: SecretName,
    expected_revision: Option<Revision>,
    idempotency_key: Option<IdempotencyKey>,
}

// === impl Service ===

impl Service {
    /// Deletes one secret of an agent.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `secrets:write`; [`Error::AgentNotFound`];
    /// [`Error::SecretNotFound`] when the key is not set; [`Error::RevisionMismatch`]; [`Error::Store`].
    pub async fn delete_secret(&self, call: &Call, request: DeleteSecret) -> Result<Written, Error> {
        let DeleteSecret { agent, key, expected_revision, idempotency_key } = request;
        let agent = call.needs_on(Scope::SecretsWrite, &agent)?;
        let idempotency_key = idempotency::parse(&idempotency_key).map_err(Error::invalid)?;
        // A text that cannot be a key is not set, like any other that is not
        let key = SecretName::parse(&key).unwrap_or_else(|| SecretName::from_stored(String::new()));
        let call = call.clone();
        let prepared = Arc::new(PreparedDelete { call, agent, key, expected_revision, idempotency_key });
        let (service, id) = (self.clone(), prepared.agent.clone());
        let written = self.write(move |tx| {
            let (service, prepared) = (service.clone(), Arc::clone(&prepared));
            async move { service.apply_delete(tx, &prepared).await }.boxed()
        });
        let written = written.await?;
        self.tell_watchers(&id, Some(Revision(written.revision)));
        Ok(written)
    }

    async fn apply_delete(&self, tx: &Tx, delete: &PreparedDelete) -> Result<Written, Error> {
        let agent = tx.lock_agent(delete.call.tenant(), &delete.agent).await?.ok_or(Error::AgentNotFound)?;
        let key = self.data_key(&agent)?;
        let attempt = delete.attempt(&key);
        if let Some(answer) = attempt.recall(self, tx).await? {
            return Ok(answer);
        }
        expect_revision(delete.expected_revision, agent.revision)?;
        let mut names = tx.secret_names(&agent.id).await?;
        let before = names.len();
        names.retain(|name| *name != delete.key);
        if names.len() == before {
            return Err(Error::SecretNotFound);
        }
        let mut event = self.event(&delete.call, Action::SecretsDelete, Some(&agent.id))?;
        event.secrets.push(deleted(&delete.key));
        event.revision = agent.revision.next();
        tx.delete_secrets(&agent.id, std::slice::from_ref(&delete.key)).await?;
        tx.set_revision(&agent.id, event.revision).await?;
        tx.record(&event).await?;
        let answer = written(&names, event.revision);
        attempt.remember(self, tx, &answer).await?;
        Ok(answer)
    }
}

// === impl PreparedDelete ===

impl PreparedDelete {
    fn attempt(&self, key: &DataKey) -> Attempt<'_> {
        let revision = revision_bytes(self.expected_revision);
        let request: [&[u8]; 3] = [b"delete", &revision, self.key.as_str().as_bytes()];
        Attempt::new(&self.agent, self.idempotency_key.as_ref(), key, &request)
    }
}
