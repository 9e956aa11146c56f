//! `superserve keys retire`.

use clap::Args;
use serde_json::json;

use super::{Failure, failed};
use crate::{
    app::{self, KeyRetired},
    cli::{context::Context, failure::Exit},
    config::StorageSettings,
};

/// The arguments of `keys retire`.
#[derive(Args, Debug)]
pub(in crate::cli) struct Retire {
    #[command(flatten)]
    settings: StorageSettings,
    /// The key to remove, as `keys status` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Remove it though agents need it: their secrets cannot be read any more, unless the key is put back
    #[arg(long)]
    lose_agents: bool,
}

impl Retire {
    /// Removes a key from the keyring.
    ///
    /// # Errors
    /// When it is the primary, when agents need it, or when there is no such key.
    pub(super) async fn run(&self, context: &mut Context) -> Result<Exit, Failure> {
        let Self { settings, id, lose_agents } = self;
        app::start_log(settings.log()).map_err(|error| failed(&error))?;
        let retired = app::retire_key(&settings.check()?, id, *lose_agents).await;
        let KeyRetired { path, lost } = retired.map_err(|error| failed(&error))?;
        context.output.talk(format!("Removed the key {id} from {}.", path.display()));
        if lost > 0 {
            context.output.warn(format!(
                "{lost} agent(s) have lost their data keys: no secret of theirs can be read or set any more. Delete \
                 and deploy them anew; or put the key back into the keyring, from a copy of it, and all is as before."
            ));
        }
        context.output.talk(
            "Have all servers read the keyring again (restart them, or send them SIGHUP), and keep a copy of the key \
             for as long as you keep a backup of the database from before its rotation.",
        );
        if context.output.json {
            context.output.document(&json!({ "retired": id, "lost": lost }))?;
        }
        Ok(Exit::Fine)
    }
}
