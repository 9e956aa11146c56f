//! Reads `.env` files: agree or refuse.
//!
//! The well-known readers of such files do not agree with each other, and a value that one of them
//! reads differently is a secret that is wrong in production. So a line is accepted when its meaning is
//! beyond doubt; where quoting would remove the doubt it is refused with the reason. Nothing is ever
//! expanded: `$` is a dollar sign.
//!
//! No message holds a piece of the file but a well-formed key. A key is not shown either where lines
//! around it are broken: the tail of a pasted certificate can look like one.
//!
//! [`parse`] walks over the lines, `value` reads what stands after `=`. A new rule is a new [`Reason`]
//! and a case in `tests/data/dotenv`.

mod cursor;
mod parser;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;

use zeroize::Zeroizing;

pub(crate) use parser::parse;

/// One assignment of a file.
pub(crate) struct Entry {
    /// The line it begins on, from 1.
    pub(crate) line: usize,
    /// The name.
    pub(crate) key: String,
    /// The value, wiped on drop.
    pub(crate) value: Zeroizing<String>,
}

/// A file that was accepted.
#[derive(Default)]
pub(crate) struct Parsed {
    /// The assignments in the order of the file, each key once.
    pub(crate) entries: Vec<Entry>,
    /// What was accepted and is probably a mistake.
    pub(crate) warnings: Vec<Warning>,
    /// The keys that had no value and were skipped, as asked for.
    pub(crate) skipped: Vec<String>,
}

/// Something accepted that is probably a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The key it is about.
    pub(crate) key: String,
    /// What it is.
    pub(crate) kind: WarningKind,
}

/// The kinds of warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarningKind {
    /// The key was given before.
    Duplicate,
    /// A `#` that some readers take for the beginning of a comment.
    HashInValue,
    /// Typographic quotes, which no reader takes off.
    SmartQuotes,
    /// Characters that cannot be seen.
    ZeroWidth,
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The key, where it is certain that it is one.
    pub(crate) key: Option<String>,
    /// What is wrong.
    pub(crate) reason: Reason,
}

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// A carriage return that does not end a line.
    LoneCarriageReturn,
    /// No `=`.
    NoEquals,
    /// What stands before `=` is no key.
    InvalidKey,
    /// Nothing after `=`.
    Empty,
    /// `KEY= #…`.
    HashAfterSpace,
    /// A value that begins with a backtick.
    Backtick,
    /// Quotes before a comment in a value that is not quoted.
    QuoteBeforeComment,
    /// White space other than spaces and tabs around a value.
    OddSpace,
    /// Only `=` after `KEY=`: what the tail of a base64 text looks like.
    OnlyEquals,
    /// A PEM block without quotes.
    UnquotedPem,
    /// No closing quote.
    Unterminated,
    /// Something after the closing quote.
    TextAfterQuote,
    /// A backslash in double quotes before something that readers treat differently.
    Escape,
    /// A NUL byte.
    Nul,
}

// === impl Warning ===

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} ({}): {}", self.line, self.key, self.kind.as_str())
    }
}

// === impl WarningKind ===

impl WarningKind {
    /// The warning in words.
    fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "given again: the last one counts",
            Self::HashInValue => "has a '#', which belongs to the value; quote the value to make that plain",
            Self::SmartQuotes => "has typographic quotes, which belong to the value",
            Self::ZeroWidth => "has characters that cannot be seen",
        }
    }
}

// === impl Fault ===

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "line {} ({key}): {}", self.line, self.reason.as_str()),
            None => write!(f, "line {}: {}", self.line, self.reason.as_str()),
        }
    }
}

// === impl Reason ===

impl Reason {
    /// What is wrong and how to write it.
    fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "is not UTF-8",
            Self::LoneCarriageReturn => "has a carriage return inside the line",
            Self::NoEquals => {
                "is not KEY=VALUE; a value of several lines needs quotes around the whole of it"
            }
            Self::InvalidKey => {
                "does not begin with a key and '='; a key is letters, digits and underscores and does not \
                 begin with a digit"
            }
            Self::Empty => "has no value; give one, or skip such lines with --skip-empty",
            Self::HashAfterSpace => {
                "a '#' after '= ' is a comment to some readers and a value to others; quote the value"
            }
            Self::Backtick => "begins with a backtick; put the value into single or double quotes",
            Self::QuoteBeforeComment => {
                "has quotes and then ' #', which readers cut differently; quote the whole value"
            }
            Self::OddSpace => "has unusual white space around the value; quote the value",
            Self::OnlyEquals => {
                "looks like the end of a longer text; a value of several lines needs quotes around the \
                 whole of it"
            }
            Self::UnquotedPem => "begins a text of several lines; put quotes around the whole of it",
            Self::Unterminated => "the quote is never closed",
            Self::TextAfterQuote => {
                "has text after the closing quote; in single quotes nothing can be escaped, so use double \
                 quotes there and write \\\" for a quote"
            }
            Self::Escape => {
                "has a backslash that readers treat differently; in double quotes only \\n, \\r, \\\" and \
                 \\\\ are accepted, and in single quotes a backslash is a backslash"
            }
            Self::Nul => "has a NUL byte, which no environment variable can hold",
        }
    }
}
