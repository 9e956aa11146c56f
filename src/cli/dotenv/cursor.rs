//! Where the reading of a file stands.

use super::Reason;

/// A position in a text, with the number of its line.
pub(super) struct Cursor<'a> {
    rest: &'a str,
    line: usize,
}

/// What stands between two quotes.
pub(super) struct Quoted<'a> {
    /// The text between the quotes, escapes and line ends as they are.
    pub(super) inner: &'a str,
    /// The rest of the line after the closing quote.
    pub(super) tail: &'a str,
}

impl<'a> Cursor<'a> {
    /// Begins before the first line.
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, line: 0 }
    }

    /// The next line with its number, without its end (LF or CRLF).
    pub(super) fn next_line(&mut self) -> Option<(usize, &'a str)> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        Some((self.line, line.strip_suffix('\r').unwrap_or(line)))
    }

    /// Skips the lines up to and with the one for which `ends` holds.
    pub(super) fn skip_through(&mut self, ends: impl Fn(&str) -> bool) {
        while let Some((_, line)) = self.next_line() {
            if ends(line) {
                return;
            }
        }
    }

    /// Reads on to the closing quote, maybe lines below. `line_rest` is what the line just read has after
    /// the opening quote. When there is no closing quote, all the rest is skipped: it may be the value.
    pub(super) fn read_quoted(
        &mut self,
        text: &'a str,
        line_rest: &'a str,
        quote: char,
    ) -> Result<Quoted<'a>, Reason> {
        let unread = line_start(text, line_rest).ok_or(Reason::Unterminated)?;
        let Some((inner, after)) = closing_quote(unread, quote).and_then(|at| unread.split_at_checked(at))
        else {
            self.rest = "";
            return Err(Reason::Unterminated);
        };
        let after = after.strip_prefix(quote).unwrap_or(after);
        let (tail, rest) = after.split_once('\n').unwrap_or((after, ""));
        self.rest = rest;
        self.line += inner.matches('\n').count();
        Ok(Quoted { inner, tail: tail.strip_suffix('\r').unwrap_or(tail) })
    }
}

/// The text from `part` on, where `part` is a piece of `text`.
fn line_start<'a>(text: &'a str, part: &str) -> Option<&'a str> {
    let offset = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    text.get(offset..)
}

/// Where the closing quote is. A backslash guards a quote in double quotes only.
fn closing_quote(text: &str, quote: char) -> Option<usize> {
    let mut guarded = false;
    for (at, c) in text.char_indices() {
        if guarded {
            guarded = false;
        } else if c == quote {
            return Some(at);
        } else {
            guarded = c == '\\' && quote == '"';
        }
    }
    None
}
