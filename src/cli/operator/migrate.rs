//! `superserve migrate`.

use super::{Failure, failed};
use crate::{
    app,
    cli::{context::Context, failure::Exit},
    config::StorageSettings,
};

/// Applies the schema and ends.
pub(in crate::cli) async fn run(settings: &StorageSettings, context: &mut Context) -> Result<Exit, Failure> {
    app::start_log(settings.log()).map_err(|error| failed(&error))?;
    let applied = app::migrate(&settings.check()?).await.map_err(|error| failed(&error))?;
    for name in &applied {
        context.output.talk(format!("Applied {name}."));
    }
    if applied.is_empty() {
        context.output.talk("The schema is up to date.");
    }
    Ok(Exit::Fine)
}
