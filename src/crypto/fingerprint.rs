//! Whether two values, or two requests, are equal: answered without keeping either.

use std::fmt;

use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq as _;

use super::{DataKey, framing};
use crate::domain::{SecretName, SecretValue};

const SHOWN_BYTES: usize = 6;

/// A keyed digest of a secret's name and value. The key is the agent's own, so equal values of two agents
/// differ, and without it nobody can try guesses. Two are compared in constant time.
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; 32]);

/// The first twelve hex digits: what people compare.
pub(super) fn short_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes.get(..SHOWN_BYTES).unwrap_or(bytes))
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Takes a fingerprint as our own database has it; `None` unless there are 32 bytes.
    #[must_use]
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// What the database keeps.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Twelve hex digits: what callers are shown.
    #[must_use]
    pub fn short(&self) -> String {
        short_hex(&self.0)
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Fingerprint {}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fingerprint").field(&self.short()).finish()
    }
}

// === impl DataKey ===

impl DataKey {
    /// The fingerprint of a value under a name: HMAC-SHA256 over both, each preceded by its length.
    #[must_use]
    pub fn fingerprint(&self, name: &SecretName, value: &SecretValue) -> Fingerprint {
        let parts = [name.as_str().as_bytes(), value.expose().as_bytes()];
        Fingerprint(framing::mac(&self.fingerprint, &parts))
    }

    /// A keyed digest of a request's parts, each preceded by its length, by which a repeated idempotency key
    /// with another request is seen. A key of its own: the parts hold values.
    #[must_use]
    pub fn request_digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        framing::mac(&self.request, parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::Random;

    fn key() -> DataKey {
        DataKey::generate(&Random::new()).unwrap()
    }

    fn of(key: &DataKey, name: &str, value: &str) -> Fingerprint {
        key.fingerprint(&SecretName::from_stored(name.into()), &SecretValue::from_opened(value.into()))
    }

    #[test]
    fn stored_ones_come_back_or_are_refused() {
        let fingerprint = of(&key(), "A", "value");
        assert_eq!(Fingerprint::from_stored(fingerprint.as_bytes()), Some(fingerprint));
        assert_eq!(Fingerprint::from_stored(&[0; 31]), None);
        assert_eq!(Fingerprint::from_stored(&[0; 33]), None);
    }

    #[test]
    fn short_is_the_first_six_bytes() {
        let bytes: Vec<u8> = (0..32).collect();
        let fingerprint = Fingerprint::from_stored(&bytes).unwrap();
        assert_eq!(fingerprint.short(), "000102030405");
        assert_eq!(format!("{fingerprint:?}"), "Fingerprint(\"000102030405\")");
    }

    #[test]
    fn requests_and_fingerprints_have_different_keys() {
        let key = key();
        assert_ne!(&key.request_digest(&[b"A", b"value"]), of(&key, "A", "value").as_bytes());
        assert_ne!(key.request_digest(&[b"ab", b"c"]), key.request_digest(&[b"a", b"bc"]));
        assert_eq!(key.request_digest(&[b"ab", b"c"]), key.request_digest(&[b"ab", b"c"]));
    }

    proptest! {
        #[test]
        fn equal_only_for_the_same_agent_name_and_value(
            names in ("[AB]{1,2}", "[AB]{1,2}"), values in ("[AB]{0,2}", "[AB]{0,2}"),
        ) {
            let (key, other) = (key(), key());
            let fingerprint = of(&key, &names.0, &values.0);
            let same = names.0 == names.1 && values.0 == values.1;
            prop_assert_eq!(fingerprint == of(&key, &names.1, &values.1), same);
            prop_assert_ne!(fingerprint, of(&other, &names.0, &values.0));
        }
    }
}
