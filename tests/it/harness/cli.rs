//! The binary as a client: with pipes, as a script runs it, or on a terminal, as a person does.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use rexpect::session::{PtySession, spawn_command};
use tempfile::TempDir;

use super::{LIMIT, search_path, server::BINARY, wait_for};

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

/// A command that does not outlive the test that gave up waiting for it.
struct Running(Child);

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
        run_to_end(self.command(arguments), stdin)
    }

    /// Runs a command on a terminal of its own: `exp_string` waits for what it says, `send_line` answers.
    pub(crate) fn on_terminal<S: AsRef<OsStr>>(&self, arguments: &[S]) -> PtySession {
        let limit = u64::try_from(LIMIT.as_millis()).expect("a short limit");
        spawn_command(self.command(arguments), Some(limit)).expect("the binary starts on a terminal")
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", self.home.path())
            .env("TERM", "dumb")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Runs a command with these bytes on standard input.
///
/// # Panics
/// When it does not end within [`LIMIT`].
pub(super) fn run_to_end(mut command: Command, stdin: &[u8]) -> Output {
    // Files, not pipes: nobody has to read while the command writes
    let talk = TempDir::new().expect("a temporary directory");
    let (out, err) = (talk.path().join("out"), talk.path().join("err"));
    let create = |path| File::create(path).expect("a file");
    command.stdin(Stdio::piped()).stdout(create(&out)).stderr(create(&err));
    let mut child = Running(command.spawn().expect("the binary starts"));

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
