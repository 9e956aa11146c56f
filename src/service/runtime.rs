//! Run time: what is missing, and the only way by which a value leaves.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, Stream, stream};

use super::{Call, Error, Service};
use crate::{
    crypto::Fingerprint,
    domain::{
        Action, AgentId, AuditedSecret, Fault, FaultCode, RequiredSecret, Revision, RunId, Scope, SecretName,
        SecretValue,
    },
    store::{AgentRow, SealedSecret},
};

/// How often a watcher looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// An agent's values at one revision.
#[derive(Debug)]
pub struct Environment {
    /// Name to value.
    pub values: BTreeMap<SecretName, SecretValue>,
    /// The revision at which they were read.
    pub revision: Revision,
}

impl Service {
    /// The required keys that are not set, and the agent's revision.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `secrets:list`; [`Error::AgentNotFound`]; [`Error::Store`].
    pub async fn check_required(
        &self,
        call: &Call,
        agent: &str,
    ) -> Result<(Vec<SecretName>, Revision), Error> {
        let id = call.needs_on(Scope::SecretsList, agent)?;
        let agent = self.parts.store.agent(call.tenant(), &id).await?.ok_or(Error::AgentNotFound)?;
        Ok((agent.missing_secrets(), agent.revision))
    }

    /// Hands out all values of an agent, or none. Its audit record is durable before it returns.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `secrets:resolve`; [`Error::AgentNotFound`];
    /// [`Error::RequiredSecretsMissing`]; [`Error::Invalid`] for a bad run id; [`Error::DataLoss`] when a
    /// value does not open; [`Error::Store`].
    pub async fn resolve(&self, call: &Call, agent: &str, run_id: &str) -> Result<Environment, Error> {
        let id = call.needs_on(Scope::SecretsResolve, agent)?;
        if !run_id.is_empty() && RunId::parse(run_id).is_none() {
            return Err(Error::invalid(Fault::new("run_id", FaultCode::InvalidHeader)));
        }
        let found = self.parts.store.sealed_secrets(call.tenant(), &id).await?;
        let (agent, secrets) = found.ok_or(Error::AgentNotFound)?;
        let missing = missing(&agent.required_secrets, &secrets);
        if !missing.is_empty() {
            return Err(Error::RequiredSecretsMissing(missing));
        }
        let environment = self.open_all(&agent, &secrets)?;
        self.record_resolve(call, &id, run_id, &agent, &secrets).await?;
        Ok(environment)
    }

    fn open_all(&self, agent: &AgentRow, secrets: &[SealedSecret]) -> Result<Environment, Error> {
        let key = self.data_key(agent)?;
        let mut values = BTreeMap::new();
        for secret in secrets {
            values.insert(secret.name.clone(), Self::open(agent, &key, secret)?);
        }
        Ok(Environment { values, revision: agent.revision })
    }

    async fn record_resolve(
        &self,
        call: &Call,
        id: &AgentId,
        run_id: &str,
        agent: &AgentRow,
        secrets: &[SealedSecret],
    ) -> Result<(), Error> {
        let mut event = self.event(call, Action::SecretsResolve, Some(id))?;
        run_id.clone_into(&mut event.run_id);
        event.revision = agent.revision;
        event.secrets = secrets.iter().map(audited).collect();
        let event = Arc::new(event);
        self.write(move |tx| {
            let event = Arc::clone(&event);
            async move { Ok(tx.record(&event).await?) }.boxed()
        })
        .await
    }

    /// The agent's revision at once and at each change, until the agent is gone or the server stops.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `secrets:list`; [`Error::AgentNotFound`], also later in the
    /// stream; [`Error::Store`].
    pub async fn watch(
        &self,
        call: &Call,
        agent: &str,
    ) -> Result<impl Stream<Item = Result<Revision, Error>> + Send + use<>, Error> {
        let id = call.needs_on(Scope::SecretsList, agent)?;
        let first = self.revision_of(call, &id).await?;
        let (service, call) = (self.clone(), call.clone());
        let changes = stream::try_unfold((None, first), move |(told, current)| {
            let (service, call, id) = (service.clone(), call.clone(), id.clone());
            async move {
                let mut current = current;
                while told == Some(current) {
                    let closing = &service.parts.closing;
                    closing
                        .run_until_cancelled(tokio::time::sleep(WATCH_EVERY))
                        .await
                        .ok_or(Error::Closing)?;
                    current = service.revision_of(&call, &id).await?;
                }
                Ok(Some((current, (Some(current), current))))
            }
        });
        Ok(changes)
    }

    async fn revision_of(&self, call: &Call, id: &AgentId) -> Result<Revision, Error> {
        let revision = self.parts.store.revision(call.tenant(), id).await?;
        revision.ok_or(Error::AgentNotFound)
    }
}

fn missing(required: &[RequiredSecret], secrets: &[SealedSecret]) -> Vec<SecretName> {
    let is_set = |name: &str| secrets.iter().any(|secret| secret.name.as_str() == name);
    required
        .iter()
        .filter(|required| !required.optional && !is_set(&required.name))
        .map(|required| SecretName::from_stored(required.name.clone()))
        .collect()
}

fn audited(secret: &SealedSecret) -> AuditedSecret {
    let fingerprint = Fingerprint::from_stored(&secret.fingerprint).map(|it| it.short()).unwrap_or_default();
    AuditedSecret { key: secret.name.to_string(), version: secret.version.0, fingerprint }
}
