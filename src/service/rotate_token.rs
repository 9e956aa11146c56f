//! A token in the place of another, of the same rights. For an overlap both are good.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Call, Error, Service, overlap, tokens::hash};
use crate::{
    domain::{
        Action, AgentScope, AuditEvent, Fault, FaultCode, Scope, Timestamp, TokenGrant, TokenId, TokenRecord,
        TokenText,
    },
    store::Tx,
};

/// What a rotation has made.
#[derive(Debug)]
pub struct Rotated {
    /// The new token.
    pub token: TokenRecord,
    /// Its text, which is kept nowhere.
    pub text: TokenText,
    /// The token before, with the end that it has now.
    pub previous: TokenRecord,
}

/// What is done in the transaction.
struct Rotation {
    call: Call,
    old: TokenId,
    new: TokenId,
    new_hash: Vec<u8>,
    /// For how long the old one is still good, in microseconds.
    overlap: i64,
    created: AuditEvent,
    rotated: AuditEvent,
}

impl Service {
    /// Makes a token with the name, scopes, agents, owner and length of life of another, which ends after `overlap`
    /// microseconds, at most 30 days, and no later than before; at 0 it is revoked. Its text is returned here and kept
    /// nowhere.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`] without `tokens:admin`, and for who could not create such a token (see
    /// [`Service::create_token`]); [`Error::TokenNotFound`]; [`Error::Invalid`] for an overlap that cannot be, and for a
    /// token that has ended or was replaced already; [`Error::Store`]. The old token is then as it was.
    pub async fn rotate_token(&self, call: &Call, id: &str, overlap: i64) -> Result<Rotated, Error> {
        call.needs(Scope::TokensAdmin)?;
        if let Some(fault) = overlap::fault_of_time("overlap", Some(overlap)) {
            return Err(Error::invalid(fault));
        }
        let old = TokenId::parse(id).ok_or_else(|| call.no_such_token())?;
        let text = self.parts.random.token()?;
        let new = TokenId::from_random(self.parts.random.id_bits()?);
        let mut created = self.event(call, Action::TokenCreate, None)?;
        created.subject = new.to_string();
        let mut rotated = self.event(call, Action::TokenRotate, None)?;
        rotated.subject = old.to_string();
        let new_hash = hash(&text);
        let rotation = Rotation { call: call.clone(), old, new, new_hash, overlap, created, rotated };
        let rotation = Arc::new(rotation);
        let written = self.write(move |tx| {
            let rotation = Arc::clone(&rotation);
            async move { rotation.run(tx).await }.boxed()
        });
        let (token, previous) = written.await?;
        if previous.revoked_at.is_some() {
            self.parts.watched.end(&previous.id);
        }
        Ok(Rotated { token, text, previous })
    }
}

// === impl Rotation ===

impl Rotation {
    /// Gives the new token and the old one.
    async fn run(&self, tx: &Tx) -> Result<(TokenRecord, TokenRecord), Error> {
        let (call, now) = (&self.call, self.created.at);
        call.hold_tenant(tx).await?;
        let found = tx.lock_token(call.tenant(), &self.old).await?;
        let (mut old, is_replaced) = found.ok_or_else(|| call.no_such_token())?;
        call.may_grant(&old.grant)?;
        if is_replaced {
            return Err(Error::invalid(Fault::new("token_id", FaultCode::TokenReplaced)));
        }
        if !old.is_valid_at(now) {
            return Err(Error::invalid(Fault::new("token_id", FaultCode::TokenEnded)));
        }
        let expires_at = old.grant.expires_at.map(|end| again(old.created_at, end, now));
        let new = TokenRecord {
            id: self.new.clone(),
            tenant: old.tenant.clone(),
            grant: TokenGrant { expires_at, ..old.grant.clone() },
            created_at: now,
            revoked_at: None,
        };
        if self.overlap == 0 {
            // And no end at a time, of which every server would have to be told by its own clock
            old.revoked_at = Some(now);
        } else {
            let end = now.plus_micros(self.overlap);
            old.grant.expires_at = Some(old.grant.expires_at.map_or(end, |before| before.min(end)));
        }
        tx.add_token(&new, &self.new_hash).await?;
        tx.replace_token(&old, &new.id).await?;
        tx.record(&self.created).await?;
        tx.record(&self.rotated).await?;
        Ok((new, old))
    }
}

/// The end of what begins now and is as long as from `start` to `end`.
fn again(start: Timestamp, end: Timestamp, now: Timestamp) -> Timestamp {
    now.plus_micros(end.0.saturating_sub(start.0))
}

impl Call {
    /// Goes on if the caller may let somebody have this: no agents but his own, and other tenants only if he may call for
    /// them.
    pub(super) fn may_grant(&self, grant: &TokenGrant) -> Result<(), Error> {
        if !self.principal.token.grant.agents.covers(&grant.agents) {
            return Err(Error::PermissionDenied { required: Scope::TokensAdmin });
        }
        if grant.scopes.contains(&Scope::TenantsAll) { self.needs(Scope::TenantsAll) } else { Ok(()) }
    }

    /// What is said of a token that is not there. To who is limited to agents it is the same as of one that reaches further
    /// than he does.
    fn no_such_token(&self) -> Error {
        match self.principal.token.grant.agents {
            AgentScope::All => Error::TokenNotFound,
            AgentScope::Only(_) => Error::PermissionDenied { required: Scope::TokensAdmin },
        }
    }
}
