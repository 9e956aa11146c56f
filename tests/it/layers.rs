//! The house's rule: a module of `src/` names only the modules that its row of [`PLACES`] lists.
//!
//! The compiler checks this between crates, not between modules; so this test reads `src/` and collects the first
//! name after every `crate::` (and after `super::`s that climb as far), in code and outside `#[cfg(test)]`. A new
//! module fails until it is given a row.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::sources::{Source, read_tree};

/// Each module at the top of `src/`, and what it may name, from the ground up.
pub(crate) const PLACES: [(&str, &[&str]); 15] = [
    ("domain", &[]),
    ("proto", &[]),
    ("trace", &[]),
    ("client", &["domain", "proto", "trace"]),
    ("telemetry", &["trace"]),
    ("crypto", &["domain"]),
    ("kms", &["domain", "crypto", "trace"]),
    ("store", &["domain", "trace"]),
    ("identity", &["domain", "trace"]),
    ("service", &["domain", "crypto", "store", "identity", "trace"]),
    ("transport", &["domain", "proto", "telemetry", "service", "trace"]),
    ("config", &["domain", "crypto", "kms", "store", "service", "transport", "telemetry"]),
    (
        "app",
        &[
            "domain",
            "proto",
            "telemetry",
            "crypto",
            "kms",
            "store",
            "identity",
            "service",
            "transport",
            "config",
        ],
    ),
    ("cli", &["app", "client", "config", "proto", "domain", "crypto", "trace"]),
    ("main", &["cli", "telemetry"]),
];

/// Names the two crate roots go by: `main.rs` is a crate of its own.
const CRATE_ROOTS: [&str; 2] = ["crate", "superserve"];

#[test]
fn every_module_names_only_what_its_place_allows() {
    let faults: Vec<String> = sources().iter().flat_map(faults_of).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_module_has_a_place_and_every_place_a_module() {
    let modules: BTreeSet<String> = sources().iter().map(|source| module_of(&source.path)).collect();
    let places = PLACES.map(|(module, _)| module.to_owned());
    assert_eq!(modules, BTreeSet::from(places).into_iter().chain(["lib".to_owned()]).collect());
}

fn sources() -> Vec<Source> {
    read_tree("src")
}

/// `store` for `src/store/agents.rs` and for `src/store.rs`.
fn module_of(path: &Path) -> String {
    let first = path.iter().nth(1).expect("a file in src/");
    Path::new(first).file_stem().expect("a name").to_str().expect("UTF-8").to_owned()
}

/// What a file names against its place, a line each. `lib.rs` only declares modules.
fn faults_of(source: &Source) -> Vec<String> {
    let module = module_of(&source.path);
    if module == "lib" {
        return Vec::new();
    }
    let path = source.path.display();
    let Some(allowed) = BTreeMap::from(PLACES).get(module.as_str()).copied() else {
        return vec![format!("{path}: `{module}` has no place yet: give it a row in tests/it/layers.rs")];
    };
    let named = named_modules(&source.code, depth_of(&source.path));
    let wrong = named.into_iter().filter(|name| *name != module && !allowed.contains(&name.as_str()));
    wrong.map(|name| format!("{path}: `{module}` may not name `{name}`")).collect()
}

/// How many `super::` lead from a file to the root of the crate.
fn depth_of(path: &Path) -> usize {
    let is_root_of_its_directory = path.ends_with("mod.rs") || path.ends_with("main.rs");
    path.iter().count() - 1 - usize::from(is_root_of_its_directory)
}

/// The modules at the top of the crate that a code names.
fn named_modules(code: &str, depth: usize) -> BTreeSet<String> {
    let tokens = tokens_of(code);
    let climb = ["super", "::"].repeat(depth);
    let mut named = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate() {
        let begins_a_path = at == 0 || tokens[at - 1] != "::";
        let rest = &tokens[at..];
        if begins_a_path && CRATE_ROOTS.contains(token) && rest.get(1) == Some(&"::") {
            named.extend(first_names(&rest[2..]));
        } else if begins_a_path && depth > 0 && rest.starts_with(&climb) {
            named.extend(first_names(&rest[climb.len()..]));
        }
    }
    named
}

/// The first names of a path: one, or those of a group `{a::b, c::{d, e}}`.
fn first_names(tokens: &[&str]) -> Vec<String> {
    match tokens.first() {
        Some(&"{") => {}
        Some(name) => return vec![(*name).to_owned()],
        None => return Vec::new(),
    }
    let mut names = Vec::new();
    let mut open_braces = 0;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "{" => open_braces += 1,
            "}" => open_braces -= 1,
            name if open_braces == 1 && ["{", ","].contains(&tokens[at - 1]) => names.push(name.to_owned()),
            _ => {}
        }
        if open_braces == 0 {
            break;
        }
    }
    names
}

/// Names, `::`, and every other character that is no space.
fn tokens_of(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_name(first) {
            rest.find(|c| !is_name(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

/// What a file at `path` with this text does against the rules.
fn check(path: &str, text: &str) -> Vec<String> {
    faults_of(&Source::parse(path, text))
}

#[test]
fn an_upward_use_is_refused() {
    let fault = "src/domain/agent.rs: `domain` may not name `store`";
    for text in [
        "use crate::store::Store;",
        "use crate::{domain::Agent, store::{Store, Error}};",
        "fn f() { crate :: store::get() }",
        "use super::super::store::Store;",
        "mod tests { use crate::store; }",
        "fn f() -> &'static str { 'x'; crate::store::NAME }",
        "#[cfg(test)] use crate::service::Clock; use crate::store::Store;",
    ] {
        assert_eq!(check("src/domain/agent.rs", text), [fault], "{text}");
    }
    assert_eq!(
        check("src/store.rs", "use crate::service;"),
        ["src/store.rs: `store` may not name `service`"]
    );
    assert_eq!(check("src/main.rs", "superserve::store::f()"), ["src/main.rs: `main` may not name `store`"]);
}

#[test]
fn what_is_no_use_in_the_code_is_left_alone() {
    for text in [
        "// crate::store",
        "/* /* crate::store */ crate::store */",
        "//! See [`crate::store`].",
        "const A: &str = \"\\\"crate::store\"; const B: char = '\"'; const C: char = '\\''; ",
        "const A: &str = r#\"crate::\"store\"#; const B: &[u8] = b\"crate::store\";",
        "use super::store; use self::store; use store::crate_; use not_crate::store;",
        "#[cfg(test)]\nmod tests {\n  use crate::store; fn f() { \"}\"; } }",
        "use crate::domain::{store, Agent};",
    ] {
        assert_eq!(check("src/domain/agent.rs", text), [""; 0], "{text}");
    }
}

#[test]
fn a_downward_use_is_allowed_and_a_new_module_is_not() {
    assert_eq!(check("src/service/mod.rs", "use crate::{crypto, domain, store::Store};"), [""; 0]);
    let fault = "src/utils.rs: `utils` has no place yet: give it a row in tests/it/layers.rs";
    assert_eq!(check("src/utils.rs", ""), [fault]);
}
