//! One key-encryption key.

use std::fmt;

use ring::aead::LessSafeKey;
use subtle::ConstantTimeEq as _;

use super::key_bytes::KeyBytes;
use super::{CryptoError, Random, fingerprint, framing};
use crate::domain::{KekId, Timestamp};

const WRAP_LABEL: &str = "superserve/kek/wrap/1";
const CHECK_LABEL: &str = "superserve/kek/check/1";

/// What a key-encryption key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KekState {
    /// Wraps and unwraps; a keyring has exactly one such key.
    Primary,
    /// Only unwraps: on its way in, or on its way out.
    DecryptOnly,
}

/// Whether the keyring has the key that a database was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCheck {
    /// It has this very key.
    Right,
    /// It has another key under this id.
    Wrong,
    /// It has no key of this id.
    Unknown,
}

/// A key-encryption key with all that follows from it.
pub(super) struct Kek {
    pub(super) id: KekId,
    pub(super) created_at: Timestamp,
    pub(super) bytes: KeyBytes,
    pub(super) wrapping: LessSafeKey,
    pub(super) check_value: [u8; 32],
}

/// What people call the key of a check value that a database holds: twelve hex digits, safe to print. So
/// a server with the wrong keyring can say which key it needs.
#[must_use]
pub fn check_value_fingerprint(check_value: &[u8]) -> String {
    fingerprint::short_hex(check_value)
}

// === impl KekState ===

impl KekState {
    /// The word for it in the keyring file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::DecryptOnly => "decrypt-only",
        }
    }
}

impl fmt::Display for KekState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Kek ===

impl Kek {
    /// Makes a new random key with a new random id.
    pub(super) fn generate(random: &Random, now: Timestamp) -> Result<Self, CryptoError> {
        let id = KekId::from_random(random.id_bits()?);
        Self::new(id, now, KeyBytes::generate(random)?)
    }

    /// Derives from the bytes what follows from them. The check value does not cover the id: it says which
    /// key this is, whatever somebody called it.
    pub(super) fn new(id: KekId, created_at: Timestamp, bytes: KeyBytes) -> Result<Self, CryptoError> {
        let root = bytes.root();
        let wrapping = root.sealing_key(WRAP_LABEL)?;
        let check_value = framing::mac(&root.mac_key(CHECK_LABEL)?, &[]);
        Ok(Self { id, created_at, bytes, wrapping, check_value })
    }

    /// Whether this is the key of a stored check value, told in constant time.
    pub(super) fn check(&self, stored: &[u8]) -> KeyCheck {
        // `subtle`, because ring has deprecated its comparison for callers and its `hmac::verify` wants the
        // message again. It is in the tree anyway: rustls compares with it
        if self.check_value.as_slice().ct_eq(stored).into() { KeyCheck::Right } else { KeyCheck::Wrong }
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kek").field(&self.id).field(&check_value_fingerprint(&self.check_value)).finish()
    }
}
