//! Usage: what is refused, with which exit code and which words.

use clap::CommandFactory as _;

use super::{Cli, testing::superserve};

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

#[tokio::test]
async fn usage_errors_are_local() {
    for args in [
        &[][..],
        &["secrets"],
        &["secretz"],
        &["secrets", "list"],
        &["secrets", "list", "a", "b"],
        &["secrets", "list", "a", "--nope"],
        &["secrets", "set", "a", "A=x", "--if-revision", "x"],
        &["secrets", "set", "a", "A=x", "--if-revision=-1"],
        &["secrets", "set", "a", "--skip-empty"],
        &["secrets", "delete", "a"],
        &["tokens", "create"],
        &["tokens", "create", "--name", "n", "--scope", "secrets:steal"],
        &["tokens", "create", "--name", "n", "--expires-in", "soon"],
        &["tokens", "rotate", "n"],
        &["tokens", "rotate", "tok_1", "--overlap", "soon"],
        &["audit", "a", "--limit", "0"],
        &["completions", "tcsh"],
    ] {
        let outcome = superserve(args, [], b"").await;
        assert_eq!(outcome.code, 1, "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{args:?}");
        assert!(!outcome.stderr.is_empty(), "{args:?}");
    }
}

#[tokio::test]
async fn usage_errors_say_what_was_meant() {
    for (args, words) in [
        (&["secretz"][..], "unknown command 'secretz'; did you mean serve, secrets?"),
        (&["secrets", "set", "a", "--dryrun"], "unexpected argument '--dryrun'; did you mean --dry-run?"),
        (&["secrets", "list"], "No agent is named, and there is no superserve.yaml here or above."),
        (&["secrets", "delete", "a"], "missing: <KEY>..."),
        (&["secrets", "set", "KEY=x"], "`.` for the agent of superserve.yaml"),
        (&["secrets", "set", "a", "--if-revision", "x"], "--if-revision <N>: a revision is a number"),
        (&["completions", "tcsh"], "one of bash, "),
        (&["tokens", "create", "--name", "n", "--scope", "x"], "one of agents:read, "),
        (&["secrets", "set", "a", "--skip-empty"], "--env-file <FILE>"),
    ] {
        let outcome = superserve(args, [], b"").await;
        assert!(outcome.stderr.contains(words), "{args:?}: {}", outcome.stderr);
    }
}

#[tokio::test]
async fn usage_errors_never_repeat_a_value() {
    for args in [
        &["secrets", "list", "a", "KEY=sentinel"][..],
        &["secrets", "list", "KEY=sentinel"],
        &["secrets", "set", "KEY=sentinel"],
        &["secrets", "delete", "KEY=sentinel", "KEY"],
        &["secrets", "run", "KEY=sentinel", "--", "env"],
        &["audit", "KEY=sentinel"],
        &["secrets", "set", "a", "--KEY=sentinel"],
        &["secrets", "set", "a", "--API_KEY", "sentinel"],
        &["secrets", "set", "a", "-KEY=sentinel"],
        &["secrets", "set", "a", "--dry-run=sentinel"],
        &["secrets", "set", "a", "--if-revision", "sentinel"],
        &["secrets", "run", "a", "KEY=sentinel"],
        &["secrets", "KEY=sentinel"],
        &["KEY=sentinel"],
        &["ss_sentinel0000"],
        &["login", "ss_sentinel"],
        &["tokens", "create", "--name", "n", "--expires-in", "sentinel"],
        &["completions", "sentinel9"],
        &["audit", "a", "--limit", "sentinel"],
    ] {
        let outcome = superserve(args, [], b"").await;
        assert_eq!(outcome.code, 1, "{args:?}");
        assert!(!outcome.stderr.contains("sentinel"), "{args:?}: {}", outcome.stderr);
    }
}

#[tokio::test]
async fn help_and_version_are_data() {
    for args in [&["--help"][..], &["help", "secrets"], &["secrets", "set", "--help"], &["--version"]] {
        let outcome = superserve(args, [], b"").await;
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{args:?}");
        assert!(!outcome.stdout.is_empty());
    }
}

#[tokio::test]
async fn every_command_of_the_client_speaks_json_and_needs_a_server() {
    for args in [
        &["tokens", "list"][..],
        &["tokens", "rotate", "tok_1"],
        &["whoami"],
        &["agents", "list"],
        &["agents", "get", "a"],
        &["agents", "deploy", "a"],
        &["agents", "delete", "a", "--yes"],
        &["secrets", "list", "a"],
        &["secrets", "check", "a"],
        &["secrets", "delete", "a", "A", "--yes"],
        &["audit", "a"],
        &["health"],
    ] {
        let mut all = vec!["--api-url", "http://127.0.0.1:1", "--json"];
        all.extend(args);
        let outcome = superserve(&all, [("SUPERSERVE_TOKEN", "a.b.c")], b"").await;
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{args:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("http://127.0.0.1:1"), "{}", outcome.stderr);
    }
}

#[tokio::test]
async fn completions_ask_this_program() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let outcome = superserve(&["completions", shell], [], b"").await;
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.contains("SUPERSERVE_COMPLETE"), "{shell}");
    }
}
