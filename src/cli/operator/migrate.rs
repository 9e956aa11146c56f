//! `superserve migrate`.

use std::io::Write;

use tokio_util::task::TaskTracker;

use super::Failure;
use crate::{app, config::StorageSettings, store::Store, telemetry};

/// Applies the schema and ends.
pub(in crate::cli) async fn run(
    settings: &StorageSettings,
    talk: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    telemetry::init(settings.log());
    let storage = settings.check()?;
    app::prepare_directory(&storage)?;
    let store = Store::open(&storage.store, &TaskTracker::new()).await?;
    let applied = store.migrate(&storage.store).await?;
    for name in &applied {
        writeln!(talk, "applied {name}")?;
    }
    if applied.is_empty() {
        writeln!(talk, "the schema is up to date")?;
    }
    Ok(())
}
