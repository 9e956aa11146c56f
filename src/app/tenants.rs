//! What an operator does to tenants, beside running servers.

use tokio_util::task::TaskTracker;

pub use crate::store::Belongings;

use super::{StartError, first_run::require_database};
use crate::{
    config::Storage,
    crypto::Random,
    domain::{Scope, Tenant, TenantId, TokenRecord, TokenText},
    service::{Clock, Tenants},
    store::Store,
};

/// A token that was made, with its text.
#[derive(Debug)]
pub struct TokenMade {
    /// What is kept of it.
    pub record: TokenRecord,
    /// Its text, to be shown once.
    pub text: TokenText,
}

/// Makes a tenant and its first token.
///
/// # Errors
/// [`StartError`].
pub async fn create(storage: &Storage, name: &str) -> Result<(Tenant, TokenMade), StartError> {
    let (tenant, record, text) = open(storage).await?.create(name).await?;
    Ok((tenant, TokenMade { record, text }))
}

/// Makes a token that spans all tenants.
///
/// # Errors
/// [`StartError`].
pub async fn create_token(storage: &Storage, name: &str, scopes: &[Scope]) -> Result<TokenMade, StartError> {
    let (record, text) = open(storage).await?.create_token(name, scopes).await?;
    Ok(TokenMade { record, text })
}

/// Tells each tenant, by id.
///
/// # Errors
/// [`StartError`], and what `tell` says.
pub async fn list<E: From<StartError>>(
    storage: &Storage,
    mut tell: impl FnMut(Tenant) -> Result<(), E>,
) -> Result<(), E> {
    let tenants = open(storage).await?;
    let mut after = None;
    loop {
        let page = tenants.list(after).await.map_err(StartError::from)?;
        for tenant in page.rows {
            tell(tenant)?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Finds a tenant, by its id or its name, and what would be lost with it.
///
/// # Errors
/// [`StartError`].
pub async fn look_at(storage: &Storage, tenant: &str) -> Result<(Tenant, Belongings), StartError> {
    Ok(open(storage).await?.look_at(tenant).await?)
}

/// Deletes a tenant, and says how many agents went with it. See [`Tenants::delete`].
///
/// # Errors
/// [`StartError`].
pub async fn delete(storage: &Storage, id: &TenantId, progress: impl FnMut(u64)) -> Result<u64, StartError> {
    Ok(open(storage).await?.delete(id, progress).await?)
}

async fn open(storage: &Storage) -> Result<Tenants, StartError> {
    require_database(storage)?;
    let store = Store::open(&storage.store, &TaskTracker::new()).await?;
    match store.pending_migrations().await?.len() {
        0 => Ok(Tenants { store, random: Random::new(), clock: Clock::system() }),
        pending => Err(StartError::Pending(pending)),
    }
}
