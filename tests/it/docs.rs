//! The commands in the documents do what the documents say, as they stand there: see [`Document`].

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use crate::harness::{
    Database,
    document::{Document, Ran},
    programs::{is_there, runs, say_once},
    search_path,
    server::Server,
};

/// Runs a document, and says what was left out of it.
fn run(path: &str, server: &Server) -> Ran {
    let ran = Document::read(path).run(server);
    say_once(&format!("{path}: {} blocks run, {} left out\n", ran.blocks, ran.skipped.len()));
    for skipped in &ran.skipped {
        say_once(&format!("{skipped}\n"));
    }
    ran
}

#[test]
fn the_page_of_the_api() {
    let path = search_path();
    if !is_there("grpcurl", &["--version"], &path) || !runs("curl", &["--version"], &path) {
        say_once("curl or grpcurl does not run: docs/api.md is left out\n");
        return;
    }
    let server = Server::start(Database::Sqlite);
    let Ran { blocks, outputs, skipped } = run("docs/api.md", &server);
    assert!(blocks > 20 && outputs > 20, "{blocks} blocks, {outputs} outputs");
    assert!(skipped.is_empty(), "{skipped:?}");
}

#[test]
fn a_document_is_held_to_what_it_says() {
    let server = Server::start(Database::Sqlite);
    let run = |text: &str| {
        let document = Document::parse("a.md", text);
        catch_unwind(AssertUnwindSafe(|| document.run(&server)))
            .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    };
    let fine = "\
        # Title\n\n```sh\n# A comment\na=1\necho \"$a\" two\n# 1 …\n# \n\n# Another\nsuperserve agents list\n\
        # No agents…\necho later\n```\n\n```text\nlater\n```\n\n<!-- test: run b=3 -->\n<!-- test: exit 3 -->\n\
        ```sh\n(exit $b)\n```\n<!-- test: skip needs a cluster -->\n```sh\nfalse\n```\n```yaml\nno: command\n```\n";
    let fine = fine
        .replace("superserve agents list", "SUPERSERVE_TOKEN_FILE=data/admin-token superserve agents list");
    let ran = run(&fine).unwrap();
    assert_eq!((ran.blocks, ran.outputs), (2, 3));
    assert_eq!(ran.skipped, ["a.md:26: needs a cluster"]);
    for (text, fault) in [
        ("```sh\necho one\n# two\n```\n", "a.md:1: says\ntwo\nand prints\none"),
        ("```sh\necho one\n```\n```text\none\ntwo\n```\n", "and prints"),
        ("```sh\necho one; false\necho two\n```\n", "a.md:1: one\nexit code 1"),
        (
            "```sh\ntrue\n```\n\n<!-- test: exit 3 -->\n```sh\nexit_code() { return 4; }; exit_code\n```\n",
            "exit code 1",
        ),
        ("```sh\nread -r line\n```\n", "exit code 1"),
    ] {
        let said = run(text).unwrap_err();
        assert!(said.contains(fault), "{text}: {said}");
    }
    for mark in ["skip", "skip ", "exit x", "jump 3"] {
        let text = format!("<!-- test: {mark} -->\n");
        assert!(catch_unwind(|| Document::parse("a.md", &text)).is_err(), "{mark}");
    }
}

/// Documents whose commands are run here, each in the order of the page.
const RUN: [&str; 2] = ["docs/api.md", "docs/cli.md"];

/// Documents that are for people.
fn documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).expect("there are documents");
    let docs =
        docs.map(|entry| format!("docs/{}", entry.expect("a file").file_name().to_str().expect("UTF-8")));
    let at_the_top = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(str::to_owned);
    let is_of_markdown = |path: &String| Path::new(path).extension().is_some_and(|it| it == "md");
    docs.filter(is_of_markdown).chain(at_the_top).collect()
}

#[test]
fn the_page_of_the_command_line() {
    let server = Server::start(Database::Sqlite);
    let Ran { blocks, outputs, skipped } = run("docs/cli.md", &server);
    assert!(blocks >= 10 && outputs >= 8, "{blocks} blocks, {outputs} outputs");
    assert!(skipped.is_empty(), "{skipped:?}");
}

/// A block is run with its page, or by a test that it names, or says why a person runs it.
#[test]
fn every_command_is_run_or_says_by_whom() {
    let mut by_hand = 0;
    for path in documents() {
        for (line, skip) in Document::read(&path).blocks() {
            let Some(reason) = skip else {
                assert!(RUN.contains(&path.as_str()), "{path}:{line}: nothing runs this block");
                continue;
            };
            if let Some(test) = reason.strip_prefix("run by `").and_then(|it| it.split('`').next()) {
                let (file, test) = test.split_once("::").expect("FILE::TEST");
                let source = fs::read_to_string(format!("tests/it/{file}.rs")).unwrap_or_default();
                assert!(source.contains(&format!("fn {test}(")), "{path}:{line}: there is no {file}::{test}");
            } else {
                assert!(reason.starts_with("by hand: "), "{path}:{line}: {reason}");
                by_hand += 1;
            }
        }
    }
    assert!(by_hand < 25, "{by_hand} blocks are left to people");
}

/// Commands of developers that the documents name are there.
#[test]
fn recipes_and_steps_that_are_named_exist() {
    let (recipes, steps) = (fs::read_to_string("justfile").unwrap(), fs::read_to_string(".ci/run").unwrap());
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let words = |after: &str| -> Vec<String> {
            let follow = text.split(after).skip(1);
            let word = |rest: &str| {
                rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().map(str::to_owned)
            };
            follow.filter_map(word).filter(|word| !word.is_empty()).collect()
        };
        for recipe in words("`just ").into_iter().chain(words("\njust ")) {
            let is_there = recipes.lines().any(|line| line.split([' ', ':']).next() == Some(&recipe));
            assert!(is_there, "{path}: there is no `just {recipe}`");
        }
        for step in
            words(".ci/run ").into_iter().filter(|step| step.starts_with(|c: char| c.is_ascii_lowercase()))
        {
            let is_step = steps.contains(&format!("\nstep_{step}() "));
            // In prose other words follow
            assert!(
                is_step || !text.contains(&format!("`.ci/run {step}`")),
                "{path}: there is no step {step}"
            );
        }
    }
}
