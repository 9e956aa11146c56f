//! The threat model names tests that exist.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn every_test_that_it_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let named: BTreeSet<_> = document.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 10, "{named:?}");
    for (file, test) in named {
        let source = fs::read_to_string(root.join(format!("tests/it/{file}.rs"))).unwrap_or_default();
        assert!(source.contains(&format!("fn {test}(")), "there is no {file}::{test}");
    }
}
