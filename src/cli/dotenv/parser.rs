//! The walk over a file, line by line.

use std::collections::HashMap;

use crate::domain::{SecretName, SecretValue, WarningCode};

use super::{
    Entry, Fault, Parsed, Reason, Warning, WarningKind,
    cursor::Cursor,
    value::{self, Value},
};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A key longer than this is not shown: it is more likely a piece of something else.
const MAX_SHOWN_KEY: usize = 128;

/// A reading of one file.
struct Parser<'a> {
    text: &'a str,
    cursor: Cursor<'a>,
    skip_empty: bool,
    /// The lines since the last blank one were not all assignments, so what looks like a key here may be
    /// a piece of a value.
    in_doubt: bool,
    parsed: Parsed,
    /// Where each key stands among the entries.
    seen: HashMap<String, usize>,
    faults: Vec<Fault>,
}

/// Reads a file. With `skip_empty`, keys without a value are left out instead of refused.
///
/// # Errors
/// All that is wrong with the file, in the order of its lines.
pub(crate) fn parse(bytes: &[u8], skip_empty: bool) -> Result<Parsed, Vec<Fault>> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_where| not_utf8(bytes))?;
    let mut parser = Parser {
        text,
        cursor: Cursor::new(text),
        skip_empty,
        in_doubt: false,
        parsed: Parsed::default(),
        seen: HashMap::new(),
        faults: Vec::new(),
    };
    while let Some((number, line)) = parser.cursor.next_line() {
        parser.line(number, line);
    }
    if parser.faults.is_empty() { Ok(parser.parsed) } else { Err(parser.faults) }
}

/// One fault a line that has bytes which are not UTF-8.
fn not_utf8(bytes: &[u8]) -> Vec<Fault> {
    let lines = bytes.split(|b| *b == b'\n').enumerate();
    lines
        .filter(|(_, line)| std::str::from_utf8(line).is_err())
        .map(|(index, _)| Fault { line: index + 1, key: None, reason: Reason::NotUtf8 })
        .collect()
}

// === impl Parser ===

impl<'a> Parser<'a> {
    fn line(&mut self, number: usize, line: &'a str) {
        let content = line.trim_start_matches([' ', '\t']);
        if content.is_empty() {
            self.in_doubt = false;
        } else if content.starts_with('#') && !content.contains('\r') {
            // A comment
        } else {
            match assignment(content) {
                Ok((key, rest)) => self.assign(number, key, rest),
                Err(reason) => self.break_off(number, reason),
            }
        }
    }

    fn assign(&mut self, number: usize, key: &str, rest: &'a str) {
        match value::read(self.text, &mut self.cursor, rest) {
            Ok(value) => self.keep(number, key, value),
            Err(Reason::Empty) if self.skip_empty => self.parsed.skipped.push(key.to_owned()),
            Err(Reason::OnlyEquals) => self.break_off(number, Reason::OnlyEquals),
            Err(reason) => {
                let shown = !self.in_doubt && key.len() <= MAX_SHOWN_KEY;
                self.faults.push(Fault { line: number, key: shown.then(|| key.to_owned()), reason });
                // Quotes that are closed in the wrong place turn values into lines
                self.in_doubt |= reason == Reason::TextAfterQuote;
            }
        }
    }

    fn keep(&mut self, line: usize, key: &str, value: Value) {
        let mut warn = |kind| self.parsed.warnings.push(Warning { line, key: key.to_owned(), kind });
        if value.bare_hash {
            warn(WarningKind::HashInValue);
        }
        let text = SecretValue::from_opened((*value.text).clone());
        for code in WarningCode::inspect(&text) {
            match code {
                WarningCode::SmartQuotes => warn(WarningKind::SmartQuotes),
                WarningCode::ZeroWidth => warn(WarningKind::ZeroWidth),
                // Nothing to do with how the file was read: the server tells of these
                WarningCode::SurroundingWhitespace
                | WarningCode::Placeholder
                | WarningCode::Quoted
                | WarningCode::NoPrevious
                | WarningCode::PreviousDropped => {}
            }
        }
        let entry = Entry { line, key: key.to_owned(), value: value.text };
        let next = self.parsed.entries.len();
        let index = *self.seen.entry(key.to_owned()).or_insert(next);
        if let Some(before) = self.parsed.entries.get_mut(index) {
            warn(WarningKind::Duplicate);
            *before = entry;
        } else {
            self.parsed.entries.push(entry);
        }
    }

    /// Refuses a line that is no assignment, and doubts the keys of those that follow.
    fn break_off(&mut self, line: usize, reason: Reason) {
        self.faults.push(Fault { line, key: None, reason });
        self.in_doubt = true;
    }
}

/// Takes `KEY=` and `export KEY=` off a line.
fn assignment(content: &str) -> Result<(&str, &str), Reason> {
    // A carriage return ends a line for some readers. In quotes, `value` looks at it again.
    let no_equals = || if content.contains('\r') { Reason::LoneCarriageReturn } else { Reason::NoEquals };
    let (key, rest) = content.split_once('=').ok_or_else(no_equals)?;
    let quoted = rest.trim_start_matches([' ', '\t']).starts_with(['"', '\'']);
    if key.contains('\r') || (rest.contains('\r') && !quoted) {
        return Err(Reason::LoneCarriageReturn);
    }
    let key = match key.strip_prefix("export") {
        Some(exported) if exported.starts_with([' ', '\t']) => exported.trim_start_matches([' ', '\t']),
        Some(_) | None => key,
    };
    let key = key.trim_end_matches([' ', '\t']);
    if SecretName::parse(key).is_none() {
        return Err(Reason::InvalidKey);
    }
    Ok((key, rest))
}
