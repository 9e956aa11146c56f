//! Several byte strings as one, so that no two lists read the same: each is preceded by its length.

use ring::hmac;

/// The parts, each preceded by its length (8 bytes, big-endian).
pub(super) fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let bytes = parts.iter().map(|part| size_of::<u64>() + part.len()).sum();
    let mut framed = Vec::with_capacity(bytes);
    for part in parts {
        framed.extend_from_slice(&length(part));
        framed.extend_from_slice(part);
    }
    framed
}

/// HMAC-SHA256 over the framed parts. They are fed one by one: a secret among them is not copied.
pub(super) fn mac(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&length(part));
        context.update(part);
    }
    let tag = context.sign();
    let mut digest = [0; 32];
    for (to, from) in digest.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    digest
}

fn length(part: &[u8]) -> [u8; 8] {
    (part.len() as u64).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_lengths_and_bytes() {
        assert_eq!(frame(&[]), b"");
        assert_eq!(frame(&[b"ab", b""]), b"\0\0\0\0\0\0\0\x02ab\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn moving_a_boundary_changes_the_frame() {
        assert_ne!(frame(&[b"a", b"bc"]), frame(&[b"ab", b"c"]));
        assert_ne!(frame(&[b"a"]), frame(&[b"a", b""]));
    }

    proptest! {
        #[test]
        fn the_mac_is_that_of_the_frame(parts: Vec<Vec<u8>>) {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
            let expected = hmac::sign(&key, &frame(&parts));
            let digest = mac(&key, &parts);
            prop_assert_eq!(digest.as_slice(), expected.as_ref());
        }
    }
}
