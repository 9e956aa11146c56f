//! A secret's name and its value.

use std::fmt;

use zeroize::Zeroizing;

use super::{FaultCode, Limits, Revision, Timestamp};

/// What the name under which the value before is given out ends with.
const PREVIOUS: &str = "_PREVIOUS";

/// The name of a secret: it becomes the name of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

/// The value of a secret. It prints as `[redacted]`, compares with nothing, and is wiped on drop.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<String>);

/// What may be told of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMetadata {
    /// Its name.
    pub name: SecretName,
    /// The agent's revision at which this value was set.
    pub version: Revision,
    /// Twelve hex digits of a keyed digest of the value.
    pub fingerprint: String,
    /// When the name was first set.
    pub created_at: Timestamp,
    /// When this value was set.
    pub updated_at: Timestamp,
    /// Who set it: the id of a token.
    pub updated_by: String,
    /// Until when the value before is given out too; `None` means it is not.
    pub previous_until: Option<Timestamp>,
}

// === impl SecretName ===

stored_text!(SecretName);

impl SecretName {
    /// Reads the name of a secret that is to be set.
    ///
    /// # Errors
    /// [`FaultCode::InvalidKey`] unless it matches `^[A-Za-z_][A-Za-z0-9_]*$` and fits the limit;
    /// [`FaultCode::ReservedKey`] when it is refused.
    pub fn new(text: &str, limits: &Limits) -> Result<Self, FaultCode> {
        if text.len() > limits.key_bytes {
            return Err(FaultCode::InvalidKey);
        }
        let name = Self::parse(text).ok_or(FaultCode::InvalidKey)?;
        if limits.refuses(text) { Err(FaultCode::ReservedKey) } else { Ok(name) }
    }

    /// Reads any well-formed name, also one that could not be set; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = text.bytes();
        let first = bytes.next()?;
        let fits = (first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        fits.then(|| Self(text.to_owned()))
    }

    /// The name under which the value before is given out.
    #[must_use]
    pub fn previous(&self) -> Self {
        Self(format!("{}{PREVIOUS}", self.0))
    }

    /// The name of the secret whose value before is given out under `text`.
    #[must_use]
    pub fn of_previous(text: &str) -> &str {
        text.strip_suffix(PREVIOUS).unwrap_or(text)
    }

    /// How many bytes `name=value\0` takes for a value of `value_bytes`.
    #[must_use]
    pub fn environment_bytes(&self, value_bytes: usize) -> usize {
        self.0.len().saturating_add(value_bytes).saturating_add(2)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl SecretValue ===

impl SecretValue {
    /// Takes a value that is to be set.
    ///
    /// # Errors
    /// [`FaultCode::EmptyValue`], [`FaultCode::TooLong`] or [`FaultCode::NulInValue`].
    pub fn new(text: String, limits: &Limits) -> Result<Self, FaultCode> {
        let value = Self::from_opened(text);
        match value.expose() {
            "" => Err(FaultCode::EmptyValue),
            text if text.len() > limits.value_bytes => Err(FaultCode::TooLong),
            text if text.contains('\0') => Err(FaultCode::NulInValue),
            _ => Ok(value),
        }
    }

    /// Takes a value that was checked when it was set and has now been opened.
    #[must_use]
    pub fn from_opened(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The value itself. Every use of this is a place to look at in a review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The value itself, still wiped on drop. Every use of this is a place to look at in a review.
    #[must_use]
    pub fn into_exposed(self) -> Zeroizing<String> {
        self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        let limits = Limits::default();
        for name in ["A", "_", "a1", "ANTHROPIC_API_KEY", &"A".repeat(128)] {
            assert!(SecretName::new(name, &limits).is_ok(), "{name}");
        }
        for name in ["", "1A", "A-B", "A.B", "A B", "É", "A\0", "A=B", &"A".repeat(129)] {
            assert_eq!(SecretName::new(name, &limits), Err(FaultCode::InvalidKey), "{name:?}");
        }
        assert_eq!(SecretName::new("PATH", &limits), Err(FaultCode::ReservedKey));
    }

    #[test]
    fn values_are_bounded_in_bytes() {
        let limits = Limits { value_bytes: 4, ..Limits::default() };
        let check = |text: &str| SecretValue::new(text.to_owned(), &limits).map(|_| ());
        assert_eq!(check("éé"), Ok(()));
        assert_eq!(check("ééé"), Err(FaultCode::TooLong));
        assert_eq!(check(""), Err(FaultCode::EmptyValue));
        assert_eq!(check("a\0"), Err(FaultCode::NulInValue));
    }

    proptest! {
        #[test]
        fn a_value_never_prints(text in "[a-z0-9]{8,40}") {
            let value = SecretValue::from_opened(text.clone());
            let printed = format!("{value:?} {:?}", Some(&value));
            prop_assert!(!printed.contains(&text));
        }

        #[test]
        fn accepted_names_are_environment_names(text in ".{0,140}") {
            if let Ok(name) = SecretName::new(&text, &Limits::default()) {
                prop_assert!(!name.as_str().contains(['=', '\0']));
                prop_assert!(name.as_str().is_ascii());
            }
        }
    }
}
