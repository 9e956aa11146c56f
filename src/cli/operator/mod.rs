//! The commands of an operator, which work on the database and the keyring themselves.

mod keys;
mod migrate;
mod serve;

use std::{error::Error, ffi::OsString};

use clap::Command;

pub(super) use keys::{KeysCommand, run as keys};
pub(super) use migrate::run as migrate;
pub(super) use serve::run as serve;

use super::failure::Failure;
use crate::config::{Environment, SettingError};

/// A failure of the parts, with its causes, as the command line says it.
fn failed(error: &(dyn Error + 'static)) -> Failure {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !sentence.contains(&more) {
            sentence = format!("{sentence}: {more}");
        }
        cause = error.source();
    }
    Failure::local(format!("{sentence}."))
}

/// Gives the operator's commands among `command`'s subcommands their settings, from every source.
pub(super) fn layered(
    command: Command,
    arguments: &[OsString],
    environment: &Environment,
) -> Result<Command, SettingError> {
    let mut failed = None;
    let mut layered = |subcommand: Command| {
        crate::config::layer(subcommand.clone(), arguments, environment).unwrap_or_else(|error| {
            failed.get_or_insert(error);
            subcommand
        })
    };
    let command = command
        .mut_subcommand("serve", &mut layered)
        .mut_subcommand("migrate", &mut layered)
        .mut_subcommand("keys", |keys| {
            keys.mut_subcommand("generate", &mut layered).mut_subcommand("status", &mut layered)
        });
    failed.map_or(Ok(command), Err)
}
