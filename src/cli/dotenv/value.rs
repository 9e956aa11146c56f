//! What stands after `=`.

use zeroize::Zeroizing;

use super::{
    Reason,
    cursor::{Cursor, Quoted},
};

/// Spaces and tabs: the white space on which all readers agree.
const BLANK: [char; 2] = [' ', '\t'];

/// A value that was read.
pub(super) struct Value {
    /// The value.
    pub(super) text: Zeroizing<String>,
    /// It has a `#` and no quotes around it.
    pub(super) bare_hash: bool,
}

/// Reads the value of the line just taken from `cursor`; `rest` is what stands after `=`.
pub(super) fn read<'a>(text: &'a str, cursor: &mut Cursor<'a>, rest: &'a str) -> Result<Value, Reason> {
    let value = rest.trim_start_matches(BLANK);
    if let Some(inside) = value.strip_prefix('"') {
        let quoted = cursor.read_quoted(text, inside, '"')?;
        return read_quoted(&quoted, unescape);
    }
    if let Some(inside) = value.strip_prefix('\'') {
        let quoted = cursor.read_quoted(text, inside, '\'')?;
        return read_quoted(&quoted, copy);
    }
    if value.starts_with('`') {
        return Err(Reason::Backtick);
    }
    if value.starts_with('#') && value.len() < rest.len() {
        return Err(Reason::HashAfterSpace);
    }
    let value = read_bare(value);
    if let Err(Reason::UnquotedPem) = value {
        cursor.skip_through(|line| line.contains("-----END "));
    }
    value
}

fn read_bare(value: &str) -> Result<Value, Reason> {
    let (kept, has_comment) = match comment_start(value).and_then(|at| value.split_at_checked(at)) {
        Some((kept, _)) => (kept, true),
        None => (value, false),
    };
    let kept = kept.trim_end_matches(BLANK);
    if kept.is_empty() {
        return Err(Reason::Empty);
    }
    if kept.bytes().all(|b| b == b'=') {
        return Err(Reason::OnlyEquals);
    }
    if kept.starts_with("-----BEGIN ") && !kept.contains("-----END ") {
        return Err(Reason::UnquotedPem);
    }
    if kept.trim().len() != kept.len() {
        return Err(Reason::OddSpace);
    }
    if has_comment && kept.contains(['"', '\'', '`']) {
        return Err(Reason::QuoteBeforeComment);
    }
    if kept.contains('\0') {
        return Err(Reason::Nul);
    }
    Ok(Value { text: Zeroizing::new(kept.to_owned()), bare_hash: kept.contains('#') })
}

/// Where a comment begins: at a `#` after a space or a tab.
fn comment_start(value: &str) -> Option<usize> {
    let mut after_blank = false;
    for (at, c) in value.char_indices() {
        if c == '#' && after_blank {
            return Some(at);
        }
        after_blank = BLANK.contains(&c);
    }
    None
}

fn read_quoted(
    quoted: &Quoted<'_>,
    decode: fn(&str) -> Result<Zeroizing<String>, Reason>,
) -> Result<Value, Reason> {
    let after = quoted.tail.trim_start_matches(BLANK);
    let is_comment = after.starts_with('#') && after.len() < quoted.tail.len();
    if !(after.is_empty() || is_comment) {
        return Err(Reason::TextAfterQuote);
    }
    if quoted.tail.contains('\r') {
        return Err(Reason::LoneCarriageReturn);
    }
    let text = decode(quoted.inner)?;
    if text.is_empty() {
        return Err(Reason::Empty);
    }
    if text.contains('\0') {
        return Err(Reason::Nul);
    }
    Ok(Value { text, bare_hash: false })
}

/// Single quotes: as it stands. A backslash before the closing quote would escape it for some readers.
fn copy(inner: &str) -> Result<Zeroizing<String>, Reason> {
    if inner.ends_with('\\') {
        return Err(Reason::Escape);
    }
    // The capacity is enough from the start: growing would leave copies of the value behind.
    let mut text = Zeroizing::new(String::with_capacity(inner.len()));
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => return Err(Reason::LoneCarriageReturn),
            c => text.push(c),
        }
    }
    Ok(text)
}

/// Double quotes: four escapes, and all others are refused.
fn unescape(inner: &str) -> Result<Zeroizing<String>, Reason> {
    let mut text = Zeroizing::new(String::with_capacity(inner.len()));
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('"') => '"',
                Some('\\') => '\\',
                Some(_) | None => return Err(Reason::Escape),
            }),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => return Err(Reason::LoneCarriageReturn),
            c => text.push(c),
        }
    }
    Ok(text)
}
