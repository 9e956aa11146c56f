//! Every `.env` case of `tests/data/dotenv`, through the real command: what a run gets afterwards.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Database, server::Server};

/// Where the cases lie.
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dotenv");

/// Shorter words of a refused line can stand in an error's own words.
const TELLING_BYTES: usize = 3;

#[test]
fn every_case_sets_what_it_should_or_nothing() {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "x"]).done();
    let runner = server.runner("x");
    for (name, case) in &cases() {
        let file = format!("{CASES}/cases/{name}.env");
        if case["expect"] == "ERR" {
            // Before it, one secret that a half-done set would join
            cli.run(&["secrets", "set", "x", "BEFORE=b", "--prune", "--yes"]).done();
            let stderr = cli.run(&["secrets", "set", "x", "--env-file", &file]).failed(1);
            assert!(
                stderr.starts_with("error: The input is invalid; nothing was sent.\n"),
                "{name}: {stderr}"
            );
            for piece in pieces_of_values(&std::fs::read(&file).unwrap()) {
                assert!(!stderr.contains(&piece), "{name} shows {piece:?}: {stderr}");
            }
            assert_eq!(cli.run(&["secrets", "list", "x"]).done(), "Secrets for agent 'x':\n  - BEFORE\n");
            continue;
        }
        let set = cli.run(&["secrets", "set", "x", "--env-file", &file, "--prune", "--yes"]);
        let said = set.stderr.clone();
        set.done();
        assert_eq!(said.contains("warning: "), case["warn"] == true, "{name}: {said}");
        let expected: BTreeMap<String, String> = serde_json::from_value(case["expect"].clone()).unwrap();
        let resolved = runner.run(&["secrets", "run", "x", "--", "env", "-0"]).done();
        let resolved: BTreeMap<String, String> = resolved
            .split_terminator('\0')
            .filter_map(|entry| entry.split_once('='))
            .filter(|(key, _)| !INHERITED.contains(key))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(resolved, expected, "{name}");
    }
    let log = server.log();
    for value in ["pa$$w0rd", "UNDEFINED_ZZ", "YWJj==", "MIIabc"] {
        assert!(!log.contains(value), "the log shows {value}");
    }
}

/// What a run has besides the secrets: what the command line was started with.
const INHERITED: [&str; 4] = ["PATH", "HOME", "TERM", "SUPERSERVE_API_URL"];

fn cases() -> BTreeMap<String, Value> {
    let expected = std::fs::read_to_string(format!("{CASES}/expected.json")).unwrap();
    let cases: BTreeMap<String, Value> = serde_json::from_str(&expected).unwrap();
    let files = std::fs::read_dir(format!("{CASES}/cases")).unwrap().count();
    assert_eq!(files, cases.len(), "each case has a file");
    cases
}

/// All lines of a file, their values, and the words of these. A line without `=` is all value: it may belong to the
/// line before.
fn pieces_of_values(file: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(file);
    let mut pieces = Vec::new();
    for line in text.lines() {
        let value = line.split_once('=').map_or(line, |(_, value)| value);
        pieces.extend([line, value.trim()].map(str::to_owned));
        let words = value.split(|c: char| !c.is_alphanumeric());
        pieces.extend(words.filter(|word| word.len() >= TELLING_BYTES).map(str::to_owned));
    }
    pieces.retain(|piece| piece.len() > 1 && piece != "\"\"");
    pieces
}
