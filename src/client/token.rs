//! What a caller shows.

use std::fmt;

use tonic::metadata::{Ascii, MetadataValue};
use zeroize::Zeroizing;

use crate::domain::TokenText;

/// What every token of this service begins with. Others (a JWT) are for the server to judge.
const PREFIX: &str = "ss_";

/// An API token, or a token that another issuer has signed. It prints as `[redacted]` and is wiped on drop.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

/// A text that no server accepts as a token: a character is missing, added or mistyped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is malformed: a character is missing, added or mistyped")]
pub struct MalformedToken;

// === impl Token ===

impl Token {
    /// Finds a mistyped token before it is sent, and what could not be sent at all.
    ///
    /// # Errors
    /// [`MalformedToken`] when no server can accept it.
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        let is_mistyped = text.starts_with(PREFIX) && TokenText::parse(text).is_err();
        if is_mistyped || text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(MalformedToken);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// What stands in the metadata `authorization`.
    pub(super) fn header(&self) -> MetadataValue<Ascii> {
        let text = Zeroizing::new(format!("Bearer {}", self.0.as_str()));
        // It is made of characters that may stand there, as `parse` has seen
        let mut value =
            MetadataValue::try_from(text.as_str()).unwrap_or_else(|_never| MetadataValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_server_can_accept_is_refused() {
        for text in ["", "ss_sentinel", "a sentinel", "sentinel\n", "é"] {
            assert!(Token::parse(text).is_err(), "{text:?}");
        }
        let good = TokenText::from_random(&[1; 32]);
        assert!(Token::parse(good.expose()).is_ok());
        assert!(Token::parse("eyJh.eyJz.c2ln").is_ok(), "a JWT is for the server to judge");
    }

    #[test]
    fn it_is_sent_and_not_printed() {
        let token = Token::parse("sentinel").unwrap();
        assert_eq!(token.header().to_str().unwrap(), "Bearer sentinel");
        assert!(!format!("{token:?}{:?}", token.header()).contains("sentinel"));
    }
}
