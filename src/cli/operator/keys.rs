//! `superserve keys`.

use std::{io::Write, path::Path};

use clap::Subcommand;
use tokio_util::task::TaskTracker;

use super::Failure;
use crate::{
    app,
    config::StorageSettings,
    crypto::{Keyring, Random},
    service::{Clock, KeyUse, compare_keys},
    store::Store,
    telemetry,
};

/// The key-encryption keys
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
        KeysCommand::Generate(settings) => {
            telemetry::init(settings.log());
            generate(&settings.check()?.keyring, talk)
        }
        KeysCommand::Status(settings) => {
            telemetry::init(settings.log());
            status(settings, data).await
        }
    }
}

fn generate(path: &Path, talk: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let (random, now) = (Random::new(), Clock::system().now());
    if let Some(mut keyring) = app::load_keyring(path)? {
        let id = keyring.add_key(&random, now)?;
        app::replace_keyring(path, &keyring)?;
        writeln!(
            talk,
            "Added the key {id} to {}. It decrypts only, until it is made the primary.",
            path.display()
        )?;
    } else {
        let keyring = Keyring::generate(&random, now)?;
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            app::make_private_directory(directory)?;
        }
        app::create_keyring(path, &keyring)?;
        let id = keyring.primary().id().to_string();
        writeln!(talk, "Made the keyring {} with the key {id}.", path.display())?;
    }
    writeln!(talk, "Keep a copy of it, apart from the database: without it no secret can be read.")?;
    Ok(())
}

async fn status(settings: &StorageSettings, data: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let storage = settings.check()?;
    let keyring = app::load_keyring(&storage.keyring)?
        .ok_or_else(|| format!("there is no keyring at {} (--keyring)", storage.keyring.display()))?;
    app::require_database(&storage)?;
    let store = Store::open(&storage.store, &TaskTracker::new()).await?;
    let usage = compare_keys(&store, &keyring).await?;
    writeln!(data, "{:<28} {:<14} {:<14} {:>8}", "KEY", "STATE", "FINGERPRINT", "AGENTS")?;
    for entry in keyring.entries() {
        let agents = usage.iter().find(|KeyUse { id, .. }| id == entry.id()).map_or(0, |used| used.agents);
        let (id, state, fingerprint) = (entry.id().as_str(), entry.state().as_str(), entry.fingerprint());
        writeln!(data, "{id:<28} {state:<14} {fingerprint:<14} {agents:>8}")?;
    }
    Ok(())
}
