//! `secrets run`: what a command gets of the caller's variables, and the environment as a file.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
};

use rexpect::process::wait::WaitStatus;
use serde_json::{Value, json};

use crate::harness::{
    Database,
    cli::Cli,
    programs::is_there,
    search_path,
    server::{BINARY, Server},
};

const PEM: &str = "-----BEGIN KEY-----\nit's \"x\" \\ $HOME\n-----END KEY-----";

/// A server with the agent `demo`, which requires two secrets and has them.
fn with_two_secrets() -> (Server, Cli) {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "demo", "--require", "API_KEY,PEM"]).done();
    cli.run_with(&["secrets", "set", "demo", "API_KEY=sk-sentinel", "PEM=-"], PEM.as_bytes()).done();
    let runner = server.runner("demo");
    (server, runner)
}

/// The environment that a command sees with these flags, and what was said.
fn seen(cli: &Cli, flags: &[&str]) -> (BTreeMap<String, String>, String) {
    let output = cli.run(&[&["secrets", "run", "demo"], flags, &["--", "env", "-0"]].concat());
    let stderr = output.stderr.clone();
    let pairs = output.done();
    let pairs = pairs.split_terminator('\0').map(|pair| pair.split_once('=').unwrap());
    (pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), stderr)
}

fn names(environment: &BTreeMap<String, String>) -> Vec<&str> {
    environment.keys().map(String::as_str).collect()
}

#[test]
fn credentials_of_the_caller_are_withheld_and_named() {
    let (_server, runner) = with_two_secrets();
    let runner = runner
        .env("KEPT", "kept value")
        .env("LC_ALL", "C")
        .env("API_KEY", "of the caller")
        .env("GITHUB_TOKEN", "gh-sentinel")
        .env("AWS_SECRET_ACCESS_KEY", "aws-sentinel");

    let (environment, said) = seen(&runner, &[]);
    let expected = ["API_KEY", "HOME", "KEPT", "LC_ALL", "PATH", "PEM", "SUPERSERVE_API_URL", "TERM"];
    assert_eq!(names(&environment), expected);
    assert_eq!(environment["API_KEY"], "sk-sentinel", "the platform's value wins");
    assert_eq!(environment["PEM"], PEM);
    let withheld =
        "Withheld from the command: AWS_SECRET_ACCESS_KEY, GITHUB_TOKEN (--preserve-env passes them on)\n";
    assert_eq!(said, withheld);

    let (environment, said) = seen(&runner, &["--preserve-env"]);
    assert_eq!((environment["GITHUB_TOKEN"].as_str(), said.as_str()), ("gh-sentinel", ""));
    assert_eq!(environment["API_KEY"], "sk-sentinel");
    assert!(!environment.contains_key("SUPERSERVE_TOKEN"), "its own token is never passed on");

    let (environment, said) = seen(&runner, &["--clean-env"]);
    assert_eq!(names(&environment), ["API_KEY", "HOME", "LC_ALL", "PATH", "PEM", "TERM"]);
    assert_eq!(said, "");
}

#[test]
fn a_run_may_take_less() {
    let (server, runner) = with_two_secrets();
    let (environment, _) = seen(&runner, &["--clean-env", "--only", "API_KEY"]);
    assert_eq!(names(&environment), ["API_KEY", "HOME", "PATH", "TERM"]);
    let (environment, _) = seen(&runner, &["--clean-env", "--only", "API_KEY", "--only", "PEM"]);
    assert_eq!(names(&environment), ["API_KEY", "HOME", "PATH", "PEM", "TERM"]);
    let marker = runner.home().join("started");
    let other = ["secrets", "run", "demo", "--only", "OTHER", "--", "touch", marker.to_str().unwrap()];
    let missing = runner.run(&other).failed(3);
    assert!(missing.contains("missing.\n  - OTHER\n"), "{missing}");
    // Also what the agent requires does not count then
    server.cli().run(&["agents", "deploy", "demo", "--require", "API_KEY,PEM,LATER"]).done();
    assert!(runner.run(&["secrets", "run", "demo", "--", "true"]).failed(3).contains("  - LATER\n"));
    seen(&runner, &["--only", "API_KEY"]);
    assert!(!marker.exists());
}

#[test]
fn a_real_interpreter_sees_both_values() {
    if !is_there("node", &["--version"], search_path()) {
        return;
    }
    let (_server, runner) = with_two_secrets();
    let script =
        "process.stdout.write(JSON.stringify([process.env.API_KEY, process.env.PEM])); process.exitCode = 7";
    let output = runner.run(&["secrets", "run", "demo", "--", "node", "-e", script]);
    assert_eq!(output.code, 7, "{}", output.stderr);
    assert_eq!(serde_json::from_str::<Value>(&output.stdout).unwrap(), json!(["sk-sentinel", PEM]));
    let killed =
        runner.run(&["secrets", "run", "demo", "--", "node", "-e", "process.kill(process.pid, 'SIGTERM')"]);
    assert_eq!(killed.code, 143, "{}", killed.stderr);
}

#[test]
fn ctrl_c_reaches_the_command_on_a_terminal() {
    let (_server, runner) = with_two_secrets();
    let script = "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut session = runner.on_terminal(&["secrets", "run", "demo", "--", "sh", "-c", script]);
    session.exp_string("ready").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("interrupted").unwrap();
    session.exp_eof().unwrap();
    assert!(matches!(session.process.wait().unwrap(), WaitStatus::Exited(_, 9)));
}

#[test]
fn the_environment_is_written_to_an_open_file() {
    let (server, runner) = with_two_secrets();
    let write = |arguments: &str| {
        let script = format!(r#""$0" secrets run demo --env-file-fd 3 {arguments} 3>file && cat file"#);
        runner.script(&script)
    };
    let read: Value = serde_json::from_str(&write("--format json").done()).unwrap();
    assert_eq!(read, json!({"API_KEY": "sk-sentinel", "PEM": PEM}));
    assert_eq!(write("--format docker --only API_KEY").done(), "API_KEY=sk-sentinel\n");
    let refused = write("--format docker").failed(125);
    assert!(refused.contains("\n  - PEM: has several lines\n") && !refused.contains("BEGIN"), "{refused}");
    assert_eq!(fs::read_to_string(runner.home().join("file")).unwrap(), "");

    let sourced =
        r#""$0" secrets run demo --env-file-fd 3 --format shell 3>file && . ./file && printenv PEM"#;
    assert_eq!(runner.script(sourced).done(), format!("{PEM}\n"));

    // What is written as dotenv, which is the default, is read back as it was; the rest is refused by name
    let refused = write("").failed(125);
    assert!(
        refused.contains("\n  - PEM: readers would not agree") && !refused.contains("BEGIN"),
        "{refused}"
    );
    write("--only API_KEY").done();
    let admin = server.cli();
    admin.run(&["agents", "deploy", "copy"]).done();
    let file = runner.home().join("file");
    admin.run(&["secrets", "set", "copy", "--env-file", file.to_str().unwrap()]).done();
    let copied = server.runner("copy").run(&["secrets", "run", "copy", "--", "printenv", "API_KEY"]);
    assert_eq!(copied.done(), "sk-sentinel\n");

    // A pipe, and a file that has something already
    assert_eq!(
        runner.script(r#""$0" secrets run demo --env-file-fd 1 --only API_KEY | cat"#).done(),
        "API_KEY='sk-sentinel'\n"
    );
    let appended =
        r#"echo first >file; "$0" secrets run demo --env-file-fd 3 --only API_KEY 3>>file && cat file"#;
    assert_eq!(runner.script(appended).done(), "first\nAPI_KEY='sk-sentinel'\n");
}

#[test]
fn what_must_not_be_written_is_not_handed_out_either() {
    let (server, runner) = with_two_secrets();
    // Whichever number was forgotten: it is none of the program's own files either
    for number in 3..10 {
        let script = format!(r#"exec {number}>&-; "$0" secrets run demo --env-file-fd {number}"#);
        let not_open = runner.script(&script).failed(125);
        let told = format!("error: Cannot write to file descriptor {number}: Bad file descriptor");
        assert!(not_open.starts_with(&told), "{not_open}");
        assert!(not_open.contains(&format!("{number}>FILE")), "{not_open}");
    }
    let reading =
        runner.script(r#"echo kept >file; "$0" secrets run demo --env-file-fd 3 3<file"#).failed(125);
    assert!(reading.contains("open for reading"), "{reading}");
    assert_eq!(fs::read_to_string(runner.home().join("file")).unwrap(), "kept\n");

    let script = r#""$0" secrets run demo --env-file-fd 3 3>/dev/tty; echo "code $?""#;
    let mut session = runner.script_on_terminal(script);
    let shown = session.exp_string("code 125").unwrap();
    assert!(shown.contains("it is a terminal, which would show the values"), "{shown}");
    assert!(!shown.contains("sentinel"), "{shown}");
    session.exp_eof().unwrap();
    let audit = server.cli().run(&["audit", "demo"]).done();
    assert!(!audit.contains("secrets.resolve"), "{audit}");
}

#[test]
fn the_environment_is_written_to_a_socket() {
    let (_server, runner) = with_two_secrets();
    // What Node gives a child as a pipe is a socket, which cannot be opened again by its name
    let (mut here, there) = UnixStream::pair().unwrap();
    let mut command =
        runner.command(BINARY, &["secrets", "run", "demo", "--env-file-fd", "1", "--only", "API_KEY"]);
    let mut child = command.stdout(Stdio::from(OwnedFd::from(there))).spawn().unwrap();
    drop(command);
    let mut written = String::new();
    here.read_to_string(&mut written).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(written, "API_KEY='sk-sentinel'\n");
}

#[test]
fn what_looks_like_a_credential_or_is_ours_is_withheld() {
    let (_server, runner) = with_two_secrets();
    let names =
        ["DB_PASS", "GITHUB_PAT", "STRIPE_KEY", "SENTRY_DSN", "NPM_CONFIG__AUTH", "SUPERSERVE_DATABASE_URL"];
    let caller = names.iter().fold(runner, |cli, name| cli.env(name, "of-the-caller"));
    let shown =
        |flags: &[&str]| caller.run(&[&["secrets", "run", "demo"], flags, &["--", "env"]].concat()).done();
    let plain = shown(&[]);
    assert!(!plain.contains("of-the-caller") && plain.contains("API_KEY=sk-sentinel"), "{plain}");
    let all = shown(&["--preserve-env"]);
    assert_eq!(all.matches("of-the-caller").count(), names.len() - 1, "{all}");
    assert!(!all.contains("SUPERSERVE_DATABASE_URL"), "the service's own never goes along: {all}");
}
