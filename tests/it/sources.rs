//! The project's own Rust files, for the tests that look at them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the project.
    pub(crate) path: PathBuf,
    /// The file as it is.
    pub(crate) text: String,
    /// The same without comments, contents of literals, and items under `#[cfg(test)]`.
    pub(crate) code: String,
}

// === impl Source ===

impl Source {
    /// Takes a file's text apart.
    pub(crate) fn parse(path: impl Into<PathBuf>, text: &str) -> Self {
        let code = without_test_items(&without_comments_and_literals(text));
        Self { path: path.into(), text: text.to_owned(), code }
    }

    /// How many lines stand before the unit tests.
    pub(crate) fn lines_without_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0] == "#[cfg(test)]"
                && (pair[1].starts_with("mod ") || pair[1].starts_with("pub(crate) mod "))
        });
        tests.unwrap_or(lines.len())
    }
}

/// All Rust files under a directory of the project, by path.
pub(crate) fn read_tree(directory: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(root().join(directory)).expect(directory).map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        let path = entry.strip_prefix(root()).expect("within the project");
        if entry.is_dir() {
            sources.extend(read_tree(path.to_str().expect("UTF-8")));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            sources.push(Source::parse(path, &fs::read_to_string(&entry).expect("UTF-8")));
        }
    }
    sources
}

/// One Rust file of the project.
pub(crate) fn read_file(path: &str) -> Source {
    Source::parse(path, &fs::read_to_string(root().join(path)).expect(path))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Puts a space for each comment, and empty literals for those of strings and characters.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (length, replacement) = match opaque(rest, code.chars().next_back()) {
            Some(length) => (length, " "),
            None => (c.len_utf8(), &rest[..c.len_utf8()]),
        };
        code.push_str(replacement);
        rest = &rest[length..];
    }
    code
}

/// The length of the comment or literal that a text begins with.
fn opaque(text: &str, before: Option<char>) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    if let Some(content) = text.strip_prefix('\'') {
        // A lifetime has no closing quote after its first character
        let is_literal = content.starts_with('\\') || content.chars().nth(1) == Some('\'');
        return is_literal.then(|| quoted(text, '\''));
    }
    let within_a_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let hashes = text.strip_prefix('r')?.split_once('"')?.0;
    let is_raw = !hashes.contains(|c| c != '#') && (!within_a_name || matches!(before, Some('b' | 'c')));
    is_raw.then(|| {
        let (head, end) = (hashes.len() + 2, format!("\"{hashes}"));
        text[head..].find(&end).map_or(text.len(), |at| head + at + end.len())
    })
}

fn block_comment(text: &str) -> usize {
    let mut open = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (open, at) = (open + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (open, at) = (open - 1, at + 2);
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
        if open == 0 {
            break;
        }
    }
    at
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Cuts each item that follows `#[cfg(test)]`: up to its `;`, or to the end of its braces.
fn without_test_items(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((before, item)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        let mut open_braces = 0;
        let end = item.char_indices().find(|(_, c)| {
            open_braces += i32::from(*c == '{') - i32::from(*c == '}');
            open_braces == 0 && (*c == '}' || *c == ';')
        });
        rest = end.map_or("", |(at, _)| &item[at + 1..]);
    }
    kept.push_str(rest);
    kept
}
