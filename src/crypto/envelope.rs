//! Secret values as the database keeps them: padded, and sealed under the agent's key for one place.

use std::fmt;

use super::{CryptoError, DataKey, OpenError, Random, aead};
use crate::domain::{AgentId, Revision, SecretName, SecretValue, TenantId};

const LABEL: &[u8] = b"superserve/secret-value/1";

/// The length of the value, before it.
const LENGTH_BYTES: usize = 4;

/// Most API keys and passwords fit the smallest size class, so that one of them looks like another.
const SMALLEST_CLASS: usize = 128;

/// Where a sealed value belongs. It opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The tenant of the agent.
    pub tenant: &'a TenantId,
    /// The agent.
    pub agent: &'a AgentId,
    /// The name of the secret.
    pub name: &'a SecretName,
    /// The revision at which the value was set: an older value does not pass for the present one.
    pub version: Revision,
}

/// A sealed value. Without the agent's key it is noise.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

// === impl Place ===

impl Place<'_> {
    /// Calls `with` with the parts of the additional data.
    fn with_parts<T>(&self, with: impl FnOnce(&[&[u8]]) -> T) -> T {
        let Self { tenant, agent, name, version } = self;
        let version = version.0.to_be_bytes();
        with(&[
            LABEL,
            tenant.as_str().as_bytes(),
            agent.as_str().as_bytes(),
            name.as_str().as_bytes(),
            &version,
        ])
    }
}

// === impl Sealed ===

impl Sealed {
    /// What the database keeps.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

// === impl DataKey ===

impl DataKey {
    /// Seals a value for its place.
    ///
    /// The plaintext is the length of the value (4 bytes, big-endian), the value, and zeros up to a power
    /// of two of at least 128 bytes: so the sealed length tells only between which powers of two the value's
    /// length is. Finer classes would save disk and tell more.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`]; [`CryptoError::ValueTooLong`] from 4 GiB on.
    pub fn seal(
        &self,
        place: &Place<'_>,
        value: &SecretValue,
        random: &Random,
    ) -> Result<Sealed, CryptoError> {
        let value = value.expose().as_bytes();
        let length = u32::try_from(value.len()).ok().ok_or(CryptoError::ValueTooLong)?.to_be_bytes();
        let class = size_class(value.len()).ok_or(CryptoError::ValueTooLong)?;
        place
            .with_parts(|place| aead::seal(&self.sealing, place, &[&length, value], class, random))
            .map(Sealed)
    }

    /// Opens a value that was sealed for this place.
    ///
    /// # Errors
    /// [`OpenError::DoesNotOpen`], whatever the cause.
    pub fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<SecretValue, OpenError> {
        let plain = place.with_parts(|place| aead::open(&self.sealing, place, sealed))?;
        let value = without_padding(&plain).ok_or(OpenError::DoesNotOpen)?;
        Ok(SecretValue::from_opened(value.to_owned()))
    }

    /// The most bytes that the value in a sealed blob of this length can have. An agent whose values fit a
    /// limit by this measure fits it, and nothing need be opened. One that does not may still fit it: a
    /// value can have half of this, or less in the smallest class. Open and count before refusing.
    #[must_use]
    pub fn value_bytes_at_most(sealed_len: usize) -> usize {
        sealed_len.saturating_sub(aead::OVERHEAD + LENGTH_BYTES)
    }
}

/// How many bytes the plaintext of a value has after padding.
fn size_class(value_bytes: usize) -> Option<usize> {
    value_bytes.checked_add(LENGTH_BYTES)?.max(SMALLEST_CLASS).checked_next_power_of_two()
}

/// The value in a plaintext; `None` unless length, padding and encoding are as [`DataKey::seal`] makes them.
fn without_padding(plain: &[u8]) -> Option<&str> {
    let (length, rest) = plain.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (value, padding) = rest.split_at_checked(length)?;
    let value = std::str::from_utf8(value).ok()?;
    padding.iter().all(|byte| *byte == 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::crypto::key_bytes::KeyBytes;

    /// Made with Python's `cryptography`: data key bytes 32 to 63, nonce bytes 64 to 75. Must open for ever.
    const STORED: &str = concat!(
        "AUBBQkNERUZHSElKS1jHato9U/AKbEFTul8RiOxRv38TWljm79UHcBxwAACTFJxoNY0aUY3aeAPbtpu8OIL8J6NW7q",
        "US9OQpB7+4hR0WTD/cjxi2YucPBckQUAEhueJfh9eHBbYsMv3YMtXRbDf1U17xScxNzXspKVM8qifxZwTcpLn5hLA6",
        "ndz3kZ6YKvpJms3PrA8M4Dcl7bUsUw=="
    );

    const STORED_VALUE: &str = "sk-not-a-real-key-é";

    /// A place that owns its parts.
    #[derive(Clone, Debug, PartialEq)]
    struct Owned(TenantId, AgentId, SecretName, Revision);

    impl Owned {
        fn new(tenant: &str, agent: &str, name: &str, version: i64) -> Self {
            Self(
                TenantId::from_stored(tenant.into()),
                AgentId::from_stored(agent.into()),
                SecretName::from_stored(name.into()),
                Revision(version),
            )
        }

        fn place(&self) -> Place<'_> {
            Place { tenant: &self.0, agent: &self.1, name: &self.2, version: self.3 }
        }
    }

    fn known_key() -> DataKey {
        let bytes: Vec<u8> = (32..64).collect();
        DataKey::new(KeyBytes::from_slice(&bytes).unwrap()).unwrap()
    }

    fn home() -> Owned {
        Owned::new("ten_default", "agt_abc123", "API_KEY", 7)
    }

    fn seal(value: &str) -> Vec<u8> {
        let value = SecretValue::from_opened(value.into());
        known_key().seal(&home().place(), &value, &Random::new()).unwrap().into_bytes()
    }

    fn open(sealed: &[u8]) -> Option<String> {
        known_key().open(&home().place(), sealed).ok().map(|value| value.expose().to_owned())
    }

    /// Any text up to the limit on values; the long ones are a short one repeated.
    fn texts() -> impl Strategy<Value = String> {
        let long = (".{1,8}", 0usize..=65_536).prop_map(|(pattern, bytes)| {
            let mut text = pattern.repeat(bytes / pattern.len());
            text.extend(std::iter::repeat_n('x', bytes - text.len()));
            text
        });
        prop_oneof![any::<String>(), long, Just(String::new()), Just("x".repeat(65_536))]
    }

    /// Places that differ in little, and between whose parts the boundaries move.
    fn places() -> impl Strategy<Value = Owned> {
        ("[ab]{0,2}", "[ab]{0,2}", "[ab]{0,2}", 0i64..3)
            .prop_map(|(tenant, agent, name, version)| Owned::new(&tenant, &agent, &name, version))
    }

    /// A blob whose plaintext is these bytes.
    fn sealed_plaintext(plain: &[u8]) -> Vec<u8> {
        home()
            .place()
            .with_parts(|place| aead::seal(&known_key().sealing, place, &[plain], 0, &Random::new()))
            .unwrap()
    }

    #[test]
    fn a_stored_value_opens_for_ever() {
        let sealed = STANDARD.decode(STORED).unwrap();
        assert_eq!(open(&sealed).as_deref(), Some(STORED_VALUE));
        assert_eq!(seal(STORED_VALUE).len(), sealed.len());
        // Computed with Python's hmac and hashlib
        let value = SecretValue::from_opened(STORED_VALUE.into());
        assert_eq!(known_key().fingerprint(&home().2, &value).short(), "a8b456f20876");
        let digest = known_key().request_digest(&[b"a", b""]);
        assert_eq!(digest[..6], [0x06, 0x72, 0x7c, 0x95, 0x63, 0x5e]);
    }

    #[test]
    fn sizes_are_powers_of_two() {
        let class = |bytes| size_class(bytes).unwrap();
        assert_eq!([0, 1, 124, 125, 252, 253].map(class), [128, 128, 128, 256, 256, 512]);
        assert_eq!(class(65_536), 131_072);
        assert_eq!(size_class(usize::MAX), None);
        assert_eq!(size_class(usize::MAX / 2 + 1), None);
    }

    #[test]
    fn the_bound_is_the_room_of_the_class() {
        assert_eq!(DataKey::value_bytes_at_most(seal(&"x".repeat(125)).len()), 252);
        assert_eq!(DataKey::value_bytes_at_most(0), 0);
    }

    #[test]
    fn a_wrong_plaintext_is_refused_though_it_is_authentic() {
        assert_eq!(open(&sealed_plaintext(b"\0\0\0\x01a\0")).as_deref(), Some("a"));
        let wrong: [&[u8]; 6] =
            [b"", b"\0\0\0", b"\0\0\0\x02a", b"\xff\xff\xff\xffa", b"\0\0\0\x01a\0\x01", b"\0\0\0\x01\xff\0"];
        for plain in wrong {
            assert_eq!(open(&sealed_plaintext(plain)), None, "{plain:?}");
        }
    }

    #[test]
    fn it_prints_no_bytes() {
        let value = SecretValue::from_opened("value".into());
        let sealed = known_key().seal(&home().place(), &value, &Random::new()).unwrap();
        assert_eq!(format!("{sealed:?}"), "Sealed(157 bytes)");
        assert_eq!(sealed.0.len(), 157);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(text in texts()) {
            let sealed = seal(&text);
            prop_assert!(DataKey::value_bytes_at_most(sealed.len()) >= text.len());
            prop_assert_eq!(open(&sealed), Some(text));
        }

        #[test]
        fn equal_classes_give_equal_lengths(one in texts(), other in texts()) {
            let same = size_class(one.len()) == size_class(other.len());
            prop_assert_eq!(seal(&one).len() == seal(&other).len(), same);
        }

        #[test]
        fn any_flipped_bit_refuses(text in ".{0,300}", at: Index) {
            let mut sealed = seal(&text);
            let bit = at.index(sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(open(&sealed), None);
        }

        #[test]
        fn cut_or_longer_refuses(
            text in ".{0,300}", at: Index, more in prop::collection::vec(any::<u8>(), 1..40),
        ) {
            let mut sealed = seal(&text);
            prop_assert_eq!(open(&sealed[..at.index(sealed.len())]), None);
            sealed.extend(more);
            prop_assert_eq!(open(&sealed), None);
        }

        #[test]
        fn any_bytes_refuse(mut bytes: Vec<u8>) {
            prop_assert_eq!(open(&bytes), None);
            bytes.insert(0, 1);
            prop_assert_eq!(open(&bytes), None);
        }

        #[test]
        fn it_opens_in_its_place_alone(from in places(), to in places()) {
            let value = SecretValue::from_opened("value".into());
            let sealed = known_key().seal(&from.place(), &value, &Random::new()).unwrap();
            let opened = known_key().open(&to.place(), &sealed.0);
            prop_assert_eq!(opened.is_ok(), from == to);
        }

        #[test]
        fn another_agents_key_refuses(text in ".{0,100}") {
            let stranger = DataKey::generate(&Random::new()).unwrap();
            let opened = stranger.open(&home().place(), &seal(&text));
            prop_assert_eq!(opened.unwrap_err(), OpenError::DoesNotOpen);
        }
    }
}
