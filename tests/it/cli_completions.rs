//! Completions in the shells themselves: a person types, presses Tab, and the shell shows what may follow.

use std::{
    net::TcpListener,
    path::Path,
    time::{Duration, Instant},
};

use crate::harness::{
    Database,
    cli::{Cli, OnTerminal},
    programs::is_there,
    search_path,
    server::{BINARY, Server},
};

/// What puts the program on the path of a shell, by its own name.
fn on_path(cli: Cli) -> Cli {
    let directory = Path::new(BINARY).parent().unwrap().to_str().unwrap();
    cli.env("PATH", &format!("{directory}:{}", search_path().to_str().unwrap()))
}

/// A shell that has read the completions.
fn shell(cli: &Cli, start: &str, load: &str) -> OnTerminal {
    let mut shell = cli.script_on_terminal(start);
    shell.send_line(&format!("{load}; echo rea\"d\"y")).unwrap();
    shell.exp_string("ready").unwrap();
    shell
}

/// Presses Tab behind what is typed, and waits until the shell has made this of it.
fn completes(shell: &mut OnTerminal, typed: &str, whole: &str) {
    shell.send(&format!("{typed}\t")).unwrap();
    shell.flush().unwrap();
    let shown = shell.exp_string(whole);
    assert!(shown.is_ok(), "{typed}: {shown:?}");
}

/// Agents and keys, of which one is dangerous to complete.
fn filled() -> (Server, Cli) {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "my-agent", "--require", "REQUIRED"]).done();
    cli.run(&["agents", "deploy", "$(touch pwned)"]).done();
    cli.run(&["secrets", "set", "my-agent", "ANTHROPIC_API_KEY=x"]).done();
    let cli = on_path(cli);
    (server, cli)
}

const CASES: [(&str, &str); 4] = [
    ("superserve secrets list m", "superserve secrets list my-agent"),
    ("superserve secrets delete my-agent A", "superserve secrets delete my-agent ANTHROPIC_API_KEY"),
    ("superserve secrets set my-agent R", "superserve secrets set my-agent REQUIRED"),
    ("superserve secr", "superserve secrets"),
];

#[test]
fn bash_completes_agents_and_keys() {
    let (_server, cli) = filled();
    for (typed, whole) in CASES {
        let mut bash =
            shell(&cli, "exec bash --norc --noprofile -i", "source <(superserve completions bash)");
        completes(&mut bash, typed, whole);
    }
}

#[test]
fn zsh_completes_agents_and_keys() {
    let (_server, cli) = filled();
    if !is_there("zsh", &["-c", "true"], search_path()) {
        return;
    }
    let load = "autoload -U compinit; compinit -u; source <(superserve completions zsh)";
    for (typed, whole) in CASES {
        let mut zsh = shell(&cli, "exec zsh -fi", load);
        completes(&mut zsh, typed, whole.strip_prefix("superserve ").unwrap());
    }
}

#[test]
fn fish_completes_agents_and_keys() {
    let (_server, cli) = filled();
    if !is_there("fish", &["-c", "true"], search_path()) {
        return;
    }
    for (typed, whole) in CASES {
        let script =
            format!("fish --no-config -c 'superserve completions fish | source; complete -C \"{typed}\"'");
        let shown = cli.script(&script).done();
        let word = whole.rsplit(' ').next().unwrap();
        let first = shown.lines().next().unwrap_or_default();
        assert_eq!(first.split('\t').next(), Some(word), "{typed}: {shown}");
    }
}

/// What fish is answered: the words alone say which of them is completed.
fn answered(cli: &Cli, words: &[&str]) -> Vec<String> {
    let words = [&["--", "superserve"], words].concat();
    let output = cli.run(&words);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let values = output.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned());
    values.filter(|value| !value.starts_with('-')).collect()
}

#[test]
fn only_what_a_shell_takes_as_one_word_is_offered_and_listing_is_enough() {
    let (server, cli) = filled();
    let id = cli.run(&["agents", "list"]).done();
    let id = id.lines().find(|line| line.contains("touch")).unwrap().split(' ').next().unwrap().to_owned();
    let token = cli.run(&["tokens", "create", "--name", "n", "--scope", "agents:read"]).done();
    let reader = server.cli().env("SUPERSERVE_TOKEN", token.trim()).env("SUPERSERVE_COMPLETE", "fish");
    let mut agents = answered(&reader, &["secrets", "list", ""]);
    agents.sort();
    let mut expected = vec!["my-agent".to_owned(), id.clone()];
    expected.sort();
    assert_eq!(agents, expected);
    assert_eq!(answered(&reader, &["secrets", "set", "my-agent", ""]), ["ANTHROPIC_API_KEY", "REQUIRED"]);
    std::fs::write(reader.home().join("superserve.yaml"), "name: my-agent\n").unwrap();
    assert_eq!(answered(&reader, &["secrets", "delete", ".", "A"]), ["ANTHROPIC_API_KEY"]);
    assert!(answered(&reader, &["secrets", "delete", &id, "A"]).is_empty());
    let nobody = server.cli().without_env("SUPERSERVE_TOKEN").env("SUPERSERVE_COMPLETE", "fish");
    assert!(answered(&nobody, &["secrets", "list", ""]).is_empty());
}

#[test]
fn a_server_that_does_not_answer_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let cli = Cli::new(silent.local_addr().unwrap())
        .env("SUPERSERVE_TOKEN", "a.b.c")
        .env("SUPERSERVE_COMPLETE", "fish");
    let started = Instant::now();
    assert!(answered(&cli, &["secrets", "list", ""]).is_empty());
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
}
