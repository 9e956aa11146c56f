//! The hidden prompt.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

const TERMINAL: &str = "/dev/tty";

/// A terminal that does not echo what is typed, until this is dropped.
struct Quiet {
    terminal: File,
    before: Termios,
}

/// Asks on the terminal of this process for one line, which is not shown. Blocks.
///
/// Echo ends before the question is seen: what is typed, or pasted by a program, the moment it appears is
/// hidden too. Nor do keys make signals, so that Ctrl-C is read here, and the terminal left as it was.
///
/// # Errors
/// Without a terminal; `Interrupted` at Ctrl-C, `UnexpectedEof` at Ctrl-D.
pub(super) fn ask_hidden(question: &str) -> io::Result<Zeroizing<String>> {
    let mut quiet = Quiet::enter(OpenOptions::new().read(true).write(true).open(TERMINAL)?)?;
    quiet.terminal.write_all(question.as_bytes())?;
    rpassword::read_password().map(Zeroizing::new)
}

// === impl Quiet ===

impl Quiet {
    fn enter(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(&terminal, OptionalActions::Now, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // It worked a moment ago; if not now, the terminal is gone
        let _restored = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
