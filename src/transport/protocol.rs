//! Which protocol a request speaks, and the id it goes by.

use axum::{body::Body, response::Response};
use http::{HeaderValue, Method, Request, Version, header};

use super::error::{to_response, to_status};
use crate::service::Error;

/// Which of the two protocols a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// gRPC and gRPC-Web.
    Grpc,
    /// Everything else.
    Rest,
}

/// The id of a request: the caller's, if it sent a usable one, or ours.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

// === impl Protocol ===

impl Protocol {
    /// gRPC and gRPC-Web requests say so by their content type. What says so and cannot be (another method,
    /// or gRPC itself over HTTP/1.1) is for REST to refuse: tonic would, before a token and without a body.
    pub(super) fn of(request: &Request<Body>) -> Self {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let says = |prefix: &[u8]| content_type.is_some_and(|value| value.starts_with(prefix));
        let is_grpc = says(b"application/grpc-web")
            || (says(b"application/grpc") && request.version() == Version::HTTP_2);
        if is_grpc && request.method() == Method::POST { Self::Grpc } else { Self::Rest }
    }

    /// An error as this protocol says it.
    pub(super) fn refuse(self, error: &Error) -> Response {
        match self {
            Self::Grpc => to_status(error).into_http(),
            Self::Rest => to_response(error),
        }
    }
}
