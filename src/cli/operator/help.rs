//! Keeps `-h` of the commands that take the settings of `serve` short: it shows the settings that many need, and `--help`
//! all of them, those that few need below the others.

use clap::Command;

/// The settings that `-h` shows, by their flags.
const MOST_USED: [&str; 10] = [
    "config",
    "data-dir",
    "database-url",
    "keyring",
    "listen",
    "ops-listen",
    "tls-cert",
    "tls-key",
    "tls-client-ca",
    "insecure",
];

/// The same command and those within it, with the rest of their settings for `--help` alone. What is no setting, and so
/// has no variable, is left as it is.
pub(in crate::cli) fn shortened(command: Command) -> Command {
    let command = command.mut_subcommands(shortened);
    command.mut_args(|arg| {
        let is_setting = arg.get_env().is_some();
        let is_most_used = arg.get_long().is_some_and(|flag| MOST_USED.contains(&flag));
        if is_setting && !is_most_used {
            arg.hide_short_help(true).help_heading("More settings")
        } else {
            arg
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::{Cli, testing::superserve};

    /// The commands that take settings, as they are typed.
    fn with_settings(command: &Command, path: &[String], found: &mut Vec<Vec<String>>) {
        for inner in command.get_subcommands() {
            let path = [path, &[inner.get_name().to_owned()]].concat();
            with_settings(inner, &path, found);
            if inner.get_arguments().any(|arg| arg.get_env().is_some()) {
                found.push(path);
            }
        }
    }

    async fn shown(path: &[String], flag: &str) -> String {
        let args: Vec<_> = path.iter().map(String::as_str).chain([flag]).collect();
        let outcome = superserve(&args, [], b"").await;
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        outcome.stdout
    }

    #[tokio::test]
    async fn the_short_help_fits_a_screen_and_the_long_one_is_whole() {
        let (mut found, tree) = (Vec::new(), Cli::command());
        with_settings(&tree, &[], &mut found);
        for command in ["serve", "doctor", "backup", "restore", "migrate"] {
            assert!(found.contains(&vec![command.to_owned()]), "{found:?}");
        }
        for path in found {
            let (short, long) = (shown(&path, "-h").await, shown(&path, "--help").await);
            assert!(short.lines().count() <= 40, "{path:?}:\n{short}");
            assert!(short.contains("--data-dir") && !short.contains("--transit-mount"), "{path:?}:\n{short}");
            let command = path.iter().try_fold(&tree, |command, name| command.find_subcommand(name)).unwrap();
            for flag in command.get_arguments().filter_map(|arg| arg.get_long()) {
                assert!(long.contains(&format!("--{flag}")), "{path:?}: --{flag}");
            }
            let settings = long.split_once("\nMore settings:\n").unwrap();
            assert!(settings.0.contains("--keyring") && settings.1.contains("--transit-mount"), "{path:?}");
        }
    }
}
