//! A token that an issuer signed (RFC 7519), held against the issuer's keys and rules.

use std::fmt;

use jsonwebtoken::{
    Algorithm, Header, Validation, dangerous, decode, decode_header,
    errors::{Error, ErrorKind},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{Refusal, file::IssuerRules, grant::Granted, keys::Keys, rule::Claims};
use crate::domain::{Identity, IdentityName, Timestamp, TokenGrant};

/// The longest token that is looked at, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// What a token of an issuer may say that it is: one that says what somebody may, and not what has happened, say.
const TYPES: [&str; 2] = ["JWT", "at+jwt"];

/// An issuer, with its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) rules: IssuerRules,
    pub(super) keys: std::sync::Arc<Keys>,
}

/// A token whose parts can be read. Nothing that it says is believed yet.
pub(super) struct Opened<'t> {
    text: &'t str,
    algorithm: Algorithm,
    key: String,
    /// The issuer that it names.
    pub(super) issuer: String,
}

/// What a token says, no name of it twice.
struct UniqueClaims(Claims);

#[derive(Deserialize)]
struct NamedIssuer {
    iss: String,
}

/// Whether a text has the form of a signed token. No token of ours has.
pub(super) fn is_signed_token(text: &str) -> bool {
    text.bytes().filter(|b| *b == b'.').count() == 2
}

// === impl Opened ===

impl<'t> Opened<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub(super) fn read(text: &'t str) -> Result<Self, Refusal> {
        if text.len() > MAX_BYTES {
            return Err(Refusal::Malformed("it is too long"));
        }
        let header = decode_header(text).map_err(|_what| Refusal::Malformed("its header"))?;
        let Header { typ, alg, kid, crit, enc, zip, .. } = header;
        if crit.is_some() || enc.is_some() || zip.is_some() {
            return Err(Refusal::Malformed("its header asks for what is not done here"));
        }
        let is_known = |typ: &String| TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ));
        if !typ.as_ref().is_none_or(is_known) {
            return Err(Refusal::Malformed("it is a token for something else"));
        }
        let key = kid.ok_or(Refusal::Malformed("it names no key"))?;
        // Only to know by whose keys to check it; the issuer is looked at again when that is done
        let named = dangerous::insecure_decode_claims::<NamedIssuer>(text);
        let NamedIssuer { iss: issuer } = named.map_err(|_what| Refusal::Malformed("its claims"))?;
        Ok(Self { text, algorithm: alg, key, issuer })
    }
}

// === impl Issuer ===

impl Issuer {
    /// Who it is whom this issuer vouches for, and what the rules let him do.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) async fn identify(&self, token: &Opened<'_>, now: Timestamp) -> Result<Identity, Refusal> {
        if !self.rules.algorithms.contains(&token.algorithm) {
            return Err(Refusal::Invalid("the algorithm is not allowed"));
        }
        let keys = self.keys.meant_by(&token.key, token.algorithm).await?;
        let validation = self.validation(token.algorithm);
        let mut outcome = Err(Refusal::Unknown("the key"));
        for key in keys.iter().filter(|key| key.is_meant_by(&token.key, token.algorithm)) {
            outcome = decode::<UniqueClaims>(token.text, key.decoding(), &validation)
                .map(|token| token.claims.0)
                .map_err(|error| refusal(&error));
            // An issuer may use one name for several keys
            if !matches!(outcome, Err(Refusal::Invalid(SIGNATURE))) {
                break;
            }
        }
        self.grant(&outcome?, now)
    }

    /// What has to hold besides the signature.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&self.rules.audiences);
        validation.validate_nbf = true;
        validation.leeway = self.rules.skew;
        validation
    }

    fn grant(&self, claims: &Claims, now: Timestamp) -> Result<Identity, Refusal> {
        // The library takes a list of issuers for one of them
        if text(claims, "iss")? != self.rules.issuer {
            return Err(Refusal::Invalid("the issuer is another"));
        }
        let subject = text(claims, "sub")?;
        let name = IdentityName::new(&self.rules.issuer, subject);
        let name = name.ok_or(Refusal::Malformed("the subject has spaces, or is too long"))?;
        let skew = i64::try_from(self.rules.skew).unwrap_or(i64::MAX);
        let since = match claims.get("iat") {
            None => now,
            Some(at) => time(at)?,
        };
        if since > now.plus_seconds(skew) {
            return Err(Refusal::Invalid("it is of the future"));
        }
        let end = time(claims.get("exp").unwrap_or(&Value::Null))?.plus_seconds(skew);
        let granted = self.rules.rules.iter().find_map(|rule| rule.apply(claims));
        let Granted { tenant, scopes, agents } = granted.ok_or(Refusal::Unknown("no rule is for it"))?;
        let grant = TokenGrant {
            name: subject.to_owned(),
            scopes,
            agents,
            email: String::new(),
            expires_at: Some(end),
        };
        Ok(Identity { name, tenant, grant, since })
    }
}

const SIGNATURE: &str = "the signature is wrong";

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is about its form")]
fn refusal(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::InvalidSignature => Refusal::Invalid(SIGNATURE),
        ErrorKind::ExpiredSignature => Refusal::Invalid("it has expired"),
        ErrorKind::ImmatureSignature => Refusal::Invalid("it is not valid yet"),
        ErrorKind::InvalidAudience => Refusal::Invalid("it is meant for somebody else"),
        ErrorKind::InvalidIssuer => Refusal::Invalid("the issuer is another"),
        ErrorKind::MissingRequiredClaim(_) => Refusal::Malformed("it lacks one of exp, iss, aud and sub"),
        _ => Refusal::Malformed("its claims"),
    }
}

fn text<'c>(claims: &'c Claims, name: &str) -> Result<&'c str, Refusal> {
    claims.get(name).and_then(Value::as_str).ok_or(Refusal::Malformed("iss and sub have to be texts"))
}

/// A time in seconds, whole or not.
#[expect(clippy::cast_possible_truncation, reason = "what is too large ends at the largest time there is")]
fn time(value: &Value) -> Result<Timestamp, Refusal> {
    let seconds = value.as_f64().ok_or(Refusal::Malformed("exp and iat have to be numbers"))?;
    Ok(Timestamp((seconds * 1e6) as i64))
}

// === impl UniqueClaims ===

impl<'de> Deserialize<'de> for UniqueClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    // Two readers would not agree on which of them counts
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim is there twice"));
                    }
                }
                Ok(claims)
            }
        }

        deserializer.deserialize_map(Members).map(Self)
    }
}
