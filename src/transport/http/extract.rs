//! What handlers ask of a request. axum's own extractors answer in plain text, and some of them with the
//! text they could not read: these answer in our one shape, and with no word of it.

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    response::Response,
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::Map;

use super::{Context, json::Json};
use crate::{
    domain::{Fault, FaultCode, Revision},
    service::{Call, Error},
    transport::error::{envelope, to_response},
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
        match self.get("limit") {
            "" => Ok(0),
            text => text
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
        if !is_json(request.headers()) {
            return Err(envelope(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type", &Map::new()));
        }
        let body = read(request, context.request_bytes).await?;
        Json::parse(&body).map(Self).map_err(|fault| to_response(&Error::invalid(fault)))
    }
}

async fn read(request: Request, limit: usize) -> Result<bytes::Bytes, Response> {
    let too_large = || envelope(StatusCode::PAYLOAD_TOO_LARGE, "Request too large", &Map::new());
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
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

impl<S: Sync> FromRequestParts<S> for Conditions {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        let headers = &parts.headers;
        let if_match = headers.get(header::IF_MATCH).map(|value| value.to_str().unwrap_or_default());
        let key = headers.get("idempotency-key").map(|value| value.to_str().map_err(|_hidden| ()));
        let idempotency_key = match key {
            None => String::new(),
            Some(Ok(key)) if !key.is_empty() => key.to_owned(),
            Some(_) => {
                let fault = Fault::new("idempotency_key", FaultCode::InvalidHeader);
                return Err(to_response(&Error::invalid(fault)));
            }
        };
        Ok(Self { expected_revision: if_match.and_then(expected_revision), idempotency_key })
    }
}

/// RFC 9110, 13.1.1: `*` matches whatever is there; a tag that is none of ours matches nothing.
fn expected_revision(if_match: &str) -> Option<Revision> {
    let if_match = if_match.trim();
    if if_match == "*" {
        return None;
    }
    let tag = if_match.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let digits = tag.filter(|tag| tag.bytes().all(|b| b.is_ascii_digit()));
    Some(digits.and_then(|digits| digits.parse().ok()).map_or(NO_REVISION, Revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_are_revisions() {
        assert_eq!(expected_revision("\"7\""), Some(Revision(7)));
        assert_eq!(expected_revision("*"), None);
        for tag in ["7", "W/\"7\"", "\"x\"", "\"7\", \"8\"", "\"-1\"", "", "\"\""] {
            assert_eq!(expected_revision(tag), Some(NO_REVISION), "{tag}");
        }
    }
}
