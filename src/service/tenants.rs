//! Tenants: what an operator does to them beside running servers, and who may call for which of them.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::try_join_all};

use super::{Call, Clock, Error, Service};
use crate::{
    crypto::Random,
    domain::{
        Action, AgentId, AgentScope, AuditEvent, EventId, Fault, Origin, Page, PageRequest, Principal,
        Revision, Scope, Tenant, TenantId, TenantName, TokenGrant, TokenId, TokenRecord, TokenText,
    },
    store::{Belongings, Store, Tx},
};

/// So many agents are read and taken away at a time.
const AT_ONCE: u64 = 64;

/// By whom it is on record what an operator does with the database itself.
const OPERATOR: &str = "operator";

/// What an operator does to tenants.
#[derive(Debug)]
pub struct Tenants {
    /// The database.
    pub store: Store,
    /// Randomness.
    pub random: Random,
    /// Time.
    pub clock: Clock,
}

// === impl Tenants ===

impl Tenants {
    /// Makes a tenant, with a token that may do all in it but resolve.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be one; [`Error::TenantExists`]; [`Error::Store`].
    pub async fn create(&self, name: &str) -> Result<(Tenant, TokenRecord, TokenText), Error> {
        let name = TenantName::new(name).map_err(|code| Error::invalid(Fault::new("name", code)))?;
        let id = TenantId::from_random(self.random.id_bits()?);
        let tenant = Tenant { id, name, created_at: self.clock.now(), is_going: false };
        let (record, text) = self.token(tenant.id.clone(), "admin", Scope::ADMIN.to_vec())?;
        let events = [
            self.event(&TenantId::default_tenant(), Action::TenantCreate, tenant.id.as_str())?,
            self.event(&tenant.id, Action::TokenCreate, record.id.as_str())?,
        ];
        let made = Arc::new((tenant.clone(), record.clone(), super::tokens::hash(&text), events));
        let written = self.store.write(move |tx| {
            let made = Arc::clone(&made);
            async move {
                let (tenant, record, hash, events) = &*made;
                if !tx.add_tenant(tenant).await? {
                    return Ok(false);
                }
                tx.add_token(record, hash).await?;
                record_all(tx, events).await?;
                Ok::<_, Error>(true)
            }
            .boxed()
        });
        if written.await? { Ok((tenant, record, text)) } else { Err(Error::TenantExists) }
    }

    /// Makes a token of the default tenant that may call for any other, too.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be one; [`Error::Store`].
    pub async fn create_token(
        &self,
        name: &str,
        scopes: &[Scope],
    ) -> Result<(TokenRecord, TokenText), Error> {
        let mut scopes = scopes.to_vec();
        scopes.push(Scope::TenantsAll);
        scopes.sort();
        scopes.dedup();
        let texts: Vec<_> = scopes.iter().map(ToString::to_string).collect();
        TokenGrant::new(name.to_owned(), &texts, &[], String::new(), None, self.clock.now())
            .map_err(Error::Invalid)?;
        let (record, text) = self.token(TenantId::default_tenant(), name, scopes)?;
        let event = self.event(&record.tenant, Action::TokenCreate, record.id.as_str())?;
        let made = Arc::new((record.clone(), super::tokens::hash(&text), event));
        let written = self.store.write(move |tx| {
            let made = Arc::clone(&made);
            async move {
                let (record, hash, event) = &*made;
                tx.add_token(record, hash).await?;
                Ok::<_, Error>(tx.record(event).await?)
            }
            .boxed()
        });
        written.await?;
        Ok((record, text))
    }

    /// Lists tenants, by id.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(&self, after: Option<TenantId>) -> Result<Page<Tenant, TenantId>, Error> {
        Ok(self.store.tenants(&PageRequest::new(0, after)).await?)
    }

    /// Finds a tenant by its id or its name, and counts what would be lost with it.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`]; [`Error::Store`].
    pub async fn look_at(&self, tenant: &str) -> Result<(Tenant, Belongings), Error> {
        let by_id = match TenantId::parse(tenant) {
            Some(id) => self.store.tenant(&id).await?,
            None => None,
        };
        let found = match by_id {
            Some(found) => Some(found),
            None if tenant.contains('\0') => None,
            None => self.store.tenant_of_name(tenant).await?,
        };
        let found = found.ok_or(Error::TenantNotFound)?;
        let belongings = self.store.belongings(&found.id).await?;
        Ok((found, belongings))
    }

    /// Deletes a tenant: first nobody can call for it any more, then its agents go with their data keys, each in a
    /// transaction of its own, and then itself. What was broken off is taken up by doing it again. `progress` is told
    /// after each batch how many agents are gone. The audit trail stays.
    ///
    /// # Errors
    /// [`Error::DefaultTenant`]; [`Error::Store`].
    pub async fn delete(&self, id: &TenantId, mut progress: impl FnMut(u64)) -> Result<u64, Error> {
        if *id == TenantId::default_tenant() {
            return Err(Error::DefaultTenant);
        }
        let event = self.event(&TenantId::default_tenant(), Action::TenantDelete, id.as_str())?;
        let begun = Arc::new((id.clone(), event));
        let written = self.store.write(move |tx| {
            let begun = Arc::clone(&begun);
            async move {
                let (id, event) = &*begun;
                if tx.begin_to_delete_tenant(id, event.at).await? {
                    tx.record(event).await?;
                }
                Ok::<_, Error>(())
            }
            .boxed()
        });
        written.await?;
        let mut gone = 0;
        loop {
            let some = self.store.some_agents(id, AT_ONCE).await?;
            if some.is_empty() {
                break;
            }
            gone += some.len() as u64;
            try_join_all(some.into_iter().map(|agent| self.delete_agent(id, agent))).await?;
            progress(gone);
        }
        let id = id.clone();
        let forgotten = self.store.write(move |tx| {
            let id = id.clone();
            async move { Ok::<_, Error>(tx.forget_tenant(&id).await?) }.boxed()
        });
        forgotten.await?;
        Ok(gone)
    }

    /// Deletes an agent, if nobody else has.
    async fn delete_agent(&self, tenant: &TenantId, agent: AgentId) -> Result<(), Error> {
        let mut event = self.event(tenant, Action::AgentDelete, "")?;
        event.agent = Some(agent.clone());
        let deleted = Arc::new((agent, event));
        let written = self.store.write(move |tx| {
            let deleted = Arc::clone(&deleted);
            async move {
                let (agent, event) = &*deleted;
                let Some(row) = tx.lock_agent(&event.tenant, agent).await? else { return Ok(()) };
                tx.delete_agent(agent).await?;
                Ok::<_, Error>(tx.record(&AuditEvent { revision: row.revision, ..event.clone() }).await?)
            }
            .boxed()
        });
        written.await
    }

    fn token(
        &self,
        tenant: TenantId,
        name: &str,
        scopes: Vec<Scope>,
    ) -> Result<(TokenRecord, TokenText), Error> {
        let grant = TokenGrant {
            name: name.to_owned(),
            scopes,
            agents: AgentScope::All,
            email: String::new(),
            expires_at: None,
        };
        let id = TokenId::from_random(self.random.id_bits()?);
        let record = TokenRecord { id, tenant, grant, created_at: self.clock.now(), revoked_at: None };
        Ok((record, self.random.token()?))
    }

    fn event(&self, tenant: &TenantId, action: Action, subject: &str) -> Result<AuditEvent, Error> {
        let at = self.clock.now();
        Ok(AuditEvent {
            id: EventId::at(at.0, u64::from_be_bytes(self.random.fill()?)),
            at,
            tenant: tenant.clone(),
            agent: None,
            action,
            actor: OPERATOR.to_owned(),
            origin: Origin::default(),
            secrets: Vec::new(),
            revision: Revision::default(),
            run_id: String::new(),
            subject: subject.to_owned(),
        })
    }
}

async fn record_all(tx: &Tx, events: &[AuditEvent]) -> Result<(), Error> {
    for event in events {
        tx.record(event).await?;
    }
    Ok(())
}

// === impl Service ===

impl Service {
    /// The caller in the tenant that the call names, which is his own unless his token spans all of them.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `tenants:all` for another tenant than one's own; [`Error::TenantNotFound`];
    /// [`Error::Store`].
    pub async fn in_tenant(&self, principal: Principal, named: &str) -> Result<Principal, Error> {
        if principal.tenant().as_str() == named {
            return Ok(principal);
        }
        if !principal.has(Scope::TenantsAll) {
            return Err(Error::PermissionDenied { required: Scope::TenantsAll });
        }
        let id = TenantId::parse(named).ok_or(Error::TenantNotFound)?;
        let found = self.parts.store.tenant(&id).await?;
        let Tenant { id: tenant, .. } = found.filter(|it| !it.is_going).ok_or(Error::TenantNotFound)?;
        let token = TokenRecord { tenant, ..principal.token.as_ref().clone() };
        Ok(Principal { token: Arc::new(token) })
    }
}

impl Call {
    /// Goes on if the tenant is there, as long as the transaction lasts: nothing is added to one that goes.
    pub(super) async fn hold_tenant(&self, tx: &Tx) -> Result<(), Error> {
        if tx.hold_tenant(self.tenant()).await? { Ok(()) } else { Err(Error::TenantNotFound) }
    }
}
