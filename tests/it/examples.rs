//! The examples, each by the command in its README, with the real interpreters.
//!
//! An interpreter that is not installed leaves its example out, and one line says so; with
//! `SUPERSERVE_TEST_REQUIRE_INTERPRETERS=1` that is a failure. `SUPERSERVE_TEST_GRPC_PYTHON` names the `bin`
//! directory of a Python that has the packages of the session service.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{
    Database,
    cli::{Cli, Output},
    environment,
    programs::is_there,
    search_path,
    server::{BINARY, Server},
};

const BOTH_SET: &str = "OPENAI_API_KEY: set\nDATABASE_URL: set\n";

#[test]
fn node() {
    if is_there("node", &["--version"], path()) {
        says_what_it_has("node");
    }
}

#[test]
fn python() {
    if is_there("python3", &["--version"], path()) {
        says_what_it_has("python");
    }
}

#[test]
fn go() {
    if is_there("go", &["version"], path()) {
        // The first build takes longer than a test may wait for a command
        let built = Command::new("go")
            .args(["build", "-o", "/dev/null", "examples/go/main.go"])
            .current_dir(root())
            .env("GOCACHE", go_cache())
            .status();
        assert!(built.unwrap().success());
        says_what_it_has("go");
    }
}

#[test]
fn entrypoint() {
    let example = Example::new("entrypoint");
    let stderr = example.run().failed(3);
    assert!(stderr.contains("OPENAI_API_KEY"), "{stderr}");
    example.set_all();
    assert_eq!(example.run().done(), "started with a key\n");
    let audit = example.server.cli().run(&["audit", "my-agent"]).done();
    assert!(audit.contains("local-1"), "{audit}");
}

#[test]
fn session_service() {
    if !is_there("python3", &["-c", "import grpc, grpc_tools"], path()) {
        return;
    }
    let example = Example::new("session-service");
    let stderr = example.run().failed(3);
    assert!(stderr.ends_with("missing: OPENAI_API_KEY, DATABASE_URL\n"), "{stderr}");
    example.set_all();
    assert_eq!(example.run().done(), BOTH_SET);
    let audit = example.server.cli().run(&["audit", "my-agent"]).done();
    assert!(audit.contains("session-"), "{audit}");
}

/// Runs an agent without its secrets and with them.
fn says_what_it_has(name: &str) {
    let example = Example::new(name);
    let stderr = example.run().failed(3);
    assert!(stderr.contains("OPENAI_API_KEY") && stderr.contains("DATABASE_URL"), "{stderr}");
    example.set_all();
    let Output { code, stdout, stderr } = example.run();
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, BOTH_SET, ""));
}

/// An example, and a server with the agent that it expects.
struct Example {
    server: Server,
    runner: Cli,
    command: String,
}

// === impl Example ===

impl Example {
    fn new(name: &str) -> Self {
        let server = Server::start(Database::Sqlite);
        let cli = server.cli();
        cli.run(&["agents", "deploy", "my-agent", "--require", "OPENAI_API_KEY,DATABASE_URL"]).done();
        let agent = cli.run(&["agents", "get", "my-agent", "--json"]).done();
        let agent: serde_json::Value = serde_json::from_str(&agent).unwrap();
        let scopes = "secrets:list,secrets:resolve,agents:read";
        let create = ["tokens", "create", "--name", "runner", "--scope", scopes, "--agent", "my-agent"];
        let token = cli.run(&create).done();
        let runner = Cli::new(server.address())
            .env("SUPERSERVE_TOKEN", token.trim_end())
            .env("AGENT_ID", agent["id"].as_str().unwrap())
            .env("GOCACHE", go_cache().to_str().unwrap())
            .env("GOTOOLCHAIN", "local")
            .env("PATH", path().to_str().unwrap());
        let readme = fs::read_to_string(root().join("examples").join(name).join("README.md")).unwrap();
        let command = readme.split_once("```sh\n").unwrap().1.split_once("\n```").unwrap().0.to_owned();
        Self { server, runner, command }
    }

    fn set_all(&self) {
        let values = ["OPENAI_API_KEY=sk-sentinel", "DATABASE_URL=postgres://sentinel"];
        self.server.cli().run(&[&["secrets", "set", "my-agent"][..], &values].concat()).done();
    }

    /// Runs the command of its README.
    fn run(&self) -> Output {
        let output = self.runner.script(&format!("cd '{}'\n{}", root().display(), self.command));
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(!said.contains("sentinel"), "a value was shown: {said}");
        output
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn go_cache() -> PathBuf {
    environment("GOCACHE").map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"), PathBuf::from)
}

/// Where the binary, and a Python with the packages of the session service, come first.
fn path() -> OsString {
    let binary = Path::new(BINARY).parent().unwrap().to_owned();
    let python = environment("SUPERSERVE_TEST_GRPC_PYTHON").map(PathBuf::from);
    let rest = search_path();
    env::join_paths([binary].into_iter().chain(python).chain(env::split_paths(&rest))).unwrap()
}
