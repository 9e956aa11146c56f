//! `--json`: one valid document on stdout, of every client command, and nothing there when it fails.

use serde_json::{Value, json};

use crate::harness::{
    Database,
    cli::{Cli, Output},
    server::Server,
};

/// Runs a command with `--json`, and gives the document that is all of its standard output.
fn document(cli: &Cli, arguments: &[&str]) -> Value {
    parse(&cli.run(&[arguments, &["--json"]].concat()), 0)
}

/// The one document of a command that ends with this code.
fn parse(output: &Output, code: i32) -> Value {
    assert_eq!(output.code, code, "{}", output.stderr);
    let document: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(document.is_object(), "{document}");
    document
}

/// The names of a document's members.
fn members(document: &Value) -> Vec<&str> {
    let mut names: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn agents_and_secrets_are_one_document_each() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    assert_eq!(document(&cli, &["agents", "list"]), json!({"agents": []}));
    let agent = document(&cli, &["agents", "deploy", "demo", "--require", "A,B", "--command", "python a.py"]);
    let id = agent["id"].as_str().unwrap();
    assert_eq!((&agent["created"], &agent["command"]), (&json!(true), &json!("python a.py")));
    assert_eq!(agent["missing_secrets"], json!(["A", "B"]));
    assert_eq!(document(&cli, &["agents", "deploy", "demo", "--require", "A,B"])["created"], false);
    assert_eq!(document(&cli, &["agents", "get", "demo"])["id"], id);
    assert_eq!(document(&cli, &["agents", "get", id])["name"], "demo");
    assert_eq!(document(&cli, &["agents", "list"])["agents"][0]["id"], id);

    let missing = cli.run(&["secrets", "check", "demo", "--json"]);
    let expected = json!({"agent_id": id, "missing": ["A", "B"], "revision": 0});
    assert_eq!(parse(&missing, 3), expected);
    let dry = document(&cli, &["secrets", "set", "demo", "A=a-sentinel", "B=changeme", "--dry-run"]);
    assert_eq!((&dry["dry_run"], &dry["keys"]), (&json!(true), &json!(["A", "B"])), "{dry}");
    let set = document(&cli, &["secrets", "set", "demo", "A=a-sentinel", "B=changeme"]);
    let added = |key: &str| json!({"key": key, "kind": "added"});
    let expected = json!({
        "agent_id": id, "dry_run": false, "keys": ["A", "B"], "revision": 1,
        "changes": [added("A"), added("B")], "warnings": [{"key": "B", "code": "placeholder"}],
    });
    assert_eq!(set, expected);
    let check = document(&cli, &["secrets", "check", "demo"]);
    assert_eq!(check, json!({"agent_id": id, "missing": [], "revision": 1}));
    let list = document(&cli, &["secrets", "list", "demo"]);
    assert_eq!((&list["keys"], &list["revision"]), (&json!(["A", "B"]), &json!(1)));
    let expected =
        ["created_at", "fingerprint", "key", "previous_until", "updated_at", "updated_by", "version"];
    assert_eq!(members(&list["secrets"][0]), expected);
    assert_eq!(list["secrets"][0]["fingerprint"].as_str().unwrap().len(), 12);

    let some = cli.run(&["secrets", "delete", "demo", "A", "GONE", "--yes", "--json"]);
    let expected = json!({"agent_id": id, "deleted": ["A"], "not_found": ["GONE"], "keys": ["B"]});
    assert_eq!(parse(&some, 2), expected);
    let rest = document(&cli, &["secrets", "delete", "demo", "B", "GONE", "--yes", "--allow-missing"]);
    assert_eq!((&rest["deleted"], &rest["keys"]), (&json!(["B"]), &json!([])));

    let audit = document(&cli, &["audit", "demo"]);
    assert_eq!(audit["agent_id"], id);
    let actions: Vec<_> = audit["events"].as_array().unwrap().iter().map(|event| &event["action"]).collect();
    assert!(actions.len() >= 4, "{actions:?}");
    assert_eq!(document(&cli, &["audit", "demo", "--limit", "1"])["events"].as_array().unwrap().len(), 1);
    assert!(!audit.to_string().contains("sentinel"), "{audit}");
    assert_eq!(
        document(&cli, &["agents", "delete", "demo", "--yes"]),
        json!({"agent_id": id, "deleted": true})
    );
    assert_eq!(document(&cli, &["health"]), json!({"status": "SERVING"}));

    // A failure is talk: a program that reads stdout finds nothing there
    for (arguments, code) in [
        (&["agents", "get", "demo"][..], 2),
        (&["secrets", "list", "demo"], 2),
        (&["secrets", "set", "demo", "1A=x"], 1),
        (&["secrets", "delete", "demo", "A"], 1),
    ] {
        cli.run(&[arguments, &["--json"]].concat()).failed(code);
    }
}

#[test]
fn tokens_and_sessions_are_one_document_each() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    let made = document(&cli, &["tokens", "create", "--name", "ci", "--scope", "secrets:list"]);
    assert_eq!(members(&made), ["text", "token"]);
    let (id, text) = (made["token"]["id"].as_str().unwrap(), made["text"].as_str().unwrap());
    assert_eq!(
        (&made["token"]["scopes"], &made["token"]["expires_at"]),
        (&json!(["secrets:list"]), &Value::Null)
    );
    assert_eq!(members(&document(&cli, &["tokens", "generate"])), ["text"]);

    let ci = Cli::new(server.address());
    let login = parse(&ci.run_with(&["login", "--json"], text.as_bytes()), 0);
    assert_eq!(login["token"]["id"], id);
    assert_eq!(document(&ci, &["whoami"]), login);
    assert!(!login.to_string().contains(text), "{login}");
    assert_eq!(document(&ci, &["logout"]), json!({"removed": true}));
    assert_eq!(document(&ci, &["logout"]), json!({"removed": false}));

    let list = document(&cli, &["tokens", "list"]);
    // When it was used is told by the list alone
    let listed = |list: &Value| {
        let mut token = list["tokens"].as_array().unwrap().iter().find(|token| token["id"] == id).cloned();
        assert!(token.as_mut().unwrap().as_object_mut().unwrap().remove("last_used_at").is_some(), "{list}");
        token
    };
    assert_eq!(listed(&list).unwrap(), made["token"]);
    let revoked = document(&cli, &["tokens", "revoke", id]);
    assert!(revoked["token"]["revoked_at"].is_string(), "{revoked}");
    let list = document(&cli, &["tokens", "list"]);
    assert_eq!(listed(&list).unwrap(), revoked["token"]);
    assert!(!list.to_string().contains("ss_"), "{list}");

    let made = document(&cli, &["tokens", "create", "--name", "cd", "--scope", "secrets:list"]);
    let id = made["token"]["id"].as_str().unwrap();
    let rotated = document(&cli, &["tokens", "rotate", id, "--overlap", "24h"]);
    assert_eq!(members(&rotated), ["previous", "text", "token"]);
    assert_eq!((&rotated["previous"]["id"], &rotated["token"]["name"]), (&made["token"]["id"], &json!("cd")));
    assert!(rotated["previous"]["expires_at"].is_string(), "{rotated}");
}
