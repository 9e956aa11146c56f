//! A PostgreSQL of three members that fails over: Patroni, by `tests/failover/cluster.sh`.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// The three, and `HAProxy` before them. All is ended when dropped.
#[derive(Debug)]
pub(crate) struct Patroni {
    guard: Child,
    /// `None` once the guard was told to clean up.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Address and port of `HAProxy`, then of the members.
    servers: Vec<String>,
}

// === impl Patroni ===

impl Patroni {
    /// Starts it, and waits until one may take over from the other.
    ///
    /// # Panics
    /// When it does not start; what it needs is named by `tests/failover/run.sh`.
    pub(crate) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/failover/cluster.sh");
        let mut guard = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // a Ctrl-C at the terminal is for the tests, not for the guard
            .spawn()
            .expect("the script starts");
        let mut patroni = Self {
            commands: guard.stdin.take(),
            answers: BufReader::new(guard.stdout.take().expect("stdout is a pipe")),
            guard,
            servers: Vec::new(),
        };
        patroni.servers = patroni.answer("started").split(' ').map(str::to_owned).collect();
        patroni
    }

    /// The way through `HAProxy`.
    pub(crate) fn by_proxy(&self, database: &str) -> String {
        format!("postgres://postgres:drill@{}/{database}", self.servers[0])
    }

    /// The way without it.
    pub(crate) fn by_hosts(&self, database: &str) -> String {
        let hosts = self.servers[1..].join(",");
        format!("postgres://postgres:drill@{hosts}/{database}?target_session_attrs=read-write")
    }

    /// The leader hands over in order; its name.
    pub(crate) fn switch_over(&mut self) -> String {
        self.ask("switchover", "switchover")
    }

    /// Kills the leader's PostgreSQL; its name.
    pub(crate) fn kill_postgres(&mut self) -> String {
        self.ask("kill-postgres", "killed")
    }

    /// Kills the leader, Patroni and PostgreSQL; its name.
    pub(crate) fn kill_member(&mut self) -> String {
        self.ask("kill-member", "killed")
    }

    /// The leader is gone without a word, as with its machine; its name.
    pub(crate) fn lose_member(&mut self) -> String {
        self.ask("lose-member", "killed")
    }

    /// Waits until a member that led follows the one that leads now; starts it before where it is gone.
    pub(crate) fn return_member(&mut self, name: &str) {
        assert_eq!(self.ask(&format!("return {name}"), "returned"), name);
    }

    fn ask(&mut self, command: &str, answer: &str) -> String {
        let pipe = self.commands.as_mut().expect("the guard is there until we drop it");
        writeln!(pipe, "{command}").expect("the guard reads");
        self.answer(answer)
    }

    fn answer(&mut self, expected: &str) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the guard answers");
        let (word, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        assert_eq!(word, expected, "{rest}: the logs are above");
        rest.to_owned()
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        self.commands = None;
        // Nothing to be done about a guard that is gone already
        let _status = self.guard.wait();
    }
}
