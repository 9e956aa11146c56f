//! How much is too much: the server's settings say it, and a client takes its word.

use std::fs;

use crate::harness::{
    Database,
    cli::{Cli, Output},
    server::Server,
};

/// Sets this as the value of `A`, from a file.
fn set_file(cli: &Cli, content: &str) -> Output {
    fs::write(cli.home().join("file"), content).unwrap();
    cli.run(&["secrets", "set", "demo", "A=@file"])
}

#[test]
fn a_generous_server_is_not_held_back() {
    let server = Server::with(Database::Sqlite)
        .env("SUPERSERVE_MAX_REQUEST_BYTES", "4000000")
        .env("SUPERSERVE_MAX_VALUE_BYTES", "3000000")
        .env("SUPERSERVE_MAX_AGENT_BYTES", "4000000")
        .env("SUPERSERVE_MAX_KEY_BYTES", "200")
        .start();
    let cli = server.cli();
    let key = "K".repeat(150);
    cli.run(&["agents", "deploy", "demo", "--require", &key]).done();
    cli.run(&["secrets", "set", "demo", &format!("{key}=v")]).done();
    // More than the default allows, and as much as Linux hands to a process in one string
    assert!(set_file(&cli, &"x".repeat(100_000)).done().starts_with("Set 1 secret(s)"));
    let count = ["secrets", "run", "demo", "--only", "A", "--", "sh", "-c", r#"printf "${#A}""#];
    assert_eq!(server.runner("demo").run(&count).done(), "100000");
    set_file(&cli, &"x".repeat(2_000_000)).done();
}

#[test]
fn a_strict_server_is_believed() {
    let server = Server::with(Database::Sqlite)
        .env("SUPERSERVE_MAX_VALUE_BYTES", "8")
        .env("SUPERSERVE_MAX_KEY_BYTES", "4")
        .env("SUPERSERVE_MAX_KEYS_PER_AGENT", "2")
        .env("SUPERSERVE_MAX_REQUEST_BYTES", "20000")
        .start();
    let cli = server.cli();
    cli.run(&["agents", "deploy", "demo"]).done();
    let sentence = "error: The server refused the input; nothing was changed.\n";
    let refused = cli.run(&["secrets", "set", "demo", "A=sentinel-", "LONG_KEY=x"]).failed(2);
    assert!(refused.starts_with(sentence), "{refused}");
    assert!(refused.contains("\n  - A: is too long (limit 8) [too_long]\n"), "{refused}");
    assert!(refused.contains("\n  - LONG_KEY: a key is letters"), "{refused}");
    // Very many faults are told in few words, and what is left out is counted
    let env: Vec<_> = (0..300).map(|n| format!("THIS_KEY_IS_TOO_LONG_{n}=x\n")).collect();
    let told =
        cli.run_with(&["secrets", "set", "demo", "--env-file", "-"], env.concat().as_bytes()).failed(2);
    let lines: Vec<_> = told.lines().skip(1).collect();
    assert!(lines[1].ends_with(": invalid key [invalid_key]"), "{told}");
    let (last, faults) = lines.split_last().unwrap();
    let more: usize = last.strip_prefix("  - and ").unwrap().strip_suffix(" more").unwrap().parse().unwrap();
    assert!(faults.len() + more >= 300, "{told}");
    let many = cli.run(&["secrets", "set", "demo", "A=a", "B=b", "C=c"]).failed(2);
    assert!(many.contains("(limit 2) [too_many_keys]"), "{many}");
    let large = set_file(&cli, &"sentinel".repeat(3000)).failed(2);
    let sentence = "error: The request is larger than the server takes; nothing was changed.\n";
    assert!(large.starts_with(sentence), "{large}");
    assert!(!format!("{refused}{large}").contains("sentinel"));
    assert_eq!(cli.run(&["secrets", "list", "demo"]).done(), "No secrets configured for agent 'demo'\n");
}

#[test]
fn what_no_server_takes_is_refused_here() {
    let nowhere = Cli::new(([127, 0, 0, 1], 1).into()).env("SUPERSERVE_TOKEN", "a.b.c");
    fs::write(nowhere.home().join("nul"), "sen\0tinel").unwrap();
    let given = ["A=", "B=@nul", "1C=x", "PATH=sentinel", "LD_PRELOAD=x", "SUPERSERVE_X=x"];
    let refused = nowhere.run(&[&["secrets", "set", "demo"][..], &given].concat()).failed(1);
    for line in [
        "error: The input is invalid; nothing was sent.",
        "  - A: an empty value is refused",
        "  - B: ",
        "  - KEY number 3: a key is letters",
        "  - PATH: this name is refused",
        "  - LD_PRELOAD: this name is refused",
        "  - SUPERSERVE_X: this name is refused",
    ] {
        assert!(refused.contains(line), "{line}: {refused}");
    }
    assert!(!refused.contains("tinel"), "{refused}");
    // Enough for anything that a process could be given, and no end of memory
    let endless = nowhere.script(r#""$0" secrets set demo A=- </dev/zero"#).failed(1);
    assert!(endless.starts_with("error: Cannot read stdin: it is too large: at most "), "{endless}");
}
