//! The public keys of an issuer, as it publishes them (RFC 7517).

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{
        AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
    },
};
use serde::Deserialize;

/// The most keys of an issuer that are looked at.
const MAX_KEYS: usize = 100;

/// A key of an issuer.
#[derive(Debug)]
pub(super) struct Key {
    id: String,
    /// The algorithms that the key is for.
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// Why a text is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeysError {
    /// It is something else.
    #[error("it is no JSON of a member `keys`")]
    Malformed,
    /// No key of it is of use.
    #[error(
        "no key of it can be used: a key needs a `kid`, and to be of RSA (2048 bits or more), P-256, P-384 or Ed25519"
    )]
    NoneUsable,
}

/// Each key is read by itself: one of a kind that is not known here does not keep the others from being used.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// Reads the keys that can be used.
///
/// # Errors
/// [`KeysError`].
pub(super) fn parse(json: &[u8]) -> Result<Vec<Key>, KeysError> {
    let set: KeySet = serde_json::from_slice(json).map_err(|_where| KeysError::Malformed)?;
    let keys = set.keys.into_iter().take(MAX_KEYS);
    let keys = keys.filter_map(|key| Key::of(serde_json::from_value(key).ok()?));
    let keys: Vec<_> = keys.collect();
    if keys.is_empty() { Err(KeysError::NoneUsable) } else { Ok(keys) }
}

// === impl Key ===

impl Key {
    /// `None` if the key is for something else than signatures that are known here.
    fn of(jwk: Jwk) -> Option<Self> {
        let Jwk { common, algorithm } = jwk;
        let is_for_signatures = common.public_key_use.is_none_or(|it| it == PublicKeyUse::Signature)
            && common.key_operations.is_none_or(|it| it.contains(&KeyOperations::Verify));
        if !is_for_signatures {
            return None;
        }
        let mut algorithms = algorithms_of(&algorithm)?;
        if let Some(only) = common.key_algorithm {
            algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == only);
        }
        let decoding = DecodingKey::from_jwk(&Jwk { common: CommonParameters::default(), algorithm }).ok()?;
        (!algorithms.is_empty()).then_some(())?;
        Some(Self { id: common.key_id?, algorithms, decoding })
    }

    /// Whether a token that names a key and an algorithm means this one.
    pub(super) fn is_meant_by(&self, id: &str, algorithm: Algorithm) -> bool {
        self.id == id && self.algorithms.contains(&algorithm)
    }

    /// The key, as signatures are checked by it.
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// What a key of this kind can be used for here.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what the library will know beside these is not known here"
)]
fn algorithms_of(parameters: &AlgorithmParameters) -> Option<Vec<Algorithm>> {
    match parameters {
        AlgorithmParameters::RSA(_) => Some(vec![
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ]),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Some(vec![Algorithm::ES256])
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
            Some(vec![Algorithm::ES384])
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Some(vec![Algorithm::EdDSA])
        }
        // Among them secrets of HMAC, which no issuer publishes
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P256: &str = r#""kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#;

    fn keys(json: &str) -> Result<usize, KeysError> {
        parse(json.as_bytes()).map(|keys| keys.len())
    }

    #[test]
    fn what_cannot_be_used_keeps_nobody_from_the_rest() {
        let strange = [
            r#"{"kty":"oct","kid":"a","k":"c2VjcmV0"}"#.to_owned(),
            r#"{"kty":"AKP","kid":"a","pub":"x"}"#.to_owned(),
            r#"{"kty":"EC","crv":"secp256k1","kid":"a","x":"x","y":"y"}"#.to_owned(),
            r#"{"kty":"EC"}"#.to_owned(),
            "7".to_owned(),
            format!("{{{P256}}}"),
            format!(r#"{{{P256},"kid":"a","use":"enc"}}"#),
            format!(r#"{{{P256},"kid":"a","key_ops":["sign"]}}"#),
            format!(r#"{{{P256},"kid":"a","alg":"ES384"}}"#),
        ];
        for key in &strange {
            assert_eq!(keys(&format!(r#"{{"keys":[{key}]}}"#)), Err(KeysError::NoneUsable), "{key}");
        }
        let all = strange.join(",");
        assert_eq!(
            keys(&format!(r#"{{"keys":[{all},{{{P256},"kid":"b","use":"sig","alg":"ES256"}}]}}"#)),
            Ok(1)
        );
    }

    #[test]
    fn something_else_is_no_set() {
        for text in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[]} x"#] {
            assert_eq!(keys(text), Err(KeysError::Malformed), "{text}");
        }
        assert_eq!(keys(r#"{"keys":[]}"#), Err(KeysError::NoneUsable));
    }

    #[test]
    fn a_key_is_meant_by_its_id_and_for_its_algorithms() {
        let keys = parse(format!(r#"{{"keys":[{{{P256},"kid":"b"}}]}}"#).as_bytes()).unwrap();
        assert!(keys[0].is_meant_by("b", Algorithm::ES256));
        assert!(!keys[0].is_meant_by("b", Algorithm::RS256));
        assert!(!keys[0].is_meant_by("b ", Algorithm::ES256));
    }
}
