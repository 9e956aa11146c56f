//! Budgets of size and order, so that no file grows out of hand unnoticed.

use std::path::Path;

use crate::sources::{Source, read_file, read_tree};

/// Lines of a file in `src/`, without its unit tests.
const LINES: usize = 300;

/// Lines of a file in `src/`, with its unit tests.
const LINES_WITH_TESTS: usize = 400;

/// Files that stay smaller than that, as they hold no decisions.
const SMALL_FILES: [(&str, usize); 4] =
    [("build.rs", 40), ("src/app/mod.rs", 150), ("src/lib.rs", 60), ("src/main.rs", 40)];

/// Words for work that was not done. Put together here, so that this file may name them.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
];

#[test]
fn no_file_is_over_its_budget() {
    let over: Vec<String> = read_tree("src")
        .into_iter()
        .chain([read_file("build.rs")])
        .filter_map(|source| over(&source))
        .collect();
    assert!(over.is_empty(), "{}", over.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = all().into_iter().filter(|source| !source.text.starts_with("//! ")).collect();
    assert!(silent.is_empty(), "no //! at the top: {:?}", silent.iter().map(|s| &s.path).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_to_do() {
    for source in all() {
        for word in UNFINISHED {
            assert!(!source.text.contains(word), "{} has {word}", source.path.display());
        }
    }
}

#[test]
fn a_file_over_its_budget_is_named() {
    let text = |lines| "//!\n".repeat(lines);
    assert_eq!(over(&Source::parse("src/a/b.rs", &text(300))), None);
    assert_eq!(over(&Source::parse("src/a/b.rs", &text(301))).unwrap(), "src/a/b.rs: 301 lines of 300");
    assert_eq!(over(&Source::parse("src/main.rs", &text(41))).unwrap(), "src/main.rs: 41 lines of 40");
    let tests = |lines| format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", text(200), text(lines));
    assert_eq!(over(&Source::parse("src/a.rs", &tests(197))), None);
    assert_eq!(
        over(&Source::parse("src/a.rs", &tests(198))).unwrap(),
        "src/a.rs: 401 lines of 400 with tests"
    );
}

fn all() -> Vec<Source> {
    ["src", "tests"].into_iter().flat_map(read_tree).chain([read_file("build.rs")]).collect()
}

fn over(source: &Source) -> Option<String> {
    let budget = SMALL_FILES
        .iter()
        .find(|(path, _)| Path::new(path) == source.path)
        .map_or(LINES, |(_, lines)| *lines);
    let (net, gross) = (source.lines_without_tests(), source.text.lines().count());
    let path = source.path.display();
    if net > budget {
        Some(format!("{path}: {net} lines of {budget}"))
    } else if gross > LINES_WITH_TESTS {
        Some(format!("{path}: {gross} lines of {LINES_WITH_TESTS} with tests"))
    } else {
        None
    }
}
