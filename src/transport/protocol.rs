//! Which protocol a request speaks, and the id it goes by.

use std::sync::{Arc, OnceLock};

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};

use super::error::{to_response, to_status};
use crate::{domain::TokenId, service::Error};

/// Which protocol a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// gRPC, over HTTP/2.
    Grpc,
    /// gRPC-Web, over any HTTP.
    GrpcWeb,
    /// Everything else.
    Rest,
}

/// What gRPC calls itself, over HTTP/2 only.
const GRPC: [&str; 2] = ["application/grpc", "application/grpc+proto"];

/// What gRPC-Web calls itself, over any HTTP.
const GRPC_WEB: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

/// The id of a request: the caller's, if it sent a usable one, or ours.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// Marks the answer of a call that was refused as there were too many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shed;

/// Where it is noted who makes a request, once that is known, for whom is told of it from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct CallerNote(Arc<OnceLock<TokenId>>);

// === impl CallerNote ===

impl CallerNote {
    /// Notes the token of the caller.
    pub(super) fn set(&self, token: &TokenId) {
        // A request has one caller
        drop(self.0.set(token.clone()));
    }

    /// The token's id; empty as long as it is not known.
    pub(super) fn get(&self) -> &str {
        self.0.get().map(TokenId::as_str).unwrap_or_default()
    }
}

// === impl Protocol ===

impl Protocol {
    /// gRPC and gRPC-Web requests say so by their content type. What says so and cannot be (another method,
    /// or gRPC itself over HTTP/1.1) is for REST to refuse: tonic would, before a token and without a body.
    pub(super) fn of(request: &Request<Body>) -> Self {
        match grpc_media_type(request).filter(|_| request.method() == Method::POST) {
            Some(media_type) if GRPC.contains(&media_type) => Self::Grpc,
            Some(_web) => Self::GrpcWeb,
            None => Self::Rest,
        }
    }

    /// An error as this protocol says it.
    pub(super) fn refuse(self, error: &Error) -> Response {
        let mut refusal = match self {
            Self::Grpc | Self::GrpcWeb => to_status(error).into_http(),
            Self::Rest => to_response(error),
        };
        if matches!(error, Error::Overloaded) {
            refusal.extensions_mut().insert(Shed);
        }
        refusal
    }
}

/// The media type of a body, without its parameters. A body of two is one of none.
pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    Some(value.to_str().ok()?.split(';').next()?.trim())
}

/// Leaves of a gRPC call's content type what tonic knows: it takes neither parameters nor capitals.
pub(super) fn with_plain_media_type(mut request: Request<Body>) -> Request<Body> {
    if let Some(media_type) = grpc_media_type(&request) {
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    request
}

fn grpc_media_type(request: &Request<Body>) -> Option<&'static str> {
    let said = media_type(request.headers())?;
    let grpc = GRPC.iter().filter(|_| request.version() == Version::HTTP_2);
    grpc.chain(&GRPC_WEB).copied().find(|known| said.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: Version, content_types: &[&str]) -> Protocol {
        let mut request = Request::post("/a.B/C").version(version);
        for content_type in content_types {
            request = request.header(header::CONTENT_TYPE, *content_type);
        }
        Protocol::of(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn only_the_media_types_of_grpc_are_grpc() {
        for known in GRPC {
            assert_eq!(of(Version::HTTP_2, &[known]), Protocol::Grpc, "{known}");
            assert_eq!(of(Version::HTTP_2, &[&format!("{known} ; a=b")]), Protocol::Grpc, "{known}");
            assert_eq!(of(Version::HTTP_11, &[known]), Protocol::Rest, "{known}");
        }
        for known in GRPC_WEB {
            for version in [Version::HTTP_11, Version::HTTP_2] {
                assert_eq!(of(version, &[known]), Protocol::GrpcWeb, "{known}");
                assert_eq!(of(version, &[&known.to_uppercase()]), Protocol::GrpcWeb, "{known}");
                assert_eq!(of(version, &[&format!("{known};charset=utf-8")]), Protocol::GrpcWeb, "{known}");
            }
        }
        for other in
            ["application/grpcx", "application/grpc+json", "application/grpc-web+thrift", "application/json"]
        {
            assert_eq!(of(Version::HTTP_2, &[other]), Protocol::Rest, "{other}");
        }
        assert_eq!(of(Version::HTTP_2, &[]), Protocol::Rest);
        assert_eq!(of(Version::HTTP_2, &[GRPC[0], "application/json"]), Protocol::Rest);
    }

    #[test]
    fn tonic_gets_what_it_knows() {
        let request =
            Request::post("/").header(header::CONTENT_TYPE, "Application/gRPC-Web+proto; charset=utf-8");
        let plain = with_plain_media_type(request.body(Body::empty()).unwrap());
        assert_eq!(plain.headers()[header::CONTENT_TYPE], "application/grpc-web+proto");
    }
}
