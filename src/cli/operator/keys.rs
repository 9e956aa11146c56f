//! `superserve keys`.

use std::io::Write;

use clap::Subcommand;

use super::Failure;
use crate::{
    app::{self, KeyGenerated, KeyStatus},
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

/// Runs a command. Data goes to `data`, talk to `talk`.
pub(in crate::cli) async fn run(
    command: &KeysCommand,
    data: &mut (dyn Write + Send),
    talk: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        KeysCommand::Generate(settings) => generate(settings, talk),
        KeysCommand::Status(settings) => status(settings, data).await,
    }
}

fn generate(settings: &StorageSettings, talk: &mut (dyn Write + Send)) -> Result<(), Failure> {
    app::start_log(settings.log());
    let KeyGenerated { id, path, is_first } = app::generate_key(&settings.check()?)?;
    let path = path.display();
    if is_first {
        writeln!(talk, "Made the keyring {path} with the key {id}.")?;
    } else {
        writeln!(talk, "Added the key {id} to {path}. It decrypts only, until it is made the primary.")?;
    }
    writeln!(talk, "Keep a copy of it, apart from the database: without it no secret can be read.")?;
    Ok(())
}

async fn status(settings: &StorageSettings, data: &mut (dyn Write + Send)) -> Result<(), Failure> {
    app::start_log(settings.log());
    let keys = app::key_status(&settings.check()?).await?;
    writeln!(data, "{:<28} {:<14} {:<14} {:>8}", "KEY", "STATE", "FINGERPRINT", "AGENTS")?;
    for KeyStatus { id, state, fingerprint, agents } in keys {
        writeln!(data, "{id:<28} {state:<14} {fingerprint:<14} {agents:>8}")?;
    }
    Ok(())
}
