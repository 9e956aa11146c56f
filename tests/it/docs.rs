//! The commands in the documents do what the documents say, as they stand there: see [`Document`].

use std::panic::{AssertUnwindSafe, catch_unwind};

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
