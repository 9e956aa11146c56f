//! Drills: what becomes of calls while the disk is full, the clock jumps, or there are no more files to be had, and
//! whether memory stays flat. Each tells its figures; `docs/operations.md` has those of longer ones.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant, UNIX_EPOCH},
};

use serde_json::json;
use superserve::proto::v1::CreateTokenRequest;
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::{
    Database, eventually,
    fixtures::secrets_of,
    load::{Load, drill_time, say},
    on_each_database,
    programs::leave_out,
    rest::Answer,
    server::Server,
    steps::{audit, resolve, resolver},
};

on_each_database!(memory_stays_flat, a_clock_jumps);

/// Where Debian's `faketime` has what it puts before a program.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

// === a full disk ===

/// A small disk at a directory, which only programs of one namespace see.
struct Disk {
    shell: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Disk {
    /// `None` where the system lets nobody mount anything.
    fn at(directory: &Path, size: &str) -> Option<Self> {
        const SHELL: &str = r#"mount -t tmpfs -o mode=0700,size="$1" tmpfs "$0" || exit; echo ready
            while read -r command; do eval "$command"; echo done; done"#;
        let mut namespace = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            namespace.args(["--user", "--map-root-user"]);
        }
        namespace.args(["--mount", "sh", "-c", SHELL]).arg(directory).arg(size);
        let mut shell = namespace.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let (commands, answers) = (shell.stdin.take()?, BufReader::new(shell.stdout.take()?));
        let mut disk = Self { shell, commands, answers };
        (disk.answer() == "ready").then_some(disk)
    }

    /// Has a command run where the disk is seen.
    fn run(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("it listens");
        assert_eq!(self.answer(), "done");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        line.trim_end().to_owned()
    }

    /// By what a program is started so that it sees the disk.
    fn entry(&self) -> Vec<String> {
        let of = self.shell.id();
        let user = (!rustix::process::geteuid().is_root()).then(|| format!("--user=/proc/{of}/ns/user"));
        let words = ["nsenter".to_owned()].into_iter().chain(user);
        words.chain([format!("--mount=/proc/{of}/ns/mnt"), "--".to_owned()]).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _killed = self.shell.kill();
        let _status = self.shell.wait();
    }
}

/// Writes until there is no more room, and gives how many writes there was room for.
async fn fill(set: impl AsyncFn(usize) -> Answer) -> usize {
    let mut kept = 0;
    let refused = loop {
        let answer = set(kept + 1).await;
        if answer.status != 200 {
            break answer;
        }
        kept += 1;
        assert!(kept < 1000, "the disk is never full");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_ne!(refused.header("retry-after"), "");
    kept
}

#[tokio::test]
async fn a_disk_is_full() {
    let setup = Server::with(Database::Sqlite);
    let Some(mut disk) = Disk::at(setup.data_dir(), "12m") else {
        return leave_out("nothing can be mounted (unshare --mount)");
    };
    let entry = disk.entry();
    let setup = setup.under(&entry.iter().map(String::as_str).collect::<Vec<_>>());
    let mut server = setup.start();
    let (rest, grpc) = (server.rest(), resolver(&server).await);
    let agent = server.deploy("demo").await;
    let path = secrets_of(&agent);
    let set = async |number: usize| {
        let body = json!({"secrets": {"KEPT": number.to_string(), "LARGE": "x".repeat(60_000 + number % 2)}});
        rest.patch(&path).json(&body).send().await
    };
    assert_eq!(set(0).await.status, 200);
    let ballast = format!("'{}/ballast'", server.data_dir().display());
    disk.run(&format!("dd if=/dev/zero of={ballast} bs=1M count=8 2>/dev/null"));

    let kept = fill(set).await;
    // It goes on with what needs no room, and gives out nothing that it cannot record
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(rest.get(&path).send().await.status, 200);
        assert_eq!(set(kept + 1).await.status, 503);
        slowest = slowest.max(began.elapsed());
    }
    disk.run(&format!("cat /dev/zero 2>/dev/null >>{ballast}"));
    let resolved = resolve(&grpc, &agent).await;
    let recorded = audit(&server.grpc().await, &agent).await;
    let recorded = recorded.iter().any(|event| event.action == "secrets.resolve");
    match resolved {
        Ok(values) => assert!(recorded && values["KEPT"] == kept.to_string(), "a small record may still fit"),
        Err(status) => assert!(status.code() == Code::Unavailable && !recorded, "{status}"),
    }
    assert!(server.log().contains("full"), "the log does not say why");

    let began = Instant::now();
    disk.run(&format!("rm {ballast}"));
    let after = eventually("room", async || Some(set(kept + 1).await).filter(|answer| answer.status == 200));
    drop(after.await);
    say(
        "disk full",
        format!(
            "{kept} writes of 60 kB fit; then refused with 503 (a list and a set took {slowest:?} at most), and taken again {:?} \
         after there was room",
            began.elapsed()
        ),
    );
    assert_eq!(resolve(&grpc, &agent).await.unwrap()["KEPT"], (kept + 1).to_string());

    // A server that falls while there is no room comes back when there is
    disk.run(&format!("dd if=/dev/zero of={ballast} bs=1M count=12 2>/dev/null"));
    let _refused = set(kept + 2).await;
    server.kill9();
    disk.run(&format!("rm {ballast}"));
    server.restart();
    let value = resolve(&resolver(&server).await, &agent).await.unwrap()["KEPT"].clone();
    assert!([kept + 1, kept + 2].map(|number| number.to_string()).contains(&value), "{value}");
}

// === a clock that jumps ===

async fn a_clock_jumps(database: Database) {
    const DAY: i64 = 86_400;
    if !Path::new(FAKETIME).exists() {
        return leave_out("there is no libfaketime");
    }
    let setup = Server::with(database);
    let offset = setup.data_dir().join("offset");
    // Renamed, so that nobody reads half of one
    let jump = |seconds: i64| {
        let new = offset.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).and_then(|()| fs::rename(&new, &offset)).expect("a file");
    };
    jump(0);
    let server = setup
        .env("LD_PRELOAD", FAKETIME)
        .env("FAKETIME_TIMESTAMP_FILE", offset.to_str().unwrap())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start();
    let load = Load::new(&server, 4).await;
    let (grpc, admin) = (resolver(&server).await, server.grpc().await);
    let in_an_hour = UNIX_EPOCH + UNIX_EPOCH.elapsed().unwrap() + Duration::from_hours(1);
    let token = CreateTokenRequest {
        name: "hour".to_owned(),
        scopes: vec!["agents:read".to_owned()],
        expires_at: Some(in_an_hour.into()),
        ..Default::default()
    };
    let token =
        server.rest().token(&admin.tokens.clone().create_token(token).await.unwrap().into_inner().text);
    let status = async || token.get("/v1/agents").send().await.status.as_u16();
    let agent = server.deploy("demo").await;
    for (offset, is_good) in [(0, true), (DAY, false), (-DAY, true), (0, true)] {
        jump(offset);
        assert_eq!(status().await, if is_good { 200 } else { 401 }, "{offset}");
        load.during(&grpc, load.answers(60)).await;
        server.set(&agent, &json!({"A": offset.to_string()})).await;
    }
    load.check(&server).await;
    assert_eq!(server.ops().get("/readyz").send().await.status, 200);
    let report = load.report();
    say("clock a day ahead, a day back and right again", &report);
    assert_eq!(report.refused(), 0, "{report}");
    // The trail has all, at the times that the clock told
    let events = audit(&admin, &agent).await;
    assert_eq!(events.iter().filter(|event| !event.secrets.is_empty()).count(), 4, "{events:?}");
}

// === no more files ===

#[tokio::test]
async fn files_run_out() {
    const FILES: usize = 80;
    let limited = format!("ulimit -n {FILES}; exec \"$@\"");
    let server = Server::with(Database::Sqlite).under(&["sh", "-c", &limited, "sh"]).start();
    let agent = server.deploy("demo").await;
    let grpc = resolver(&server).await;
    let held: Vec<_> = {
        let mut held = Vec::new();
        for _ in 0..2 * FILES {
            held.push(TcpStream::connect(server.address()).await.expect("the system takes it"));
        }
        held
    };
    eventually("the log to tell of it", async || {
        server.log().contains("cannot accept connections").then_some(())
    })
    .await;
    // Who is connected goes on
    for _ in 0..20 {
        resolve(&grpc, &agent).await.unwrap();
    }
    let began = Instant::now();
    drop(held);
    assert_eq!(server.rest().get(&secrets_of(&agent)).send().await.status, 200);
    let after = began.elapsed();
    say(
        "no more files",
        format!("who was connected went on; a new client was served {after:?} after there were some"),
    );
    assert_eq!(server.ops().get("/readyz").send().await.status, 200);
}

// === a long time ===

async fn memory_stays_flat(database: Database) {
    let kind = if matches!(database, Database::Sqlite) { "SQLite" } else { "PostgreSQL" };
    let server = Server::start(database);
    let load = Load::new(&server, 16).await;
    let (grpc, time) = (resolver(&server).await, drill_time(6));
    // What is kept for the next call is there by then
    load.during(&grpc, tokio::time::sleep(time / 3)).await;
    drop(load.report());
    let before = server.resident_bytes();
    load.during(&grpc, tokio::time::sleep(time)).await;
    let after = server.resident_bytes();
    let report = load.report();
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let (mib, share) = (|bytes: u64| bytes as f64 / 1_048_576.0, after as f64 / before as f64);
    say(
        &format!("soak of {time:?} on {kind}"),
        format!("memory {:.1} MiB before, {:.1} MiB after ({share:.3}); {report}", mib(before), mib(after)),
    );
    assert!(report.refused() == 0, "{report}");
    // A short one may end in the middle of a growth that is no leak
    let allowed = if time < Duration::from_mins(1) { 1.15 } else { 1.05 };
    assert!(share < allowed, "{share}");
}
