//! A PostgreSQL cluster of the suite's own: the defaults, but for 200 connections. It is kept by the same guard as
//! that of the tests, which deletes it when this process ends, however that is.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{free_address, run};

const GUARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/it/harness/postgres.sh");
const MAX_CONNECTIONS: &str = "200";

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    guard: Child,
    /// The guard stops when this is closed.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    programs: PathBuf,
    password: String,
    port: u16,
    leader: u32,
}

impl Cluster {
    /// Starts one below a directory.
    pub fn start(directory: &Path) -> Result<Self> {
        let programs = programs().context("PostgreSQL is not installed")?;
        let mut guard = Command::new("sh")
            .arg(GUARD)
            .args([programs.as_os_str(), MAX_CONNECTIONS.as_ref()])
            .env("TMPDIR", directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut cluster = Self {
            commands: guard.stdin.take(),
            answers: BufReader::new(guard.stdout.take().context("stdout is a pipe")?),
            guard,
            programs,
            password: format!("load{}", std::process::id()), // of a cluster that lives for minutes, on loopback
            port: 0,
            leader: 0,
        };
        cluster.begin()?;
        Ok(cluster)
    }

    fn begin(&mut self) -> Result<()> {
        let port = free_address()?.port();
        let commands = self.commands.as_mut().context("the guard reads")?;
        writeln!(commands, "{}\nstart {port}", self.password)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let words: Vec<&str> = answer.split_whitespace().collect();
        let ["started", port, directory] = words[..] else { bail!("PostgreSQL does not start: {answer}") };
        self.port = port.parse()?;
        let pid = fs::read_to_string(Path::new(directory).join("data/postmaster.pid"))?;
        self.leader = pid.lines().next().context("an empty postmaster.pid")?.parse()?;
        Ok(())
    }

    /// The process above all of its processes.
    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// Where to connect.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}?sslmode=disable", self.password, self.port)
    }

    /// One of PostgreSQL's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Makes a database, empty or as a copy, in place of the one that was there.
    pub fn make_database(&self, name: &str, template: Option<&str>) -> Result<()> {
        self.sql("postgres", &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        let template = template.unwrap_or("template1");
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"))?;
        self.sql("postgres", "CHECKPOINT")
    }

    fn sql(&self, database: &str, statement: &str) -> Result<()> {
        let mut psql = Command::new(self.program("psql"));
        psql.args(["--no-psqlrc", "--quiet", &self.url(database), "--command", statement]);
        run(&mut psql).map(|_output| ())
    }

    /// Runs a file of statements.
    pub fn sql_file(&self, database: &str, file: &str, variables: &[(&str, usize)]) -> Result<()> {
        let mut psql = Command::new(self.program("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", &self.url(database), "--file", file]);
        psql.args(variables.iter().map(|(name, value)| format!("--set={name}={value}")));
        run(&mut psql).map(|_output| ())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.commands = None;
        let _status = self.guard.wait();
    }
}

/// The directory of PostgreSQL's programs: the newest where Debian puts them, else that of `pg_config`.
fn programs() -> Result<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = debian.map(|entry| entry.path()).max_by_key(|path| version(path));
    let bin = match newest {
        Some(version) => version.join("bin"),
        None => run(Command::new("pg_config").arg("--bindir"))?.trim().into(),
    };
    ensure!(bin.join("pgbench").exists(), "no pgbench in {}", bin.display());
    Ok(bin)
}
