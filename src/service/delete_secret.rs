//! Delete.

use std::sync::Arc;

use super::{
    Call, Error, Service,
    idempotency::{self, Attempt, revision_bytes},
    secrets::{Written, deleted, expect_revision, written},
};
use crate::{
    crypto::DataKey,
    domain::{Action, AgentId, IdempotencyKey, Revision, Scope, SecretName},
    store::{Change, Decided, Found},
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
        let question = self.question(&prepared.call, &prepared.agent, prepared.idempotency_key.as_ref());
        let change = || {
            let (service, delete) = (self.clone(), Arc::clone(&prepared));
            let decide = move |found: Option<&Found>| service.decide_delete(&delete, found);
            self.parts.store.change(question.clone(), decide)
        };
        let written: Written = match change().await {
            Err(Error::KeyWanted(wanted)) => {
                self.find_key(&wanted).await?;
                change().await?
            }
            done => done?,
        };
        self.tell_watchers(&prepared.agent, Some(Revision(written.revision)));
        Ok(written)
    }

    fn decide_delete(
        &self,
        delete: &PreparedDelete,
        found: Option<&Found>,
    ) -> Result<Decided<Written>, Error> {
        let found = found.ok_or(Error::AgentNotFound)?;
        let agent = &found.metadata.agent;
        let key = self.data_key(agent)?;
        let attempt = delete.attempt(&key);
        if let Some(answer) = attempt.recall(found)? {
            return Ok(Decided { answer, change: None });
        }
        expect_revision(delete.expected_revision, agent.revision)?;
        let names = found.metadata.secrets.iter().map(|secret| &secret.name);
        let left: Vec<_> = names.filter(|name| **name != delete.key).cloned().collect();
        if left.len() == found.metadata.secrets.len() {
            return Err(Error::SecretNotFound);
        }
        let mut event = self.event(&delete.call, Action::SecretsDelete, Some(&agent.id))?;
        event.secrets.push(deleted(&delete.key));
        event.revision = agent.revision.next();
        let answer = written(&left, event.revision);
        let change = Change {
            moves_on: true,
            puts: Vec::new(),
            deletes: vec![delete.key.clone()],
            overlaps: Vec::new(),
            event,
            remember: attempt.remember(&answer)?,
        };
        Ok(Decided { answer, change: Some(change) })
    }
}

// === impl PreparedDelete ===

impl PreparedDelete {
    fn attempt(&self, key: &DataKey) -> Attempt<'_> {
        let revision = revision_bytes(self.expected_revision);
        let request: [&[u8]; 3] = [b"delete", &revision, self.key.as_str().as_bytes()];
        Attempt::new(self.idempotency_key.as_ref(), key, &request)
    }
}
