//! Data on stdout, talk on stderr.

use std::io::{self, ErrorKind, IsTerminal as _, Write};

use clap::builder::StyledStr;
use serde_json::Value;

use super::{environment::Environment, failure::Failure};

/// The two ways out. Both are handed in, so that tests can read them.
#[expect(clippy::struct_excessive_bools, reason = "each is of something else")]
pub(crate) struct Output {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    /// Data is JSON.
    pub(crate) json: bool,
    /// Nobody reads stdout any more (`… | head -1`): no reason to fail, but no more is written.
    is_closed: bool,
    /// Talk is shown on a terminal, where a line can be written over.
    pub(crate) is_live: bool,
    /// Data is shown on a terminal.
    pub(crate) is_shown: bool,
    colours: Colours,
}

/// Where colours are wanted: help among the data, and of talk what kind it is.
#[derive(Clone, Copy, Default)]
struct Colours {
    data: bool,
    talk: bool,
}

// === impl Output ===

impl Output {
    /// Writes to these.
    pub(crate) fn new(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Self {
        let (json, is_closed, is_live, is_shown) = (false, false, false, false);
        Self { stdout, stderr, json, is_closed, is_live, is_shown, colours: Colours::default() }
    }

    /// Writes to the process's own. Colours are for terminals, and not for those who do without (`NO_COLOR`).
    pub(crate) fn of_process(environment: &Environment) -> Self {
        let is_plain = environment.get_os("NO_COLOR").is_some()
            || environment.get_os("TERM").is_none_or(|it| it == "dumb");
        Self {
            is_live: io::stderr().is_terminal(),
            is_shown: io::stdout().is_terminal(),
            colours: Colours {
                data: !is_plain && io::stdout().is_terminal(),
                talk: !is_plain && io::stderr().is_terminal(),
            },
            ..Self::new(Box::new(io::stdout()), Box::new(io::stderr()))
        }
    }

    /// One line of data, or several.
    ///
    /// # Errors
    /// When it cannot be written for another reason than that nobody reads.
    pub(crate) fn data(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.write_if_read(&printable(text.as_ref()))
    }

    /// Data that is lost for ever if it is not read: a closed stdout is an error too.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn only_copy(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text).map_err(|error| cannot_write(&error))
    }

    /// Bytes as they are. A closed stdout is an error too: half of them are of no use.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub(crate) fn bytes(&mut self, from: &mut impl io::Read) -> Result<(), Failure> {
        let copied = io::copy(from, &mut self.stdout).and_then(|_bytes| self.stdout.flush());
        copied.map_err(|error| cannot_write(&error))
    }

    /// A JSON document.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub(crate) fn document(&mut self, document: &Value) -> Result<(), Failure> {
        self.write_if_read(&format!("{document:#}"))
    }

    /// A part of a JSON document: whole lines of it.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub(crate) fn part(&mut self, lines: &str) -> Result<(), Failure> {
        self.write_if_read(lines)
    }

    /// One line for the person. Nothing can be done if it cannot be written.
    pub(crate) fn talk(&mut self, text: impl AsRef<str>) {
        let _unread = writeln!(self.stderr, "{}", printable(text.as_ref()));
    }

    /// The beginning of a line that the person will end.
    pub(crate) fn prompt(&mut self, text: &str) {
        let _unread = write!(self.stderr, "{}", printable(text)).and_then(|()| self.stderr.flush());
    }

    /// A line that the next one of its kind is written over. Only where talk is [live](Self::is_live); what comes after
    /// the last of them begins with an empty one.
    pub(crate) fn live(&mut self, text: &str) {
        let _unread = write!(self.stderr, "\r\u{1b}[K{}", printable(text)).and_then(|()| self.stderr.flush());
    }

    /// A warning for the person.
    pub(crate) fn warn(&mut self, text: impl AsRef<str>) {
        self.labelled("warning:", "\u{1b}[1;33m", text.as_ref());
    }

    /// Why the command fails.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        self.error(failure.to_string().trim_start_matches("error: "));
    }

    /// An error for the person.
    pub(crate) fn error(&mut self, text: &str) {
        self.labelled("error:", "\u{1b}[1;31m", text);
    }

    /// Help of the parser: as data when it was asked for.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub(crate) fn help(&mut self, help: &StyledStr, is_asked_for: bool) -> Result<(), Failure> {
        let colours = if is_asked_for { self.colours.data } else { self.colours.talk };
        let text = if colours { help.ansi().to_string() } else { help.to_string() };
        if is_asked_for {
            return self.write_if_read(text.trim_end());
        }
        let _unread = writeln!(self.stderr, "{}", text.trim_end());
        Ok(())
    }

    fn labelled(&mut self, label: &str, colour: &str, text: &str) {
        let (on, off) = if self.colours.talk { (colour, "\u{1b}[0m") } else { ("", "") };
        let _unread = writeln!(self.stderr, "{on}{label}{off} {}", printable(text));
    }

    fn write_if_read(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_closed {
            return Ok(());
        }
        match self.write(text) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            Err(error) => Err(cannot_write(&error)),
            Ok(()) => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.stdout, "{text}").and_then(|()| self.stdout.flush())
    }
}

/// What others chose (names, descriptions, sentences) must not move the cursor or recolour the screen.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn cannot_write(error: &io::Error) -> Failure {
    Failure::local(format!("Cannot write to stdout: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::Captured;

    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure_unless_something_is_lost() {
        let closed = || Box::new(Refusing(ErrorKind::BrokenPipe));
        let mut output = Output::new(closed(), closed());
        assert!(output.only_copy("x").is_err());
        assert!(output.data("x").is_ok());
        assert!(output.data("y").is_ok());
        output.talk("x");
    }

    #[test]
    fn a_full_disk_is_a_failure() {
        let mut output = Output::new(Box::new(Refusing(ErrorKind::StorageFull)), Box::new(io::sink()));
        assert!(output.data("x").is_err());
    }

    #[test]
    fn colours_are_where_they_are_wanted_and_nobody_else_s() {
        let captured = Captured::default();
        let mut output = Output { colours: Colours { data: true, talk: true }, ..captured.output() };
        output.warn("a\u{1b}[31m");
        output.failure(&Failure::local("b."));
        let help = clap::Command::new("x").about("c").render_help();
        output.help(&help, true).unwrap();
        assert_eq!(
            captured.stderr(),
            "\u{1b}[1;33mwarning:\u{1b}[0m a\\u{1b}[31m\n\u{1b}[1;31merror:\u{1b}[0m b.\n"
        );
        assert!(captured.stdout().contains("\u{1b}["), "{}", captured.stdout());
        let captured = Captured::default();
        captured.output().help(&help, true).unwrap();
        captured.output().help(&help, false).unwrap();
        assert_eq!(captured.stdout(), captured.stderr());
        assert!(!captured.stdout().contains('\u{1b}'), "{}", captured.stdout());
    }

    #[test]
    fn json_stays_json_whatever_is_in_it() {
        let captured = Captured::default();
        let document = serde_json::json!({ "name": "a\u{1b}\u{7f}\u{85}\n" });
        captured.output().document(&document).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&captured.stdout()).unwrap(), document);
    }

    #[test]
    fn data_and_talk_are_apart_and_cannot_steer_the_terminal() {
        let captured = Captured::default();
        let mut output = captured.output();
        output.data("a\u{1b}[31mb\tc\n").unwrap();
        output.warn("d\u{7}");
        assert_eq!(captured.stdout(), "a\\u{1b}[31mb\tc\n\n");
        assert_eq!(captured.stderr(), "warning: d\\u{7}\n");
    }
}
