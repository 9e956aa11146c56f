//! `superserve keys`.

mod retire;
mod rotate;
mod status;

use clap::{Args, Subcommand};

use super::{Failure, failed};
use crate::{
    app::{self, KeyGenerated},
    cli::{context::Context, failure::Exit},
    config::StorageSettings,
};

/// Manage the key-encryption keys
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeysCommand {
    /// Make a keyring, or add a key to the one that is there
    ///
    /// An added key decrypts only. Give the keyring to all servers (those that share the file read it by themselves), and
    /// then `superserve keys rotate` makes it the one that encrypts.
    Generate(Generate),
    /// Show the keys, how many agents each protects, and which servers have them
    ///
    /// Also those keys that the database was written with and the keyring does not have: so it is told which key a
    /// restored backup needs.
    Status(StorageSettings),
    /// Make the newest key the primary, and bring all agents under it
    ///
    /// Before: `superserve keys generate`. It waits until every server has read the keyring with the new key, as one
    /// without it could not read what is wrapped under it. After: `superserve keys retire` can remove the old one. Values
    /// are not touched and calls go on. What was broken off is taken up by running it again.
    Rotate(rotate::Rotate),
    /// Remove a key that no agent needs any more
    ///
    /// Before: `superserve keys rotate`, and every server has the keyring with the new primary key. A backup of the
    /// database from before needs the key still: keep a copy for as long as you keep such a backup.
    Retire(retire::Retire),
}

/// The arguments of `keys generate`.
#[derive(Args, Debug)]
pub(in crate::cli) struct Generate {
    #[command(flatten)]
    settings: StorageSettings,
    /// Make it the primary key at once: servers that get the keyring use it as soon as all of them have it
    #[arg(long)]
    primary: bool,
}

/// Runs a command.
pub(in crate::cli) async fn run(command: &KeysCommand, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        KeysCommand::Generate(settings) => generate(settings, context),
        KeysCommand::Status(settings) => status::run(settings, context).await,
        KeysCommand::Rotate(command) => command.run(context).await,
        KeysCommand::Retire(command) => command.run(context).await,
    }
}

fn generate(command: &Generate, context: &mut Context) -> Result<Exit, Failure> {
    let Generate { settings, primary } = command;
    app::start_log(settings.log()).map_err(|error| failed(&error))?;
    let made = app::generate_key(&settings.check()?, *primary).map_err(|error| failed(&error))?;
    let KeyGenerated { id, path, is_first, is_primary } = made;
    let path = path.display();
    context.output.talk(if is_first {
        format!("Made the keyring {path} with the key {id}.")
    } else if is_primary {
        format!(
            "Added the key {id} to {path}, as the primary one. Give the keyring to all servers; they use it once each of \
             them has it, and bring all agents under it. `superserve keys status` shows how far that is."
        )
    } else {
        format!(
            "Added the key {id} to {path}. It decrypts only, until it is made the primary:\n  \
             1. give the keyring to all servers; those that share the file read it by themselves\n  \
             2. superserve keys rotate"
        )
    });
    context.output.talk("Keep a copy of it, apart from the database: without it no secret can be read.");
    Ok(Exit::Fine)
}
