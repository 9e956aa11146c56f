//! What the client's side asks of the variables and of the clock.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::SystemTime,
};

pub(crate) use crate::config::Environment;
use crate::config::SettingError;

use super::failure::Failure;

/// Variables that hold a token of this service: a command that is run does not get them.
pub(crate) const TOKEN_VARIABLES: [&str; 2] = ["SUPERSERVE_TOKEN", "SUPERSERVE_API_KEY"];

/// The server's variable for its first token, which a command does not get either.
const FIRST_TOKEN_VARIABLE: &str = "SUPERSERVE_BOOTSTRAP_TOKEN";

impl Environment {
    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "the client's clock is read here and nowhere else")]
    pub(crate) fn now() -> SystemTime {
        SystemTime::now()
    }

    /// The home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get_os("HOME").map(PathBuf::from)
    }

    /// The variables for a command that is run: all but the service's own tokens.
    pub(crate) fn without_tokens(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.variables().filter(|(name, _)| !is_token_variable(name))
    }
}

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        Self::local(format!("{error}."))
    }
}

fn is_token_variable(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        let name = name.strip_suffix("_FILE").unwrap_or(name);
        TOKEN_VARIABLES.contains(&name) || name == FIRST_TOKEN_VARIABLE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_does_not_get_the_tokens() {
        let environment = Environment::from([
            ("SUPERSERVE_TOKEN", "t"),
            ("SUPERSERVE_TOKEN_FILE", "t"),
            ("SUPERSERVE_API_KEY", "t"),
            ("SUPERSERVE_API_KEY_FILE", "t"),
            ("SUPERSERVE_BOOTSTRAP_TOKEN", "t"),
            ("SUPERSERVE_API_URL", "u"),
            ("TOKEN_FILE", "f"),
        ]);
        let names: Vec<_> = environment.without_tokens().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["SUPERSERVE_API_URL", "TOKEN_FILE"]);
    }
}
