//! An agent's data key.

use std::fmt;

use ring::{aead::LessSafeKey, hmac};

use super::key_bytes::KeyBytes;
use super::{CryptoError, Random};

const SEAL_LABEL: &str = "superserve/data-key/seal/1";
const FINGERPRINT_LABEL: &str = "superserve/data-key/fingerprint/1";
const REQUEST_LABEL: &str = "superserve/data-key/request/1";

/// The key of one agent: it seals and opens the agent's values, takes their fingerprints, and tells
/// repeated requests. It prints as `[redacted]`.
///
/// On drop the key itself is wiped; the three keys derived from it are [`ring`]'s and cannot be.
pub struct DataKey {
    pub(super) bytes: KeyBytes,
    pub(super) sealing: LessSafeKey,
    pub(super) fingerprint: hmac::Key,
    pub(super) request: hmac::Key,
}

impl DataKey {
    /// Makes a new random key.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn generate(random: &Random) -> Result<Self, CryptoError> {
        Self::new(KeyBytes::generate(random)?)
    }

    /// Derives the key of each use.
    pub(super) fn new(bytes: KeyBytes) -> Result<Self, CryptoError> {
        let root = bytes.root();
        Ok(Self {
            sealing: root.sealing_key(SEAL_LABEL)?,
            fingerprint: root.mac_key(FINGERPRINT_LABEL)?,
            request: root.mac_key(REQUEST_LABEL)?,
            bytes,
        })
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_prints() {
        let key = DataKey::new(KeyBytes::from_slice(&[0x5a; 32]).unwrap()).unwrap();
        let printed = format!("{key:?} {:?}", key.bytes);
        assert_eq!(printed, "DataKey([redacted]) [redacted]");
    }
}
