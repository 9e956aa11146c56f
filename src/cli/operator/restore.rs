//! `superserve restore FILE`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::{
    Failure,
    backup::{STREAM, document, holds},
    failed,
    progress::Progress,
};
use crate::{
    app::{self, Origin, Restored},
    cli::{context::Context, failure::Exit, input::interruptible},
    config::StorageSettings,
};

/// The arguments of `restore`.
#[derive(Args, Debug)]
pub(in crate::cli) struct Restore {
    #[command(flatten)]
    settings: StorageSettings,
    /// The backup, or - for stdin
    file: PathBuf,
    /// Take the place of a database that is there; it is kept beside under another name
    #[arg(long)]
    replace: bool,
}

impl Restore {
    /// Puts a backup in the place of the database.
    ///
    /// # Errors
    /// When it cannot be used, or the database is in use. Nothing has changed then.
    pub(in crate::cli) async fn run(&self, context: &mut Context) -> Result<Exit, Failure> {
        app::start_log(self.settings.log()).map_err(|error| failed(&error))?;
        let storage = self.settings.check()?;
        let origin = if self.file == Path::new(STREAM) {
            Origin::Stream(Box::new(context.input.reader()))
        } else {
            Origin::File(&self.file)
        };
        let output = &mut context.output;
        let mut progress = Progress::new(output, "pages");
        let restored = app::restore(&storage, origin, self.replace, |done, all| progress.tell(done, all));
        let restored = interruptible(restored).await;
        progress.end();
        let Restored { database, held, kept } = restored?.map_err(|error| failed(&error))?;
        let (database, kept) = (database.display(), kept.map(|kept| kept.display().to_string()));
        if output.json {
            let kept = kept.as_deref().map_or(Value::Null, Value::from);
            output.document(&document(&held, [("database", database.to_string().into()), ("kept", kept)]))?;
        }
        output.talk(format!("Restored to {database}, and the keyring fits. {}", holds(&held)));
        if let Some(kept) = kept {
            output.talk(format!(
                "What was there before is kept as {kept}: delete it when it is of no more use."
            ));
        }
        output.talk("What was written after the backup is lost. Start the server now.");
        Ok(Exit::Fine)
    }
}
