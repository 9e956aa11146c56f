//! `superserve keys`.

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
    /// An added key decrypts only; a later rotation makes it the one that encrypts.
    Generate(StorageSettings),
    /// Show the keys, and how many agents each protects
    Status(StorageSettings),
}

/// Runs a command.
pub(in crate::cli) async fn run(command: &KeysCommand, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        KeysCommand::Generate(settings) => generate(settings, context),
        KeysCommand::Status(settings) => status(settings, context).await,
    }
}

fn generate(settings: &StorageSettings, context: &mut Context) -> Result<Exit, Failure> {
    app::start_log(settings.log());
    let made = app::generate_key(&settings.check()?).map_err(|error| failed(&error))?;
    let KeyGenerated { id, path, is_first } = made;
    let path = path.display();
    context.output.talk(if is_first {
        format!("Made the keyring {path} with the key {id}.")
    } else {
        format!("Added the key {id} to {path}. It decrypts only, until it is made the primary.")
    });
    context.output.talk("Keep a copy of it, apart from the database: without it no secret can be read.");
    Ok(Exit::Fine)
}

async fn status(settings: &StorageSettings, context: &mut Context) -> Result<Exit, Failure> {
    app::start_log(settings.log());
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
