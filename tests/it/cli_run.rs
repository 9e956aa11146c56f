//! `secrets run`: the values reach the command's environment, and nothing else changes for it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::geteuid;

use crate::harness::{
    Database,
    cli::{Cli, Running},
    programs::leave_out,
    relay::relay,
    server::{BINARY, Server},
    wait_for,
};

const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIIsentinel+/=\n-----END PRIVATE KEY-----";

/// The bit of SIGPIPE in a mask.
const SIGPIPE: u64 = 1 << 12;

/// A server with the agent `demo`, which has two secrets.
fn with_two_secrets() -> (Server, Cli) {
    let server = Server::start(Database::Sqlite);
    let cli = server.cli();
    cli.run(&["agents", "deploy", "demo", "--require", "API_KEY"]).done();
    cli.run_with(&["secrets", "set", "demo", "API_KEY=sk-sentinel", "PEM=-"], PEM.as_bytes()).done();
    let runner = server.runner("demo");
    (server, runner)
}

#[test]
fn the_values_are_in_the_environment_of_the_command_and_nowhere_else() {
    let (server, runner) = with_two_secrets();
    // What the caller has stays, but for the service's own tokens; and a secret wins over a variable
    let token_file = runner.home().join("token");
    fs::write(&token_file, "unused").unwrap();
    let runner = runner
        .env("KEPT", "kept value")
        .env("API_KEY", "of the caller")
        .env("SUPERSERVE_API_KEY", "unused")
        .env("SUPERSERVE_API_KEY_FILE", token_file.to_str().unwrap());
    let mut running = runner.start(&["secrets", "run", "demo", "--", "cat", "-", "--"]);
    echo(&mut running.0, "ready\n");

    let proc = |file| fs::read_to_string(format!("/proc/{}/{file}", running.0.id())).unwrap();
    assert_eq!(proc("cmdline"), "cat\0-\0--\0", "the command has our process id: nothing stands between");
    let environ = proc("environ");
    let mut environment: BTreeMap<_, _> =
        environ.split_terminator('\0').map(|entry| entry.split_once('=').unwrap()).collect();
    assert_eq!(environment.remove("API_KEY"), Some("sk-sentinel"));
    assert_eq!(environment.remove("PEM"), Some(PEM));
    assert_eq!(environment.remove("KEPT"), Some("kept value"));
    let rest: Vec<_> = environment.into_keys().collect();
    assert_eq!(rest, ["HOME", "PATH", "SUPERSERVE_API_URL", "TERM"]);
    // As this test was started itself; but for SIGPIPE, which its own runtime ignores
    let (theirs, ours) = (proc("status"), fs::read_to_string("/proc/thread-self/status").unwrap());
    assert_eq!(signals(&theirs, "SigBlk"), signals(&ours, "SigBlk"));
    assert_eq!(signals(&theirs, "SigIgn"), signals(&ours, "SigIgn") & !SIGPIPE);
    let inherited = open_files("self");
    let opened = open_files(&running.0.id().to_string()).split_off(&3);
    let opened: Vec<_> =
        opened.values().filter(|file| !inherited.values().any(|ours| ours == *file)).collect();
    assert_eq!(opened, [""; 0], "no connection is left open");

    drop(running.0.stdin.take());
    assert!(running.0.wait().unwrap().success());
    assert!(!runner.home().join(".superserve").exists());
    for text in ["sentinel", "PRIVATE"] {
        assert!(!server.log().contains(text), "the log shows {text}");
    }
}

#[test]
fn the_command_is_a_program_like_any_other() {
    let (server, runner) = with_two_secrets();
    let run = |command: &[&str]| runner.run(&[&["secrets", "run", "demo", "--"], command].concat());

    let passed = runner.run_with(&["secrets", "run", "demo", "--", "wc", "-c"], &vec![0xff; 100_000]);
    assert_eq!((passed.stdout.trim(), passed.stderr.as_str()), ("100000", ""));
    assert_eq!(run(&["printf", "%s|", "a b", "", "--json", "$API_KEY"]).done(), "a b||--json|$API_KEY|");
    let both = run(&["sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!((both.code, both.stdout.as_str(), both.stderr.as_str()), (42, "out\n", "err\n"));
    for code in [0, 1, 2, 3, 4, 125, 255] {
        assert_eq!(run(&["sh", "-c", &format!("exit {code}")]).code, code, "a code is passed on as it is");
    }
    let seen_by_a_shell = |signal: &str| {
        let command = format!(r#""$0" secrets run demo -- sh -c 'kill -{signal} $$'; echo "code $?""#);
        runner.script(&command).stdout
    };
    assert_eq!(seen_by_a_shell("KILL"), "code 137\n");
    assert_eq!(seen_by_a_shell("TERM"), "code 143\n");
    assert_eq!(seen_by_a_shell("PIPE"), "code 141\n");

    let by_id = server.cli().run(&["agents", "get", "demo", "--json"]).done();
    let agent: serde_json::Value = serde_json::from_str(&by_id).unwrap();
    let id = agent["id"].as_str().unwrap();
    let run_id = ["secrets", "run", id, "--run-id", "run-7", "--", "printenv", "API_KEY"];
    assert_eq!(runner.run(&run_id).done(), "sk-sentinel\n");
    let audit = server.cli().run(&["audit", "demo"]).done();
    let resolved = audit.lines().find(|line| line.ends_with("run-7")).unwrap_or_else(|| panic!("{audit}"));
    assert!(resolved.contains("API_KEY@1, PEM@1"), "{audit}");
    assert!(!audit.contains("sentinel"), "{audit}");
}

#[test]
fn signals_reach_the_command() {
    let (_server, runner) = with_two_secrets();
    let start = |script: &str| {
        let mut running = runner.start(&["secrets", "run", "demo", "--", "sh", "-c", script]);
        let mut line = String::new();
        BufReader::new(running.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        running
    };
    let mut handling = start("trap 'kill $!; exit 7' TERM; sleep 60 & echo ready; wait");
    terminate(handling.0.id());
    assert_eq!(end(&mut handling).code(), Some(7));
    let mut plain = start("echo ready; exec sleep 60");
    terminate(plain.0.id());
    assert_eq!(end(&mut plain).signal(), Some(15));
}

#[test]
fn what_is_not_started_leaves_no_trace() {
    let (server, runner) = with_two_secrets();
    let marker = runner.home().join("started");
    let touch = |cli: &Cli, code: i32| {
        let stderr =
            cli.run(&["secrets", "run", "demo", "--", "touch", marker.to_str().unwrap()]).failed(code);
        assert!(!marker.exists(), "the command was started");
        assert!(!stderr.contains("sentinel"), "{stderr}");
        stderr
    };
    let admin = server.cli();
    assert!(touch(&admin, 125).contains("lacks the scope 'secrets:resolve'"));
    assert!(touch(&server.cli().without_env("SUPERSERVE_TOKEN"), 125).contains("superserve login"));
    admin.run(&["agents", "deploy", "demo", "--require", "API_KEY,NEW_ONE,OTHER"]).done();
    let missing = touch(&runner, 3);
    assert!(
        missing.starts_with("error: Required secrets are missing.\n  - NEW_ONE\n  - OTHER\n"),
        "{missing}"
    );
    admin.run(&["secrets", "set", "demo", "NEW_ONE=n", "OTHER=o"]).done();

    let run = |program: &str, code| runner.run(&["secrets", "run", "demo", "--", program]).failed(code);
    assert!(run("no-such-program", 127).starts_with("error: Cannot start 'no-such-program': "));
    run("./no-such-file", 127);
    let script = runner.home().join("script");
    fs::write(&script, "#!/bin/sh\nexit 9\n").unwrap();
    assert!(run("./script", 126).starts_with("error: Cannot start './script': "));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(runner.run(&["secrets", "run", "demo", "--", "./script"]).code, 9);
    assert!(runner.run(&["secrets", "run", "demo"]).failed(1).contains("COMMAND"));
    assert!(
        runner
            .run(&["secrets", "run", "other", "--", "true"])
            .failed(125)
            .contains("Agent 'other' not found.")
    );
}

#[test]
fn a_run_waits_for_a_server_that_is_not_there_yet() {
    let (mut server, runner) = with_two_secrets();
    let create = ["tokens", "create", "--name", "watcher", "--agent", "demo"];
    let scopes = ["--scope", "secrets:resolve,secrets:list,agents:read"];
    let token = server.cli().run(&[&create[..], &scopes].concat()).done();
    let runner = runner.env("SUPERSERVE_TOKEN", token.trim_end());
    server.terminate();
    let marker = runner.home().join("started");
    let url = format!("http://{}", server.address());
    let begin = Instant::now();
    let run = ["secrets", "run", "demo", "--timeout", "1s", "--", "touch", marker.to_str().unwrap()];
    let told = runner.run(&run).failed(125);
    let took = begin.elapsed();
    let lines: Vec<_> = told.lines().collect();
    let [first, error, hint] = lines[..] else { panic!("{told}") };
    assert!(first.starts_with(&format!("Cannot reach the server at {url}: ")), "{told}");
    assert!(first.ends_with(". Trying again, for 1 s (--timeout)."), "{told}");
    assert!(error.starts_with(&format!("error: Cannot reach the server at {url}: ")), "{told}");
    let what_to_do = "Nothing was started: run the same again when the server answers. It was tried for 1 s (--timeout). \
                      Start one with `superserve serve`, or point to it with --api-url or SUPERSERVE_API_URL.";
    assert_eq!(hint, what_to_do);
    // It was tried three times, with a quarter and half of a second between
    assert!(took >= Duration::from_millis(750), "{took:?}");
    assert!(!marker.exists());

    // And it starts, both ways, when the server comes while it waits
    let behind: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
    let address = Arc::clone(&behind);
    let address = relay(move || *address.lock().unwrap());
    let runner = runner.env("SUPERSERVE_API_URL", &format!("http://{address}"));
    for more in [&[][..], &["--watch"]] {
        let errors = runner.home().join("errors");
        let mut command = runner.command(
            BINARY,
            &[&["secrets", "run", "demo"], more, &["--", "sh", "-c", r#"echo "$API_KEY""#]].concat(),
        );
        command.stdout(Stdio::piped()).stderr(fs::File::create(&errors).unwrap());
        let mut waiting = Running::start(command);
        wait_for("the word that it waits", || {
            fs::read_to_string(&errors).unwrap().contains("Trying again, for 60 s (--timeout).").then_some(())
        });
        server.restart();
        *behind.lock().unwrap() = Some(server.address());
        assert!(end(&mut waiting).success(), "{}", fs::read_to_string(&errors).unwrap());
        let mut said = String::new();
        waiting.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "sk-sentinel\n");
        server.terminate();
        *behind.lock().unwrap() = None;
    }
}

/// Process 1, as the first of a container is, is ended by no signal that it does not listen for.
#[test]
fn a_run_that_waits_is_ended_as_any_process_and_as_process_1() {
    let (mut server, runner) = with_two_secrets();
    server.terminate();
    let user: &[&str] = if geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let namespace = [user, &["--pid", "--fork", BINARY]].concat();
    let end_of = |program: &str, before: &[&str]| {
        let errors = runner.home().join("errors");
        let run = ["secrets", "run", "demo", "--", "true"];
        let mut command = runner.command(program, &[before, &run].concat());
        command.stderr(fs::File::create(&errors).unwrap());
        let mut waiting = Running::start(command);
        wait_for("the word that it waits", || {
            fs::read_to_string(&errors).unwrap().contains("Trying again").then_some(())
        });
        let outer = waiting.0.id();
        terminate(if before.is_empty() { outer } else { child_of(outer) });
        end(&mut waiting)
    };
    assert_eq!(end_of(BINARY, &[]).signal(), Some(15));
    let tried = Command::new("unshare").args([user, &["--pid", "--fork", "true"]].concat()).status();
    if tried.is_ok_and(|tried| tried.success()) {
        assert_eq!(end_of("unshare", &namespace).code(), Some(143));
    } else {
        leave_out("nobody can be process 1 (unshare --pid)");
    }
}

/// Writes a line to a command that repeats it, and waits for it.
fn echo(child: &mut Child, line: &str) {
    child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    let mut read = vec![0; line.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut read).unwrap();
    assert_eq!(read, line.as_bytes());
}

/// The open files of a process by their number.
fn open_files(process: &str) -> BTreeMap<u32, String> {
    let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap().map(Result::unwrap);
    let number = |file: &fs::DirEntry| file.file_name().to_str().unwrap().parse().unwrap();
    // What was closed since then is none any more
    files
        .filter_map(|file| Some((number(&file), fs::read_link(file.path()).ok()?.display().to_string())))
        .collect()
}

/// A mask of signals in `/proc/PID/status`.
fn signals(status: &str, mask: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(mask)?.strip_prefix(":\t"));
    u64::from_str_radix(line.unwrap(), 16).unwrap()
}

/// Sends SIGTERM to this process and no other.
fn terminate(process: u32) {
    let status = Command::new("sh").args(["-c", "kill -TERM $0", &process.to_string()]).status();
    assert!(status.unwrap().success());
}

/// The process that another one has started.
fn child_of(process: u32) -> u32 {
    wait_for("a child", || {
        fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?.trim().parse().ok()
    })
}

fn end(running: &mut Running) -> ExitStatus {
    wait_for("the command to end", || running.0.try_wait().unwrap())
}
