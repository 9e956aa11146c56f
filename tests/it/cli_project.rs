//! `superserve.yaml`: which agent a command is about when none is named, and what is refused.

use std::{fs, os::unix::fs::chown};

use serde_json::{Value, json};

use crate::harness::{
    Database,
    cli::{Cli, Output},
    server::Server,
};

const FILE: &str = "name: my-agent
command: python agent.py
secrets:
  - API_KEY
  - name: DATABASE_URL
    description: of the team
    pattern: ^postgres://
    optional: true
";

/// A caller whose home directory is a project.
fn in_project(server: &Server) -> Cli {
    let cli = server.cli();
    fs::write(cli.home().join("superserve.yaml"), FILE).unwrap();
    cli
}

/// What a command writes beside the line that tells which file it went by.
fn told(output: Output) -> (i32, String, String) {
    let line = output.stderr.lines().next().unwrap_or_default();
    let is_told = line.starts_with("Using agent 'my-agent' of /") && line.ends_with("/superserve.yaml");
    assert!(is_told, "{}", output.stderr);
    let rest = output.stderr.split_once('\n').unwrap().1.to_owned();
    (output.code, output.stdout, rest)
}

#[test]
fn in_a_project_nobody_names_the_agent() {
    let server = Server::start(Database::Sqlite);
    let cli = in_project(&server);
    let deploy = told(cli.run(&["agents", "deploy"]));
    assert!(deploy.1.starts_with("Created agent 'my-agent' ("), "{deploy:?}");
    assert!(deploy.2.starts_with("Required secrets that are not set: API_KEY\n"), "{deploy:?}");
    let agent: Value =
        serde_json::from_str(&cli.run(&["agents", "get", "my-agent", "--json"]).done()).unwrap();
    assert_eq!(agent["command"], "python agent.py");
    let described = json!({
        "name": "DATABASE_URL", "description": "of the team", "pattern": "^postgres://", "min_length": 0, "optional": true,
    });
    assert_eq!(agent["required_secrets"], json!(["API_KEY", described]));

    let missing = (3, "Missing secrets for agent 'my-agent':\n  - API_KEY\n".to_owned());
    let check = told(cli.run(&["secrets", "check"]));
    assert_eq!((check.0, check.1), missing);
    fs::write(cli.home().join(".env"), "API_KEY=k\nOLD=o\n").unwrap();
    let set = told(cli.run(&["secrets", "set", "--env-file", ".env"]));
    assert_eq!(set.1, "Set 2 secret(s) for agent 'my-agent'\nCurrent secrets: API_KEY, OLD\n");
    let set = told(cli.run(&["secrets", "set", ".", "DATABASE_URL=postgres://x"]));
    assert_eq!(set.1, "Set 1 secret(s) for agent 'my-agent'\nCurrent secrets: API_KEY, DATABASE_URL, OLD\n");
    let gone = told(cli.run(&["secrets", "delete", ".", "OLD", "--yes"]));
    assert_eq!((gone.0, gone.1.as_str()), (0, "Remaining secrets: API_KEY, DATABASE_URL\n"));
    let list = told(cli.run(&["secrets", "list"])).1;
    assert_eq!(list, "Secrets for agent 'my-agent':\n  - API_KEY\n  - DATABASE_URL\n");
    assert!(told(cli.run(&["agents", "get"])).1.contains("Name:      my-agent\n"));
    let audit: Value = serde_json::from_str(&told(cli.run(&["audit", "--json"])).1).unwrap();
    assert!(audit["events"].as_array().unwrap().len() > 3, "{audit}");

    let runner = server.runner("my-agent");
    fs::write(runner.home().join("superserve.yaml"), FILE).unwrap();
    let run = told(runner.run(&["secrets", "run", "--", "sh", "-c", r#"echo "$API_KEY $DATABASE_URL""#]));
    assert_eq!((run.0, run.1.as_str()), (0, "k postgres://x\n"));

    // Whoever names one is not told of files
    cli.run(&["agents", "deploy", "other", "--require", "B"]).done();
    let named = cli.run(&["secrets", "list", "other"]);
    assert_eq!(named.stderr, "");
    assert_eq!(named.done(), "No secrets configured for agent 'other'\n");
}

#[test]
fn flags_go_before_the_file() {
    let server = Server::start(Database::Sqlite);
    let cli = in_project(&server);
    told(cli.run(&["agents", "deploy", ".", "--command", "./other", "--require", "API_KEY,MORE"]));
    let agent: Value =
        serde_json::from_str(&cli.run(&["agents", "get", "my-agent", "--json"]).done()).unwrap();
    assert_eq!(agent["command"], "./other");
    let names: Vec<_> = agent["required_secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|secret| secret.as_str().or(secret["name"].as_str()).unwrap())
        .collect();
    assert_eq!(names, ["API_KEY", "DATABASE_URL", "MORE"]);
    // What stands first is an agent, also where it could be a key
    let key = cli.run(&["secrets", "list", "API_KEY"]).failed(2);
    assert!(key.starts_with("error: Agent 'API_KEY' not found."), "{key}");
    let pair = cli.run(&["secrets", "set", "API_KEY=sentinel"]).failed(1);
    assert!(pair.contains("this looks like KEY=VALUE") && !pair.contains("sentinel"), "{pair}");
}

#[test]
fn the_file_is_found_above_and_a_stranger_s_is_not_used() {
    let server = Server::start(Database::Sqlite);
    let cli = in_project(&server);
    cli.run(&["agents", "deploy", "my-agent"]).done();
    let list = r#"mkdir -p a/b && cd a/b && "$0" secrets list"#;
    assert_eq!(told(cli.script(list)).1, "No secrets configured for agent 'my-agent'\n");
    fs::write(cli.home().join("a/superserve.yaml"), "name: nearer\n").unwrap();
    let nearer = cli.script(list).failed(2);
    assert!(nearer.contains("/a/superserve.yaml\nerror: Agent 'nearer' not found."), "{nearer}");

    let file = cli.home().join("a/superserve.yaml");
    // Only root can give a file away
    if chown(&file, Some(65_534), None).is_ok() {
        let foreign = cli.script(list).failed(1);
        assert!(foreign.contains("/a/superserve.yaml belongs to another user."), "{foreign}");
        let here = cli.script(r#"cd a && "$0" secrets list"#).failed(2);
        assert!(
            here.contains("Using agent 'nearer'"),
            "the working directory is the person's choice: {here}"
        );
    }
}

#[test]
fn what_is_refused_is_told_by_line_and_sends_nothing() {
    let cli = Cli::new("127.0.0.1:1".parse().unwrap()).env("SUPERSERVE_TOKEN", "a.b.c");
    let none = cli.run(&["secrets", "list"]).failed(1);
    assert!(
        none.starts_with("error: No agent is named, and there is no superserve.yaml here or above.\n"),
        "{none}"
    );
    for (content, line) in [
        ("name: a\nsecrets:\n  - KEY=sentinel\n", "  - line 3: a secret is given by its name alone"),
        ("name: a\nsecrets:\n  KEY: sentinel\n", "  - line 3: `secrets` is a list of names"),
        ("name: a\nsecrets:\n  - name: KEY\n    value: sentinel\n", "  - line 4: a secret has `name`, "),
        ("name: a\ntoken: sentinel\n", "  - line 2: the fields are `name`, `command` and `secrets`"),
        ("name: 'sentinel\n", "this is not well-formed YAML"),
        ("a: &a [sentinel]\nb: [*a, *a]\n", "  - line 1: anchors, aliases and tags are not used"),
    ] {
        fs::write(cli.home().join("superserve.yaml"), content).unwrap();
        for command in
            [&["secrets", "list"][..], &["agents", "deploy"], &["secrets", "set", ".", "A=x"], &["audit"]]
        {
            let refused = cli.run(command).failed(1);
            assert!(refused.contains("superserve.yaml is refused.\n") && refused.contains(line), "{refused}");
            assert!(!refused.contains("sentinel"), "{refused}");
        }
    }
    let run = cli.run(&["secrets", "run", "--", "true"]).failed(125);
    assert!(run.contains("superserve.yaml is refused."), "{run}");
}
