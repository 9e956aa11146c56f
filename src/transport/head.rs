//! What the head of a call says of who makes it, for whom, and how long he waits.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

/// By which a caller who may call for several tenants says for which one.
pub(super) const TENANT: HeaderName = HeaderName::from_static("x-superserve-tenant");

/// The bearer token, if there is one and no other.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The tenant that a call names, if it does; what cannot be one is named as none that exists.
pub(super) fn named_tenant(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(TENANT).iter();
    match (values.next()?, values.next()) {
        (value, None) => Some(value.to_str().unwrap_or_default()),
        (_, Some(_)) => Some(""),
    }
}

/// Reads a `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
pub(super) fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timeouts_follow_the_grpc_grammar() {
        assert_eq!(grpc_timeout("500m"), Some(Duration::from_millis(500)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_hours(99_999_999)));
        for text in ["", "m", "5", "123456789S", "-1S", "1x", "1.5S", "５S"] {
            assert_eq!(grpc_timeout(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_timeout_breaks_it(text in ".{0,12}") {
            let timeout = grpc_timeout(&text);
            prop_assert!(timeout.is_none_or(|timeout| timeout <= Duration::from_hours(99_999_999)));
        }
    }

    #[test]
    fn only_one_bearer_token_counts() {
        let headers = |values: &[&str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            map
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer abc"])), Some("abc"));
        for values in [&[][..], &["abc"], &["Basic abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(values)), None, "{values:?}");
        }
    }
}
