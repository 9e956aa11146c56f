//! What a person types or pipes in.
//!
//! Each wait for input runs on a thread of its own, so that Ctrl-C ends it: a signal handler makes the
//! hidden prompt restore the terminal, which death by the signal would leave without echo.

use std::{
    future,
    io::{self, ErrorKind, IsTerminal as _, Read},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    thread,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use zeroize::Zeroizing;

use super::{
    bounded,
    failure::{Exit, Failure},
    ignored::is_ignored,
    output::Output,
    terminal,
};

/// The most that is read of stdin or a file, in bytes. Linux hands at most 6 MiB to a process, so whatever is
/// of use fits, and how much of that is too much is the server's to say.
pub(crate) const MAX_INPUT_BYTES: usize = 8 * 1024 * 1024;

/// The longest line that is read, in bytes.
const MAX_LINE_BYTES: usize = 4096;

type Source = Arc<Mutex<dyn Read + Send>>;

/// Stdin, and whether a person is behind it.
pub(crate) struct Input {
    stdin: Source,
    /// A person can be asked.
    pub(crate) is_terminal: bool,
}

/// Stdin, read bit by bit.
struct Stdin(Source);

/// The process's stdin, past the standard library's buffer, which is never wiped, and by its own descriptor: a second one
/// could get the number of a file that the caller names and forgot to open.
struct Unbuffered;

// === impl Stdin ===

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

impl Read for Unbuffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(io::stdin(), buffer)?)
    }
}

// === impl Input ===

impl Input {
    /// Reads from this.
    pub(crate) fn new(stdin: impl Read + Send + 'static, is_terminal: bool) -> Self {
        Self { stdin: Arc::new(Mutex::new(stdin)), is_terminal }
    }

    /// The process's own.
    pub(crate) fn of_process() -> Self {
        Self::new(Unbuffered, io::stdin().is_terminal())
    }

    /// Stdin as it comes, for what may be large and is not secret in itself.
    pub(crate) fn reader(&self) -> impl Read + Send + 'static {
        Stdin(Arc::clone(&self.stdin))
    }

    /// All of stdin.
    ///
    /// # Errors
    /// When it cannot be read or is larger than [`MAX_INPUT_BYTES`].
    pub(crate) async fn read_all(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let stdin = Arc::clone(&self.stdin);
        let read = move || {
            let mut stdin = stdin.lock().unwrap_or_else(PoisonError::into_inner);
            bounded::read(&mut *stdin, MAX_INPUT_BYTES)
        };
        interruptible(on_thread(read)).await?.map_err(|error| cannot_read(&error))
    }

    /// Asks for one line that may be seen; `None` at the end of input.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn ask(&self, output: &mut Output, question: &str) -> Result<Option<String>, Failure> {
        let stdin = Arc::clone(&self.stdin);
        let read = move || {
            let mut stdin = stdin.lock().unwrap_or_else(PoisonError::into_inner);
            read_line(&mut *stdin)
        };
        let asked = async {
            output.prompt(question);
            on_thread(read).await
        };
        interruptible(asked).await?.map_err(|error| cannot_read(&error))
    }

    /// Asks for a value on the terminal, hidden.
    ///
    /// # Errors
    /// When the person gives up, or the terminal cannot be read.
    pub(crate) async fn ask_hidden(&self, question: String) -> Result<Zeroizing<String>, Failure> {
        // With a handler in place Ctrl-C does not kill: the prompt itself sees it and restores the terminal
        hear_interrupts()?;
        let read = move || terminal::ask_hidden(&question);
        on_thread(read).await.map_err(|error| {
            if error.kind() == ErrorKind::Interrupted {
                interrupted()
            } else if error.kind() == ErrorKind::UnexpectedEof {
                Failure::local("Cancelled: nothing was changed.")
            } else {
                Failure::local(format!("Cannot ask on the terminal: {error}."))
            }
        })
    }

    /// Asks a question to which the answer is no unless it is yes. Without a person to ask it fails and
    /// names the flag that answers.
    ///
    /// # Errors
    /// When nobody can be asked or the answer is no.
    pub(crate) async fn confirm(&self, output: &mut Output, question: &str) -> Result<(), Failure> {
        if !self.is_terminal {
            return Err(Failure::local(format!("Not confirmed: {question}"))
                .hint("There is no terminal to ask on: pass --yes to confirm."));
        }
        let answer = self.ask(output, &format!("{question} (y/N) ")).await?.unwrap_or_default();
        let answer = answer.trim();
        if answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes") {
            Ok(())
        } else {
            Err(Failure::local("Cancelled: nothing was changed."))
        }
    }
}

/// Waits for `work`, or fails at Ctrl-C.
///
/// # Errors
/// At Ctrl-C.
pub(crate) async fn interruptible<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    hear_interrupts()?;
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = interrupt() => Err(interrupted()),
    }
}

/// Hears Ctrl-C from now on, unless it is to be ignored. One for all waits, so that what comes between two of them ends
/// the second.
static INTERRUPTS: Mutex<Option<Signal>> = Mutex::new(None);

fn hear_interrupts() -> Result<(), Failure> {
    let mut heard = INTERRUPTS.lock().unwrap_or_else(PoisonError::into_inner);
    if heard.is_none() && !is_ignored(rustix::process::Signal::INT) {
        let listening = signal(SignalKind::interrupt());
        *heard =
            Some(listening.map_err(|error| Failure::local(format!("Cannot listen for Ctrl-C: {error}.")))?);
    }
    Ok(())
}

async fn interrupt() {
    future::poll_fn(|context| {
        let mut heard = INTERRUPTS.lock().unwrap_or_else(PoisonError::into_inner);
        heard.as_mut().map_or(Poll::Pending, |heard| heard.poll_recv(context).map(drop))
    })
    .await;
}

fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "Interrupted.")
}

/// Runs what blocks on a thread that the end of the process does not wait for.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new().name("input".to_owned()).spawn(move || sender.send(work()).is_ok())?;
    receiver.await.unwrap_or_else(|_gone| Err(ErrorKind::UnexpectedEof.into()))
}

/// Reads byte by byte: what follows the line belongs to the next question.
fn read_line(source: &mut dyn Read) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_LINE_BYTES {
        let end = source.read(&mut byte)? == 0;
        if end && line.is_empty() {
            return Ok(None);
        }
        if end || byte == *b"\n" {
            break;
        }
        line.extend_from_slice(&byte);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()))
}

fn cannot_read(error: &io::Error) -> Failure {
    Failure::local(format!("Cannot read stdin: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    #[tokio::test]
    async fn only_yes_is_yes() {
        let input = Input::new(&b"y\nYES\r\n\nn\nyep\n"[..], true);
        let captured = Captured::default();
        let mut output = captured.output();
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(input.confirm(&mut output, "Sure?").await.is_ok());
        }
        assert_eq!(answers, [true, true, false, false, false, false]);
        assert!(captured.stderr().starts_with("Sure? (y/N) "), "{}", captured.stderr());
        assert_eq!(captured.stdout(), "");
    }

    #[tokio::test]
    async fn nobody_is_asked_without_a_terminal() {
        let input = Input::new(&b"y\n"[..], false);
        let captured = Captured::default();
        let failure = input.confirm(&mut captured.output(), "Sure?").await.unwrap_err();
        assert_eq!(failure.exit, Exit::Local);
        assert!(failure.to_string().contains("--yes"), "{failure}");
        assert_eq!(captured.stderr(), "");
    }

    #[tokio::test]
    async fn stdin_is_bounded() {
        let input = Input::new(io::repeat(b'x'), false);
        assert!(input.read_all().await.unwrap_err().to_string().contains("too large"));
    }
}
