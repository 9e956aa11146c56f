//! Which variables of the caller's a command gets.
//!
//! By default all but those whose name looks like a credential's: the command is to have the agent's
//! secrets and not those of the person or the machine that starts it. Only names are judged, never values.
//!
//! A name looks like a credential's when, without regard to case, it is one of [`NAMES`], or one of
//! [`WORDS`] alone or behind an underscore (`TOKEN`, `GITHUB_TOKEN`), or one of [`ENDS`] behind an
//! underscore (`STRIPE_KEY`).
//!
//! The service's own variables are never passed on, but for the address: they hold its tokens, the URL of its
//! database, the place of its keys.

use std::ffi::{OsStr, OsString};

use clap::Args;

use crate::cli::{environment::Environment, output::Output};

use super::resolve::Values;

/// What credentials are called.
const WORDS: [&str; 16] = [
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASS",
    "PASSPHRASE",
    "PASSCODE",
    "APIKEY",
    "ACCESS_KEY_ID",
    "CREDENTIAL",
    "CREDENTIALS",
    "CREDS",
    "PAT",
    "JWT",
    "DSN",
    "CONNECTION_STRING",
];

/// How else the names of credentials end. Alone these are something else (`PWD`).
const ENDS: [&str; 3] = ["_KEY", "_PWD", "_AUTH"];

/// Credentials that end otherwise.
const NAMES: [&str; 2] = ["PGPASSWORD", "SSHPASS"];

/// The variables of this service, and the one of them that a command gets.
const OWN: &str = "SUPERSERVE_";
const ADDRESS: &str = "SUPERSERVE_API_URL";

/// What a command needs to find its way, apart from `LC_…`.
const BASIC: [&str; 8] = ["PATH", "HOME", "TERM", "LANG", "TZ", "USER", "SHELL", "TMPDIR"];

/// Which of the caller's variables are passed on.
#[derive(Args, Debug)]
pub(super) struct Inheritance {
    /// Pass on all variables but the service's own, also those that look like credentials
    #[arg(long, conflicts_with = "clean_env")]
    preserve_env: bool,
    /// Pass on nothing but PATH, HOME, TERM, LANG, LC_*, TZ, USER, SHELL and TMPDIR
    #[arg(long)]
    clean_env: bool,
}

/// The caller's variables for the command.
pub(super) type Inherited = Vec<(OsString, OsString)>;

// === impl Inheritance ===

impl Inheritance {
    /// The variables that are passed on; `values` win over them. Says which ones are withheld because of
    /// their looks, by name.
    pub(super) fn choose(
        &self,
        environment: &Environment,
        values: &Values,
        output: &mut Output,
    ) -> Inherited {
        let mut withheld = Vec::new();
        let mut inherited = Inherited::new();
        for (name, value) in environment.variables().filter(|(name, _)| !is_own(name)) {
            if name.to_str().is_some_and(|name| values.contains_key(name)) {
                continue;
            }
            if self.passes(name) {
                inherited.push((name.clone(), value.clone()));
            } else if !self.clean_env {
                withheld.push(name.to_string_lossy());
            }
        }
        if !withheld.is_empty() {
            let names = withheld.join(", ");
            output.talk(format!("Withheld from the command: {names} (--preserve-env passes them on)"));
        }
        inherited
    }

    fn passes(&self, name: &OsStr) -> bool {
        if self.clean_env {
            return name.to_str().is_some_and(|name| BASIC.contains(&name) || name.starts_with("LC_"));
        }
        self.preserve_env || !looks_like_credential(&name.to_string_lossy())
    }
}

fn is_own(name: &OsStr) -> bool {
    name != ADDRESS && name.as_encoded_bytes().starts_with(OWN.as_bytes())
}

fn looks_like_credential(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let is_one =
        |word: &str| name.strip_suffix(word).is_some_and(|before| before.is_empty() || before.ends_with('_'));
    NAMES.contains(&name.as_str())
        || WORDS.into_iter().any(is_one)
        || ENDS.into_iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::cli::testing::Captured;

    fn chosen(preserve_env: bool, clean_env: bool) -> (Vec<String>, String) {
        let environment = Environment::from([
            ("PATH", "p"),
            ("LC_ALL", "C"),
            ("EDITOR", "vi"),
            ("GITHUB_TOKEN", "sentinel"),
            ("API_KEY", "sentinel"),
            ("SUPERSERVE_TOKEN", "sentinel"),
            ("SUPERSERVE_BOOTSTRAP_TOKEN_FILE", "sentinel"),
            ("SUPERSERVE_DATABASE_URL", "sentinel"),
            ("SUPERSERVE_API_URL", "u"),
        ]);
        let values = Values::from([("API_KEY".to_owned(), Zeroizing::new("v".to_owned()))]);
        let captured = Captured::default();
        let inheritance = Inheritance { preserve_env, clean_env };
        let inherited = inheritance.choose(&environment, &values, &mut captured.output());
        let names = inherited.into_iter().map(|(name, _)| name.into_string().unwrap()).collect();
        (names, captured.stderr())
    }

    #[test]
    fn credentials_are_withheld_and_named() {
        let said = "Withheld from the command: GITHUB_TOKEN (--preserve-env passes them on)\n";
        assert_eq!(
            chosen(false, false),
            (["EDITOR", "LC_ALL", "PATH", "SUPERSERVE_API_URL"].map(str::to_owned).to_vec(), said.to_owned())
        );
    }

    #[test]
    fn all_or_little_is_passed_on_silently() {
        let all =
            ["EDITOR", "GITHUB_TOKEN", "LC_ALL", "PATH", "SUPERSERVE_API_URL"].map(str::to_owned).to_vec();
        assert_eq!(chosen(true, false), (all, String::new()));
        assert_eq!(chosen(false, true), (["LC_ALL", "PATH"].map(str::to_owned).to_vec(), String::new()));
    }

    #[test]
    fn names_are_judged_by_their_end() {
        for name in [
            "TOKEN",
            "npm_token",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "AWS_SESSION_TOKEN",
            "PGPASSWORD",
            "OPENAI_API_KEY",
            "CLIENT_SECRET",
            "SSH_PRIVATE_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "DB_PASS",
            "MYSQL_PWD",
            "GITHUB_PAT",
            "STRIPE_KEY",
            "ENCRYPTION_KEY",
            "SENTRY_AUTH",
            "NPM_CONFIG__AUTH",
            "SENTRY_DSN",
        ] {
            assert!(looks_like_credential(name), "{name}");
        }
        for name in [
            "PATH",
            "PWD",
            "OLDPWD",
            "COMPASS",
            "MONKEY",
            "TOKENIZER",
            "MAX_TOKENS",
            "NOTOKEN",
            "SECRETARY",
            "KEY",
            "SSH_AUTH_SOCK",
            "A_TOKEN_FILE",
        ] {
            assert!(!looks_like_credential(name), "{name}");
        }
    }
}
