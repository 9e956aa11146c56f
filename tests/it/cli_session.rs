//! As whom and where the command line speaks: tokens, login, an absent server; and what needs no agent.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{
    Database,
    cli::{Cli, Output},
    server::Server,
};

#[test]
fn a_token_is_made_used_and_revoked() {
    let server = Server::start(Database::Sqlite);
    let admin = server.cli();
    admin.run(&["agents", "deploy", "first"]).done();
    admin.run(&["agents", "deploy", "second"]).done();
    let create =
        ["tokens", "create", "--name", "ci", "--scope", "secrets:list,agents:read", "--agent", "first"];
    let made = admin.run(&[&create[..], &["--expires-in", "30d", "--email", "a@b.example"]].concat());
    assert!(made.stderr.contains("Token:    ci (tok_") && !made.stderr.contains("ss_"), "{}", made.stderr);
    let text = made.done();
    let text = text.strip_suffix('\n').unwrap();
    assert!(text.starts_with("ss_") && text.len() == 52, "the text and nothing else is on stdout");

    let ci = Cli::new(server.address()).env("SUPERSERVE_TOKEN", text);
    let me = ci.run(&["whoami"]).done();
    assert!(
        me.starts_with("Token:    ci (tok_") && me.contains("Scopes:   agents:read, secrets:list\n"),
        "{me}"
    );
    ci.run(&["secrets", "list", "first"]).done();
    let denied = ci.run(&["secrets", "set", "first", "A=sentinel"]).failed(2);
    assert!(denied.contains("Permission denied.") && denied.contains("'secrets:write'"), "{denied}");
    assert!(ci.run(&["secrets", "list", "second"]).failed(2).contains("Agent 'second' not found."));

    let list = admin.run(&["tokens", "list"]).done();
    let line = list.lines().find(|line| line.contains("  ci  ")).unwrap();
    assert!(list.starts_with("ID ") && !list.contains("ss_"), "{list}");
    let id = line.split_whitespace().next().unwrap();
    assert_eq!(admin.run(&["tokens", "revoke", id]).done(), format!("Revoked token 'ci' ({id})\n"));
    let refused = ci.run(&["secrets", "list", "first"]).failed(2);
    assert!(
        refused.starts_with("error: Not authenticated: the token is unknown, expired or revoked.\n"),
        "{refused}"
    );
    assert!(admin.run(&["tokens", "list"]).done().contains("revoked 2"));
    let unknown = admin.run(&["tokens", "revoke", &id.replace("tok_", "tok_0")]);
    assert!(matches!(unknown.code, 1 | 2) && unknown.stdout.is_empty(), "{}", unknown.stderr);
    let tokens = admin.run(&["tokens", "generate"]).done();
    let unknown = ci.env("SUPERSERVE_TOKEN", tokens.trim_end()).run(&["whoami"]).failed(2);
    assert!(unknown.contains("superserve whoami") && !unknown.contains("ss_"), "{unknown}");
}

#[test]
fn login_keeps_a_token_that_the_server_knows() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli().without_env("SUPERSERVE_TOKEN");
    let auth_file = cli.home().join(".superserve/auth.json");
    assert!(cli.run(&["whoami"]).failed(2).contains("Log in with `superserve login`"));
    let fresh = cli.run(&["tokens", "generate"]).done();
    assert!(cli.run_with(&["login"], fresh.as_bytes()).failed(2).contains("Not authenticated"));
    assert!(!auth_file.exists(), "an unknown token is not kept");

    let token = server.admin_token();
    let login = cli.run_with(&["login"], format!("{token}\n").as_bytes());
    assert_eq!((login.code, login.stdout.as_str()), (0, ""), "{}", login.stderr);
    assert!(login.stderr.starts_with(&format!("Logged in at http://{} with", server.address())));
    assert!(!login.stderr.contains("ss_"), "{}", login.stderr);
    assert_eq!(fs::metadata(&auth_file).unwrap().permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_json::from_slice(&fs::read(&auth_file).unwrap()).unwrap();
    assert_eq!(kept, json!({"token": token}));
    assert_eq!(fs::read_dir(auth_file.parent().unwrap()).unwrap().count(), 1, "nothing else is left there");
    let me = cli.run(&["whoami"]).done();
    assert!(me.contains("Tenant:") && !me.contains(token), "{me}");

    // The environment wins over what is kept
    let other = cli.env("SUPERSERVE_TOKEN", fresh.trim_end());
    assert!(other.run(&["whoami"]).failed(2).contains("Not authenticated"));
    let logout = other.run(&["logout"]);
    assert!(logout.stderr.contains("Logged out.") && logout.stderr.contains("SUPERSERVE_TOKEN is set"));
    assert_eq!(logout.done(), "");
    assert!(!auth_file.exists());

    let token_file = other.home().join("token");
    fs::write(&token_file, format!("{token}\n")).unwrap();
    let filed =
        other.without_env("SUPERSERVE_TOKEN").env("SUPERSERVE_TOKEN_FILE", token_file.to_str().unwrap());
    assert_eq!(filed.run(&["whoami"]).done(), me);
    let keyed = filed.without_env("SUPERSERVE_TOKEN_FILE").env("SUPERSERVE_API_KEY", token);
    assert_eq!(keyed.run(&["whoami"]).done(), me);
    let mistyped = keyed.env("SUPERSERVE_TOKEN", &token[..51]).run(&["whoami"]).failed(1);
    assert!(mistyped.contains("malformed") && !mistyped.contains("ss_A"), "{mistyped}");
}

#[test]
fn whom_the_server_does_not_know_is_told_which_token_to_replace() {
    let server = Server::start(Database::Sqlite);
    let url = format!("http://{}", server.address());
    let cli = server.cli().without_env("SUPERSERVE_TOKEN");
    let unknown = cli.run(&["tokens", "generate"]).done();
    let sentence = "error: Not authenticated: the token is unknown, expired or revoked.\n";
    // A list by pages, a read, and what has a code of its own
    let refused = |cli: &Cli, told: &str| {
        for (command, code) in [
            (&["agents", "list"][..], 2),
            (&["whoami"], 2),
            (&["secrets", "delete", "agt_abc", "A", "--yes"], 2),
            (&["secrets", "run", "agt_abc", "--", "true"], 125),
        ] {
            assert_eq!(cli.run(command).failed(code), format!("{sentence}{told}\n"), "{command:?}");
        }
    };
    let given = cli.run_with(&["login"], unknown.as_bytes()).failed(2);
    let told = format!("It is the one that was just given. Nothing was kept. Is it one of {url}?\n");
    assert_eq!(given, format!("{sentence}{told}"));

    fs::create_dir(cli.home().join(".superserve")).unwrap();
    let kept = cli.home().join(".superserve/auth.json");
    fs::write(&kept, json!({"token": unknown.trim_end()}).to_string()).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    let where_kept = kept.display();
    refused(
        &cli,
        &format!(
            "It is the one in {where_kept}, where `superserve login` keeps it. Log in at {url} again, with \
             `superserve login`."
        ),
    );
    // Each goes before what is kept, so that a login alone would not help
    let cli = cli.env("SUPERSERVE_API_KEY", unknown.trim_end());
    let instead = "`superserve whoami` says which is used then.";
    refused(
        &cli,
        &format!(
            "It is the one in SUPERSERVE_API_KEY. Put one there that {url} knows, or unset SUPERSERVE_API_KEY: \
             {instead}"
        ),
    );
    fs::write(cli.home().join("token"), &unknown).unwrap();
    let cli = cli.env("SUPERSERVE_TOKEN_FILE", "./token");
    refused(
        &cli,
        &format!(
            "It is the one in ./token, which SUPERSERVE_TOKEN_FILE names. Write one there that {url} knows, or \
             unset SUPERSERVE_TOKEN_FILE: {instead}"
        ),
    );
    // And so is who has cut a character off it
    fs::write(cli.home().join("token"), &unknown[..40]).unwrap();
    let cut = cli.run(&["whoami"]).failed(1);
    assert!(
        cut.contains("It is the one in ./token, which SUPERSERVE_TOKEN_FILE names. Copy it again"),
        "{cut}"
    );
}

#[test]
fn health_follows_the_server() {
    let mut server = Server::start(Database::Sqlite);
    let cli = server.cli().without_env("SUPERSERVE_TOKEN");
    assert_eq!(cli.run(&["health"]).done(), "SERVING\n");
    let service = |name| cli.run(&["health", "--service", name]);
    assert_eq!(service("superserve.secrets.v1.SecretsService").done(), "SERVING\n");
    assert_eq!(service("no.such.Service").code, 2);
    assert_eq!(cli.run(&["health", "--wait", "30s"]).done(), "SERVING\n");

    let address = server.address();
    server.terminate();
    let cli = cli.env("SUPERSERVE_TOKEN", server.admin_token());
    let sentence = format!("error: Cannot reach the server at http://{address}: ");
    let hint = "Start one with `superserve serve`, or point to it with --api-url or SUPERSERVE_API_URL.\n";
    for (command, code) in [
        (&["health"][..], 2),
        (&["whoami"], 2),
        (&["agents", "list"], 2),
        (&["secrets", "set", "a", "A=sentinel"], 2),
        (&["secrets", "check", "a"], 2),
    ] {
        let stderr = cli.run(command).failed(code);
        assert!(stderr.starts_with(&sentence) && stderr.ends_with(hint), "{command:?}: {stderr}");
        assert!(!stderr.contains("sentinel"), "{stderr}");
    }
    let begin = Instant::now();
    let stderr = cli.run(&["health", "--wait", "1s"]).failed(2);
    assert!(stderr.starts_with(&sentence) && begin.elapsed() > Duration::from_secs(1), "{stderr}");
    server.restart();
    let cli = cli.env("SUPERSERVE_API_URL", "http://127.0.0.1:1");
    let flag = format!("http://{}", server.address());
    assert_eq!(cli.run(&["--api-url", &flag, "health"]).done(), "SERVING\n", "a flag wins");
    assert_eq!(cli.run(&["health", "--api-url", &flag]).done(), "SERVING\n");
}

#[test]
fn usage_errors_are_local_and_show_no_value() {
    let nowhere = Cli::new(([127, 0, 0, 1], 1).into());
    for arguments in [
        &["no-such-command"][..],
        &["secrets"],
        &["secrets", "set"],
        &["secrets", "set", "a", "--KEY=sentinel"],
        &["secrets", "set", "a", "A=sentinel", "--if-revision", "x"],
        &["secrets", "set", "a", "sen-tinel=sentinel"],
        &["secrets", "delete", "a"],
        &["secrets", "run", "a"],
        &["agents", "deploy", "a", "--require", "1A"],
        &["audit", "a", "--limit", "0"],
        &["completions", "no-such-shell"],
        &["--api-url", "ftp://sentinel", "health"],
    ] {
        let stderr = nowhere.run(arguments).failed(1);
        assert!(!stderr.contains("sentinel"), "{arguments:?}: {stderr}");
        assert!(!stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["secrets", "run", "--help"], &["--version"]] {
        let Output { code, stdout, stderr } = nowhere.run(arguments);
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(stdout.contains("superserve"), "{stdout}");
    }
}
