//! What a person reads of each command, and what happens when nobody takes it.

use serde_json::json;

use crate::harness::{Database, cli::Cli, server::Server};

/// A text with each time in it replaced, as no two runs have the same.
fn without_times(text: &str) -> String {
    let word = |word: &str| {
        let is_time = word.len() > 19 && word.starts_with("20") && word.ends_with('Z') && word.contains('T');
        if is_time { "TIME".to_owned() } else { word.to_owned() }
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// An agent's id by its name.
fn id_of(cli: &Cli, agent: &str) -> String {
    let line = cli.run(&["agents", "list"]).done();
    let line = line.lines().find(|line| line.split_whitespace().nth(1) == Some(agent)).unwrap().to_owned();
    line.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn tables_and_records_are_as_documented() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    assert_eq!(
        cli.run(&["agents", "list"]).done(),
        "No agents: make one with `superserve agents deploy NAME`\n"
    );
    cli.run(&["agents", "deploy", "b-agent", "--require", "A", "--require", "B,C"]).done();
    cli.run(&["agents", "deploy", "a-agent", "--command", "python main.py"]).done();
    cli.run(&["secrets", "set", "b-agent", "A=x"]).done();
    let (a, b) = (id_of(&cli, "a-agent"), id_of(&cli, "b-agent"));
    let table = cli.run(&["agents", "list"]).done();
    assert_eq!(
        without_times(&table),
        format!("ID NAME SECRETS MISSING\n{a} a-agent 0 -\n{b} b-agent 1 B, C")
    );
    let columns: Vec<_> = table.lines().map(|line| line.find("agent").or(line.find("NAME"))).collect();
    assert_eq!(columns[1], columns[2], "columns stand under each other: {table}");
    assert_eq!(
        without_times(&cli.run(&["agents", "get", "b-agent"]).done()),
        format!(
            "Name: b-agent\nId: {b}\nCommand: -\nRequired: A, B, C\nSet: A\nMissing: B, C\nCreated: TIME\nUpdated: TIME"
        )
    );
    assert!(cli.run(&["agents", "get", &a]).done().contains("\nCommand:   python main.py\n"));

    let create = ["tokens", "create", "--name", "ci", "--scope", "secrets:list", "--agent", "b-agent"];
    let made = cli.run(&[&create[..], &["--expires-in", "2w"]].concat());
    let talk = without_times(&made.stderr);
    let id = talk.split(['(', ')']).nth(1).unwrap().to_owned();
    let token = format!("Token: ci ({id})\nScopes: secrets:list\nAgents: {b}\nExpires: TIME");
    let once = "The text on stdout is the token. Keep it now: it is not stored and cannot be shown again.";
    assert_eq!(talk, format!("{token}\n{once}"));
    let ci = Cli::new(server.address()).env("SUPERSERVE_TOKEN", made.done().trim_end());
    assert_eq!(without_times(&ci.run(&["whoami"]).done()), format!("{token}\nTenant: ten_default"));
    let tokens = without_times(&cli.run(&["tokens", "list"]).done());
    let lines: Vec<_> = tokens.lines().collect();
    // Nothing is written yet of when they were used
    let heading = "ID NAME CREATED LAST USED ENDS SCOPES";
    assert_eq!(lines[..2], [heading, &format!("{id} ci TIME - TIME secrets:list")]);
    assert!(lines[2].starts_with("tok_") && lines[2].contains(" TIME - never agents:read,"), "{tokens}");

    let events = without_times(&cli.run(&["audit", "b-agent"]).done());
    let lines: Vec<_> = events.lines().collect();
    assert_eq!(lines[0], "TIME ACTION ACTOR REVISION SECRETS RUN");
    let set = lines.iter().find(|line| line.contains("secrets.set")).unwrap_or_else(|| panic!("{events}"));
    assert!(set.starts_with("TIME secrets.set tok_") && set.ends_with(" 1 A@1"), "{set}");
}

#[test]
fn many_rows_are_all_shown_and_a_limit_is_kept() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    let deploy = r#"for n in $(seq -w 120); do "$0" agents deploy "agent-$n" || exit; done"#;
    assert_eq!(cli.script(deploy).done().lines().count(), 120);
    let table = cli.run(&["agents", "list"]).done();
    let names: Vec<_> = table.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!((names.len(), names[0], names[119]), (120, "agent-001", "agent-120"), "more than a page");
    // One of the second page is found by its name
    assert!(cli.run(&["secrets", "list", "agent-120"]).done().starts_with("No secrets configured"));
    let sets = r#"for n in $(seq 104); do "$0" secrets set agent-001 "A=$n" || exit; done"#;
    cli.script(sets).done();
    let rows = |limit: &str| cli.run(&["audit", "agent-001", "--limit", limit]).done().lines().count() - 1;
    assert_eq!((rows("1"), rows("100"), rows("103"), rows("1000")), (1, 100, 103, 105));
}

#[tokio::test]
async fn what_others_chose_cannot_steer_a_terminal() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    let evil = "\u{1b}]0;owned\u{7}\u{9b}31m";
    let agent = json!({
        "name": "demo", "command": evil,
        "required_secrets": [{"name": "A", "description": evil}],
    });
    assert_eq!(server.rest().post("/v1/agents").json(&agent).send().await.status, 201);
    let shown = cli.run(&["agents", "get", "demo"]).done();
    assert!(shown.contains(r"\u{1b}]0;owned\u{7}\u{9b}31m"), "{shown}");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    let document = cli.run(&["agents", "get", "demo", "--json"]).done();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&document).unwrap()["command"], evil);
    let mut session = cli.on_terminal(&["secrets", "set", "demo"]);
    session.exp_string(r"A: \u{1b}]0;owned\u{7}\u{9b}31m").unwrap();
    session.send_control('c').unwrap();
    session.exp_eof().unwrap();
}

#[test]
fn a_reader_that_is_gone_is_no_failure_unless_something_is_lost() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "demo"]).done();
    // Only this process ever reads from the pipe, and it has stopped to
    let unread = |command: &str| {
        let pipe = "rm -f pipe; mkfifo pipe; exec 3<>pipe 4>pipe 3>&-";
        cli.script(&format!(r#"{pipe}; "$0" {command} >&4"#))
    };
    for command in ["agents list", "agents get demo", "secrets list demo", "audit demo --json", "--help"] {
        let output = unread(command);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{command}");
    }
    let lost = unread("tokens create --name ci").failed(1);
    assert!(lost.starts_with("error: Cannot write to stdout: Broken pipe"), "{lost}");
    let id = lost.split("superserve tokens revoke ").nth(1).unwrap().split('`').next().unwrap();
    assert!(cli.run(&["tokens", "revoke", id]).done().starts_with("Revoked token 'ci'"));
    assert!(unread("tokens generate").failed(1).contains("Broken pipe"));
}

#[test]
fn a_full_disk_is_a_failure() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "demo"]).done();
    for command in ["agents list --json", "secrets list demo", "audit demo", "completions bash"] {
        let stderr = cli.script(&format!(r#""$0" {command} >/dev/full"#)).failed(1);
        assert!(stderr.starts_with("error: Cannot write to stdout: No space left"), "{command}: {stderr}");
    }
    // Talk that cannot be heard is no reason to fail
    assert_eq!(cli.script(r#""$0" secrets set demo A=changeme 2>/dev/full"#).code, 0);
}
