//! Repeats of a request: the first answer again, and no second effect.

use serde::{Serialize, de::DeserializeOwned};

use super::{Call, Error, Service};
use crate::{
    crypto::DataKey,
    domain::{AgentId, Fault, FaultCode, IdempotencyKey, Revision},
    store::{Found, Question, Remembered},
};

/// How long an answer is kept.
const KEPT_SECONDS: i64 = 24 * 60 * 60;

/// A request that may be a repeat.
pub(super) struct Attempt<'r> {
    /// What it is called, and a digest of what is asked.
    named: Option<(&'r IdempotencyKey, [u8; 32])>,
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
    pub(super) fn new(key: Option<&'r IdempotencyKey>, data_key: &DataKey, request: &[&[u8]]) -> Self {
        Self { named: key.map(|key| (key, data_key.request_digest(request))) }
    }

    /// The answer that this request got before, if it is a repeat.
    pub(super) fn recall<T: DeserializeOwned>(&self, found: &Found) -> Result<Option<T>, Error> {
        let (Some(remembered), Some((_, digest))) = (&found.remembered, &self.named) else { return Ok(None) };
        // Not a secret comparison: whoever sees its outcome knows one of the two requests already
        if remembered.request_digest != *digest {
            return Err(Error::invalid(Fault::new("idempotency_key", FaultCode::IdempotencyKeyReused)));
        }
        serde_json::from_str(&remembered.answer)
            .map(Some)
            .map_err(|_unreadable| Error::Bug("a remembered answer is our own JSON"))
    }

    /// What to keep for a repeat, if the caller has given this attempt a name.
    pub(super) fn remember<T: Serialize>(
        &self,
        answer: &T,
    ) -> Result<Option<(IdempotencyKey, Remembered)>, Error> {
        let Some((key, digest)) = &self.named else { return Ok(None) };
        let answer = serde_json::to_string(answer)
            .map_err(|_unwritable| Error::Bug("an answer can be written as JSON"))?;
        Ok(Some(((*key).clone(), Remembered { request_digest: digest.to_vec(), answer })))
    }
}

impl Service {
    /// What has to be known to change an agent's secrets, for a caller who may have given his attempt a name.
    pub(super) fn question(&self, call: &Call, agent: &AgentId, key: Option<&IdempotencyKey>) -> Question {
        let since = self.parts.clock.now().plus_seconds(-KEPT_SECONDS);
        Question {
            tenant: call.tenant().clone(),
            agent: agent.clone(),
            recall: key.map(|key| (key.clone(), since)),
            with_values: false,
        }
    }
}
