//! What `secrets set` does before it reaches a server.

use std::{fs, io::Write as _};

use super::*;
use crate::cli::{
    environment::Environment,
    input::Input,
    testing::{Captured, superserve},
};

fn context(stdin: &'static [u8], is_terminal: bool, captured: &Captured) -> Context {
    let input = Input::new(stdin, is_terminal);
    Context { environment: Environment::from([]), directory: None, input, output: captured.output() }
}

fn arguments(texts: &[&str]) -> Vec<Argument> {
    texts.iter().map(|text| Argument::from(std::ffi::OsString::from(text))).collect()
}

fn file(content: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

fn shown(assignments: &[Assignment]) -> Vec<(&str, &str)> {
    assignments.iter().map(|a| (a.key.as_str(), a.value.expose())).collect()
}

#[tokio::test]
async fn values_come_from_arguments_stdin_and_files() {
    let captured = Captured::default();
    let path = file(b"c\n\n");
    let env = file(b"E=e\nF=\n");
    let env_file = EnvFile { path: Some(env.path().to_owned()), skip_empty: true };
    let given = arguments(&["A=a=b", "B=-", &format!("C=@{}", path.path().display()), "D"]);
    let mut context = context(b"b", false, &captured);
    let gathered = sources::gather(&given, &env_file, &mut context).await.unwrap();
    assert_eq!(shown(&gathered.assignments), [("A", "a=b"), ("B", "b"), ("C", "c\n"), ("E", "e")]);
    assert_eq!(gathered.to_ask.iter().map(crate::domain::SecretName::as_str).collect::<Vec<_>>(), ["D"]);
    assert!(gathered.had_inline);
    let said = captured.stderr();
    assert_eq!(said, "C: one trailing newline was cut\nSkipped, because they have no value: F\n");
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_and_no_value_is() {
    let env = file(b"B=sentinel\nHOME=sentinel\nG=`sentinel`\n");
    let env = env.path().to_str().unwrap();
    let nul = file(b"sentinel\0");
    let nul = format!("H=@{}", nul.path().display());
    let args = [
        "secrets",
        "set",
        "my-agent",
        "A=",
        "B=sentinel",
        "B=x",
        "sen-tinel=x",
        "PATH=sentinel",
        "LD_PRELOAD",
        &nul,
        "--env-file",
        env,
    ];
    let outcome = superserve(&args, [], b"").await;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    for line in [
        "  - A: an empty value is refused",
        "  - B: is given twice",
        "  - KEY number 4: a key is letters",
        "  - PATH: this name is refused",
        "  - LD_PRELOAD: this name is refused",
        "  - H: a value cannot hold a NUL byte [nul_in_value]",
        "  - line 3 (G): begins with a backtick",
    ] {
        assert!(outcome.stderr.contains(line), "{line}: {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("tinel"), "{}", outcome.stderr);
}

#[tokio::test]
async fn a_key_from_two_sources_is_refused() {
    let env = file(b"A=x\nPATH=x\n");
    let outcome =
        superserve(&["secrets", "set", "a", "A=y", "--env-file", env.path().to_str().unwrap()], [], b"")
            .await;
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("line 1 (A): is also given as an argument"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("line 2 (PATH): this name is refused"), "{}", outcome.stderr);
    for args in [["A=-", "B=-"], ["A=-", "--env-file=-"]] {
        let outcome = superserve(&["secrets", "set", "a", args[0], args[1]], [], b"C=x").await;
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains("only once"), "{}", outcome.stderr);
    }
}

#[tokio::test]
async fn nobody_is_waited_for_without_a_terminal() {
    for (args, hint) in [
        (&["secrets", "set", "a"][..], "KEY=@FILE"),
        (&["secrets", "set", "a", "TOKEN"], "TOKEN=-"),
        (&["secrets", "set", "a", "A=x", "--prune"], "--yes"),
    ] {
        let outcome = superserve(args, [], b"").await;
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
        assert!(outcome.stderr.contains(hint), "{}", outcome.stderr);
    }
}

#[tokio::test]
async fn input_that_cannot_be_read_is_named() {
    for args in [["A=@/nowhere/x", "B=x"], ["--env-file", "/nowhere/x"]] {
        let outcome = superserve(&["secrets", "set", "a", args[0], args[1]], [], b"").await;
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains("Cannot read /nowhere/x"), "{}", outcome.stderr);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, b"A\xff").unwrap();
    let outcome = superserve(&["secrets", "set", "a", &format!("A=@{}", path.display())], [], b"").await;
    assert!(outcome.stderr.contains("A: the value is not UTF-8"), "{}", outcome.stderr);
}

#[tokio::test]
async fn what_is_right_fails_only_at_the_server() {
    let args = ["secrets", "set", "a", "A=x", "NODE_OPTIONS=x", "--api-url", "http://127.0.0.1:1"];
    let logged_out = superserve(&args, [], b"").await;
    assert_eq!(logged_out.code, 2);
    assert!(logged_out.stderr.contains("superserve login"), "{}", logged_out.stderr);
    let unreachable = superserve(&args, [("SUPERSERVE_API_KEY", "a.b.c")], b"").await;
    assert_eq!(unreachable.code, 2);
    assert!(unreachable.stderr.contains("http://127.0.0.1:1"), "{}", unreachable.stderr);
    assert!(unreachable.stderr.contains("superserve serve"), "{}", unreachable.stderr);
}

#[test]
fn sizes_are_the_server_s_to_judge() {
    let key = "K".repeat(1_000);
    assert!(sources::check(&key, &"x".repeat(10_000_000)).is_ok());
}

#[test]
fn arguments_do_not_print() {
    assert!(!format!("{:?}", arguments(&["A=sentinel"])).contains("sentinel"));
}
