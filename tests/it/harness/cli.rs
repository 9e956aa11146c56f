//! The binary as a client: with pipes, as a script runs it, or on a terminal, as a person does.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Instant,
};

use rexpect::session::{PtySession, spawn_command};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{LIMIT, POLL_INTERVAL, search_path, server::BINARY, wait_for};

/// A caller with a home directory of its own. Nothing is inherited but `PATH`.
#[derive(Debug)]
pub(crate) struct Cli {
    home: TempDir,
    environment: Vec<(String, String)>,
}

/// What a command came to.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// The exit code; 128 + n for signal n.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// A command that, with all that it has started, does not outlive the test that gave up waiting for it. It runs in a
/// session of its own, without a terminal, like a service.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

/// A command on a terminal of its own, which does not outlive the test either.
pub(crate) struct OnTerminal(PtySession);

// === impl Cli ===

impl Cli {
    /// A caller who knows the server's address and has no token.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let home = TempDir::with_prefix("superserve-home-").expect("a temporary directory");
        Self { home, environment: Vec::new() }.env("SUPERSERVE_API_URL", &format!("http://{address}"))
    }

    /// The same caller with an environment variable set.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same caller without an environment variable.
    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// The home directory, in which commands run.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs a command with nothing on standard input.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.run_with(arguments, b"")
    }

    /// Runs a command with these bytes on standard input.
    ///
    /// # Panics
    /// When it does not end within [`LIMIT`].
    pub(crate) fn run_with<S: AsRef<OsStr>>(&self, arguments: &[S], stdin: &[u8]) -> Output {
        Self::finish(self.command(BINARY, arguments), stdin)
    }

    /// Runs a shell script with nothing on standard input. `$0` in it is the binary.
    pub(crate) fn script(&self, script: &str) -> Output {
        Self::finish(self.command("sh", &["-c", script, BINARY]), b"")
    }

    /// Starts a command with pipes as its standard input and output.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        let mut command = self.command(BINARY, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Running::start(command)
    }

    /// Starts a shell script with pipes as its standard input and output. `$0` in it is the binary.
    pub(crate) fn start_script(&self, script: &str) -> Running {
        let mut command = self.command("sh", &["-c", script, BINARY]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Running::start(command)
    }

    /// Runs a command on a terminal of its own: `exp_string` waits for what it says, `send_line` answers.
    pub(crate) fn on_terminal<S: AsRef<OsStr>>(&self, arguments: &[S]) -> OnTerminal {
        self.shell_on_terminal(r#"exec "$0" "$@""#, arguments)
    }

    /// Runs a shell script on a terminal of its own. `$0` in it is the binary.
    pub(crate) fn script_on_terminal(&self, script: &str) -> OnTerminal {
        self.shell_on_terminal::<&str>(script, &[])
    }

    fn shell_on_terminal<S: AsRef<OsStr>>(&self, script: &str, arguments: &[S]) -> OnTerminal {
        // The terminal comes without echo, with which nothing typed could be seen to be hidden
        let script = format!("stty echo\n{script}");
        // As at the beginning of a session: whoever runs the tests may ignore signals (`nohup`, a shell's `&`)
        let mut command = self.plain_command("env");
        command.args(["--default-signal", "sh", "-c", &script, BINARY]).args(arguments);
        let limit = u64::try_from(LIMIT.as_millis()).expect("a short limit");
        OnTerminal(spawn_command(command, Some(limit)).expect("a shell starts on a terminal"))
    }

    /// Runs any command with these bytes on standard input.
    ///
    /// # Panics
    /// When it does not end within [`LIMIT`].
    pub(crate) fn finish(mut command: Command, stdin: &[u8]) -> Output {
        // Files, not pipes: nobody has to read while the command writes
        let talk = TempDir::new().expect("a temporary directory");
        let (out, err) = (talk.path().join("out"), talk.path().join("err"));
        let create = |path| File::create(path).expect("a file");
        command.stdin(Stdio::piped()).stdout(create(&out)).stderr(create(&err));
        let mut child = Running::start(command);

        let mut pipe = child.0.stdin.take().expect("stdin is a pipe");
        let status = thread::scope(|scope| {
            // A command may end without reading its input
            scope.spawn(move || pipe.write_all(stdin).ok());
            wait_for("the command to end", move || child.0.try_wait().expect("it is our child"))
        });
        let read = |path| String::from_utf8(fs::read(path).expect("a file")).expect("UTF-8");
        let code = status.code().or_else(|| Some(128 + status.signal()?)).expect("it ended");
        Output { code, stdout: read(&out), stderr: read(&err) }
    }

    /// A command in a session of its own: no call of the standard library's begins one.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Command {
        let mut command = self.plain_command("setsid");
        command.arg(program).args(arguments);
        command
    }

    fn plain_command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", self.home.path())
            .env("TERM", "dumb")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

// === impl Output ===

impl Output {
    /// Standard output of a command that must succeed.
    ///
    /// # Panics
    /// When it failed.
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error of a command that must fail with this code, and write no data.
    ///
    /// # Panics
    /// When it ended otherwise.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{}", self.stderr);
        self.stderr
    }
}

// === impl Running ===

impl Running {
    /// Starts a command of [`Cli::command`]; its process id is that of its session, too.
    pub(crate) fn start(mut command: Command) -> Self {
        Self(command.spawn().expect("a program starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails when it has ended
        let _killed = self.0.kill();
        kill_session(self.0.id());
        let _status = self.0.wait();
    }
}

// === impl OnTerminal ===

impl Deref for OnTerminal {
    type Target = PtySession;

    fn deref(&self) -> &PtySession {
        &self.0
    }
}

impl DerefMut for OnTerminal {
    fn deref_mut(&mut self) -> &mut PtySession {
        &mut self.0
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        kill_session(self.0.process.child_pid.as_raw().unsigned_abs());
    }
}

/// Kills all of a session: what changes its group or loses its parent stays in it. Again until none is left, as what
/// is killed may just have started something.
fn kill_session(session: u32) {
    let start = Instant::now();
    let kill_all = || {
        let entries = fs::read_dir("/proc").into_iter().flatten();
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let ours = ids.filter(|id| is_alive_in(session, *id)).filter_map(Pid::from_raw);
        ours.filter(|id| kill_process(*id, Signal::KILL).is_ok()).count()
    };
    while kill_all() > 0 && start.elapsed() < LIMIT {
        thread::sleep(POLL_INTERVAL);
    }
}

fn is_alive_in(session: u32, id: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: state, parent, group, session
    let fields: Vec<_> =
        stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    fields.get(3).is_some_and(|its| *its == session.to_string()) && fields[0] != "Z"
}
