//! The text of an API token: `ss_`, 43 characters of randomness, 6 of checksum.
//!
//! A scanner can find one, and a typo is told from an unknown token without a look-up.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::base62;

const PREFIX: &str = "ss_";
const CHECKSUM_CHARS: usize = 6;
const RANDOM_CHARS: usize = 43;

/// The text of a token. It prints as `[redacted]` and is wiped on drop.
#[derive(Clone)]
pub struct TokenText(Zeroizing<String>);

/// A text that no token has: mistyped, cut off, or something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token: it must be \"ss_\" and 49 more characters, the last six of them a checksum")]
pub struct MalformedToken;

impl TokenText {
    /// Writes a token of 32 random bytes.
    #[must_use]
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + RANDOM_CHARS + CHECKSUM_CHARS));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Self(text)
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`MalformedToken`] unless prefix, length, alphabet and checksum are right.
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        let body_chars = PREFIX.len() + RANDOM_CHARS;
        let random = text.get(PREFIX.len()..body_chars).ok_or(MalformedToken)?;
        let body = text.get(..body_chars).ok_or(MalformedToken)?;
        let well_formed = body.starts_with(PREFIX)
            && random.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && text.get(body_chars..) == Some(checksum(body).as_str());
        if well_formed { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(MalformedToken) }
    }

    /// The text itself. Every use of this is a place to look at in a review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

fn checksum(body: &str) -> String {
    base62(u128::from(crc32fast::hash(body.as_bytes())), CHECKSUM_CHARS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn has_the_documented_form() {
        let token = TokenText::from_random(&[0; 32]);
        let text = token.expose();
        assert_eq!(text.len(), 52);
        assert!(text.starts_with("ss_AAAA"));
        // CRC-32 (IEEE) of the 46 characters before, computed with Python's zlib.crc32
        assert_eq!(text.get(46..), Some(CHECKSUM_OF_ZEROS));
        assert_eq!(format!("{token:?}"), "[redacted]");
    }

    const CHECKSUM_OF_ZEROS: &str = "3RSt34";

    proptest! {
        #[test]
        fn reads_what_it_writes(bytes: [u8; 32]) {
            let text = TokenText::from_random(&bytes);
            prop_assert!(TokenText::parse(text.expose()).is_ok());
        }

        #[test]
        fn a_changed_character_is_seen(bytes: [u8; 32], at in 0usize..52, to in "[a-zA-Z0-9_-]") {
            let text = TokenText::from_random(&bytes);
            let mut typo = text.expose().to_owned();
            typo.replace_range(at..=at, &to);
            prop_assert_eq!(TokenText::parse(&typo).is_ok(), typo == text.expose());
        }

        #[test]
        fn nothing_else_is_one(text in ".{0,80}") {
            prop_assert!(TokenText::parse(&text).is_err());
        }
    }
}
