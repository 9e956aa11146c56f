//! `superserve serve` as a process of its own, the way an operator runs it.
//!
//! ```ignore
//! let mut server = Server::start(database);              // or Server::with(database).env("X", "y").start()
//! let rest = server.rest();
//! server.kill9();
//! server.restart();                                       // same data directory, database and keys; new ports
//! ```
//!
//! It inherits nothing but `PATH`. Its standard error goes to a file: the ports are read from there, and a test that
//! fails prints it.

mod setup;

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::{Database, cli::Cli, eventually, grpc::Grpc, programs::processor_time, rest::Rest, wait_for};

pub(crate) use setup::Setup;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_superserve");

/// A running server, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    setup: Setup,
    /// `None` between [`Server::kill9`] or [`Server::terminate`] and [`Server::restart`].
    process: Option<Child>,
    address: SocketAddr,
    ops_address: SocketAddr,
}

// === impl Server ===

impl Server {
    /// Starts a server with the default settings.
    pub(crate) fn start(database: Database) -> Self {
        Self::with(database).start()
    }

    /// A server to be given settings before it starts.
    pub(crate) fn with(database: Database) -> Setup {
        Setup::new(database)
    }

    /// A second server on the same database (PostgreSQL) and keyring, with a data directory of its own.
    pub(crate) fn replica(&self) -> Setup {
        self.setup.replica()
    }

    fn started(setup: Setup) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { setup, process: None, address: nowhere, ops_address: nowhere };
        server.restart();
        server
    }

    /// How it was started.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Where gRPC and REST are served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub(crate) fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// The directory the server was given.
    pub(crate) fn data_dir(&self) -> &Path {
        self.setup.data_dir()
    }

    /// The database the server was given.
    pub(crate) fn database(&self) -> &Database {
        &self.setup.stores.database
    }

    /// The text of the token with all scopes.
    pub(crate) fn admin_token(&self) -> &str {
        self.setup.stores.admin_token.expose()
    }

    /// A REST client with the admin's token.
    pub(crate) fn rest(&self) -> Rest {
        Rest::new(self.address).token(self.admin_token())
    }

    /// A client of the operator's port.
    pub(crate) fn ops(&self) -> Rest {
        Rest::new(self.ops_address)
    }

    /// gRPC clients with the admin's token.
    pub(crate) async fn grpc(&self) -> Grpc {
        Grpc::connect(self.address, self.admin_token()).await
    }

    /// The command line with the admin's token.
    pub(crate) fn cli(&self) -> Cli {
        Cli::new(self.address).env("SUPERSERVE_TOKEN", self.admin_token())
    }

    /// Its process.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Its memory that is not swapped out, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let process = self.process.as_ref().expect("it runs");
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// The time that processors have spent on it.
    pub(crate) fn processor_time(&self) -> Duration {
        let process = self.process.as_ref().expect("it runs");
        processor_time(&process.id().to_string()).expect("it runs")
    }

    /// All that the server wrote to standard error, of all its lives.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.setup.log_path()).unwrap_or_default()).into_owned()
    }

    /// Kills it without notice and waits until it is dead.
    pub(crate) fn kill9(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it can be killed");
        process.wait().expect("it ends");
    }

    /// Asks it to end (SIGTERM) without waiting.
    pub(crate) fn signal_to_terminate(&self) {
        self.signal("-TERM");
    }

    /// Asks it to read its keyring again (SIGHUP), and waits until it has or has refused. Gives what it says of it.
    pub(crate) async fn reload(&self) -> String {
        self.reload_and_hear_of("keyring ").await
    }

    /// Asks it to read its files again (SIGHUP), and gives what it says of the identities.
    pub(crate) async fn reload_identities(&self) -> String {
        self.reload_and_hear_of("\"files\":\"identities\"").await
    }

    async fn reload_and_hear_of(&self, what: &str) -> String {
        let before = self.log().len();
        self.signal_to_reload();
        eventually("it to be read", async || {
            let log = self.log();
            let said = log.get(before..)?.lines().find(|line| line.contains(what) && line.ends_with('}'));
            said.map(str::to_owned)
        })
        .await
    }

    /// Asks it to read its files again (SIGHUP) without waiting.
    pub(crate) fn signal_to_reload(&self) {
        self.signal("-HUP");
    }

    /// Stops it where it is (SIGSTOP), as a machine that stands still does.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Has it fall (SIGABRT) without waiting.
    pub(crate) fn signal_to_abort(&self) {
        self.signal("-ABRT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        let kill = format!("kill {signal} $0");
        let status = Command::new("sh").args(["-c", &kill, &process.id().to_string()]).status();
        assert!(status.expect("sh starts").success());
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal_to_terminate();
        self.wait_for_end()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        wait_for("the server to end", || process.try_wait().expect("it is our child"))
    }

    /// Asks it to end (SIGTERM) and waits until it has, while clients in this process go on.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal_to_terminate();
        self.wait_until_it_ends().await
    }

    /// Waits until it ends by itself, while clients in this process go on.
    pub(crate) async fn wait_until_it_ends(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        eventually("the server to end", async || process.try_wait().expect("it is our child")).await
    }

    /// Starts it again, on the same data, with the same settings, on other ports.
    ///
    /// # Panics
    /// When it still runs, or ends instead of listening.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_none(), "end it first");
        let log = File::options().create(true).append(true).open(self.setup.log_path()).expect("a log file");
        let earlier_lives = self.log().len();
        let mut command = self.setup.command(&["serve", "--log-format", "json"]);
        command
            .args(["--listen", &self.setup.listen, "--ops-listen", "127.0.0.1:0"])
            .args(&self.setup.arguments);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.process = Some(process.expect("the binary starts"));

        (self.address, self.ops_address) = wait_for("the server to listen", || {
            let log = self.log();
            let life = log.get(earlier_lives..).unwrap_or_default();
            if let Some(status) = self.process.as_mut().and_then(|process| process.try_wait().ok()?) {
                self.process = None;
                panic!("the server ended with {status}");
            }
            Some((logged_address(life, "listening")?, logged_address(life, "ops listening")?))
        });
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "shown only with a test that fails")]
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _killed = process.kill();
            let _status = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}--- end of the server's log ---", self.log());
        }
    }
}

/// The address in the log line with this message.
fn logged_address(log: &str, message: &str) -> Option<SocketAddr> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut events = lines.map(|line| line.get("fields").cloned().unwrap_or(line));
    events.find(|event| event["message"] == message)?["address"].as_str()?.parse().ok()
}
