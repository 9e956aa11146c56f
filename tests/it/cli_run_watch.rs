//! `secrets run --watch`: the command is started again with new values, and is otherwise left alone.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    process::{ChildStdout, Command},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rexpect::process::wait::WaitStatus;

use crate::harness::{
    Database,
    cli::{Cli, Running},
    on_each_database,
    relay::relay,
    server::Server,
    wait_for,
};

/// Says its value, and again when it is told to end.
const SAYS: &str =
    r#"trap 'echo "ended $KEY"; exit 0' TERM; echo "started $KEY"; while :; do sleep 0.02; done"#;

/// A server with the agent `demo`, which requires `KEY`, and a caller who may run and watch it.
async fn with_one_secret(database: Database) -> (Server, Cli) {
    let server = Server::start(database);
    let admin = server.cli();
    admin.run(&["agents", "deploy", "demo", "--require", "KEY"]).done();
    set(&server, "KEY=v1");
    let agents = server.rest().get("/v1/agents?name=demo").send().await.json();
    let id = agents["agents"][0]["id"].as_str().unwrap().to_owned();
    let token = server.token(&["agents:read", "secrets:list", "secrets:resolve"], &[&id]).await;
    let watcher = Cli::new(server.address()).env("SUPERSERVE_TOKEN", &token);
    (server, watcher)
}

fn set(server: &Server, assignment: &str) {
    server.cli().run(&["secrets", "set", "demo", assignment]).done();
}

/// Starts a shell script under `--watch`, and gives the lines it writes.
fn start(cli: &Cli, flags: &[&str], script: &str) -> (Running, Lines<BufReader<ChildStdout>>) {
    let mut running =
        cli.start(&[&["secrets", "run", "demo", "--watch"], flags, &["--", "sh", "-c", script]].concat());
    let lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    (running, lines)
}

fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    lines.next().expect("a line").unwrap()
}

fn kill(signal: &str, id: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status();
    assert!(status.unwrap().success());
}

fn end(running: &mut Running) -> Option<i32> {
    wait_for("the command to end", || running.0.try_wait().unwrap()).code()
}

on_each_database!(a_new_value_starts_the_command_again);
async fn a_new_value_starts_the_command_again(database: Database) {
    let (server, watcher) = with_one_secret(database).await;
    let (mut running, mut lines) = start(&watcher, &[], SAYS);
    assert_eq!(next(&mut lines), "started v1");
    set(&server, "KEY=v2");
    assert_eq!(next(&mut lines), "ended v1");
    assert_eq!(next(&mut lines), "started v2");
    // Missing now: it runs on. What follows shows that it was not started in between
    server.cli().run(&["agents", "deploy", "demo", "--require", "KEY,LATER"]).done();
    set(&server, "KEY=v3");
    set(&server, "LATER=l");
    assert_eq!(next(&mut lines), "ended v2");
    assert_eq!(next(&mut lines), "started v3");
    kill("TERM", running.0.id());
    assert_eq!(next(&mut lines), "ended v3");
    assert!(lines.next().is_none(), "it stays ended");
    assert_eq!(end(&mut running), Some(0));
}

#[tokio::test]
async fn a_missing_secret_is_told_and_the_command_runs_on() {
    let (server, watcher) = with_one_secret(Database::Sqlite).await;
    let script =
        format!(r#"exec "$0" secrets run demo --watch -- sh -c '{}' 2>err"#, SAYS.replace('\'', r"'\''"));
    let mut command = watcher.start_script(&script);
    let mut lines = BufReader::new(command.0.stdout.take().unwrap()).lines();
    assert_eq!(next(&mut lines), "started v1");
    server.cli().run(&["agents", "deploy", "demo", "--require", "KEY,LATER"]).done();
    set(&server, "KEY=v2");
    let said = wait_for("the missing secret to be told", || {
        fs::read_to_string(watcher.home().join("err")).ok().filter(|said| said.contains("runs on"))
    });
    assert!(said.contains("  - LATER\n"), "{said}");
    set(&server, "LATER=l");
    assert_eq!(next(&mut lines), "ended v1");
    assert_eq!(next(&mut lines), "started v2");
    let (mut refused, _) = start(&server.runner("demo"), &[], SAYS);
    assert_eq!(end(&mut refused), Some(125), "a token that may not watch is refused at once");
}

#[tokio::test]
async fn the_command_has_its_signals_and_its_exit_code() {
    let (_server, watcher) = with_one_secret(Database::Sqlite).await;
    for code in [0, 3, 42, 255] {
        let (mut running, _) = start(&watcher, &[], &format!("exit {code}"));
        assert_eq!(end(&mut running), Some(code));
    }
    let (mut running, _) = start(&watcher, &[], "kill -KILL $$");
    assert_eq!(end(&mut running), Some(137));
    // A signal that whoever runs the tests ignores (`nohup`) would be ignored by all that they start
    let in_background = |script: &str| {
        let quoted = script.replace('\'', r"'\''");
        let mut running = watcher.start_script(&format!(
            r#"exec env --default-signal "$0" secrets run demo --watch -- sh -c '{quoted}'"#
        ));
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        assert_eq!(next(&mut lines), "ready");
        running
    };
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let mut plain = in_background("echo ready; exec sleep 60");
        kill(signal, plain.0.id());
        assert_eq!(end(&mut plain), Some(code), "{signal}");
        let mut handling =
            in_background(&format!("trap 'exit 7' {signal}; echo ready; while :; do sleep 0.02; done"));
        kill(signal, handling.0.id());
        assert_eq!(end(&mut handling), Some(7), "{signal}");
    }
    let mut missing = watcher.start(&["secrets", "run", "demo", "--watch", "--", "no-such-program"]);
    assert_eq!(end(&mut missing), Some(127));
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_after_the_grace() {
    let (server, watcher) = with_one_secret(Database::Sqlite).await;
    let script = r#"trap 'echo told' TERM; echo "started $KEY"; while :; do sleep 0.02; done"#;
    let (_running, mut lines) = start(&watcher, &["--grace", "1s"], script);
    assert_eq!(next(&mut lines), "started v1");
    set(&server, "KEY=v2");
    assert_eq!(next(&mut lines), "told");
    let told = Instant::now();
    assert_eq!(next(&mut lines), "started v2");
    assert!(told.elapsed() >= Duration::from_millis(900), "{:?}", told.elapsed());
}

#[tokio::test]
async fn watching_survives_a_restart_of_the_server() {
    let (mut server, watcher) = with_one_secret(Database::Sqlite).await;
    let behind = Arc::new(Mutex::new(server.address()));
    let now = Arc::clone(&behind);
    let address = relay(move || Some(*now.lock().unwrap()));
    let watcher = watcher.env("SUPERSERVE_API_URL", &format!("http://{address}"));
    let (_running, mut lines) = start(&watcher, &[], SAYS);
    assert_eq!(next(&mut lines), "started v1");
    server.kill9();
    server.restart();
    *behind.lock().unwrap() = server.address();
    set(&server, "KEY=v2");
    assert_eq!(next(&mut lines), "ended v1");
    assert_eq!(next(&mut lines), "started v2");
}

#[tokio::test]
async fn a_signal_is_told_once_whoever_sends_it() {
    let (_server, watcher) = with_one_secret(Database::Sqlite).await;
    let script = "n=0; trap 'n=$((n+1)); echo \"told $n\"' INT; trap 'exit 5' TERM; echo ready; \
                  while :; do sleep 0.02; done";
    let mut session = watcher.on_terminal(&["secrets", "run", "demo", "--watch", "--", "sh", "-c", script]);
    let parent = session.process.child_pid.as_raw().try_into().unwrap();
    session.exp_string("ready").unwrap();
    // The terminal tells both processes, `kill` only the one it names
    session.send_control('c').unwrap();
    session.exp_string("told 1").unwrap();
    kill("INT", parent);
    session.exp_string("told 2").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("told 3").unwrap();
    kill("TERM", parent);
    let rest = session.exp_eof().unwrap();
    assert!(!rest.contains("told"), "{rest}");
    assert!(matches!(session.process.wait().unwrap(), WaitStatus::Exited(_, 5)));
}

#[tokio::test]
async fn a_shell_can_stop_it_and_go_on() {
    let (_server, watcher) = with_one_secret(Database::Sqlite).await;
    let command = "trap 'echo told; exit 5' INT; echo ready; while :; do sleep 0.02; done";
    let script = format!(
        "set -m\n\"$0\" secrets run demo --watch -- sh -c \"{command}\"\necho \"stopped $?\"\nfg\necho \"code $?\""
    );
    let mut session = watcher.script_on_terminal(&script);
    session.exp_string("ready").unwrap();
    session.send_control('z').unwrap();
    session.exp_string("stopped 148").unwrap();
    // The shell names the job that it continues
    session.exp_string("secrets run demo").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("told").unwrap();
    session.exp_string("code 5").unwrap();
    session.exp_eof().unwrap();
}

#[tokio::test]
async fn what_the_command_started_ends_with_it() {
    let (server, watcher) = with_one_secret(Database::Sqlite).await;
    let script = "sleep 1000 & echo $!; trap 'exit 0' TERM; while :; do sleep 0.02; done";
    let (mut running, mut lines) = start(&watcher, &["--grace", "5s"], script);
    let helper: u32 = next(&mut lines).parse().unwrap();
    assert!(is_alive(helper));
    set(&server, "KEY=v2");
    let next_helper: u32 = next(&mut lines).parse().unwrap();
    assert!(!is_alive(helper), "it would go on with the old value");
    // Also where there is nobody left to end it in order
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let shell = fs::read_to_string(format!("/proc/{next_helper}/stat")).unwrap_or_default();
    let parent = shell.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
    wait_for("the command to end with who watches it", || {
        parent.is_none_or(|parent: u32| parent == 1 || !is_alive(parent)).then_some(())
    });
    if is_alive(next_helper) {
        kill("KILL", next_helper);
    }
}

/// Whether there is such a process, and it has not ended.
fn is_alive(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}
