//! `audit --runs`, `--key` and `--stale`: which run holds which version; and a rotation from end to end.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Database, cli::Cli, on_each_database, server::Server, wait_for};

/// The agent's values as a run gets them.
fn resolved(runner: &Cli) -> BTreeMap<String, String> {
    let command = ["secrets", "run", "demo", "--clean-env", "--", "env"];
    let lines = runner.run(&command).done();
    let pairs = lines.lines().map(|line| line.split_once('=').unwrap());
    let ours = pairs.filter(|(name, _)| name.starts_with("DB_PASSWORD"));
    ours.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn listed(cli: &Cli, flags: &[&str]) -> Vec<Value> {
    let document = cli.run(&[&["audit", "demo", "--json"], flags].concat()).done();
    let document: Value = serde_json::from_str(&document).unwrap();
    document["runs"].as_array().unwrap().clone()
}

fn ids(runs: &[Value]) -> Vec<&str> {
    runs.iter().filter_map(|run| run["run_id"].as_str()).collect()
}

on_each_database!(a_rotation_from_end_to_end);
async fn a_rotation_from_end_to_end(database: Database) {
    let server = Server::start(database);
    let (admin, stale) = (server.cli(), ["--key", "DB_PASSWORD", "--stale"]);
    admin.run(&["agents", "deploy", "demo", "--require", "DB_PASSWORD"]).done();
    let runner = server.runner("demo");
    admin.run(&["secrets", "set", "demo", "DB_PASSWORD=v1", "OTHER=o"]).done();
    let run = |id: &str| runner.run(&["secrets", "run", "demo", "--run-id", id, "--", "true"]).done();
    run("before");
    let none = admin.run(&["audit", "demo", "--key", "DB_PASSWORD", "--stale"]).done();
    assert_eq!(none, "No run of agent 'demo' holds an old version of DB_PASSWORD\n");

    admin.run(&["secrets", "set", "demo", "DB_PASSWORD=v2", "--previous-for", "2s"]).done();
    let both = [("DB_PASSWORD", "v2"), ("DB_PASSWORD_PREVIOUS", "v1")];
    let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(resolved(&runner), owned(&both));
    run("after");
    assert_eq!(ids(&listed(&admin, &stale)), ["before"]);
    assert_eq!(ids(&listed(&admin, &["--stale"])), ["before"]);
    // The run that was given no name has one all the same: without it nobody could find the process
    for filter in [&["--runs"][..], &["--key", "OTHER"]] {
        let runs = listed(&admin, filter);
        let [after, unnamed, before] = ids(&runs)[..] else { panic!("{runs:?}") };
        assert_eq!((after, before), ("after", "before"));
        assert!(unnamed.split('-').count() >= 3, "host, process and chance: {unnamed}");
    }
    assert_eq!(ids(&listed(&admin, &["--key", "OTHER", "--stale"])), [""; 0]);
    let table = admin.run(&["audit", "demo", "--key", "DB_PASSWORD", "--stale"]).done();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("TIME") && lines[1].contains("  before  "), "{table}");
    assert!(lines[1].ends_with("DB_PASSWORD@1"), "{table}");

    wait_for("the value before to go", || (resolved(&runner) == owned(&both[..1])).then_some(()));
    // The run is started again, and nobody holds the old value any more
    run("before");
    assert_eq!(ids(&listed(&admin, &stale)), [""; 0]);
}

#[test]
fn plain_audit_lists_events_and_an_unknown_key_is_refused() {
    let server = Server::start(Database::Sqlite);
    let admin = server.cli();
    admin.run(&["agents", "deploy", "demo"]).done();
    assert!(admin.run(&["audit", "demo"]).done().contains("agent.deploy"));
    assert_eq!(admin.run(&["audit", "demo", "--runs"]).done(), "No runs of agent 'demo'\n");
    let unknown = admin.run(&["audit", "demo", "--key", "NEVER"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (2, ""));
    assert!(unknown.stderr.contains("Secret not found."), "{}", unknown.stderr);
    admin.run(&["secrets", "set", "demo", "KEY=v"]).done();
    let unused = admin.run(&["audit", "demo", "--key", "KEY"]).done();
    assert_eq!(unused, "No run of agent 'demo' was given KEY\n");
}
