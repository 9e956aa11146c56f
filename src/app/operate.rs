//! What an operator does to the schema beside a running server.

use tokio_util::task::TaskTracker;

use super::{StartError, first_run::prepare_directory};
use crate::{
    config::Storage,
    store::{self, Store},
};

/// Applies the migrations that are missing and says which.
///
/// # Errors
/// [`StartError`].
pub async fn migrate(storage: &Storage) -> Result<Vec<String>, StartError> {
    prepare_directory(storage)?;
    let store = Store::open(&storage.store, &TaskTracker::new()).await?;
    Ok(store.migrate(&storage.store).await?)
}

/// Applies the migrations that are missing, or refuses a database that lacks some.
pub(super) async fn bring_up_to_date(
    store: &Store,
    config: &store::Config,
    auto_migrate: bool,
) -> Result<(), StartError> {
    if let Some(later) = store.schema().await?.later() {
        tracing::warn!(
            later,
            "the database has a schema of a later version, which this one understands: good while an upgrade is under way"
        );
    }
    if auto_migrate {
        for name in store.migrate(config).await? {
            tracing::info!(name, "migration applied");
        }
        return Ok(());
    }
    match store.pending_migrations().await?.len() {
        0 => Ok(()),
        pending => Err(StartError::Pending(pending)),
    }
}
