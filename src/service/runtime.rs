//! Run time: what is missing, and the only way by which a value leaves.

use std::collections::BTreeMap;

use super::{Call, Error, Service, secrets::open};
use crate::{
    crypto::{DataKey, Fingerprint},
    domain::{
        Action, AuditedSecret, Fault, FaultCode, RequiredSecret, Revision, RunId, Scope, SecretName,
        SecretValue, Timestamp,
    },
    store::{AgentRow, SealedSecret},
};

/// Whose values to hand out.
#[derive(Debug, Default)]
pub struct Resolve {
    /// The agent's id as the caller wrote it.
    pub agent: String,
    /// The caller's name for the run; empty for none.
    pub run_id: String,
    /// Only these keys; empty for all.
    pub only: Vec<String>,
    /// Nothing is handed out if the agent is at this revision.
    pub if_revision_not: Option<Revision>,
}

/// An agent's values at one revision.
#[derive(Debug)]
pub struct Environment {
    /// Name to value; empty if the caller has them already.
    pub values: BTreeMap<SecretName, SecretValue>,
    /// The revision at which they were read.
    pub revision: Revision,
    /// The agent is at the revision that the caller has.
    pub not_modified: bool,
}

/// Opened values and what is recorded of them.
#[derive(Default)]
struct Opened {
    values: BTreeMap<SecretName, SecretValue>,
    audited: Vec<AuditedSecret>,
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

    /// Hands out the values of an agent, or none. Its audit record is durable before it returns.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `secrets:resolve`; [`Error::AgentNotFound`];
    /// [`Error::RequiredSecretsMissing`]; [`Error::Invalid`] for a bad run id or key; [`Error::DataLoss`]
    /// when a value does not open; [`Error::Store`].
    pub async fn resolve(&self, call: &Call, request: Resolve) -> Result<Environment, Error> {
        let Resolve { agent, run_id, only, if_revision_not } = request;
        let id = call.needs_on(Scope::SecretsResolve, &agent)?;
        check(&run_id, &only)?;
        let found = self.parts.store.sealed_secrets(call.tenant(), &id).await?;
        let (agent, mut secrets) = found.ok_or(Error::AgentNotFound)?;
        if if_revision_not == Some(agent.revision) {
            let values = BTreeMap::new();
            return Ok(Environment { values, revision: agent.revision, not_modified: true });
        }
        let missing = missing(&agent.required_secrets, &secrets, &only);
        if !missing.is_empty() {
            return Err(Error::RequiredSecretsMissing(missing));
        }
        if !only.is_empty() {
            secrets.retain(|secret| only.iter().any(|name| name == secret.name.as_str()));
        }
        let key = self.data_key(&agent)?;
        let Opened { values, audited } = Opened::new(&agent, &key, &secrets, self.parts.clock.now())?;
        let mut event = self.event(call, Action::SecretsResolve, Some(&id))?;
        event.run_id = run_id;
        event.revision = agent.revision;
        event.secrets = audited;
        self.parts.store.record_in_batch(event).await?;
        Ok(Environment { values, revision: agent.revision, not_modified: false })
    }
}

// === impl Opened ===

impl Opened {
    /// Opens values, with those before them that are still given out.
    fn new(agent: &AgentRow, key: &DataKey, secrets: &[SealedSecret], now: Timestamp) -> Result<Self, Error> {
        let mut opened = Self::default();
        for SealedSecret { name, version, fingerprint, sealed, previous } in secrets {
            let value = open(agent, key, name, *version, sealed)?;
            opened.add(name.clone(), value, *version, fingerprint, false);
            if let Some(previous) = previous.as_ref().filter(|previous| now < previous.until) {
                let value = open(agent, key, name, previous.version, &previous.sealed)?;
                opened.add(name.previous(), value, previous.version, &previous.fingerprint, true);
            }
        }
        Ok(opened)
    }

    fn add(
        &mut self,
        name: SecretName,
        value: SecretValue,
        version: Revision,
        fingerprint: &[u8],
        is_previous: bool,
    ) {
        let fingerprint = Fingerprint::from_stored(fingerprint).map(|it| it.short()).unwrap_or_default();
        let key = name.to_string();
        self.audited.push(AuditedSecret { key, version: version.0, fingerprint, is_previous });
        self.values.insert(name, value);
    }
}

fn check(run_id: &str, only: &[String]) -> Result<(), Error> {
    let mut faults: Vec<_> = only
        .iter()
        .filter(|name| SecretName::parse(name).is_none())
        .map(|name| Fault::new(name, FaultCode::InvalidKey))
        .collect();
    if !run_id.is_empty() && RunId::parse(run_id).is_none() {
        faults.push(Fault::new("run_id", FaultCode::InvalidHeader));
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

/// What keeps a run from starting: what the agent requires, or of `only`, if it is given, what is neither
/// set nor declared optional.
fn missing(required: &[RequiredSecret], secrets: &[SealedSecret], only: &[String]) -> Vec<SecretName> {
    let is_set = |name: &str| secrets.iter().any(|secret| secret.name.as_str() == name);
    let is_optional = |name: &str| required.iter().any(|it| it.name == name && it.optional);
    let needed: Vec<&str> = if only.is_empty() {
        required.iter().map(|required| required.name.as_str()).collect()
    } else {
        only.iter().map(String::as_str).collect()
    };
    needed
        .into_iter()
        .filter(|name| !is_optional(name) && !is_set(name))
        .map(|name| SecretName::from_stored(name.to_owned()))
        .collect()
}
