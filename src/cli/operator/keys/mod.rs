//! `superserve keys`.

mod progress;
mod retire;
mod rotate;

use clap::Subcommand;
use serde_json::json;

use super::{Failure, failed};
use crate::{
    app::{self, KeyGenerated, KeyStatus},
    cli::{context::Context, failure::Exit},
    config::StorageSettings,
};

/// Manage the key-encryption keys
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeysCommand {
    /// Make a keyring, or add a key to the one that is there
    ///
    /// An added key decrypts only. Give the keyring to all servers (restart them, or send them SIGHUP), and then
    /// `superserve keys rotate` makes it the one that encrypts.
    Generate(StorageSettings),
    /// Show the keys, and how many agents each protects
    Status(StorageSettings),
    /// Make the newest key the primary, and bring all agents under it
    ///
    /// Before: `superserve keys generate`, and every server has read the keyring with the new key (restart it, or send
    /// it SIGHUP). A server without that key cannot read what this wraps under it. After: every server reads the keyring
    /// once more, so that new agents come under the new key too; then `superserve keys retire` can remove the old one.
    /// Values are not touched and calls go on. What was broken off is taken up by running it again.
    Rotate(rotate::Rotate),
    /// Remove a key that no agent needs any more
    ///
    /// Before: `superserve keys rotate`, and every server has read the keyring with the new primary key (restart it, or
    /// send it SIGHUP). A backup of the database from before needs the key still: keep a copy for as long as you keep
    /// such a backup.
    Retire(retire::Retire),
}

/// Runs a command.
pub(in crate::cli) async fn run(command: &KeysCommand, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        KeysCommand::Generate(settings) => generate(settings, context),
        KeysCommand::Status(settings) => status(settings, context).await,
        KeysCommand::Rotate(command) => command.run(context).await,
        KeysCommand::Retire(command) => command.run(context).await,
    }
}

fn generate(settings: &StorageSettings, context: &mut Context) -> Result<Exit, Failure> {
    app::start_log(settings.log()).map_err(|error| failed(&error))?;
    let made = app::generate_key(&settings.check()?).map_err(|error| failed(&error))?;
    let KeyGenerated { id, path, is_first } = made;
    let path = path.display();
    context.output.talk(if is_first {
        format!("Made the keyring {path} with the key {id}.")
    } else {
        format!(
            "Added the key {id} to {path}. It decrypts only, until it is made the primary:\n  \
             1. give the keyring to all servers: restart them, or send them SIGHUP\n  \
             2. superserve keys rotate"
        )
    });
    context.output.talk("Keep a copy of it, apart from the database: without it no secret can be read.");
    Ok(Exit::Fine)
}

async fn status(settings: &StorageSettings, context: &mut Context) -> Result<Exit, Failure> {
    app::start_log(settings.log()).map_err(|error| failed(&error))?;
    let keys = app::key_status(&settings.check()?).await.map_err(|error| failed(&error))?;
    if context.output.json {
        let keys = keys.iter().map(|KeyStatus { id, state, fingerprint, agents }| {
            json!({ "id": id, "state": state, "fingerprint": fingerprint, "agents": agents })
        });
        context.output.document(&json!({ "keys": keys.collect::<Vec<_>>() }))?;
        return Ok(Exit::Fine);
    }
    context.output.data(format!("{:<28} {:<14} {:<14} {:>8}", "KEY", "STATE", "FINGERPRINT", "AGENTS"))?;
    for KeyStatus { id, state, fingerprint, agents } in keys {
        context.output.data(format!("{id:<28} {state:<14} {fingerprint:<14} {agents:>8}"))?;
    }
    Ok(Exit::Fine)
}
