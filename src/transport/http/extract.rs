//! What handlers ask of a request. axum's own extractors answer in plain text, and some of them with the
//! text they could not read: these answer in our one shape, and with no word of it.

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    response::Response,
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;

use super::{Context, json::Json};
use crate::{
    domain::{Fault, FaultCode, Faults, Revision},
    service::{Call, Error},
    transport::{
        error::{refusal, to_response},
        protocol::media_type,
    },
};

/// Who calls.
pub(super) struct Caller(pub(super) Call);

/// The parts of the path. A path that cannot be read names no agent.
pub(super) struct PathOf<T>(pub(super) T);

/// The query, decoded.
pub(super) struct Query(Vec<(String, String)>);

/// A JSON body.
pub(super) struct JsonBody(pub(super) Json);

/// The conditions under which to write.
pub(super) struct Conditions {
    /// What `If-Match` asks for.
    pub(super) expected_revision: Option<Revision>,
    /// What `Idempotency-Key` says; empty for none.
    pub(super) idempotency_key: String,
}

/// Why a header is refused.
#[derive(Debug, PartialEq, Eq)]
enum HeaderError {
    /// It is what HTTP allows, and nothing that is taken here.
    Fault(Fault),
    /// HTTP does not allow it in `If-Match`.
    NoEntityTag,
}

const IF_MATCH: &str = "if-match";
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// How `If-Match` is written, for who has left the quotes out.
pub(super) const HOW_IF_MATCH_IS_WRITTEN: &str =
    "If-Match is *, or an entity tag in quotes, as ETag answers it: \"7\"";

/// No agent has this revision: what an entity tag means that is none of ours.
const NO_REVISION: Revision = Revision(-1);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        let call = parts.extensions.get::<Call>().cloned();
        call.map(Self).ok_or_else(|| to_response(&Error::Unauthenticated))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(value)| Self(value)).map_err(|_hidden| to_response(&Error::AgentNotFound))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let query = axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        query
            .map(|axum::extract::Query(pairs)| Self(pairs))
            .map_err(|_hidden| to_response(&Error::invalid(Fault::whole(FaultCode::Malformed))))
    }
}

impl Query {
    /// The value of a parameter; empty if it is not given.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The page size asked for as `limit`, from 1; 0 if it is not given.
    pub(super) fn limit(&self) -> Result<u32, Error> {
        match self.0.iter().find(|(key, _)| key == "limit") {
            None => Ok(0),
            Some((_, text)) => text
                .parse()
                .ok()
                .filter(|limit| *limit > 0)
                .ok_or_else(|| Error::invalid(Fault::new("limit", FaultCode::OutOfRange))),
        }
    }
}

impl FromRequest<Context> for JsonBody {
    type Rejection = Response;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Response> {
        if !is_json(request.headers()) || is_encoded(request.headers()) {
            return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"));
        }
        let body = read(request, context.request_bytes).await?;
        Json::parse(&body).map(Self).map_err(|fault| to_response(&Error::invalid(fault)))
    }
}

async fn read(request: Request, limit: usize) -> Result<bytes::Bytes, Response> {
    let too_large = || refusal(StatusCode::PAYLOAD_TOO_LARGE, "Request too large");
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large());
    }
    axum::body::to_bytes(request.into_body(), limit).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        if source.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>) {
            too_large()
        } else {
            to_response(&Error::invalid(Fault::whole(FaultCode::Malformed)))
        }
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"))
}

/// Nothing is unpacked here: what is small as it comes could be large. It is not taken for plain either.
fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

impl<S: Sync> FromRequestParts<S> for Conditions {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        let if_match = once(&parts.headers, IF_MATCH).map_err(HeaderError::Fault);
        let expected_revision = match if_match.and_then(|tag| tag.map_or(Ok(None), expected_revision)) {
            Ok(revision) => Ok(revision),
            Err(HeaderError::Fault(fault)) => Err(fault),
            Err(HeaderError::NoEntityTag) => {
                return Err(refusal(StatusCode::BAD_REQUEST, HOW_IF_MATCH_IS_WRITTEN));
            }
        };
        let key = once(&parts.headers, IDEMPOTENCY_KEY);
        let idempotency_key = key.and_then(|key| key.map_or(Ok(String::new()), idempotency_key));
        match (expected_revision, idempotency_key) {
            (Ok(expected_revision), Ok(idempotency_key)) => Ok(Self { expected_revision, idempotency_key }),
            (expected_revision, idempotency_key) => {
                let faults: Faults =
                    expected_revision.err().into_iter().chain(idempotency_key.err()).collect();
                Err(to_response(&Error::Invalid(faults)))
            }
        }
    }
}

/// A header that is to be there once or not at all: of two, neither may be ignored.
fn once<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Fault> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_hidden| invalid(name)),
        (Some(_), Some(_)) => Err(invalid(name)),
    }
}

fn invalid(header: &str) -> Fault {
    Fault::new(header.replace('-', "_"), FaultCode::InvalidHeader)
}

/// RFC 9110, 13.1.1: `*` matches whatever is there; a tag that is none of ours, or a weak one, matches nothing. A list,
/// which may match what its writer did not look at last, is refused.
fn expected_revision(if_match: &str) -> Result<Option<Revision>, HeaderError> {
    let if_match = if_match.trim();
    if if_match == "*" {
        return Ok(None);
    }
    if if_match.contains(',') {
        return Err(HeaderError::Fault(invalid(IF_MATCH)));
    }
    let tag = opaque_tag(if_match.strip_prefix("W/").unwrap_or(if_match)).ok_or(HeaderError::NoEntityTag)?;
    let is_ours = if_match.starts_with('"') && tag.bytes().all(|b| b.is_ascii_digit());
    let revision = tag.parse().ok().filter(|_number| is_ours);
    Ok(Some(revision.map_or(NO_REVISION, Revision)))
}

/// What is within the quotes of RFC 9110, 8.8.3.
fn opaque_tag(text: &str) -> Option<&str> {
    let tag = text.strip_prefix('"')?.strip_suffix('"')?;
    tag.bytes().all(|b| matches!(b, b'!' | b'#'..=b'~')).then_some(tag)
}

/// Given and empty is not the same as not given: whoever sends it believes that a repeat is safe.
fn idempotency_key(key: &str) -> Result<String, Fault> {
    if key.is_empty() { Err(invalid(IDEMPOTENCY_KEY)) } else { Ok(key.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_are_revisions() {
        assert_eq!(expected_revision("\"7\""), Ok(Some(Revision(7))));
        assert_eq!(expected_revision("*"), Ok(None));
        for tag in ["W/\"7\"", "\"x\"", "\"-1\"", "\"+7\"", "\"\"", "\"99999999999999999999\""] {
            assert_eq!(expected_revision(tag), Ok(Some(NO_REVISION)), "{tag}");
        }
        for list in ["\"7\", \"8\"", "\"7\",", "*, \"7\"", "7, 8"] {
            let fault = Fault::new("if_match", FaultCode::InvalidHeader);
            assert_eq!(expected_revision(list), Err(HeaderError::Fault(fault)), "{list}");
        }
        for none in ["", "7", "W/7", "w/\"7\"", "\"", "\"7", "7\"", "'7'", "\"7\"8\"", "\"7 8\"", "**"] {
            assert_eq!(expected_revision(none), Err(HeaderError::NoEntityTag), "{none}");
        }
    }
}
