//! `superserve keys retire`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Failure, failed};
use crate::{
    app::{self, KeyRetired, Retirement},
    cli::{context::Context, duration, failure::Exit},
    config::{Storage, StorageSettings},
};

/// The arguments of `keys retire`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that a person gives or not")]
pub(in crate::cli) struct Retire {
    #[command(flatten)]
    settings: StorageSettings,
    /// The key to remove, as `keys status` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Remove it though agents need it: says how many lose their secrets by it, and asks
    #[arg(long)]
    lose_agents: bool,
    /// Do not ask
    #[arg(long, short, requires = "lose_agents")]
    yes: bool,
    /// Only say whether it can be removed: for a keyring that is mounted read-only
    #[arg(long, conflicts_with_all = ["lose_agents", "file_only"])]
    check: bool,
    /// Remove it from the file without asking the database, after `--check` beside the servers
    #[arg(long, conflicts_with = "lose_agents")]
    file_only: bool,
    /// How long to wait until no server wraps under it any more
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    wait: Duration,
}

impl Retire {
    /// Removes a key from the keyring.
    ///
    /// # Errors
    /// When it is the primary, when agents or servers need it, when there is no such key, or when it is not confirmed.
    pub(super) async fn run(&self, context: &mut Context) -> Result<Exit, Failure> {
        let Self { settings, id, check, .. } = self;
        app::start_log(settings.log()).map_err(|error| failed(&error))?;
        let storage = settings.check()?;
        if self.file_only {
            let path = app::remove_key(&storage, id).map_err(|error| failed(&error))?;
            context.output.talk(format!("Removed the key {id} from {}.", path.display()));
            return self.told(0, context);
        }
        let lose = if self.lose_agents { self.agents_to_lose(&storage, context).await? } else { 0 };
        let retirement = Retirement { id, lose, wait: self.wait, only_check: *check };
        let retired = app::retire_key(&storage, retirement).await;
        let KeyRetired { path, lost } = retired.map_err(|error| failed(&error))?;
        if *check {
            context.output.talk(format!("No agent and no server needs the key {id}: it can be removed."));
            return self.told(0, context);
        }
        context.output.talk(format!("Removed the key {id} from {}.", path.display()));
        if lost > 0 {
            context.output.warn(format!(
                "{lost} agent(s) have lost their data keys: no secret of theirs can be read or set any more. Delete \
                 and deploy them anew; or put the key back into the keyring, from a copy of it, and all is as before."
            ));
        }
        context.output.talk(
            "Give the keyring to all servers (those that share the file read it by themselves), and keep a copy of the \
             key for as long as you keep a backup of the database from before its rotation.",
        );
        self.told(lost, context)
    }

    /// How many agents may be lost: as many as there are, if that is what is wanted.
    async fn agents_to_lose(&self, storage: &Storage, context: &mut Context) -> Result<u64, Failure> {
        let agents = app::agents_of_key(storage, &self.id).await.map_err(|error| failed(&error))?;
        if agents > 0 && !self.yes {
            let question = format!(
                "Without the key {} the secrets of {agents} agent(s) are lost, unless a copy of the key is kept. Remove it?",
                self.id
            );
            context.input.confirm(&mut context.output, &question).await?;
        }
        Ok(agents)
    }

    fn told(&self, lost: u64, context: &mut Context) -> Result<Exit, Failure> {
        if context.output.json {
            let what = if self.check { "removable" } else { "retired" };
            context.output.document(&json!({ what: self.id, "lost": lost }))?;
        }
        Ok(Exit::Fine)
    }
}
