//! The file of a keyring, also what a mounted Kubernetes secret holds:
//!
//! ```json
//! {"version": 1, "keys": [
//!   {"id": "kek_…", "state": "primary", "created_at": 1790000000000000, "key": "32 bytes in base64"}
//! ]}
//! ```
//!
//! `created_at` is microseconds since the Unix epoch. The format is closed: a field that is not known is
//! an error, because a mistyped one would otherwise be a setting that has no effect.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::kek::Kek;
use super::key_bytes::{KEY_BYTES, KeyBytes};
use super::{KekState, Keyring, KeyringError};
use crate::domain::{KekId, Timestamp};

const VERSION: u64 = 1;

/// The base64 of a key, with its padding.
const KEY_CHARS: usize = KEY_BYTES.div_ceil(3) * 4;

/// More than a key takes in the file: names and punctuation 72, id 68, state 12, time 20, key 44.
const ENTRY_CHARS: usize = 256;

/// Read first, and open: a later version may have any other field.
#[derive(Deserialize)]
struct Header {
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[serde(rename = "version")]
    _version: u64,
    #[serde(borrow)]
    keys: Vec<Entry<'a>>,
}

/// The texts are borrowed from the file, so that parsing makes no copy of a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    id: &'a str,
    state: KekState,
    created_at: i64,
    key: &'a str,
}

impl Keyring {
    /// Reads a keyring file. The caller wipes the bytes.
    ///
    /// # Errors
    /// A [`KeyringError`] that says what is wrong and where, and shows nothing of a key.
    pub fn parse(json: &[u8]) -> Result<Self, KeyringError> {
        let header: Header = serde_json::from_slice(json).map_err(|error| located(&error))?;
        if header.version != VERSION {
            return Err(KeyringError::UnsupportedVersion(header.version));
        }
        let file: File<'_> = serde_json::from_slice(json).map_err(|error| located(&error))?;
        let (mut primary, mut others) = (None::<Arc<Kek>>, Vec::<Arc<Kek>>::new());
        for (index, entry) in file.keys.into_iter().enumerate() {
            let state = entry.state;
            let kek = Arc::new(entry.read(index + 1)?);
            if primary.iter().chain(&others).any(|known| known.id == kek.id) {
                return Err(KeyringError::DuplicateId(kek.id.clone()));
            }
            match (state, &primary) {
                (KekState::DecryptOnly, _) => others.push(kek),
                (KekState::Primary, None) => primary = Some(kek),
                (KekState::Primary, Some(first)) => {
                    return Err(KeyringError::TwoPrimaries(first.id.clone(), kek.id.clone()));
                }
            }
        }
        Ok(Self { primary: primary.ok_or(KeyringError::NoPrimary)?, others })
    }

    /// Writes the keyring file: a key a line, the primary one first.
    ///
    /// By hand and into memory of sufficient size, so that the heap gets no other copy of a key. Nothing
    /// needs an escape: ids are letters and digits, base64 has neither quotes nor backslashes.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let mut json = Zeroizing::new(String::with_capacity(ENTRY_CHARS * (1 + self.entries().count())));
        json.push_str("{\"version\": 1, \"keys\": [\n");
        for (index, entry) in self.entries().enumerate() {
            json.push_str(if index == 0 { "" } else { ",\n" });
            json.push_str("  {\"id\": \"");
            json.push_str(entry.id().as_str());
            json.push_str("\", \"state\": \"");
            json.push_str(entry.state().as_str());
            json.push_str("\", \"created_at\": ");
            json.push_str(&entry.created_at().0.to_string());
            json.push_str(", \"key\": \"");
            STANDARD.encode_string(entry.kek.bytes.expose(), &mut json);
            json.push_str("\"}");
        }
        json.push_str("\n]}\n");
        Zeroizing::new(std::mem::take(&mut *json).into_bytes())
    }
}

impl Entry<'_> {
    fn read(self, position: usize) -> Result<Kek, KeyringError> {
        let id = KekId::parse(self.id).ok_or(KeyringError::MalformedId { position })?;
        match decode(self.key) {
            Some(bytes) => Ok(Kek::new(id, Timestamp(self.created_at), bytes)?),
            None => Err(KeyringError::MalformedKey(id)),
        }
    }
}

fn decode(text: &str) -> Option<KeyBytes> {
    if text.len() != KEY_CHARS {
        return None;
    }
    // The decoder wants room for a key without padding, one byte more than ours have
    let mut bytes = Zeroizing::new([0; KEY_BYTES + 1]);
    let length = STANDARD.decode_slice(text, bytes.as_mut_slice()).ok()?;
    KeyBytes::from_slice(bytes.get(..length)?)
}

/// Keeps of an error where it is: what it says may quote the file.
fn located(error: &serde_json::Error) -> KeyringError {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Data => KeyringError::Shape { line, column },
        Category::Syntax | Category::Eof | Category::Io => KeyringError::Syntax { line, column },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::{KeyCheck, Random};

    /// The format, byte for byte. Files like this are in people's backups: it must read for ever.
    const KNOWN: &str = concat!(
        "{\"version\": 1, \"keys\": [\n",
        "  {\"id\": \"kek_one\", \"state\": \"primary\", \"created_at\": 1790000000000000, ",
        "\"key\": \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"},\n",
        "  {\"id\": \"kek_two\", \"state\": \"decrypt-only\", \"created_at\": -1, ",
        "\"key\": \"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=\"}\n",
        "]}\n"
    );

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    /// HMAC-SHA256 of nothing under the HKDF of bytes 0 to 31, computed with Python's `cryptography`.
    const CHECK_VALUE: [u8; 32] = [
        0x17, 0x31, 0x3b, 0xd5, 0x46, 0xdc, 0xbb, 0xc0, 0xbf, 0x52, 0x1c, 0x86, 0x31, 0x9f, 0x3b, 0x56, 0xc2,
        0x76, 0x24, 0x10, 0xb9, 0x4c, 0x11, 0xa9, 0x1b, 0x01, 0xd4, 0xc7, 0xaa, 0x30, 0x7a, 0xea,
    ];

    fn entry(id: &str, state: &str, key: &str) -> String {
        format!(r#"{{"id":"{id}","state":"{state}","created_at":1,"key":"{key}"}}"#)
    }

    fn error(keys: &[String]) -> KeyringError {
        let json = format!(r#"{{"version":1,"keys":[{}]}}"#, keys.join(","));
        Keyring::parse(json.as_bytes()).unwrap_err()
    }

    fn id(text: &str) -> KekId {
        KekId::parse(text).unwrap()
    }

    #[test]
    fn the_format_never_changes() {
        let keyring = Keyring::parse(KNOWN.as_bytes()).unwrap();
        assert_eq!(std::str::from_utf8(&keyring.to_json()).unwrap(), KNOWN);
        let keys: Vec<_> =
            keyring.entries().map(|key| (key.id().as_str(), key.state(), key.created_at().0)).collect();
        let expected =
            [("kek_one", KekState::Primary, 1_790_000_000_000_000), ("kek_two", KekState::DecryptOnly, -1)];
        assert_eq!(keys, expected);
        assert_eq!(keyring.verify(&id("kek_one"), &CHECK_VALUE), KeyCheck::Right);
        assert_eq!(keyring.primary().fingerprint(), "17313bd546dc");
    }

    #[test]
    fn what_is_written_is_json_in_memory_that_never_grew() {
        let longest = |n: usize| {
            let json = entry(&format!("kek_{n:0>64}"), "decrypt-only", KEY);
            json.replace(":1,", ":-9223372036854775808,")
        };
        let others = (0..20).map(longest).collect::<Vec<_>>().join(",");
        let json = format!(r#"{{"version":1,"keys":[{others},{}]}}"#, entry("kek_a", "primary", KEY));
        let keyring = Keyring::parse(json.as_bytes()).unwrap();
        let written = keyring.to_json();
        assert!(serde_json::from_slice::<serde_json::Value>(&written).is_ok());
        assert_eq!(written.capacity(), ENTRY_CHARS * 22);
        assert_eq!(Keyring::parse(&written).unwrap().to_json(), written);
    }

    #[test]
    fn a_generated_keyring_reads_again() {
        let mut keyring = Keyring::generate(&Random::new(), Timestamp(5)).unwrap();
        keyring.add_key(&Random::new(), Timestamp(6)).unwrap();
        let read = Keyring::parse(&keyring.to_json()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{keyring:?}"));
    }

    #[test]
    fn one_key_is_primary_and_ids_differ() {
        let (one, two) = (entry("kek_1", "primary", KEY), entry("kek_2", "primary", KEY));
        assert_eq!(error(&[one.clone(), two]), KeyringError::TwoPrimaries(id("kek_1"), id("kek_2")));
        assert_eq!(error(&[]), KeyringError::NoPrimary);
        let old = entry("kek_1", "decrypt-only", KEY);
        assert_eq!(error(std::slice::from_ref(&old)), KeyringError::NoPrimary);
        assert_eq!(error(&[one, old]), KeyringError::DuplicateId(id("kek_1")));
    }

    #[test]
    fn a_key_is_32_bytes_in_base64() {
        let unpadded = KEY.trim_end_matches('=');
        let bent = KEY.replace("8=", "9=");
        for key in
            ["", "AAAA", unpadded, &format!("{unpadded}A"), &bent, &"AAAA".repeat(12), &KEY.replace('A', "-")]
        {
            assert_eq!(
                error(&[entry("kek_1", "primary", key)]),
                KeyringError::MalformedKey(id("kek_1")),
                "{key}"
            );
        }
        let swapped = error(&[entry("kek_1", "primary", KEY), entry(KEY, "decrypt-only", "kek_2")]);
        assert_eq!(swapped, KeyringError::MalformedId { position: 2 });
    }

    #[test]
    fn a_later_version_is_named() {
        let later = br#"{"version":2,"keys":{"other":"shape"}}"#;
        assert_eq!(Keyring::parse(later).unwrap_err(), KeyringError::UnsupportedVersion(2));
    }

    #[test]
    fn the_format_is_closed() {
        let good = entry("kek_1", "primary", KEY);
        let wrong = [
            good.replace("created_at", "created"),
            good.replace("primary", "Primary"),
            good.replace("\"created_at\":1,", ""),
            good.replace(":1,", ":\"1\","),
            good.replace('}', r#","note":"x"}"#),
            good.replace('}', r#","id":"kek_2"}"#),
            good.replace(&format!("\"{KEY}\""), "7"),
            format!("\"{KEY}\""),
        ];
        for wrong in wrong {
            assert!(
                matches!(error(std::slice::from_ref(&wrong)), KeyringError::Shape { line: 1, .. }),
                "{wrong}"
            );
        }
        for syntax in ["", "{", "kek", &KNOWN.replace("]}", "]} x"), &KNOWN.replace("]}", "]")] {
            let error = Keyring::parse(syntax.as_bytes()).unwrap_err();
            assert!(matches!(error, KeyringError::Syntax { .. }), "{syntax} {error:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            prop_assert!(Keyring::parse(&bytes).is_err());
        }

        #[test]
        fn a_damaged_file_never_panics_and_no_error_shows_a_key(
            at in 0..KNOWN.len(), to: u8, cut in 0..KNOWN.len(), insert in "[\"{}:,A-Za-z0-9 ]{0,6}",
        ) {
            let mut damaged = KNOWN.as_bytes().to_vec();
            damaged[at] = to;
            damaged.splice(cut..cut, insert.into_bytes());
            if let Err(error) = Keyring::parse(&damaged) {
                let shown = format!("{error} {error:?}");
                for window in KEY.as_bytes().windows(6) {
                    prop_assert!(!shown.contains(std::str::from_utf8(window).unwrap()), "{}", shown);
                }
            }
        }

        #[test]
        fn a_keyring_never_prints_a_key(bytes: [u8; 32]) {
            let key = STANDARD.encode(bytes);
            let json = format!(r#"{{"version":1,"keys":[{}]}}"#, entry("kek_1", "primary", &key));
            let keyring = Keyring::parse(json.as_bytes()).unwrap();
            let shown = format!("{keyring:?} {:#?}", keyring.primary());
            for window in key.as_bytes().windows(6) {
                prop_assert!(!shown.contains(std::str::from_utf8(window).unwrap()));
            }
        }
    }
}
