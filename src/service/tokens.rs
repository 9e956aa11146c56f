//! Tokens: who calls, and who may let others call.

use std::sync::Arc;

use futures_util::FutureExt as _;
use ring::digest::{SHA256, digest};

use super::{Call, Error, Nobody, PageOf, Service, page_token};
use crate::{
    domain::{
        Action, AgentScope, ListedToken, Origin, Principal, Scope, SpiffeId, TenantId, Timestamp, TokenGrant,
        TokenId, TokenRecord, TokenText,
    },
    identity::Refusal,
};

/// The token to make, as the caller wrote it.
#[derive(Debug, Default)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// What it may do; empty for the default.
    pub scopes: Vec<String>,
    /// The agents it is limited to; empty for all.
    pub agent_ids: Vec<String>,
    /// When it ends; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// The address of its owner.
    pub email: String,
}

impl Service {
    /// Finds out who calls. The text is looked up anew at each call, so that a revoked token ends at once
    /// on every replica; one that cannot be a token of ours is not looked up, and may be one of an issuer.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]; [`Error::IssuerUnavailable`]; [`Error::Store`].
    pub async fn authenticate(&self, text: &str) -> Result<Principal, Error> {
        let Ok(text) = TokenText::parse(text) else {
            // In a box: what it may have to wait for is large, and few calls do
            return Box::pin(self.identify(text)).await;
        };
        let token = self.parts.store.token_by_hash(&hash(&text)).await?;
        let token = token.ok_or_else(|| self.refused(Nobody::Unknown))?;
        let now = self.parts.clock.now();
        if let Some(nobody) = Nobody::with(&token, now) {
            return Err(self.refused(nobody));
        }
        self.parts.token_uses.note(&token.id, now);
        Ok(Principal { token })
    }

    /// Finds out whom an issuer vouches for.
    async fn identify(&self, text: &str) -> Result<Principal, Error> {
        match self.parts.identities.identify(text, self.parts.clock.now()).await {
            Ok(identity) => self.unless_its_tenant_goes(identity.into_record()).await,
            Err(refusal) => {
                tracing::debug!(%refusal, "a token of an issuer was refused");
                let refused = self.refused(Nobody::from(&refusal));
                let Refusal::Unavailable { issuer } = refusal else { return Err(refused) };
                Err(Error::IssuerUnavailable { issuer })
            }
        }
    }

    /// The caller, unless his tenant is about to go: no token of that is good any more, and nothing else is.
    async fn unless_its_tenant_goes(&self, record: TokenRecord) -> Result<Principal, Error> {
        match self.parts.store.tenant(&record.tenant).await? {
            Some(tenant) if tenant.is_going => Err(self.refused(Nobody::Revoked)),
            Some(_) | None => Ok(Principal { token: Arc::new(record) }),
        }
    }

    /// Finds out who calls with a client certificate of this id, which was verified, and is good from `since` until `end`.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] if no rule is for him, the certificate has ended, or his tenant is about to go;
    /// [`Error::Store`].
    pub async fn authenticate_workload(
        &self,
        id: &SpiffeId,
        since: Timestamp,
        end: Timestamp,
    ) -> Result<Principal, Error> {
        let found = self.parts.identities.identify_workload(id, since, end);
        let token = found.map_err(|refusal| {
            tracing::debug!(%id, %refusal, "a client certificate makes nobody known");
            self.refused(Nobody::from(&refusal))
        })?;
        let token = token.into_record();
        match Nobody::with(&token, self.parts.clock.now()) {
            None => self.unless_its_tenant_goes(token).await,
            Some(nobody) => Err(self.refused(nobody)),
        }
    }

    /// Makes a token. Its text is returned here and kept nowhere.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `tokens:admin`, when a token that is limited to agents would
    /// grant others, and when one that spans no tenants would grant that; [`Error::Invalid`] with all faults; [`Error::AgentNotFound`]; [`Error::Store`].
    pub async fn create_token(&self, call: &Call, new: NewToken) -> Result<(TokenRecord, TokenText), Error> {
        call.needs(Scope::TokensAdmin)?;
        let NewToken { name, scopes, agent_ids, expires_at, email } = new;
        let now = self.parts.clock.now();
        let grant =
            TokenGrant::new(name, &scopes, &agent_ids, email, expires_at, now).map_err(Error::Invalid)?;
        call.may_grant(&grant)?;
        if let AgentScope::Only(agents) = &grant.agents {
            for agent in agents {
                self.parts.store.agent(call.tenant(), agent).await?.ok_or(Error::AgentNotFound)?;
            }
        }
        let text = self.parts.random.token()?;
        let record = self.new_record(call.tenant().clone(), grant)?;
        self.add_token(call, record.clone(), &text).await?;
        Ok((record, text))
    }

    async fn add_token(&self, call: &Call, record: TokenRecord, text: &TokenText) -> Result<(), Error> {
        let mut event = self.event(call, Action::TokenCreate, None)?;
        event.subject = record.id.to_string();
        let added = Arc::new((record, hash(text), event, call.clone()));
        self.write(move |tx| {
            let added = Arc::clone(&added);
            async move {
                let (record, hash, event, call) = &*added;
                call.hold_tenant(tx).await?;
                tx.add_token(record, hash).await?;
                Ok(tx.record(event).await?)
            }
            .boxed()
        })
        .await
    }

    fn new_record(&self, tenant: TenantId, grant: TokenGrant) -> Result<TokenRecord, Error> {
        let id = TokenId::from_random(self.parts.random.id_bits()?);
        Ok(TokenRecord { id, tenant, grant, created_at: self.parts.clock.now(), revoked_at: None })
    }

    /// Lists the tenant's tokens, newest first.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `tokens:admin` on all agents; [`Error::Invalid`] for a page token
    /// that is not of this list; [`Error::Store`].
    pub async fn list_tokens(
        &self,
        call: &Call,
        size: u32,
        token: &str,
    ) -> Result<PageOf<ListedToken>, Error> {
        call.needs_tokens_of_all()?;
        let page = page_token::request(size, token, |text| decode_cursor(&text))?;
        let page = self.parts.store.tokens(call.tenant(), &page).await?;
        Ok(page_token::page(page, |(at, id)| format!("{}.{id}", at.0)))
    }

    /// Revokes a token of the tenant, at once and on every replica. Revoking it again changes nothing.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `tokens:admin` on all agents; [`Error::TokenNotFound`];
    /// [`Error::Store`].
    pub async fn revoke_token(&self, call: &Call, id: &str) -> Result<TokenRecord, Error> {
        call.needs_tokens_of_all()?;
        let id = TokenId::parse(id).ok_or(Error::TokenNotFound)?;
        let mut event = self.event(call, Action::TokenRevoke, None)?;
        event.subject = id.to_string();
        let revocation = Arc::new((id, event));
        let revoked = Arc::clone(&revocation);
        let written = self.write(move |tx| {
            let revocation = Arc::clone(&revocation);
            async move {
                let (id, event) = &*revocation;
                let found = tx.revoke_token(&event.tenant, id, event.at).await?;
                let (record, revoked_now) = found.ok_or(Error::TokenNotFound)?;
                if revoked_now {
                    tx.record(event).await?;
                }
                Ok(record)
            }
            .boxed()
        });
        let record = written.await?;
        self.parts.watched.end(&revoked.0);
        Ok(record)
    }

    /// Whether there is any token at all.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn has_tokens(&self) -> Result<bool, Error> {
        Ok(self.parts.store.has_tokens().await?)
    }

    /// Adds a token with all scopes but `secrets:resolve` in the default tenant. One that is there already,
    /// also a revoked one, stays as it is.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Crypto`].
    pub async fn add_admin(&self, text: &TokenText) -> Result<(), Error> {
        let grant = TokenGrant {
            name: "admin".to_owned(),
            scopes: Scope::ADMIN.to_vec(),
            agents: AgentScope::All,
            email: String::new(),
            expires_at: None,
        };
        let record = self.new_record(TenantId::default_tenant(), grant)?;
        let call =
            Call { principal: Principal { token: Arc::new(record.clone()) }, origin: Origin::default() };
        let mut event = self.event(&call, Action::TokenCreate, None)?;
        event.subject = record.id.to_string();
        let admin = Arc::new((record, hash(text), event));
        self.write(move |tx| {
            let admin = Arc::clone(&admin);
            async move {
                let (record, hash, event) = &*admin;
                tx.ensure_tenant(&record.tenant, "default", record.created_at).await?;
                if tx.add_token(record, hash).await? {
                    tx.record(event).await?;
                }
                Ok(())
            }
            .boxed()
        })
        .await
    }
}

impl Call {
    /// Listing and revoking reaches every token of the tenant, so a token limited to agents may not.
    fn needs_tokens_of_all(&self) -> Result<(), Error> {
        self.needs(Scope::TokensAdmin)?;
        match self.principal.token.grant.agents {
            AgentScope::All => Ok(()),
            AgentScope::Only(_) => Err(Error::PermissionDenied { required: Scope::TokensAdmin }),
        }
    }
}

/// Tokens have 256 random bits, so a plain digest cannot be guessed back, and looking it up tells nothing
/// by its time.
pub(super) fn hash(text: &TokenText) -> Vec<u8> {
    digest(&SHA256, text.expose().as_bytes()).as_ref().to_vec()
}

fn decode_cursor(text: &str) -> Option<(Timestamp, TokenId)> {
    let (at, id) = text.split_once('.')?;
    Some((Timestamp(at.parse().ok()?), TokenId::parse(id)?))
}
