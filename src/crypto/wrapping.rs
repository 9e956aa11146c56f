//! Data keys as the database keeps them: sealed by a key-encryption key for one agent.

use std::fmt;

use super::key_bytes::KeyBytes;
use super::{CryptoError, DataKey, Keyring, Random, UnwrapError, aead};
use crate::domain::{AgentId, KekId, TenantId};

const LABEL: &[u8] = b"superserve/wrapped-data-key/1";

/// A wrapped data key. Without the keyring it is noise.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The key-encryption key that wrapped it.
    pub kek: KekId,
    /// Format byte, nonce, ciphertext and tag: 61 bytes.
    pub bytes: Vec<u8>,
}

// === impl WrappedKey ===

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedKey({}, {} bytes)", self.kek, self.bytes.len())
    }
}

// === impl Keyring ===

impl Keyring {
    /// Wraps an agent's data key under the primary key.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn wrap(
        &self,
        key: &DataKey,
        tenant: &TenantId,
        agent: &AgentId,
        random: &Random,
    ) -> Result<WrappedKey, CryptoError> {
        self.seal(&key.bytes, tenant, agent, random)
    }

    /// Wraps under the primary key what another key wraps. The data key stays the same, and so does all that it
    /// sealed.
    ///
    /// # Errors
    /// As [`Keyring::unwrap_key`].
    pub fn rewrap(
        &self,
        wrapped: &WrappedKey,
        tenant: &TenantId,
        agent: &AgentId,
        random: &Random,
    ) -> Result<WrappedKey, UnwrapError> {
        Ok(self.seal(&self.open(wrapped, tenant, agent)?, tenant, agent, random)?)
    }

    /// Unwraps an agent's data key.
    ///
    /// # Errors
    /// [`UnwrapError::UnknownKey`] when the keyring lacks the key that wrapped it;
    /// [`UnwrapError::DoesNotOpen`] when it is not this agent's or is damaged.
    pub fn unwrap_key(
        &self,
        wrapped: &WrappedKey,
        tenant: &TenantId,
        agent: &AgentId,
    ) -> Result<DataKey, UnwrapError> {
        Ok(DataKey::new(self.open(wrapped, tenant, agent)?)?)
    }

    fn seal(
        &self,
        key: &KeyBytes,
        tenant: &TenantId,
        agent: &AgentId,
        random: &Random,
    ) -> Result<WrappedKey, CryptoError> {
        let kek = &self.primary;
        let place = place(&kek.id, tenant, agent);
        let bytes = aead::seal(&kek.wrapping, &place, &[key.expose()], 0, random)?;
        Ok(WrappedKey { kek: kek.id.clone(), bytes })
    }

    fn open(
        &self,
        wrapped: &WrappedKey,
        tenant: &TenantId,
        agent: &AgentId,
    ) -> Result<KeyBytes, UnwrapError> {
        let entry = self.get(&wrapped.kek).ok_or_else(|| UnwrapError::UnknownKey(wrapped.kek.clone()))?;
        let place = place(entry.id(), tenant, agent);
        let plain = aead::open(&entry.kek.wrapping, &place, &wrapped.bytes).ok();
        plain.and_then(|bytes| KeyBytes::from_slice(&bytes)).ok_or(UnwrapError::DoesNotOpen)
    }
}

fn place<'a>(kek: &'a KekId, tenant: &'a TenantId, agent: &'a AgentId) -> [&'a [u8]; 4] {
    [LABEL, kek.as_str().as_bytes(), tenant.as_str().as_bytes(), agent.as_str().as_bytes()]
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;

    use super::*;

    /// Made with Python's `cryptography`: KEK bytes 0 to 31, data key bytes 32 to 63, nonce bytes 64 to 75.
    /// It must open for ever.
    const STORED: &str =
        "AUBBQkNERUZHSElKS3prkOqK4EMpUPuEmyVEamFYCFqz8pA9irJqBv1+g72R8lUzAAZdi4EuWOAk06R7BA==";

    const KEYRING: &[u8] = br#"{"version":1,"keys":[{"id":"kek_one","state":"primary","created_at":1,
        "key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}]}"#;

    fn keyring() -> Keyring {
        Keyring::parse(KEYRING).unwrap()
    }

    fn owner() -> (TenantId, AgentId) {
        (TenantId::default_tenant(), AgentId::parse("agt_abc123").unwrap())
    }

    fn stored() -> WrappedKey {
        WrappedKey { kek: KekId::parse("kek_one").unwrap(), bytes: STANDARD.decode(STORED).unwrap() }
    }

    fn refused(result: &Result<DataKey, UnwrapError>) -> bool {
        matches!(result, Err(UnwrapError::DoesNotOpen))
    }

    #[test]
    fn a_stored_key_opens_for_ever() {
        let (tenant, agent) = owner();
        let key = keyring().unwrap_key(&stored(), &tenant, &agent).unwrap();
        let expected: Vec<u8> = (32..64).collect();
        assert_eq!(key.bytes.expose().as_slice(), expected);
    }

    #[test]
    fn it_comes_back_and_looks_different_each_time() {
        let ((tenant, agent), random) = (owner(), Random::new());
        let key = DataKey::generate(&random).unwrap();
        let one = keyring().wrap(&key, &tenant, &agent, &random).unwrap();
        assert_eq!(one.bytes.len(), 61);
        assert_ne!(one, keyring().wrap(&key, &tenant, &agent, &random).unwrap());
        let back = keyring().unwrap_key(&one, &tenant, &agent).unwrap();
        assert_eq!(back.bytes.expose(), key.bytes.expose());
    }

    #[test]
    fn another_owner_or_id_refuses() {
        let (tenant, agent) = owner();
        let other_tenant = TenantId::from_random(1);
        let other_agent = AgentId::from_random(1);
        assert!(refused(&keyring().unwrap_key(&stored(), &other_tenant, &agent)));
        assert!(refused(&keyring().unwrap_key(&stored(), &tenant, &other_agent)));
        let renamed = String::from_utf8(KEYRING.to_vec()).unwrap().replace("kek_one", "kek_two");
        let renamed = Keyring::parse(renamed.as_bytes()).unwrap();
        let moved = WrappedKey { kek: KekId::parse("kek_two").unwrap(), ..stored() };
        assert!(refused(&renamed.unwrap_key(&moved, &tenant, &agent)));
        let unknown = renamed.unwrap_key(&stored(), &tenant, &agent).unwrap_err();
        assert_eq!(unknown, UnwrapError::UnknownKey(stored().kek));
    }

    #[test]
    fn another_key_of_the_same_id_refuses() {
        let (tenant, agent) = owner();
        let other = String::from_utf8(KEYRING.to_vec()).unwrap().replace("AAEC", "AAED");
        assert!(refused(&Keyring::parse(other.as_bytes()).unwrap().unwrap_key(&stored(), &tenant, &agent)));
    }

    #[test]
    fn a_key_that_only_decrypts_still_opens_what_it_wrapped() {
        let ((tenant, agent), random) = (owner(), Random::new());
        let older = String::from_utf8(KEYRING.to_vec()).unwrap().replace("primary", "decrypt-only");
        let newer = r#"{"id":"kek_two","state":"primary","created_at":2,
            "key":"AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}]}"#;
        let keyring = Keyring::parse(older.replace("]}", &format!(",{newer}")).as_bytes()).unwrap();
        let key = keyring.unwrap_key(&stored(), &tenant, &agent).unwrap();
        let wrapped = keyring.wrap(&key, &tenant, &agent, &random).unwrap();
        let moved = keyring.rewrap(&stored(), &tenant, &agent, &random).unwrap();
        for wrapped in [wrapped, moved] {
            assert_eq!(wrapped.kek.as_str(), "kek_two");
            let again = keyring.unwrap_key(&wrapped, &tenant, &agent).unwrap();
            assert_eq!(again.bytes.expose(), key.bytes.expose());
        }
        let foreign = keyring.rewrap(&stored(), &tenant, &AgentId::from_random(1), &random);
        assert_eq!(foreign, Err(UnwrapError::DoesNotOpen));
    }

    #[test]
    fn a_sealed_blob_of_another_length_is_no_key() {
        let ((tenant, agent), keyring) = (owner(), keyring());
        let kek = &keyring.primary;
        let place = place(&kek.id, &tenant, &agent);
        let bytes = aead::seal(&kek.wrapping, &place, &[&[1; 31]], 0, &Random::new()).unwrap();
        let wrapped = WrappedKey { kek: kek.id.clone(), bytes };
        assert!(refused(&keyring.unwrap_key(&wrapped, &tenant, &agent)));
    }

    #[test]
    fn it_prints_no_bytes() {
        assert_eq!(format!("{:?}", stored()), "WrappedKey(kek_one, 61 bytes)");
    }

    #[test]
    fn any_flipped_bit_refuses() {
        let ((tenant, agent), keyring) = (owner(), keyring());
        for bit in 0..61 * 8 {
            let mut flipped = stored();
            flipped.bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&keyring.unwrap_key(&flipped, &tenant, &agent)), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_refuse(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let (tenant, agent) = owner();
            let wrapped = WrappedKey { bytes, ..stored() };
            prop_assert!(refused(&keyring().unwrap_key(&wrapped, &tenant, &agent)));
        }

        #[test]
        fn cut_or_longer_refuses(cut in 0usize..61, more in prop::collection::vec(any::<u8>(), 1..40)) {
            let (tenant, agent) = owner();
            let mut short = stored();
            short.bytes.truncate(cut);
            prop_assert!(refused(&keyring().unwrap_key(&short, &tenant, &agent)));
            let mut long = stored();
            long.bytes.extend(more);
            prop_assert!(refused(&keyring().unwrap_key(&long, &tenant, &agent)));
        }
    }
}
