//! The commands about agents and secrets, as a script runs them: what they say, what they do, how they end.

use std::fs;

use serde_json::Value;

use crate::harness::{Database, cli::Cli, server::Server};

/// A file as people have it: comments, `export`, all kinds of quotes, a key of several lines.
const ENV_FILE: &str = r#"# Copied from the console
ANTHROPIC_API_KEY=sk-ant-api03-sentinel   # the team's

export DATABASE_URL='postgres://app:p#sentinel@db.example/app?sslmode=require'
GREETING="hello\nsentinel"
    LOG_LEVEL=info
TLS_KEY="-----BEGIN PRIVATE KEY-----
MIIEsentinel+/=
-----END PRIVATE KEY-----"
"#;

fn list(cli: &Cli) -> String {
    cli.run(&["secrets", "list", "my-agent"]).done()
}

/// The agent as `secrets list --json` tells it.
fn listed(cli: &Cli) -> Value {
    serde_json::from_str(&cli.run(&["secrets", "list", "my-agent", "--json"]).done()).unwrap()
}

#[test]
fn from_the_first_deploy_to_the_last_delete() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    fs::write(cli.home().join(".env"), ENV_FILE).unwrap();
    let deploy = cli.run(&["agents", "deploy", "my-agent", "--require", "ANTHROPIC_API_KEY"]);
    assert!(deploy.stderr.starts_with("Required secrets that are not set: ANTHROPIC_API_KEY\n"));
    let deploy = deploy.done();
    let id = deploy.strip_prefix("Created agent 'my-agent' (").unwrap().strip_suffix(")\n").unwrap();
    assert!(id.starts_with("agt_"), "{id}");
    let redeploy = cli.run(&["agents", "deploy", "my-agent", "--require", "ANTHROPIC_API_KEY"]).done();
    assert_eq!(redeploy, format!("Updated agent 'my-agent' ({id})\n"));
    let check = cli.run(&["secrets", "check", "my-agent"]);
    assert_eq!(
        (check.code, check.stdout.as_str()),
        (3, "Missing secrets for agent 'my-agent':\n  - ANTHROPIC_API_KEY\n")
    );
    assert_eq!(list(&cli), "No secrets configured for agent 'my-agent'\n");
    all_of_the_file_is_set(&server, &cli, id);
    each_deletion_tells_what_remains(&cli);
    assert_eq!(cli.run(&["secrets", "check", id]).code, 3);

    let table = cli.run(&["agents", "list"]).done();
    assert!(table.contains("my-agent") && table.starts_with("ID "), "{table}");
    assert!(cli.run(&["agents", "get", "my-agent"]).done().contains(&format!("Id:        {id}\n")));
    assert_eq!(cli.run(&["agents", "delete", "my-agent", "--yes"]).done(), "Deleted agent 'my-agent'\n");
    assert!(cli.run(&["secrets", "list", "my-agent"]).failed(2).contains("Agent 'my-agent' not found."));
    assert!(cli.run(&["secrets", "list", id]).failed(2).starts_with("error: Agent not found."));
    let audit = cli.run(&["audit", id]).done();
    assert!(audit.starts_with("TIME ") && audit.lines().count() > 5, "{audit}");
    for text in [audit, server.log()] {
        assert!(!text.contains("sentinel"), "{text}");
    }
}

fn all_of_the_file_is_set(server: &Server, cli: &Cli, id: &str) {
    let set = cli.run(&["secrets", "set", "my-agent", "--env-file", ".env"]);
    assert_eq!(set.stderr, "");
    let expected = "Set 5 secret(s) for agent 'my-agent'\n\
                    Current secrets: ANTHROPIC_API_KEY, DATABASE_URL, GREETING, LOG_LEVEL, TLS_KEY\n";
    assert_eq!(set.done(), expected);
    assert_eq!(
        cli.run(&["secrets", "check", "my-agent"]).done(),
        "All required secrets are set for agent 'my-agent'\n"
    );
    let expected = "Secrets for agent 'my-agent':\n  - ANTHROPIC_API_KEY\n  - DATABASE_URL\n  - GREETING\n  \
                    - LOG_LEVEL\n  - TLS_KEY\n";
    assert_eq!(list(cli), expected);
    assert_eq!(cli.run(&["secrets", "list", id]).done(), expected.replace("my-agent", id));
    let env = server.runner("my-agent").run(&["secrets", "run", "my-agent", "--", "env"]).done();
    for line in [
        "ANTHROPIC_API_KEY=sk-ant-api03-sentinel",
        "DATABASE_URL=postgres://app:p#sentinel@db.example/app?sslmode=require",
        "GREETING=hello\nsentinel",
        "LOG_LEVEL=info",
        "TLS_KEY=-----BEGIN PRIVATE KEY-----\nMIIEsentinel+/=\n-----END PRIVATE KEY-----",
    ] {
        assert!(env.contains(&format!("{line}\n")), "{line}: {env}");
    }
}

fn each_deletion_tells_what_remains(cli: &Cli) {
    let delete = |keys: &[&str]| cli.run(&[&["secrets", "delete", "my-agent", "--yes"], keys].concat());
    assert_eq!(
        delete(&["DATABASE_URL", "GREETING", "TLS_KEY"]).done(),
        "Remaining secrets: ANTHROPIC_API_KEY, LOG_LEVEL\n"
    );
    let gone = delete(&["GREETING"]);
    assert_eq!((gone.code, gone.stdout.as_str()), (2, "Remaining secrets: ANTHROPIC_API_KEY, LOG_LEVEL\n"));
    assert!(gone.stderr.starts_with("error: Secret not found.\n  - GREETING\n"), "{}", gone.stderr);
    delete(&["GREETING", "--allow-missing"]).done();
    assert_eq!(
        delete(&["LOG_LEVEL", "ANTHROPIC_API_KEY"]).done(),
        "No secrets configured for agent 'my-agent'\n"
    );
}

#[test]
fn values_come_from_everywhere_and_are_set_together() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "my-agent"]).done();
    fs::write(cli.home().join("file"), "from a file\n\n").unwrap();
    fs::write(cli.home().join("example"), "D=from .env\nE=\nF=''\n").unwrap();
    let given = ["secrets", "set", "my-agent", "A=a=1", "B=-", "C=@file", "--env-file", "example"];
    let stderr = cli.run_with(&given, b"from stdin\n").failed(1);
    let expected =
        ["error: The input is invalid; nothing was sent.\n", "\n  - line 2 (E): ", "\n  - line 3 (F): "];
    assert!(expected.iter().all(|line| stderr.contains(line)) && !stderr.contains("from"), "{stderr}");
    assert_eq!(list(&cli), "No secrets configured for agent 'my-agent'\n");

    let set = cli.run_with(&[&given[..], &["--skip-empty"]].concat(), b"from stdin\n");
    let talk = "B: one trailing newline was cut\nC: one trailing newline was cut\n\
                Skipped, because they have no value: E, F\n\
                warning: C: has white space before or after it [surrounding_whitespace]\n";
    assert_eq!(set.stderr, talk);
    assert_eq!(set.done(), "Set 4 secret(s) for agent 'my-agent'\nCurrent secrets: A, B, C, D\n");
    let run = ["secrets", "run", "my-agent", "--", "sh", "-c", r#"printf '%s|' "$A" "$B" "$C" "$D""#];
    let runner = server.runner("my-agent");
    assert_eq!(runner.run(&run).done(), "a=1|from stdin|from a file\n|from .env|");
    let stdin = cli.run_with(&["secrets", "set", "my-agent", "--env-file", "-"], b"\xef\xbb\xbfD='new'\r\n");
    assert_eq!(stdin.done(), "Set 1 secret(s) for agent 'my-agent'\nCurrent secrets: A, B, C, D\n");
    assert!(runner.run(&run).done().ends_with("|new|"));

    // What only the server knows is told by it, all at once, and by key
    let refused = cli.run(&["secrets", "set", "my-agent", "A=sentinel", "NODE_OPTIONS=sentinel"]).failed(2);
    assert!(
        refused.starts_with("error: The server refused the input; nothing was changed.\n  - NODE_OPTIONS: ")
    );
    assert!(!refused.contains("sentinel"), "{refused}");
    let warned = cli.run(&["secrets", "set", "my-agent", "A=changeme"]);
    assert_eq!(warned.stderr, "warning: A: looks like a placeholder [placeholder]\n");
    warned.done();
}

#[test]
fn a_set_can_be_tried_conditional_and_exact() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "my-agent"]).done();
    cli.run(&["secrets", "set", "my-agent", "A=a", "B=b", "C=c"]).done();
    let before = listed(&cli);
    assert_eq!(before["revision"], 1);

    let dry = ["secrets", "set", "my-agent", "A=a", "B=b2", "N=n", "--prune", "--dry-run"];
    let expected = "Dry run for agent 'my-agent', nothing was changed:\n  - A (unchanged)\n  - B (replaced)\n  \
                    - N (added)\n  - C (pruned)\n";
    let said = cli.run(&dry).done();
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines[1..].sort();
        lines
    };
    assert_eq!(sorted(&said), sorted(expected));
    assert_eq!(listed(&cli), before, "a dry run changes nothing");
    cli.run(&["secrets", "set", "my-agent", "A=a"]).done();
    assert_eq!(listed(&cli), before, "nor does an equal value");

    let conditional = |revision: &str, value: &str| {
        cli.run(&["secrets", "set", "my-agent", value, "--if-revision", revision])
    };
    let conflict = conditional("0", "A=x").failed(4);
    let sentence = "error: Revision mismatch: the agent is at revision 1; nothing was changed.\n";
    assert!(conflict.starts_with(sentence), "{conflict}");
    assert_eq!(listed(&cli), before);
    conditional("1", "A=a2").done();
    assert_eq!(listed(&cli)["revision"], 2);

    let pruned = cli.run(&["secrets", "set", "my-agent", "B=b", "N=n", "--prune", "--yes"]).done();
    let expected = "Set 2 secret(s) for agent 'my-agent'\nDeleted secrets: A, C\nCurrent secrets: B, N\n";
    assert_eq!(pruned, expected);
    assert_eq!(list(&cli), "Secrets for agent 'my-agent':\n  - B\n  - N\n");
    let delete = cli.run(&["secrets", "delete", "my-agent", "B", "--yes"]);
    assert_eq!(delete.stderr, "Deleted secret 'B' from agent 'my-agent'\n");
    assert_eq!(delete.done(), "Remaining secrets: N\n");
}
