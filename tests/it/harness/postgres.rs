//! A PostgreSQL server for the tests.
//!
//! One cluster is started for the whole run, from installed programs, on a free port of 127.0.0.1, and each test
//! makes a [`Database`] of its own in it. `TEST_DATABASE_URL` names an existing server instead. Where there is
//! neither, the PostgreSQL half of the tests is left out and one line says so; with
//! `SUPERSERVE_TEST_REQUIRE_POSTGRES=1` that is a failure.
//!
//! Rust drops no statics, and a killed process drops nothing at all. So a cluster belongs to a small shell process
//! (`postgres.sh`) that holds the other end of a pipe: when this process ends, however it ends, the pipe closes and
//! the cluster goes with its directory.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use ring::rand::{SecureRandom, SystemRandom};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    engine, environment,
    programs::{processor_time, say_once},
    search_path,
};

const GUARD: &str = include_str!("postgres.sh");

/// A PostgreSQL server that this process started, and may stop, kill and start again.
#[derive(Debug)]
pub(crate) struct Cluster {
    guard: Child,
    /// `None` once the guard was told to clean up.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    password: String,
    port: u16,
    directory: PathBuf,
}

/// An empty database on a PostgreSQL server.
#[derive(Debug)]
pub(crate) struct Database {
    url: String,
    /// Where to drop it: only on a server that outlives the run.
    drop_at: Option<(String, String)>,
}

/// The server that all tests share: where to connect as its superuser, and whether it outlives the run.
struct Shared {
    url: String,
    outlives_us: bool,
    /// Held until the process ends.
    _cluster: Option<Cluster>,
}

// === impl Cluster ===

impl Cluster {
    /// Starts a cluster of one's own, to be stopped or killed in a test. `None` without PostgreSQL's programs.
    ///
    /// # Panics
    /// When it does not start, or is required and not installed.
    pub(crate) fn start() -> Option<Self> {
        let programs = programs()?;
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(programs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // a Ctrl-C at the terminal is for the tests, not for the guard
            .spawn()
            .expect("sh starts");
        let mut cluster = Self {
            commands: guard.stdin.take(),
            answers: BufReader::new(guard.stdout.take().expect("stdout is a pipe")),
            guard,
            password: random_hex(),
            port: 0,
            directory: PathBuf::new(),
        };
        let password = cluster.password.clone();
        cluster.tell(&password);
        cluster.start_on(&free_ports());
        Some(cluster)
    }

    /// Where to connect, as the superuser.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The directory that holds everything of the cluster.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database in this cluster.
    pub(crate) async fn create_database(&self) -> Database {
        Database { url: create_database(&self.url("postgres")).await.0, drop_at: None }
    }

    /// The time that processors have spent on the server and on those it started that are still there.
    pub(crate) fn processor_time(&self) -> Duration {
        let file = fs::read_to_string(self.directory.join("data/postmaster.pid")).expect("it runs");
        let leader = file.lines().next().expect("a process");
        let children = fs::read_to_string(format!("/proc/{leader}/task/{leader}/children")).expect("it runs");
        [leader].into_iter().chain(children.split_whitespace()).filter_map(processor_time).sum()
    }

    /// Stops the server in order; clients are cut off.
    pub(crate) fn stop(&mut self) {
        self.tell("stop");
        assert_eq!(self.answer(), "stopped");
    }

    /// Kills the server and all its processes, as a loss of the machine would look to the data.
    pub(crate) fn kill9(&mut self) {
        self.tell("kill");
        assert_eq!(self.answer(), "stopped");
    }

    /// Starts the server again, on the same port.
    pub(crate) fn start_again(&mut self) {
        self.start_on(&[self.port]);
    }

    fn start_on(&mut self, ports: &[u16]) {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        self.tell(&format!("start {}", ports.join(" ")));
        let answer = self.answer();
        let mut words = answer.splitn(3, ' ');
        assert_eq!(words.next(), Some("started"), "PostgreSQL does not start: its log is above");
        self.port = words.next().expect("a port").parse().expect("a number");
        self.directory = words.next().expect("a directory").into();
    }

    fn tell(&mut self, command: &str) {
        let pipe = self.commands.as_mut().expect("the guard is there until we drop it");
        writeln!(pipe, "{command}").expect("the guard reads");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the guard answers");
        line.trim_end().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.commands = None;
        // Nothing to be done about a guard that is gone already
        let _status = self.guard.wait();
    }
}

// === impl Database ===

impl Database {
    /// A database that is there, of a server that goes with the test.
    pub(crate) fn at(url: String) -> Self {
        Self { url, drop_at: None }
    }

    /// The same database by another way: a relay on this machine.
    pub(crate) fn by_way_of(&self, relay: SocketAddr) -> Self {
        let mut url = url::Url::parse(&self.url).expect("it is one");
        url.set_ip_host(relay.ip()).expect("it has a host");
        url.set_port(Some(relay.port())).expect("it has a port");
        Self::at(url.into())
    }

    /// Makes an empty database on the server that all tests share. `None` where there is no server.
    ///
    /// # Panics
    /// When the server does not start or does not answer, or is required and missing.
    pub(crate) async fn create() -> Option<Self> {
        static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
        let shared = SHARED.get_or_init(Shared::start).as_ref()?;
        let (url, name) = create_database(&shared.url).await;
        Some(Self { url, drop_at: shared.outlives_us.then(|| (shared.url.clone(), name)) })
    }

    /// Where to connect.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some((url, name)) = self.drop_at.take() else { return };
        let drop_it = async move {
            let mut connection = PgConnection::connect(&url).await?;
            sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))
                .execute(&mut connection)
                .await
        };
        // Drop is not async, and a runtime may not be started within the test's own: hence the thread
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let dropped = thread::spawn(move || runtime().map(|runtime| runtime.block_on(drop_it))).join();
        assert!(matches!(dropped, Ok(Ok(Ok(_)))) || thread::panicking(), "{dropped:?}");
    }
}

// === impl Shared ===

impl Shared {
    fn start() -> Option<Self> {
        if let Some(url) = environment("TEST_DATABASE_URL") {
            return Some(Self { url, outlives_us: true, _cluster: None });
        }
        let cluster = Cluster::start()?;
        Some(Self { url: cluster.url("postgres"), outlives_us: false, _cluster: Some(cluster) })
    }
}

/// Creates a database and gives its URL and its name.
async fn create_database(server_url: &str) -> (String, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("superserve_test_{}_{count}", std::process::id());
    let mut connection = PgConnection::connect(server_url).await.expect("PostgreSQL answers");
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create).execute(&mut connection).await.expect("a database is made");
    for setting in engine::database_settings() {
        let alter = AssertSqlSafe(format!("ALTER DATABASE {name} SET {setting}"));
        sqlx::raw_sql(alter).execute(&mut connection).await.expect("a database is set");
    }
    let mut url = url::Url::parse(server_url).expect("TEST_DATABASE_URL is a URL");
    url.set_path(&name);
    (url.into(), name)
}

/// The directory of PostgreSQL's programs: of the search path, or the newest where Debian puts them.
fn programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    versions.sort_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|name| name.parse::<u32>().ok())
    });
    let found = env::split_paths(&search_path())
        .chain(versions.into_iter().rev())
        .filter_map(|bin| bin.join("initdb").canonicalize().ok()?.parent().map(Path::to_owned))
        .find(|bin| ["pg_ctl", "postgres"].iter().all(|program| bin.join(program).exists()));
    if found.is_none() {
        let required = environment("SUPERSERVE_TEST_REQUIRE_POSTGRES").is_some_and(|value| value != "0");
        assert!(!required, "PostgreSQL is required, and neither installed nor named by TEST_DATABASE_URL");
        say_once("PostgreSQL is not installed: its half of the tests is left out\n");
    }
    found
}

/// A program of PostgreSQL, not yet begun. `None` where it is not installed.
pub(crate) fn program(name: &str) -> Option<Command> {
    let path = programs()?.join(name);
    path.exists().then(|| Command::new(path))
}

/// Ports that are free now: several, as somebody may take one before PostgreSQL does.
fn free_ports() -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..5).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}

fn random_hex() -> String {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
    format!("{:032x}", u128::from_ne_bytes(bytes))
}
