//! The `.env` reader against its cases, and against any bytes.

use std::{collections::BTreeMap, fs, path::PathBuf};

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::*;

/// What `tests/data/dotenv/expected.json` says of a case.
#[derive(Deserialize)]
struct Expected {
    expect: Value,
    warn: bool,
}

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/dotenv")
}

fn values(file: &[u8]) -> Result<BTreeMap<String, String>, Vec<String>> {
    match parse(file, false) {
        Ok(parsed) => Ok(parsed.entries.into_iter().map(|e| (e.key, (*e.value).clone())).collect()),
        Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
    }
}

fn value(file: &str) -> Result<String, Reason> {
    match parse(file.as_bytes(), false) {
        Ok(parsed) => Ok((*parsed.entries.into_iter().next().unwrap().value).clone()),
        Err(faults) => Err(faults.first().unwrap().reason),
    }
}

fn warnings(file: &str) -> Vec<WarningKind> {
    parse(file.as_bytes(), false).ok().unwrap().warnings.iter().map(|warning| warning.kind).collect()
}

#[test]
fn every_case_gives_what_is_expected() {
    let expected = fs::read(data().join("expected.json")).unwrap();
    let expected: BTreeMap<String, Expected> = serde_json::from_slice(&expected).unwrap();
    let files = fs::read_dir(data().join("cases")).unwrap().count();
    assert_eq!(files, expected.len(), "a case without an expectation, or the other way round");
    for (name, Expected { expect, warn }) in expected {
        let file = fs::read(data().join("cases").join(format!("{name}.env"))).unwrap();
        match parse(&file, false) {
            Ok(parsed) => {
                let found: serde_json::Map<_, _> = parsed
                    .entries
                    .iter()
                    .map(|entry| (entry.key.clone(), Value::from(entry.value.as_str())))
                    .collect();
                assert_eq!(Value::Object(found), expect, "{name}");
                assert_eq!(!parsed.warnings.is_empty(), warn, "{name}");
            }
            Err(_) => assert_eq!(expect, "ERR", "{name}"),
        }
    }
}

#[test]
fn white_space_and_export_around_a_key_are_no_part_of_it() {
    for file in
        ["A = x", "A =x", "A= x", "export A=x", "\texport\tA=x", "A=x\r", "\u{feff}A=x", "\n \t\nA=x\n"]
    {
        assert_eq!(value(file).as_deref(), Ok("x"), "{file:?}");
    }
    assert_eq!(value("exportA=x").as_deref(), Ok("x"));
    assert_eq!(value("export=x").as_deref(), Ok("x"));
    for file in ["\u{feff}\u{feff}A=x", "export =x", "export A B=x", "set A=x", "\u{a0}A=x"] {
        assert_eq!(value(file), Err(Reason::InvalidKey), "{file:?}");
    }
    assert_eq!(value("export A"), Err(Reason::NoEquals));
}

#[test]
fn bare_values_are_taken_as_they_stand() {
    for text in [
        "a b",
        "it's",
        "x\\",
        "C:\\temp",
        "x${B}",
        "a'b'c",
        "<x>",
        "x`y`",
        "-----BEGIN K-----\\nx\\n-----END K-----",
    ] {
        assert_eq!(value(&format!("A={text}\nB=y")).as_deref(), Ok(text));
    }
    assert_eq!(value("A=x \t # c").as_deref(), Ok("x"));
    assert_eq!(warnings("A=abc#def"), [WarningKind::HashInValue]);
    assert_eq!(warnings("A=abc # def"), []);
    assert_eq!(value("A=it's # x"), Err(Reason::QuoteBeforeComment));
    assert_eq!(value("A={\"a\":\"b # c\"}"), Err(Reason::QuoteBeforeComment));
    assert_eq!(value("A=x\u{a0}"), Err(Reason::OddSpace));
    assert_eq!(value("A===\n"), Err(Reason::OnlyEquals));
    assert_eq!(value("A=  \t\n"), Err(Reason::Empty));
}

#[test]
fn quoted_values_may_have_several_lines() {
    let pem = "-----BEGIN K-----\nMIIabc+/=\n-----END K-----\n";
    assert_eq!(value(&format!("A=\"{pem}\" # key\nB=y")).as_deref(), Ok(pem));
    assert_eq!(value(&format!("A='{}'\r\n", pem.replace('\n', "\r\n"))).as_deref(), Ok(pem));
    assert_eq!(value("A=\"a\\\\\\\"\\r\\n b # c\"").as_deref(), Ok("a\\\"\r\n b # c"));
    assert_eq!(value("A='a\\nb\"$c'").as_deref(), Ok("a\\nb\"$c"));
    for (file, reason) in [
        ("A='x\\'", Reason::Escape),
        ("A=\"\\$x\"", Reason::Escape),
        ("A=\"x\\\n\"", Reason::Escape),
        ("A=\"x\"y", Reason::TextAfterQuote),
        ("A=\"x\"\"y\"", Reason::TextAfterQuote),
        ("A=\"x\ry\"", Reason::LoneCarriageReturn),
        ("A='x", Reason::Unterminated),
        ("A=\"x\\\"", Reason::Unterminated),
        ("A='x\0'", Reason::Nul),
        ("A=' '\rB=y", Reason::TextAfterQuote),
    ] {
        assert_eq!(value(file), Err(reason), "{file:?}");
    }
}

#[test]
fn old_line_ends_are_refused() {
    for file in ["A=x\rB=y", "# c\rA=x", "A\rB", "A=x\r\r\n"] {
        assert_eq!(value(file), Err(Reason::LoneCarriageReturn), "{file:?}");
    }
}

#[test]
fn all_faults_are_told_with_their_lines() {
    let faults = values(b"A=\nB=\"a\nb\" c\n\nC=ok\n1=x\nD=`x`\n\nE=`x`\nF='x").unwrap_err();
    let heads: Vec<_> = faults.iter().map(|fault| fault.split_once(':').unwrap().0).collect();
    assert_eq!(heads, ["line 1 (A)", "line 2 (B)", "line 6", "line 7", "line 9 (E)", "line 10 (F)"]);
    let faults = values(b"A=\xff\nB=x\nC=\xfe").unwrap_err();
    assert_eq!(faults, ["line 1: is not UTF-8", "line 3: is not UTF-8"]);
}

#[test]
fn pieces_of_a_pasted_certificate_are_not_told() {
    let file = b"A=-----BEGIN K-----\nMIIabcd=\nMIIefgh==\n-----END K-----\nB=\n";
    let faults = values(file).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("line 1 (A): begins a text"), "{faults:?}");
    assert!(faults[1].starts_with("line 5 (B): has no value"), "{faults:?}");
    let faults = values(b"A=MIIabcd/\nMIIefgh/\nMIIijkl=\n").unwrap_err();
    assert!(faults.iter().all(|fault| !fault.contains("MII")), "{faults:?}");
}

#[test]
fn empty_values_can_be_skipped_and_the_last_value_counts() {
    let parsed = parse(b"A=\nB=x\nC=\"\"\nB=z\n", true).ok().unwrap();
    assert_eq!(parsed.skipped, ["A", "C"]);
    let entries: Vec<_> = parsed.entries.iter().map(|e| (e.line, e.key.as_str(), e.value.as_str())).collect();
    assert_eq!(entries, [(4, "B", "z")]);
    assert_eq!(parsed.warnings.len(), 1);
    assert_eq!(parsed.warnings[0].to_string(), "line 4 (B): given again: the last one counts");
    assert!(parse(b"A= # c\n", true).is_err());
}

#[test]
fn a_large_file_is_read_in_one_pass() {
    let file: String = (0..100_000).map(|n| n.to_string()).map(|n| ["K", &n, "=v\n"].concat()).collect();
    assert_eq!(parse(file.as_bytes(), false).ok().unwrap().entries.len(), 100_000);
}

/// Quotes any value that can be quoted.
fn quote(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\r', "\\r");
    format!("\"{escaped}\"")
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(file: Vec<u8>) {
        let _outcome = parse(&file, true);
    }

    #[test]
    fn arbitrary_lines_never_panic(file in "([AB]|=|\"|'|`|#|\\\\|\n|\r| |\0|export |é|-----BEGIN |-----END ){0,40}") {
        let _outcome = parse(file.as_bytes(), false);
    }

    #[test]
    fn what_is_quoted_comes_back(value in "[^\0]{1,200}", after in "( |\t)*(\n|\r\n| #[a-z\"']*\n)") {
        let file = format!("B=x\nA={}{after}C=y", quote(&value));
        let found = values(file.as_bytes()).unwrap();
        prop_assert_eq!(found.get("A"), Some(&value));
        prop_assert_eq!(found.len(), 3);
    }

    #[test]
    fn single_quotes_keep_everything(value in "[^\0\r'\\\\]{1,200}") {
        let found = values(format!("A='{value}'\nC=y").as_bytes()).unwrap();
        prop_assert_eq!(found.get("A"), Some(&value));
    }

    /// The alphabet of the values shares no run of four with the messages.
    #[test]
    fn no_message_shows_a_piece_of_a_value(
        value in "[QZXJ7]{4,12}([\"'`#\\\\ =\n\r\0$\u{a0}]|[QZXJ7]{4,12}){0,12}",
        open in "(\"|'|`| #|)",
        close in "(\"|'|`| #|\"x|)",
    ) {
        let file = format!("KEY={open}{value}{close}\nB=\n\nC\n1=\n");
        let messages = values(file.as_bytes()).unwrap_err().join("\n");
        let secret: Vec<char> = value.chars().collect();
        for run in secret.windows(4).filter(|run| run.iter().all(char::is_ascii_alphanumeric)) {
            let run: String = run.iter().collect();
            // A line of the value that is itself of the form `KEY=` cannot be told from an assignment
            let is_key = value.split(['\n', '\r']).skip(1).any(|line| line.trim_start().contains(&run) && line.contains('='));
            prop_assert!(is_key || !messages.contains(&run), "{messages}");
        }
    }
}
