//! The 32 bytes of a key, and the keys derived from them.

use std::fmt;

use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Okm, Prk, Salt};
use ring::hmac;
use zeroize::Zeroizing;

use super::{CryptoError, Random};

/// The length of every key.
pub(super) const KEY_BYTES: usize = 32;

/// A key from which others are derived. It prints as `[redacted]` and is wiped on drop. On the heap,
/// because moving it there leaves no copy behind.
pub(super) struct KeyBytes(Box<Zeroizing<[u8; KEY_BYTES]>>);

/// What the keys of its uses are derived from by HKDF-SHA256. It is [`ring`]'s and cannot be wiped.
pub(super) struct Root(Prk);

// === impl KeyBytes ===

impl KeyBytes {
    /// A new random key.
    pub(super) fn generate(random: &Random) -> Result<Self, CryptoError> {
        let mut key = Self::zeroed();
        random.fill_into(key.0.as_mut_slice())?;
        Ok(key)
    }

    /// Takes a copy of the bytes; `None` unless there are 32.
    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; KEY_BYTES] = bytes.try_into().ok()?;
        let mut key = Self::zeroed();
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    /// The bytes themselves. Every use of this is a place to look at in a review.
    pub(super) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// What keys are derived from. No salt: the key is uniformly random already, and the labels keep the uses apart.
    pub(super) fn root(&self) -> Root {
        Root(Salt::new(HKDF_SHA256, &[]).extract(self.expose()))
    }

    fn zeroed() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY_BYTES])))
    }
}

// === impl Root ===

impl Root {
    /// The AES-256-GCM key for the use that `label` names.
    pub(super) fn sealing_key(&self, label: &'static str) -> Result<LessSafeKey, CryptoError> {
        self.derive(label, &AES_256_GCM, |okm| LessSafeKey::new(UnboundKey::from(okm)))
    }

    /// The HMAC-SHA256 key for the use that `label` names.
    pub(super) fn mac_key(&self, label: &'static str) -> Result<hmac::Key, CryptoError> {
        self.derive(label, hmac::HMAC_SHA256, |okm| hmac::Key::from(okm))
    }

    fn derive<L: KeyType, K>(
        &self,
        label: &'static str,
        kind: L,
        make: impl FnOnce(Okm<'_, L>) -> K,
    ) -> Result<K, CryptoError> {
        let info = [label.as_bytes()];
        let key = self.0.expand(&info, kind).map_err(|ring::error::Unspecified| CryptoError::Refused)?;
        Ok(make(key))
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_32_bytes_are_a_key() {
        assert!(KeyBytes::from_slice(&[1; 31]).is_none());
        assert!(KeyBytes::from_slice(&[1; 33]).is_none());
        assert_eq!(KeyBytes::from_slice(&[1; 32]).unwrap().expose(), &[1; 32]);
    }

    #[test]
    fn labels_give_different_keys() {
        let key = KeyBytes::generate(&Random::new()).unwrap();
        let mac = |label| hmac::sign(&key.root().mac_key(label).unwrap(), b"text").as_ref().to_vec();
        assert_eq!(mac("one"), mac("one"));
        assert_ne!(mac("one"), mac("other"));
    }
}
