//! What many agents cost who goes through all of them: time, and no more memory than few. `docs/performance.md` has the
//! figures.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Database, environment, on_each_database, server::Server},
    rewrap::seed,
};

/// How many there are, where the environment does not say otherwise.
const COUNT: usize = 3000;

/// How often the memory of a command is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// More than this is a list that is kept, however many agents there are.
const BYTES_AT_MOST: u64 = 160 * 1024 * 1024;

on_each_database!(all_agents_are_gone_through_in_bounded_memory);

/// Wraps the data keys of all agents anew, and lists all of them, and says what that takes.
#[expect(clippy::print_stderr, reason = "the figures are for who measures")]
async fn all_agents_are_gone_through_in_bounded_memory(database: Database) {
    let count = environment("SUPERSERVE_TEST_AGENTS").map_or(COUNT, |count| count.parse().expect("a number"));
    let server = Server::start(database);
    let named = if matches!(server.database(), Database::Sqlite) { "SQLite" } else { "PostgreSQL" };
    seed(&server, count).await;

    assert_eq!(server.setup().run(&["keys", "generate"]).code, 0);
    assert!(server.reload().await.contains("keyring read again"));
    let begun = Instant::now();
    let (told, most) = run(server.setup().command(&["keys", "rotate", "--json"]));
    let (took, told) = (begun.elapsed(), serde_json::from_str::<Value>(&told.join("\n")).unwrap());
    assert_eq!(told["left"], 0, "{told}");
    // The servers take part
    assert!(told["rewrapped"].as_u64().unwrap() <= count as u64, "{told}");
    eprintln!("{named}: {count} data keys wrapped anew in {took:.1?}, in {}", megabytes(most));
    assert!(most < BYTES_AT_MOST, "{}", megabytes(most));

    let begun = Instant::now();
    let (listed, most) = run(list(&server));
    assert_eq!(listed.len(), count + 1, "under a heading");
    let took = begun.elapsed();
    let of_server = server.resident_bytes();
    eprintln!(
        "{named}: {count} agents listed in {took:.1?}, in {} and {} of the server",
        megabytes(most),
        megabytes(of_server)
    );
    assert!(most < BYTES_AT_MOST && of_server < BYTES_AT_MOST, "{most} {of_server}");
}

fn list(server: &Server) -> Command {
    let mut command = server.setup().command(&["agents", "list"]);
    command.env("SUPERSERVE_API_URL", format!("http://{}", server.address()));
    command.env("SUPERSERVE_TOKEN", server.admin_token());
    command
}

/// Runs a command to its end, and gives its lines and the most memory that it had.
fn run(mut command: Command) -> (Vec<String>, u64) {
    let mut running = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let stdout = BufReader::new(running.stdout.take().expect("it is ours"));
    thread::scope(|scope| {
        let reading = scope.spawn(|| stdout.lines().map(|line| line.expect("text")).collect());
        let mut most = 0;
        let status = loop {
            most = most.max(peak(&running));
            if let Some(status) = running.try_wait().expect("it is our child") {
                break status;
            }
            thread::sleep(LOOK_EVERY);
        };
        assert!(status.success());
        (reading.join().expect("it reads"), most)
    })
}

/// The most memory that a process has had.
fn peak(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
