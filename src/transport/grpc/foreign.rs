//! Statuses that are not ours: what tonic and its health, reflection and gRPC-Web refuse before a call reaches a
//! handler. They have no reason for programs, and some repeat what they could not read; so each is told anew.
//! One that names our domain is ours and stays as it is.

use std::collections::HashMap;

use axum::{body::Body, response::Response};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    domain::{Fault, FaultCode},
    proto::ERROR_DOMAIN,
    service::Error,
    transport::error::to_status,
};

/// Tells a foreign status anew, in the head of an answer or at its end. `request_bytes` is the longest message.
pub(super) fn with_our_status(response: Response, request_bytes: usize) -> Response {
    let (mut head, body) = response.into_parts();
    retell(&mut head.headers, request_bytes);
    let body = body.map_frame(move |mut frame| {
        if let Some(trailers) = frame.trailers_mut() {
            retell(trailers, request_bytes);
        }
        frame
    });
    Response::from_parts(head, Body::new(body))
}

fn retell(headers: &mut HeaderMap, request_bytes: usize) {
    if headers.get(Status::GRPC_STATUS).is_none_or(|code| code == "0") {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else { return };
    let is_ours = status.get_details_error_info().is_some_and(|info| info.domain == ERROR_DOMAIN);
    if !is_ours && ours(status.code(), request_bytes).add_header(headers).is_err() {
        // Our sentences are all plain text; if one could not be written, none would be better than theirs
        headers.remove(Status::GRPC_MESSAGE);
        headers.remove(Status::GRPC_STATUS_DETAILS);
    }
}

/// What we say where a library says `code`.
fn ours(code: Code, request_bytes: usize) -> Status {
    match code {
        Code::Unimplemented => with_reason(code, "Not implemented", "UNIMPLEMENTED"),
        Code::NotFound => with_reason(code, "Not found", "NOT_FOUND"),
        Code::OutOfRange => to_status(&Error::invalid(Fault::over("", FaultCode::TooLong, request_bytes))),
        // The bytes of the request are all that is left to refuse, whosever fault tonic takes them for
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => to_status(&Error::invalid(Fault::whole(FaultCode::Malformed))),
    }
}

fn with_reason(code: Code, detail: &str, reason: &str) -> Status {
    Status::with_error_details(
        code,
        detail,
        ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new()),
    )
}
