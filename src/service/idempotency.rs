//! Repeats of a request: the first answer again, and no second effect.

use serde::{Serialize, de::DeserializeOwned};

use super::{Error, Service};
use crate::{
    crypto::DataKey,
    domain::{AgentId, Fault, FaultCode, IdempotencyKey, Revision},
    store::{Remembered, Tx},
};

/// How long an answer is kept.
const KEPT_SECONDS: i64 = 24 * 60 * 60;

/// A request that may be a repeat.
pub(super) struct Attempt<'r> {
    agent: &'r AgentId,
    key: Option<&'r IdempotencyKey>,
    digest: [u8; 32],
}

/// Reads a caller's idempotency key; empty means none.
pub(super) fn parse(text: &str) -> Result<Option<IdempotencyKey>, Fault> {
    match text {
        "" => Ok(None),
        text => IdempotencyKey::parse(text)
            .map(Some)
            .ok_or_else(|| Fault::new("idempotency_key", FaultCode::InvalidHeader)),
    }
}

/// An expected revision as part of a digest.
pub(super) fn revision_bytes(revision: Option<Revision>) -> Vec<u8> {
    revision.map(|revision| revision.0.to_be_bytes().to_vec()).unwrap_or_default()
}

impl<'r> Attempt<'r> {
    /// Notes what is asked. The digest is under the agent's own key: it may be of values.
    pub(super) fn new(
        agent: &'r AgentId,
        key: Option<&'r IdempotencyKey>,
        data_key: &DataKey,
        request: &[&[u8]],
    ) -> Self {
        Self { agent, key, digest: data_key.request_digest(request) }
    }

    /// The answer that this request got before, if it is a repeat.
    pub(super) async fn recall<T: DeserializeOwned>(
        &self,
        service: &Service,
        tx: &Tx,
    ) -> Result<Option<T>, Error> {
        let Some(key) = self.key else { return Ok(None) };
        let since = service.parts.clock.now().plus_seconds(-KEPT_SECONDS);
        let Some(remembered) = tx.recall(self.agent, key, since).await? else { return Ok(None) };
        // Not a secret comparison: whoever sees its outcome knows one of the two requests already
        if remembered.request_digest != self.digest {
            return Err(Error::invalid(Fault::new("idempotency_key", FaultCode::IdempotencyKeyReused)));
        }
        serde_json::from_str(&remembered.answer)
            .map(Some)
            .map_err(|_unreadable| Error::Bug("a remembered answer is our own JSON"))
    }

    /// Keeps the answer for a repeat.
    pub(super) async fn remember<T: Serialize + Sync>(
        &self,
        service: &Service,
        tx: &Tx,
        answer: &T,
    ) -> Result<(), Error> {
        let Some(key) = self.key else { return Ok(()) };
        let answer = serde_json::to_string(answer)
            .map_err(|_unwritable| Error::Bug("an answer can be written as JSON"))?;
        let remembered = Remembered { request_digest: self.digest.to_vec(), answer };
        Ok(tx.remember(self.agent, key, remembered, service.parts.clock.now()).await?)
    }
}
