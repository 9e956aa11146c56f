//! Which files of rules are taken, and what is said of the others.

use super::*;
use crate::domain::Scope;

const GOOD: &str = r#"
[[issuers]]
issuer = "https://issuer"
audiences = ["superserve"]
jwks_url = "https://issuer/keys"

[[issuers.rules]]
claims = { sub = "one", groups = ["a", "b"] }
tenant = "ten_default"
scopes = ["secrets:resolve", "secrets:list"]
agents = ["agt_one"]
"#;

/// The line and the sentence that the good file gets after a change of it.
fn fault(from: &str, to: &str) -> (usize, String) {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replace(from, to);
    let Problem { at, text: said } = parse(&text).expect_err("a fault");
    let before = text.get(..at.expect("a place")).expect("a place in the text");
    (before.matches('\n').count() + 1, said)
}

#[test]
fn a_good_file_is_taken_with_its_defaults() {
    let issuers = parse(GOOD).unwrap().issuers;
    let issuer = &issuers[0];
    assert_eq!(issuer.algorithms, [Algorithm::RS256, Algorithm::ES256]);
    assert_eq!((issuer.skew, issuer.freshness.refresh.as_secs()), (30, 300));
    assert_eq!(issuer.freshness.keep.as_secs(), 21_600);
    assert_eq!(issuer.rules[0].scopes, [Scope::SecretsList, Scope::SecretsResolve]);
    let nothing = parse("").unwrap();
    assert!(nothing.issuers.is_empty() && nothing.spiffe.is_none());
}

#[test]
fn every_fault_is_named_with_its_line() {
    for (from, to, line, said) in [
        ("issuer = \"https://issuer\"", "issuer = \"\"", 2, "issuer: 1 to 255 bytes"),
        ("issuer = \"https://issuer\"", "issuer = \"https://a#b\"", 2, "without `#`"),
        ("issuer = \"https://issuer\"", "issuer = \"a b\"", 2, "spaces"),
        ("audiences = [\"superserve\"]", "audiences = []", 2, "audiences: name at least one"),
        ("audiences = [\"superserve\"]", "audience = [\"a\"]", 4, "unknown field `audience`"),
        ("audiences = [\"superserve\"]\n", "", 2, "missing field `audiences`"),
        ("https://issuer/keys", "http://issuer/keys", 2, "https://"),
        ("https://issuer/keys", "https://u:p@issuer/keys", 2, "no password"),
        ("jwks_url = \"https://issuer/keys\"", "", 2, "either jwks_url or jwks_file"),
        ("jwks_url = \"https://issuer/keys\"", "jwks_file = \"/k\"\nca_file = \"/c\"", 2, "go with jwks_url"),
        ("audiences", "algorithms = [\"none\"]\naudiences", 2, "algorithms: \"none\" is none of [RS256"),
        ("audiences", "algorithms = [\"HS256\"]\naudiences", 2, "\"HS256\" is none of"),
        ("audiences", "algorithms = []\naudiences", 2, "algorithms: name at least one"),
        ("audiences", "clock_skew_seconds = 301\naudiences", 2, "from 0 to 300"),
        ("audiences", "refresh_seconds = 0\naudiences", 2, "from 1 to"),
        ("audiences", "keep_seconds = 10\naudiences", 2, "less than refresh_seconds"),
        ("{ sub = \"one\", groups = [\"a\", \"b\"] }", "{}", 7, "everybody"),
        ("[\"a\", \"b\"]", "[]", 7, "\"groups\" has no value"),
        ("[\"a\", \"b\"]", "7", 8, "did not match"),
        ("ten_default", "default", 7, "\"default\" is no tenant's id"),
        ("tenant = \"ten_default\"", "", 7, "either tenant or tenant_claim"),
        ("secrets:list", "secrets:read", 7, "there is no scope \"secrets:read\""),
        ("[\"secrets:resolve\", \"secrets:list\"]", "[]", 7, "scopes: name at least one"),
        ("[\"agt_one\"]", "[\"one\"]", 7, "\"one\" is no agent's id"),
        ("[\"agt_one\"]", "[]", 7, "agents: name at least one"),
        ("agents = [\"agt_one\"]", "", 7, "either agents"),
        ("agents = [\"agt_one\"]", "agents = \"all\"\nagents_claim = \"a\"", 7, "either agents"),
        ("[[issuers.rules]]", "[[issuers.rule]]", 7, "unknown field `rule`"),
        ("tenant = ", "tenant = = ", 9, ""),
    ] {
        let (at, text) = fault(from, to);
        assert!(text.contains(said), "{to}: {text}");
        assert_eq!(at, line, "{to}: {text}");
    }
}

#[test]
fn a_rule_is_named_by_its_number_and_an_issuer_is_there_once() {
    let (_, text) = fault("secrets:list", "x");
    assert!(text.starts_with("rule 1 of the issuer \"https://issuer\": "), "{text}");
    let twice = format!("{GOOD}{GOOD}");
    let problem = parse(&twice).unwrap_err();
    assert!(problem.text.contains("here twice"), "{}", problem.text);
    assert!(problem.at.unwrap() >= GOOD.len());
}
