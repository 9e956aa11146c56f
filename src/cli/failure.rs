//! How a command ends: its exit code, and the words when it fails.

use std::{error::Error, fmt, process::ExitCode};

/// What the exit code of the process tells. The numbers are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Fine,
    /// Usage, parsing, invalid input: nothing was sent.
    Local,
    /// The server refused, failed or could not be reached.
    Server,
    /// Required secrets are missing.
    Missing,
    /// The agent is at another revision.
    Conflict,
    /// `secrets run` never got as far as starting the command.
    NotRun,
    /// `secrets run` found the command but cannot start it.
    NotExecutable,
    /// `secrets run` did not find the command.
    NotFound,
    /// Ctrl-C.
    Interrupted,
    /// What the command of `secrets run --watch` ended with.
    Command(u8),
}

/// Why a command failed: one sentence, a line for each fault, and what to do next.
///
/// It names keys and never holds a value.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// The server's stable word for it; empty when it gave none or did not speak.
    pub(crate) reason: String,
    sentence: String,
    lines: Vec<String>,
    hint: Option<String>,
}

// === impl Exit ===

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Local => 1,
            Self::Server => 2,
            Self::Missing => 3,
            Self::Conflict => 4,
            Self::NotRun => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }

    /// The exit of a command that this signal ended: 128 and its number, as shells say it.
    pub(crate) fn of_signal(signal: i32) -> Self {
        Self::Command(u8::try_from(signal).unwrap_or(u8::MAX).saturating_add(128))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

// === impl Failure ===

impl Failure {
    /// A failure with this sentence, which ends with a full stop.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, reason: String::new(), sentence: sentence.into(), lines: Vec::new(), hint: None }
    }

    /// Something wrong on this side.
    pub(crate) fn local(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Local, sentence)
    }

    /// What is wrong, in one sentence.
    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    /// The same with one line a fault.
    pub(crate) fn lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines);
        self
    }

    /// The same with what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with this said before what to do next.
    pub(crate) fn hint_first(mut self, hint: &str) -> Self {
        let rest = self.hint.map(|rest| format!(" {rest}")).unwrap_or_default();
        self.hint = Some(format!("{hint}{rest}"));
        self
    }

    /// The same with the server's stable word for it.
    pub(crate) fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// The same with another exit.
    pub(crate) fn exiting(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.sentence)?;
        for line in &self.lines {
            write!(f, "\n  - {line}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n{hint}"),
            None => Ok(()),
        }
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_sentence_lines_and_advice() {
        let failure = Failure::local("2 faults.").lines(["A: x".to_owned(), "B: y".to_owned()]).hint("Fix.");
        assert_eq!(failure.to_string(), "error: 2 faults.\n  - A: x\n  - B: y\nFix.");
        assert_eq!(failure.exiting(Exit::NotRun).exit.code(), 125);
    }
}
