//! Run time: what is missing, and the only way by which a value leaves.

use std::collections::BTreeMap;

use super::{Call, Error, Kind, Service, measures::Unreadable, secrets::open};
use crate::{
    crypto::Fingerprint,
    domain::{
        Action, AgentId, AuditedSecret, Fault, FaultCode, Limits, RequiredSecret, Revision, RunId, Scope,
        SecretName, SecretValue, Timestamp,
    },
    store::{AgentWith, PreviousSecret, SealedSecret},
    trace,
};

/// Whose values to hand out.
#[derive(Debug, Default)]
pub struct Resolve {
    /// The agent's id as the caller wrote it.
    pub agent: String,
    /// The caller's name for the run; empty for none.
    pub run_id: String,
    /// Only these keys, or previous values by the name under which they are given out; empty for all.
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

/// A value that can be handed out.
struct Offer<'s> {
    /// Under which name.
    name: SecretName,
    /// Of which secret.
    secret: &'s SecretName,
    version: Revision,
    fingerprint: &'s [u8],
    sealed: &'s [u8],
    is_previous: bool,
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

    /// Hands out the values of an agent, or none. Its audit record is durable before it returns; of a refusal
    /// there is one too, as far as it can be written.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `secrets:resolve`; [`Error::AgentNotFound`];
    /// [`Error::RequiredSecretsMissing`]; [`Error::Invalid`] for a bad run id or key; [`Error::DataLoss`]
    /// when a value does not open; [`Error::KeyUnavailable`]; [`Error::Kms`]; [`Error::Store`].
    pub async fn resolve(&self, call: &Call, request: Resolve) -> Result<Environment, Error> {
        let mut outcome = self.hand_out(call, &request).await;
        if let Err(Error::KeyWanted(wanted)) = outcome {
            outcome = match self.find_key(&wanted).await {
                Ok(()) => self.hand_out(call, &request).await,
                Err(error) => Err(error),
            };
        }
        if let Err(refusal) = &outcome
            && let Err(error) = self.record_refusal(call, &request, refusal).await
        {
            tracing::error!(%error, "the refusal of a resolve is not on record");
        }
        outcome
    }

    async fn hand_out(&self, call: &Call, request: &Resolve) -> Result<Environment, Error> {
        let Resolve { agent, run_id, only, if_revision_not } = request;
        let id = call.needs_on(Scope::SecretsResolve, agent)?;
        check(run_id, only)?;
        let found = self.parts.store.sealed_secrets(call.tenant(), &id).await?;
        let found = found.ok_or(Error::AgentNotFound)?;
        let AgentWith { agent, secrets } = &*found;
        let now = self.parts.clock.now();
        let mut offers: Vec<_> = secrets.iter().flat_map(|secret| Offer::of(secret, now)).collect();
        let missing = missing(&agent.required_secrets, &offers, only);
        if !missing.is_empty() {
            return Err(Error::RequiredSecretsMissing(missing));
        }
        if *if_revision_not == Some(agent.revision) {
            let values = BTreeMap::new();
            return Ok(Environment { values, revision: agent.revision, not_modified: true });
        }
        if !only.is_empty() {
            offers.retain(|offer| only.iter().any(|name| offer.is_meant_by(name)));
        }
        let key = self.data_key(agent)?;
        let opened = |offer: &Offer<'_>| {
            let value = open(agent, &key, offer.secret, offer.version, offer.sealed);
            let value = value.inspect_err(|_error| self.parts.measures.unreadable(Unreadable::Value))?;
            Ok((offer.name.clone(), value))
        };
        let values = || offers.iter().map(opened).collect::<Result<BTreeMap<_, _>, Error>>();
        let values = trace::timed("open", values)?;
        let mut event = self.event(call, Action::SecretsResolve, Some(&id))?;
        event.run_id.clone_from(run_id);
        event.revision = agent.revision;
        event.secrets = offers.iter().map(Offer::audited).collect();
        self.parts.store.record_in_batch(event).await?;
        Ok(Environment { values, revision: agent.revision, not_modified: false })
    }

    /// Records that a caller, who is known, got no values of an agent that he may know of. What he got wrong
    /// otherwise is not recorded.
    async fn record_refusal(&self, call: &Call, request: &Resolve, refusal: &Error) -> Result<(), Error> {
        let missing = if let Error::RequiredSecretsMissing(missing) = refusal {
            missing.as_slice()
        } else if refusal.kind() == Kind::PermissionDenied {
            &[]
        } else {
            return Ok(());
        };
        let id = AgentId::parse(&request.agent).filter(|id| call.principal.token.grant.agents.allows(id));
        let Some(id) = id else { return Ok(()) };
        let Some(revision) = self.parts.store.revision(call.tenant(), &id).await? else { return Ok(()) };
        let mut event = self.event(call, Action::SecretsResolveRefused, Some(&id))?;
        event.run_id = RunId::parse(&request.run_id).map(|id| id.as_str().to_owned()).unwrap_or_default();
        event.revision = revision;
        refusal.reason().clone_into(&mut event.subject);
        // A caller names what he likes: no more is kept than an agent can have
        let Limits { keys_per_agent, key_bytes, .. } = self.parts.limits;
        let missing = missing.iter().filter(|name| name.as_str().len() <= key_bytes).take(keys_per_agent);
        event.secrets = missing.map(AuditedSecret::absent).collect();
        Ok(self.parts.store.record_in_batch(event).await?)
    }
}

// === impl Offer ===

impl<'s> Offer<'s> {
    /// The value of a secret, and the one before it if that is still given out.
    fn of(secret: &'s SealedSecret, now: Timestamp) -> impl Iterator<Item = Self> {
        let SealedSecret { name: key, version, fingerprint, sealed, previous } = secret;
        let value = Self {
            name: key.clone(),
            secret: key,
            version: *version,
            fingerprint,
            sealed,
            is_previous: false,
        };
        let previous = previous.as_ref().filter(|previous| now < previous.until);
        let previous = previous.map(|PreviousSecret { version, fingerprint, sealed, until: _ }| Self {
            name: key.previous(),
            secret: key,
            version: *version,
            fingerprint,
            sealed,
            is_previous: true,
        });
        [Some(value), previous].into_iter().flatten()
    }

    /// Whether a caller who asks for `name` is given it: who asks for a secret is given its value before too.
    fn is_meant_by(&self, name: &str) -> bool {
        self.name.as_str() == name || self.secret.as_str() == name
    }

    fn audited(&self) -> AuditedSecret {
        let fingerprint = Fingerprint::from_stored(self.fingerprint).map(|it| it.short());
        AuditedSecret {
            key: self.name.to_string(),
            version: self.version.0,
            fingerprint: fingerprint.unwrap_or_default(),
            is_previous: self.is_previous,
            previous_until: None,
        }
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
/// given out nor declared optional.
fn missing(required: &[RequiredSecret], offers: &[Offer<'_>], only: &[String]) -> Vec<SecretName> {
    // A value before stands in for no secret that is required
    let is_set = |name: &str| offers.iter().any(|it| it.name.as_str() == name && !it.is_previous);
    let is_given = |name: &str| offers.iter().any(|it| it.name.as_str() == name);
    let is_optional = |name: &str| required.iter().any(|it| it.name == name && it.optional);
    let needed: Vec<&str> = if only.is_empty() {
        required.iter().map(|it| it.name.as_str()).filter(|name| !is_set(name)).collect()
    } else {
        only.iter().map(String::as_str).filter(|name| !is_given(name)).collect()
    };
    needed
        .into_iter()
        .filter(|name| !is_optional(name))
        .map(|name| SecretName::from_stored(name.to_owned()))
        .collect()
}
