//! The blob that both kinds of seal have in common: `format ‖ nonce ‖ ciphertext ‖ tag`, AES-256-GCM.

use std::mem;

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use zeroize::Zeroizing;

use super::{CryptoError, OpenError, Random, framing};

/// How many bytes a blob has beyond its plaintext.
pub(super) const OVERHEAD: usize = HEAD + TAG;

const FORMAT: u8 = 1;
const HEAD: usize = 1 + NONCE_LEN;
const TAG: usize = 16;

/// Seals the parts of a plaintext, one after the other and padded with zeros to at least `padded` bytes,
/// for one place. The buffer has its full size from the start: one that grew would leave plaintext behind
/// in memory that was given back.
pub(super) fn seal(
    key: &LessSafeKey,
    place: &[&[u8]],
    parts: &[&[u8]],
    padded: usize,
    random: &Random,
) -> Result<Vec<u8>, CryptoError> {
    let plain = parts.iter().map(|part| part.len()).sum::<usize>().max(padded);
    let nonce = random.fill::<NONCE_LEN>()?;
    let mut sealed = Zeroizing::new(Vec::with_capacity(OVERHEAD + plain));
    sealed.push(FORMAT);
    sealed.extend_from_slice(&nonce);
    for part in parts {
        sealed.extend_from_slice(part);
    }
    sealed.resize(HEAD + plain, 0);
    let body = sealed.get_mut(HEAD..).ok_or(CryptoError::Refused)?;
    let aad = Aad::from(framing::frame(place));
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, body)
        .map_err(|ring::error::Unspecified| CryptoError::Refused)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(mem::take(&mut *sealed))
}

/// Opens a blob for one place, padding and all.
pub(super) fn open(
    key: &LessSafeKey,
    place: &[&[u8]],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (format, rest) = sealed.split_first().ok_or(OpenError::DoesNotOpen)?;
    let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::DoesNotOpen)?;
    if *format != FORMAT {
        return Err(OpenError::DoesNotOpen);
    }
    let mut plain = Zeroizing::new(body.to_vec());
    let aad = Aad::from(framing::frame(place));
    let bytes = key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut plain)
        .map_err(|ring::error::Unspecified| OpenError::DoesNotOpen)?
        .len();
    plain.truncate(bytes);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use ring::aead::{AES_256_GCM, UnboundKey};

    use super::*;

    fn key(byte: u8) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[byte; 32]).unwrap())
    }

    #[test]
    fn parts_are_joined_and_padded_without_growing() {
        let sealed = seal(&key(1), &[b"here"], &[b"ab", b"c"], 8, &Random::new()).unwrap();
        assert_eq!((sealed.len(), sealed.capacity()), (OVERHEAD + 8, OVERHEAD + 8));
        assert_eq!(*open(&key(1), &[b"here"], &sealed).unwrap(), b"abc\0\0\0\0\0");
        let longer = seal(&key(1), &[], &[b"abc"], 2, &Random::new()).unwrap();
        assert_eq!(*open(&key(1), &[], &longer).unwrap(), b"abc");
    }

    #[test]
    fn another_key_place_or_format_refuses() {
        let mut sealed = seal(&key(1), &[b"here"], &[b"abc"], 0, &Random::new()).unwrap();
        assert!(open(&key(2), &[b"here"], &sealed).is_err());
        assert!(open(&key(1), &[b"there"], &sealed).is_err());
        sealed[0] = 2;
        assert!(open(&key(1), &[b"here"], &sealed).is_err());
    }

    #[test]
    fn equal_plaintexts_never_look_equal() {
        let seal = || seal(&key(1), &[], &[b"abc"], 0, &Random::new()).unwrap();
        assert_ne!(seal(), seal());
    }
}
