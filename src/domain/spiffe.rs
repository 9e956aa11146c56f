//! SPIFFE ids: names of workloads, `spiffe://TRUST-DOMAIN/PATH`.

use std::fmt;

const SCHEME: &str = "spiffe://";

/// The longest id, and the longest trust domain, in bytes (SPIFFE-ID, 2.3 and 2.1).
const MAX_ID_BYTES: usize = 2048;
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// The name of a workload. It has one spelling only, so that names are equal if their texts are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: String,
    /// Where the path begins.
    path_at: usize,
}

/// Why a text is no SPIFFE id of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Another scheme, or one in capitals.
    #[error("it does not begin with `spiffe://`")]
    Scheme,
    /// More than 2,048 bytes.
    #[error("it is longer than 2048 bytes")]
    TooLong,
    /// A trust domain that is empty, longer than 255 bytes, or holds something else than `a-z0-9.-_`.
    #[error("the trust domain has to be 1 to 255 of the characters a-z, 0-9, `.`, `-` and `_`")]
    TrustDomain,
    /// No path: it names a trust domain, and no workload of it.
    #[error("it has no path")]
    NoPath,
    /// A path with an empty segment, with `.` or `..`, or with something else than `a-zA-Z0-9.-_`.
    #[error(
        "the path has to be of segments that are neither empty, `.` nor `..`, of a-z, A-Z, 0-9, `.`, `-` and `_`"
    )]
    Path,
}

// === impl SpiffeId ===

impl SpiffeId {
    /// Reads the id of a workload.
    ///
    /// # Errors
    /// [`SpiffeIdError`].
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let Some((trust_domain, path)) = rest.split_once('/') else {
            check_trust_domain(rest)?;
            return Err(SpiffeIdError::NoPath);
        };
        check_trust_domain(trust_domain)?;
        path.split('/').try_for_each(check_segment)?;
        Ok(Self { text: text.to_owned(), path_at: SCHEME.len() + trust_domain.len() })
    }

    /// Who vouches for it.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.path_at).unwrap_or_default()
    }

    /// The parts of its path, of which there is one at least.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.get(self.path_at..).unwrap_or_default().split('/').skip(1)
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a text can be a trust domain.
///
/// # Errors
/// [`SpiffeIdError::TrustDomain`].
pub fn check_trust_domain(text: &str) -> Result<(), SpiffeIdError> {
    let is_one = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let fits = (1..=MAX_TRUST_DOMAIN_BYTES).contains(&text.len());
    if fits && text.bytes().all(is_one) { Ok(()) } else { Err(SpiffeIdError::TrustDomain) }
}

/// Whether a text can be a segment of a path.
///
/// # Errors
/// [`SpiffeIdError::Path`].
pub fn check_segment(text: &str) -> Result<(), SpiffeIdError> {
    let is_one = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_plain = !["", ".", ".."].contains(&text) && text.bytes().all(is_one);
    if is_plain { Ok(()) } else { Err(SpiffeIdError::Path) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_a_trust_domain_and_a_path() {
        let id = SpiffeId::parse("spiffe://prod.example/ns/agents/sa/Runner-1_a.b").unwrap();
        assert_eq!(id.trust_domain(), "prod.example");
        assert_eq!(id.segments().collect::<Vec<_>>(), ["ns", "agents", "sa", "Runner-1_a.b"]);
        assert_eq!(SpiffeId::parse("spiffe://a/...").unwrap().segments().collect::<Vec<_>>(), ["..."]);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let long = format!("spiffe://a/{}", "b".repeat(MAX_ID_BYTES));
        let wide = format!("spiffe://{}/b", "a".repeat(MAX_TRUST_DOMAIN_BYTES + 1));
        for (text, why) in [
            ("", SpiffeIdError::Scheme),
            ("https://a/b", SpiffeIdError::Scheme),
            ("SPIFFE://a/b", SpiffeIdError::Scheme),
            ("spiffe:/a/b", SpiffeIdError::Scheme),
            (" spiffe://a/b", SpiffeIdError::Scheme),
            (&long, SpiffeIdError::TooLong),
            (&wide, SpiffeIdError::TrustDomain),
            ("spiffe:///b", SpiffeIdError::TrustDomain),
            ("spiffe://A/b", SpiffeIdError::TrustDomain),
            ("spiffe://a:80/b", SpiffeIdError::TrustDomain),
            ("spiffe://u@a/b", SpiffeIdError::TrustDomain),
            ("spiffe://a%2e/b", SpiffeIdError::TrustDomain),
            ("spiffe://é/b", SpiffeIdError::TrustDomain),
            ("spiffe://a?x=/b", SpiffeIdError::TrustDomain),
            ("spiffe://a", SpiffeIdError::NoPath),
            ("spiffe://a/", SpiffeIdError::Path),
            ("spiffe://a//b", SpiffeIdError::Path),
            ("spiffe://a/b/", SpiffeIdError::Path),
            ("spiffe://a/./b", SpiffeIdError::Path),
            ("spiffe://a/b/../c", SpiffeIdError::Path),
            ("spiffe://a/b%2Fc", SpiffeIdError::Path),
            ("spiffe://a/b?c", SpiffeIdError::Path),
            ("spiffe://a/b#c", SpiffeIdError::Path),
            ("spiffe://a/b\0", SpiffeIdError::Path),
            ("spiffe://a/b c", SpiffeIdError::Path),
            ("spiffe://a/é", SpiffeIdError::Path),
        ] {
            assert_eq!(SpiffeId::parse(text), Err(why), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn its_parts_make_the_whole(text in "spiffe://[a-z.]{1,5}(/[a-zA-Z0-9._-]{1,4}){0,4}|.{0,30}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                let path: Vec<_> = id.segments().collect();
                prop_assert_eq!(format!("spiffe://{}/{}", id.trust_domain(), path.join("/")), text);
            }
        }
    }
}
