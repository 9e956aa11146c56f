//! The examples that `--help` and the manual pages show below each command.
//!
//! All are here, so that they read alike; a test parses each of them and finds the command that has none.

use clap::Command;

/// Commands by their path, and examples of each.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "serve",
        "  superserve serve                                    # embedded SQLite in ./data
  superserve serve --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key
  superserve serve --config superserve.toml --keyring keyring.json",
    ),
    (
        "doctor",
        "  superserve doctor                                   # with the settings of `serve`: what is wrong?
  superserve doctor --json",
    ),
    (
        "backup",
        "  superserve backup backup-1.db                       # of SQLite, while it serves
  superserve backup - > backup-1.db",
    ),
    ("restore", "  superserve restore backup-1.db --replace            # while nothing serves"),
    ("migrate", "  superserve migrate --config superserve.toml         # before a new version serves"),
    (
        "keys generate",
        "  superserve keys generate --keyring keyring.json
  superserve keys generate --primary                  # and use it at once, on one server",
    ),
    ("keys status", "  superserve keys status\n  superserve keys status --json"),
    (
        "keys rotate",
        "  superserve keys rotate                              # to the newest key, while servers run",
    ),
    (
        "keys retire",
        "  superserve keys retire kek_1 --check                # may it go?\n  superserve keys retire kek_1",
    ),
    ("tenants create", "  superserve tenants create acme > acme-token         # its first token"),
    ("tenants list", "  superserve tenants list"),
    ("tenants delete", "  superserve tenants delete acme"),
    (
        "tenants token",
        "  superserve tenants token --name platform --scope tenants:all,secrets:write > platform-token",
    ),
    (
        "tokens create",
        "  superserve tokens create --name runner --scope secrets:resolve,agents:read --agent my-agent
  superserve tokens create --name ci --scope secrets:write --expires-in 30d > ci-token",
    ),
    ("tokens list", "  superserve tokens list\n  superserve tokens list --json"),
    ("tokens rotate", "  superserve tokens rotate tok_abc123 --overlap 24h > new-token"),
    ("tokens revoke", "  superserve tokens revoke tok_abc123"),
    (
        "tokens generate",
        "  superserve tokens generate > admin-token            # for SUPERSERVE_BOOTSTRAP_TOKEN_FILE",
    ),
    (
        "login",
        "  superserve login                                    # asks, hidden\n  superserve login < data/admin-token",
    ),
    ("logout", "  superserve logout"),
    ("whoami", "  superserve whoami\n  superserve whoami --json"),
    (
        "agents deploy",
        "  superserve agents deploy                            # as superserve.yaml says
  superserve agents deploy my-agent --require ANTHROPIC_API_KEY,DATABASE_URL
  superserve agents deploy my-agent --command ./agent.py --runner-token runner-token",
    ),
    ("agents list", "  superserve agents list\n  superserve agents list --json"),
    (
        "agents get",
        "  superserve agents get                               # of superserve.yaml\n  superserve agents get my-agent",
    ),
    (
        "agents delete",
        "  superserve agents delete my-agent\n  superserve agents delete my-agent --yes             # in a script",
    ),
    (
        "secrets set",
        "  superserve secrets set my-agent                     # asks for all that is missing, hidden
  superserve secrets set my-agent API_KEY             # asks for this one
  superserve secrets set my-agent --env-file .env --dry-run
  superserve secrets set my-agent --env-file .env --prune
  superserve secrets set my-agent TLS_KEY=@tls.key
  pass show api-key | superserve secrets set . API_KEY=-
  superserve secrets set                              # the agent of superserve.yaml",
    ),
    (
        "secrets list",
        "  superserve secrets list                             # of superserve.yaml
  superserve secrets list my-agent
  superserve secrets list my-agent --json             # with versions and fingerprints",
    ),
    (
        "secrets delete",
        "  superserve secrets delete my-agent OLD_KEY
  superserve secrets delete . OLD_KEY OTHER_KEY --yes --allow-missing",
    ),
    (
        "secrets check",
        "  superserve secrets check my-agent                   # exit code 3 while one is missing",
    ),
    (
        "secrets run",
        "  superserve secrets run my-agent -- python agent.py
  superserve secrets run -- python agent.py           # the agent of superserve.yaml
  superserve secrets run my-agent --watch -- python agent.py
  superserve secrets run my-agent --clean-env --only DATABASE_URL -- ./migrate
  superserve secrets run my-agent --env-file-fd 3 --format docker 3> agent.env",
    ),
    (
        "audit",
        "  superserve audit my-agent --limit 20
  superserve audit my-agent --key API_KEY --stale     # runs to restart after a rotation",
    ),
    (
        "health",
        "  superserve health\n  superserve health --wait 30s                        # until it serves",
    ),
    (
        "completions",
        "  source <(superserve completions bash)               # in ~/.bashrc
  source <(superserve completions zsh)                # in ~/.zshrc, after compinit
  superserve completions fish | source                # in ~/.config/fish/config.fish",
    ),
    ("man", "  superserve man | man -l -\n  superserve man ~/.local/share/man/man1"),
];

/// Puts the examples below the help of their commands.
pub(super) fn attach(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (path, examples)| {
        let help = format!("Examples:\n{examples}");
        match path.split_once(' ') {
            Some((group, name)) => {
                command.mut_subcommand(group, |group| group.mut_subcommand(name, |it| it.after_help(help)))
            }
            None => command.mut_subcommand(*path, |it| it.after_help(help)),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        let visible = command.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "help");
        let mut is_leaf = true;
        for inner in visible {
            is_leaf = false;
            leaves(inner, format!("{path} {}", inner.get_name()).trim(), found);
        }
        if is_leaf {
            found.push((path.to_owned(), command.clone()));
        }
    }

    #[test]
    fn every_command_has_examples() {
        let mut found = Vec::new();
        leaves(&attach(Cli::command()), "", &mut found);
        assert_eq!(found.len(), EXAMPLES.len());
        for (path, command) in found {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("  superserve {path}")), "{path}: {help}");
        }
    }

    #[test]
    fn every_example_is_understood() {
        let lines = EXAMPLES.iter().flat_map(|(path, text)| text.lines().map(move |line| (path, line)));
        for (path, line) in lines {
            assert!(line.chars().count() <= 100, "{line}");
            let line = line.split(" #").next().unwrap();
            let (_, arguments) = line.split_once("superserve ").unwrap();
            assert!(arguments.starts_with(path), "{line}");
            let words = arguments.split_whitespace().map(|word| word.trim_end_matches(')'));
            let words = words.take_while(|word| !word.starts_with(['<', '>', '|']) && !word.ends_with('>'));
            let parsed = attach(Cli::command()).try_get_matches_from(["superserve"].into_iter().chain(words));
            if let Err(error) = parsed {
                panic!("{line}: {error}");
            }
        }
    }
}
