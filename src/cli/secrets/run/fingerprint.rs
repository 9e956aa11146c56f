//! Tells values apart without keeping them.

use ring::hmac;

use crate::cli::{failure::Failure, random};

use super::resolve::Values;

/// Makes fingerprints that mean something in this process alone: the key is random and never leaves it.
pub(super) struct Fingerprints(hmac::Key);

/// Equal for equal values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

// === impl Fingerprints ===

impl Fingerprints {
    /// Takes a new key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()?)))
    }

    /// The fingerprint of these values with their keys.
    pub(super) fn of(&self, values: &Values) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.0);
        for (key, value) in values {
            for part in [key.as_str(), value.as_str()] {
                context.update(&part.len().to_le_bytes());
                context.update(part.as_bytes());
            }
        }
        let mut print = [0; 32];
        print.copy_from_slice(context.sign().as_ref());
        Fingerprint(print)
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn other_values_have_another_fingerprint() {
        let fingerprints = Fingerprints::new().unwrap();
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), Zeroizing::new((*v).to_owned())));
            fingerprints.of(&pairs.collect())
        };
        let known = of(&[("A", "b"), ("C", "d")]);
        assert!(known == of(&[("C", "d"), ("A", "b")]));
        for other in [&[("A", "b")][..], &[("A", "bC"), ("C", "d")], &[("A", "bC"), ("d", "")], &[]] {
            assert!(known != of(other), "{other:?}");
        }
    }
}
