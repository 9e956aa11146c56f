//! The operations: who may do them, in which order, in which transaction, with which audit record.
//!
//! Each operation is a method of [`Service`] that takes the [`Call`] it is for. It asks for the scope
//! first, then checks the input and says all that is wrong with it, then does everything in one
//! transaction with its audit record; a resolve, which changes nothing, records itself in a transaction right
//! after it has read, before a value leaves. Status codes and wire types are unknown here.
//!
//! To add one: a method in the file of its subject, an [`Action`] if it changes
//! something, and a call of it in each transport.

mod agents;
mod audit;
mod channels;
mod clock;
mod data_keys;
mod delete_secret;
mod effect;
mod error;
mod heavy;
mod held;
mod house;
mod idempotency;
mod key_set;
mod keys;
mod overlap;
mod page_token;
mod plan;
mod rewrap;
mod roll;
mod rotate_token;
mod runtime;
mod secrets;
mod set_secrets;
mod tenants;
mod token_uses;
mod tokens;
mod watch;
mod watch_room;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use agents::{Deployed, NewAgent};
pub use audit::{ListRuns, Run};
pub use clock::Clock;
pub use data_keys::WantedKey;
pub use delete_secret::DeleteSecret;
pub use error::{Error, Kind};
pub use held::{KeyringSource, NotReady};
pub use key_set::{KeySet, RemoteKey};
pub use keys::{
    KeyProblem, KeyUse, check as check_keys, compare as compare_keys, forget as forget_key,
    survey as survey_keys,
};
pub use page_token::PageOf;
pub use plan::{ChangeKind, RawEntry};
pub use rewrap::{Rewrapping, rewrap_all};
pub use roll::{begin_to_use, who_wraps_by};
pub use rotate_token::Rotated;
pub use runtime::{Environment, Resolve};
pub use secrets::{Listing, Written};
pub use set_secrets::{SetSecrets, SetSecretsAnswer};
pub use tenants::Tenants;
pub use tokens::NewToken;

use crate::{
    crypto::{DataKey, Random, UnwrapError},
    domain::{Action, AgentId, AuditEvent, EventId, Limits, Origin, Principal, Revision, Scope, TenantId},
    identity::Identities,
    store::{AgentRow, Store, Tx},
};

/// The operations. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Service {
    parts: Arc<Inner>,
}

/// The parts, and what the service keeps beside them.
#[derive(Debug)]
struct Inner {
    store: Store,
    name: String,
    identities: Identities,
    keyring: held::Held,
    data_keys: data_keys::DataKeys,
    random: Random,
    clock: Clock,
    limits: Limits,
    closing: CancellationToken,
    /// How many agents wait to be wrapped anew, and how many this server has wrapped anew.
    agents_left: AtomicU64,
    agents_done: AtomicU64,
    watched: watch::Watched,
    heavy: heavy::Heavy,
    token_uses: token_uses::TokenUses,
}

/// What the operations work with.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// What this server is called among those of the database, also after a restart.
    pub name: String,
    /// Who is known without a token of ours.
    pub identities: Identities,
    /// The key-encryption keys.
    pub keyring: KeySet,
    /// Where they come from.
    pub source: KeyringSource,
    /// For how long a data key that a provider outside has unwrapped may be used.
    pub data_keys_good_for: Duration,
    /// Randomness.
    pub random: Random,
    /// Time.
    pub clock: Clock,
    /// What is too much.
    pub limits: Limits,
}

/// One call: who makes it and where it comes from.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub principal: Principal,
    /// Where from.
    pub origin: Origin,
}

// === impl Service ===

impl Service {
    /// Puts the operations together. Once `closing` is cancelled, streams end, so that the server can stop.
    #[must_use]
    pub fn new(parts: Parts, closing: CancellationToken) -> Self {
        let Parts { store, name, identities, keyring, source, data_keys_good_for, random, clock, limits } =
            parts;
        let (watched, heavy) = (watch::Watched::new(limits.watches), heavy::Heavy::default());
        let parts = Inner {
            store,
            name,
            identities,
            keyring: held::Held::new(keyring, source),
            data_keys: data_keys::DataKeys::new(data_keys_good_for),
            random,
            clock,
            limits,
            closing,
            agents_left: AtomicU64::default(),
            agents_done: AtomicU64::default(),
            watched,
            heavy,
            token_uses: token_uses::TokenUses::default(),
        };
        Self { parts: Arc::new(parts) }
    }

    /// Runs a write of this service in a transaction. See [`Store::write`].
    async fn write<T, F>(&self, operation: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static,
    {
        self.parts.store.write(operation).await
    }

    /// Opens the data key of an agent. With [`Error::KeyWanted`] it is worth a [`Service::find_key`].
    fn data_key(&self, agent: &AgentRow) -> Result<Arc<DataKey>, Error> {
        let wanted = WantedKey::of(agent);
        let error = match self.parts.keyring.get().unwrap_now(&wanted.wrapped, wanted.owner()) {
            Some(Ok(key)) => return Ok(Arc::new(key)),
            Some(Err(error)) => error,
            None => {
                let kept = self.parts.data_keys.get(&wanted);
                return kept.ok_or_else(|| Error::KeyWanted(Box::new(wanted)));
            }
        };
        if let UnwrapError::UnknownKey(_) = error {
            return Err(Error::KeyWanted(Box::new(wanted)));
        }
        tracing::error!(agent = %agent.id, kek = %agent.key.kek, %error, "a data key does not open");
        Err(Error::DataLoss { agent: agent.id.clone(), key: String::new() })
    }

    /// The start of an audit record; what is special to an action is filled in by its operation.
    fn event(&self, call: &Call, action: Action, agent: Option<&AgentId>) -> Result<AuditEvent, Error> {
        let at = self.parts.clock.now();
        Ok(AuditEvent {
            id: EventId::at(at.0, u64::from_be_bytes(self.parts.random.fill()?)),
            at,
            tenant: call.tenant().clone(),
            agent: agent.cloned(),
            action,
            actor: call.principal.token.id.to_string(),
            origin: call.origin.clone(),
            secrets: Vec::new(),
            revision: Revision::default(),
            run_id: String::new(),
            subject: String::new(),
        })
    }
}

// === impl Call ===

impl Call {
    /// The tenant of the caller.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        self.principal.tenant()
    }

    /// Goes on if the caller has a scope.
    fn needs(&self, required: Scope) -> Result<(), Error> {
        if self.principal.has(required) { Ok(()) } else { Err(Error::PermissionDenied { required }) }
    }

    /// Goes on if the caller has a scope on an agent. An id that cannot be one, and an agent that the
    /// token may not touch, are answered as an agent that does not exist.
    fn needs_on(&self, required: Scope, agent: &str) -> Result<AgentId, Error> {
        self.needs(required)?;
        AgentId::parse(agent)
            .filter(|id| self.principal.token.grant.agents.allows(id))
            .ok_or(Error::AgentNotFound)
    }
}
