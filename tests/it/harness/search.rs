//! Finds texts that must not be anywhere, in whatever form they were written.
//!
//! A text is looked for as it is, in base64 (at each of its three alignments, both alphabets), in hex,
//! percent-encoded, escaped as in JSON, and in UTF-16. It should be letters and digits only: then what escapes
//! punctuation alone leaves it as it is.

use std::{collections::HashMap, fmt::Write as _, fs, path::Path};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use ring::rand::{SecureRandom, SystemRandom};

/// How many bytes are looked up at a time.
const GRAM: usize = 4;

/// Looks for many texts at once.
#[derive(Debug, Default)]
pub(crate) struct Search {
    needles: Vec<Needle>,
    /// Where in which needle these bytes stand.
    grams: HashMap<[u8; GRAM], Vec<(usize, usize)>>,
    /// It is enough to look at every so many bytes: some look then falls into any needle.
    stride: usize,
}

#[derive(Debug)]
struct Needle {
    /// Which text it is, and in which form.
    name: String,
    bytes: Vec<u8>,
}

/// 24 random letters and digits.
pub(crate) fn sentinel() -> String {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
    superserve::domain::base62(u128::from_ne_bytes(bytes), 22) + "Qx"
}

/// All forms of a text, by name.
pub(crate) fn forms(text: &str) -> Vec<(String, Vec<u8>)> {
    let each = |write: fn(u8) -> String| text.bytes().map(write).collect::<String>().into_bytes();
    let mut forms = vec![
        ("raw".to_owned(), text.as_bytes().to_vec()),
        ("hex".to_owned(), each(|b| format!("{b:02x}"))),
        ("HEX".to_owned(), each(|b| format!("{b:02X}"))),
        ("percent".to_owned(), each(|b| format!("%{b:02x}"))),
        ("PERCENT".to_owned(), each(|b| format!("%{b:02X}"))),
        ("JSON escapes".to_owned(), each(|b| format!("\\u{b:04x}"))),
        ("JSON ESCAPES".to_owned(), each(|b| format!("\\u{b:04X}"))),
        ("byte escapes".to_owned(), each(|b| format!("\\x{b:02x}"))),
        ("decimal list".to_owned(), decimals(text)),
        ("UTF-16LE".to_owned(), text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("UTF-16BE".to_owned(), text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
    ];
    for before in 0..3 {
        let mut shifted = vec![0; before];
        shifted.extend(text.bytes());
        // Only the characters that depend on the text alone
        let (from, to) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
        let cut = |encoded: String| encoded.into_bytes()[from..to].to_vec();
        forms.push((format!("base64+{before}"), cut(STANDARD_NO_PAD.encode(&shifted))));
        forms.push((format!("base64url+{before}"), cut(URL_SAFE_NO_PAD.encode(&shifted))));
    }
    forms
}

fn decimals(text: &str) -> Vec<u8> {
    let mut list = String::new();
    for byte in text.bytes() {
        write!(list, "{byte}, ").expect("a string takes it");
    }
    list.trim_end_matches(", ").to_owned().into_bytes()
}

// === impl Search ===

impl Search {
    /// Searches for these texts, each with the name to call it by in a finding.
    pub(crate) fn new<'t>(texts: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let mut search = Self::default();
        for (label, text) in texts {
            for (form, bytes) in forms(text) {
                search.needles.push(Needle { name: format!("{label} ({form})"), bytes });
            }
        }
        let shortest = search.needles.iter().map(|needle| needle.bytes.len()).min().expect("a text");
        search.stride = shortest - GRAM + 1;
        for (index, needle) in search.needles.iter().enumerate() {
            for at in 0..search.stride {
                let gram = needle.bytes[at..at + GRAM].try_into().expect("as long");
                search.grams.entry(gram).or_default().push((index, at));
            }
        }
        search
    }

    /// What of it is in these bytes.
    pub(crate) fn find(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(gram) = bytes.get(at..at + GRAM) {
            let gram: [u8; GRAM] = gram.try_into().expect("as long");
            for (index, within) in self.grams.get(&gram).into_iter().flatten() {
                let needle = &self.needles[*index];
                let start = at.checked_sub(*within);
                if start.and_then(|start| bytes.get(start..start + needle.bytes.len())) == Some(&needle.bytes)
                {
                    found.push(format!("{place} at {at}: {}", needle.name));
                }
            }
            at += self.stride;
        }
        found
    }

    /// What of it is in the files of a directory, and of those below it.
    pub(crate) fn find_in_files(&self, directory: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                found.extend(self.find_in_files(&path));
            } else if let Ok(bytes) = fs::read(&path) {
                // A database may delete a file of its own while we look
                found.extend(self.find(&path.display().to_string(), &bytes));
            }
        }
        found
    }
}
