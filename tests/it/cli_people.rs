//! What makes the command line pleasant: better names at a slip, colours for who wants them, one call where one
//! is enough, pages to read.

use std::{fs, io::ErrorKind, net::TcpListener};

use crate::harness::{Database, cli::Cli, server::Server};

/// A colour begins.
const ESCAPE: char = '\u{1b}';

#[test]
fn a_slip_is_answered_with_the_name_that_was_meant() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    for agent in ["my-agent", "billing", "$(touch pwned)"] {
        cli.run(&["agents", "deploy", agent]).done();
    }
    cli.run(&["secrets", "set", "my-agent", "ANTHROPIC_API_KEY=x", "OTHER=x"]).done();
    let meant = "error: Agent 'my-agnt' not found.\nDid you mean 'my-agent'?\n";
    for command in [
        &["secrets", "list", "my-agnt"][..],
        &["secrets", "list", "my-agnt", "--json"],
        &["secrets", "check", "my-agnt"],
        &["secrets", "set", "my-agnt", "A=x"],
        &["secrets", "delete", "my-agnt", "A", "--yes"],
        &["agents", "get", "my-agnt"],
        &["agents", "delete", "my-agnt", "--yes"],
        &["audit", "my-agnt"],
        &["tokens", "create", "--name", "n", "--agent", "my-agnt"],
    ] {
        assert_eq!(cli.run(command).failed(2), meant, "{command:?}");
    }
    assert_eq!(cli.run(&["secrets", "run", "my-agnt", "--", "true"]).failed(125), meant);
    let far = cli.run(&["secrets", "list", "something-else"]).failed(2);
    assert_eq!(
        far,
        "error: Agent 'something-else' not found.\nSee `superserve agents list`, or make one with \
         `superserve agents deploy NAME`.\n"
    );
    let key = cli.run(&["secrets", "delete", "my-agent", "ANTROPIC_API_KEY", "GONE", "--yes"]);
    assert_eq!(key.code, 2);
    let lines = "error: Secret not found.\n  - ANTROPIC_API_KEY: did you mean ANTHROPIC_API_KEY?\n  - GONE\n";
    assert!(key.stderr.starts_with(lines), "{}", key.stderr);
    assert!(cli.run(&["secrets", "lst", "my-agent"]).failed(1).contains("did you mean list"));
}

#[test]
fn help_needs_nothing() {
    // Whoever connects would wait to be accepted by nobody, and whoever opens a file would wait for a writer
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let cli = Cli::new(listener.local_addr().unwrap());
    let pipes = r"mkdir .superserve && mkfifo .superserve/auth.json superserve.yaml config token";
    cli.script(pipes).done();
    let cli = cli.env("SUPERSERVE_CONFIG", "config").env("SUPERSERVE_TOKEN_FILE", "token");
    for help in ["--help", "-h", "--version", "secrets run --help", "serve --help", "help agents deploy"] {
        // The descriptor beside the three standard ones is for the loader. A runtime needs more of them
        let said = cli.script(&format!(r#"exec 3>&-; ulimit -n 4; exec "$0" {help}"#));
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{help}");
        assert!(said.stdout.contains("superserve"), "{help}: {}", said.stdout);
    }
    // The same is not enough for what does need something
    let refused = cli.script(r#"exec 3>&-; ulimit -n 4; exec "$0" health"#);
    assert!(refused.code != 0 && refused.stderr.contains("Too many open files"), "{refused:?}");
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody has called");
}

#[test]
fn a_deploy_says_what_is_no_longer_required_and_what_is_now() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    let deploy = |cli: &Cli, more: &[&str]| {
        let output = cli.run(&[&["agents", "deploy", "my-agent"], more].concat());
        assert_eq!(output.code, 0, "{}", output.stderr);
        output
    };
    let new = deploy(&cli, &["--require", "A,B"]);
    assert!(!new.stderr.contains("required:"), "nothing was there to change: {}", new.stderr);
    cli.run(&["secrets", "set", "my-agent", "A=x", "B=x", "C=x"]).done();
    assert_eq!(deploy(&cli, &["--require", "B,A"]).stderr, "");
    let other = deploy(&cli, &["--require", "A,C"]);
    assert!(other.stdout.starts_with("Updated agent 'my-agent' ("), "{}", other.stdout);
    assert_eq!(other.stdout.lines().count(), 1, "{}", other.stdout);
    assert_eq!(other.stderr, "No longer required: B\nNewly required: C\n");
    // Without a terminal nobody is waited for, and what is dropped is told
    let json = deploy(&cli, &["--json"]);
    assert_eq!(json.stderr, "No longer required: A, C\n");
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&document["created"], &document["required_secrets"]),
        (&false.into(), &serde_json::json!([]))
    );

    // A token that may not read deploys as before, and says that it cannot tell
    let create = ["tokens", "create", "--name", "ci", "--scope", "agents:write"];
    let token = cli.run(&create).done();
    let writer = Cli::new(server.address()).env("SUPERSERVE_TOKEN", token.trim_end());
    let blind = deploy(&writer, &["--require", "A"]);
    let told =
        "What this changed of what is required is not known: the token lacks the scope 'agents:read'.\n";
    assert_eq!(blind.stderr, told);
}

#[test]
fn a_list_by_name_is_one_call() {
    let mut server = Server::with(Database::Sqlite).arg("--log-level=info").start();
    let cli = server.cli();
    cli.run(&["agents", "deploy", "my-agent"]).done();
    cli.run(&["secrets", "set", "my-agent", "B=x", "A=x"]).done();
    let list = cli.run(&["secrets", "list", "my-agent"]).done();
    assert_eq!(list, "Secrets for agent 'my-agent':\n  - A\n  - B\n");
    cli.run(&["agents", "get", "my-agent"]).done();
    cli.run(&["agents", "list"]).done();
    // The log is whole once the server has ended
    server.terminate();
    let log = server.log();
    let count = |call: &str| log.lines().filter(|line| line.contains(call)).count();
    // The deploy and the set have looked for their agent too
    assert_eq!(count("AgentsService/ListAgents"), 5, "{log}");
    assert_eq!((count("SecretsService/ListSecrets"), count("AgentsService/GetAgent")), (0, 0), "{log}");
}

#[test]
fn colours_are_for_terminals_and_for_who_wants_them() {
    let cli = Cli::new("127.0.0.1:1".parse().unwrap()).env("TERM", "xterm");
    let shown = |cli: &Cli, arguments: &[&str]| cli.on_terminal(arguments).exp_eof().unwrap();
    for arguments in [&["--help"][..], &["secrets"], &["secrets", "list", "a"]] {
        assert!(shown(&cli, arguments).contains(ESCAPE), "{arguments:?}");
    }
    let without = Cli::new("127.0.0.1:1".parse().unwrap()).env("TERM", "xterm").env("NO_COLOR", "1");
    let dumb = Cli::new("127.0.0.1:1".parse().unwrap());
    for arguments in [&["--help"][..], &["secrets"], &["secrets", "list", "a"]] {
        for cli in [&without, &dumb] {
            let text = shown(cli, arguments);
            assert!(!text.is_empty() && !text.contains(ESCAPE), "{arguments:?}: {text}");
        }
        let piped = cli.run(arguments);
        assert!(!format!("{}{}", piped.stdout, piped.stderr).contains(ESCAPE), "{arguments:?}");
    }
}

#[test]
fn help_has_examples_and_pages_can_be_read() {
    let cli = Cli::new("127.0.0.1:1".parse().unwrap());
    let help = cli.run(&["secrets", "set", "--help"]).done();
    assert!(help.contains("Examples:\n  superserve secrets set my-agent"), "{help}");
    cli.run(&["man", "pages"]).done();
    let pages = fs::read_dir(cli.home().join("pages")).unwrap().count();
    assert!(pages > 30, "{pages}");
    let first = cli.run(&["man"]).done();
    let page = fs::read_to_string(cli.home().join("pages/superserve.1")).unwrap();
    for text in [first, page] {
        assert!(text.contains(".TH superserve 1") && text.contains("superserve\\-secrets(1)"), "{text}");
    }
}
