//! `superserve migrate`.

use std::io::Write;

use super::Failure;
use crate::{app, config::StorageSettings};

/// Applies the schema and ends.
pub(in crate::cli) async fn run(
    settings: &StorageSettings,
    talk: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    app::start_log(settings.log());
    let applied = app::migrate(&settings.check()?).await?;
    for name in &applied {
        writeln!(talk, "applied {name}")?;
    }
    if applied.is_empty() {
        writeln!(talk, "the schema is up to date")?;
    }
    Ok(())
}
