//! The commands of an operator, which work on the database and the keyring themselves.

mod backup;
mod doctor;
mod help;
mod keys;
mod migrate;
mod progress;
mod restore;
mod serve;
mod tenants;

use std::{error::Error, ffi::OsString};

use clap::{ArgMatches, Command};

pub(super) use backup::Backup;
pub(super) use doctor::run as doctor;
pub(super) use help::shortened;
pub(super) use keys::{KeysCommand, run as keys};
pub(super) use migrate::run as migrate;
pub(super) use restore::Restore;
pub(super) use serve::run as serve;
pub(super) use tenants::{TenantsCommand, run as tenants};

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
    with_variables(&sentence)
}

/// A failure that says by which variables those of its settings can be given that it names.
fn with_variables(sentence: &str) -> Failure {
    let failure = Failure::local(format!("{sentence}."));
    let variables = crate::config::variables_in(sentence);
    if variables.is_empty() {
        return failure;
    }
    let variables: Vec<_> =
        variables.iter().map(|(flag, variable)| format!("{flag} is {variable}")).collect();
    failure.hint(format!("In the environment, {}.", variables.join(", and ")))
}

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        with_variables(&error.to_string())
    }
}

/// Gives the operator's command that `arguments` name, if they name one, its settings from every source.
pub(super) fn layered(
    command: Command,
    arguments: &[OsString],
    environment: &Environment,
) -> Result<Command, SettingError> {
    let mut failed = None;
    let layer = |subcommand: Command| {
        crate::config::layer(subcommand.clone(), arguments, environment).unwrap_or_else(|error| {
            failed.get_or_insert(error);
            subcommand
        })
    };
    // Usage errors and `--help` are for the parser that comes after this
    let matches = command.clone().ignore_errors(true).try_get_matches_from(arguments).unwrap_or_default();
    let command = match (matches.subcommand_name(), inner_name(&matches)) {
        (Some(name @ ("serve" | "migrate" | "backup" | "restore" | "doctor")), _) => {
            command.mut_subcommand(name, layer)
        }
        (Some(group @ ("keys" | "tenants")), Some(name)) => {
            command.mut_subcommand(group, |commands| commands.mut_subcommand(name, layer))
        }
        _ => command,
    };
    failed.map_or(Ok(command), Err)
}

fn inner_name(matches: &ArgMatches) -> Option<&str> {
    matches.subcommand()?.1.subcommand_name()
}
