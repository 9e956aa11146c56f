//! One table for both protocols: what kind of error it is → which codes, which sentence.
//!
//! A failure of ours is logged here, once, with its causes; the caller gets the sentence and no more.

use std::{error::Error as StdError, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt as _};

use crate::{
    domain::{Fault, Faults, SecretName},
    proto::ERROR_DOMAIN,
    service::{Error, Kind},
};

/// When to call again, where the error does not know better.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The most bytes of violations in a gRPC error. It travels in a header, in base 64, and clients end a call
/// whose headers pass their limit: 8 KiB in Java, 16 KiB in Rust.
const VIOLATION_BYTES: usize = 5000;

/// What protobuf adds to a violation's three texts, at most.
const VIOLATION_OVERHEAD: usize = 12;

/// The most faults in a REST error.
const TOLD_FAULTS: usize = 1000;

/// The most members of a request that are read, over either protocol: nobody mends more faults one by one.
pub(super) const MAX_MEMBERS: usize = 10_000;

/// What both protocols say of a kind of error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) code: Code,
    pub(super) status: StatusCode,
    pub(super) detail: &'static str,
}

/// The table.
pub(super) fn row(kind: Kind) -> Row {
    let (code, status, detail) = match kind {
        Kind::Unauthenticated => (Code::Unauthenticated, StatusCode::UNAUTHORIZED, "Not authenticated"),
        Kind::PermissionDenied => (Code::PermissionDenied, StatusCode::FORBIDDEN, "Permission denied"),
        Kind::AgentNotFound => (Code::NotFound, StatusCode::NOT_FOUND, "Agent not found"),
        Kind::SecretNotFound => (Code::NotFound, StatusCode::NOT_FOUND, "Secret not found"),
        Kind::TokenNotFound => (Code::NotFound, StatusCode::NOT_FOUND, "Token not found"),
        Kind::TenantNotFound => (Code::NotFound, StatusCode::NOT_FOUND, "Tenant not found"),
        Kind::Invalid => (Code::InvalidArgument, StatusCode::UNPROCESSABLE_ENTITY, "Invalid secret format"),
        Kind::RevisionMismatch => (Code::Aborted, StatusCode::CONFLICT, "Revision mismatch"),
        Kind::RequiredSecretsMissing => {
            (Code::FailedPrecondition, StatusCode::CONFLICT, "Required secrets are missing")
        }
        Kind::RateLimited => (Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
        Kind::Unavailable | Kind::KeyUnavailable => {
            (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, "Service unavailable")
        }
        Kind::TimedOut => (Code::DeadlineExceeded, StatusCode::GATEWAY_TIMEOUT, "Request timed out"),
        Kind::DataLoss => (Code::DataLoss, StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
        Kind::Internal => (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
    };
    Row { code, status, detail }
}

/// The error as gRPC says it.
pub(super) fn to_status(error: &Error) -> Status {
    log(error);
    let Row { code, detail, .. } = row(error.kind());
    let mut details = ErrorDetails::new();
    let mut omitted = 0;
    if let Error::Invalid(faults) = error {
        let (violations, left_out) = violations(faults);
        omitted = left_out;
        details.set_bad_request(violations);
    }
    if let Error::RequiredSecretsMissing(missing) = error {
        let violation =
            |name: &SecretName| PreconditionViolation::new("REQUIRED_SECRET", name.as_str(), "is not set");
        let violations = fitting(missing.iter().map(violation), |it| {
            it.r#type.len() + it.subject.len() + it.description.len()
        });
        omitted = missing.len() - violations.len();
        details.set_precondition_failure(violations);
    }
    details.set_error_info(error.reason(), ERROR_DOMAIN, metadata(error, omitted));
    if let Some(after) = retry_after(error) {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(code, detail, details)
}

/// The error as REST says it.
pub(super) fn to_response(error: &Error) -> Response {
    log(error);
    let Row { status, detail, .. } = row(error.kind());
    let mut response = envelope(status, detail, &details(error));
    let headers = response.headers_mut();
    if error.kind() == Kind::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(after) = retry_after(error) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

/// The error as REST says it of a call that carried `If-Match`: a mismatch is then 412.
pub(super) fn to_conditional_response(error: &Error) -> Response {
    let mut response = to_response(error);
    if error.kind() == Kind::RevisionMismatch {
        let detail = row(error.kind()).detail;
        response = envelope(StatusCode::PRECONDITION_FAILED, detail, &details(error));
    }
    response
}

/// A refusal of REST that is no error of the service.
pub(super) fn refusal(status: StatusCode, detail: &str) -> Response {
    envelope(status, detail, &Details::Nothing {})
}

/// The one shape of a REST error.
fn envelope(status: StatusCode, detail: &str, details: &Details<'_>) -> Response {
    (status, axum::Json(Envelope { status: status.as_u16(), detail, details })).into_response()
}

/// The members in the order in which they are documented.
#[derive(Serialize)]
pub(super) struct Envelope<'e> {
    pub(super) status: u16,
    pub(super) detail: &'e str,
    pub(super) details: &'e Details<'e>,
}

/// What a REST error says to programs.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Details<'e> {
    Nothing {},
    Scope {
        required_scope: &'e str,
    },
    Code {
        code: &'static str,
    },
    Faults {
        errors: Vec<ToldFault<'e>>,
        /// How many more there are.
        #[serde(skip_serializing_if = "Option::is_none")]
        omitted: Option<usize>,
    },
    Revision {
        revision: i64,
    },
    Key {
        code: &'static str,
        key_id: &'e str,
    },
    Missing {
        missing_required: Vec<&'e str>,
    },
}

#[derive(Serialize)]
pub(super) struct ToldFault<'e> {
    key: &'e str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

/// What programs need to know of an error.
pub(super) fn details(error: &Error) -> Details<'_> {
    match error {
        Error::PermissionDenied { required } => Details::Scope { required_scope: required.as_str() },
        Error::AgentNotFound => Details::Code { code: "agent_not_found" },
        Error::SecretNotFound => Details::Code { code: "secret_not_found" },
        Error::TokenNotFound => Details::Code { code: "token_not_found" },
        Error::TenantNotFound => Details::Code { code: "tenant_not_found" },
        Error::Invalid(faults) => Details::Faults {
            errors: faults.iter().take(TOLD_FAULTS).map(told).collect(),
            omitted: faults.len().checked_sub(TOLD_FAULTS).filter(|omitted| *omitted > 0),
        },
        Error::RevisionMismatch { current } => Details::Revision { revision: current.0 },
        Error::KeyUnavailable { kek, .. } | Error::NothingToWrapBy { kek } => {
            Details::Key { code: "key_unavailable", key_id: kek.as_str() }
        }
        Error::RequiredSecretsMissing(missing) => {
            Details::Missing { missing_required: missing.iter().map(SecretName::as_str).collect() }
        }
        Error::Unauthenticated
        | Error::TenantExists
        | Error::DefaultTenant
        | Error::RateLimited { .. }
        | Error::IssuerUnavailable { .. }
        | Error::Overloaded
        | Error::Closing
        | Error::TimedOut
        | Error::DataLoss { .. }
        | Error::KeyWanted(_)
        | Error::PlaceLost
        | Error::Kms(_)
        | Error::Store(_)
        | Error::Crypto(_)
        | Error::Bug(_) => Details::Nothing {},
    }
}

fn told(Fault { key, code, limit }: &Fault) -> ToldFault<'_> {
    ToldFault { key, code: code.as_str(), limit: *limit }
}

/// The faults as gRPC says them, and how many are left out: where they are many, first their sentences and
/// then the last of them.
fn violations(faults: &Faults) -> (Vec<FieldViolation>, usize) {
    let size = |it: &FieldViolation| it.field.len() + it.description.len() + it.reason.len();
    let mut kept = fitting(faults.iter().map(violation), size);
    if kept.len() < faults.len() {
        let terse = |fault| FieldViolation { description: String::new(), ..violation(fault) };
        kept = fitting(faults.iter().map(terse), size);
    }
    let omitted = faults.len() - kept.len();
    (kept, omitted)
}

/// As many of these as may be told.
fn fitting<T>(all: impl Iterator<Item = T>, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut left = VIOLATION_BYTES;
    all.map_while(|one| {
        left = left.checked_sub(size(&one) + VIOLATION_OVERHEAD)?;
        Some(one)
    })
    .collect()
}

fn violation(Fault { key, code, limit }: &Fault) -> FieldViolation {
    let mut violation = FieldViolation::new(
        key,
        match limit {
            Some(limit) => format!("{} (limit {limit})", code.advice()),
            None => code.advice().to_owned(),
        },
    );
    violation.reason = code.as_str().to_ascii_uppercase();
    violation
}

fn metadata(error: &Error, omitted: usize) -> std::collections::HashMap<String, String> {
    let told = if let Error::PermissionDenied { required } = error {
        Some(("required_scope", required.as_str().to_owned()))
    } else if let Error::RevisionMismatch { current } = error {
        Some(("revision", current.0.to_string()))
    } else if let Error::KeyUnavailable { kek, .. } | Error::NothingToWrapBy { kek } = error {
        Some(("key_id", kek.to_string()))
    } else {
        None
    };
    let omitted = (omitted > 0).then(|| ("omitted", omitted.to_string()));
    told.into_iter().chain(omitted).map(|(key, value)| (key.to_owned(), value)).collect()
}

fn retry_after(error: &Error) -> Option<Duration> {
    if let Error::RateLimited { retry_after } = error {
        return Some(*retry_after);
    }
    matches!(error.kind(), Kind::Unavailable | Kind::KeyUnavailable).then_some(RETRY_AFTER)
}

fn log(error: &Error) {
    let failures = [Kind::Internal, Kind::DataLoss, Kind::Unavailable, Kind::KeyUnavailable];
    // That there are too many calls is counted and told once: a line for each would add to them
    if failures.contains(&error.kind()) && !matches!(error, Error::Overloaded) {
        tracing::error!(reason = error.reason(), error = chain(error), "a call failed");
    } else {
        tracing::debug!(reason = error.reason(), "a call was refused");
    }
}

/// An error with all its causes on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_agree_on_whose_fault_it_is() {
        for kind in Kind::ALL {
            let Row { code, status, detail } = row(kind);
            let ours =
                matches!(code, Code::Internal | Code::DataLoss | Code::Unavailable | Code::DeadlineExceeded);
            assert_eq!(status.is_server_error(), ours, "{kind:?}");
            assert!(detail.chars().next().is_some_and(char::is_uppercase), "{detail}");
        }
    }

    #[test]
    fn many_faults_fit_into_a_header() {
        let fault =
            |n: usize, key: &str| Fault::new(format!("{key}{n}"), crate::domain::FaultCode::InvalidKey);
        let told = |count: usize, key: &str| {
            let faults = (0..count).map(|n| fault(n, key)).collect();
            let status = to_status(&Error::Invalid(faults));
            assert!(status.details().len() < 6000, "{} bytes", status.details().len());
            let omitted = status.get_details_error_info().unwrap().metadata.get("omitted").cloned();
            (status.get_details_bad_request().unwrap().field_violations, omitted)
        };
        let (few, omitted) = told(20, "ANTHROPIC_API_KEY");
        assert!(few.len() == 20 && !few[0].description.is_empty() && omitted.is_none());
        let (hundred, omitted) = told(100, "ANTHROPIC_API_KEY");
        assert!(hundred.len() == 100 && hundred[0].description.is_empty() && omitted.is_none());
        let (most, omitted) = told(10_000, &"é".repeat(200));
        assert_eq!(omitted, Some((10_000 - most.len()).to_string()));
        let names = (0..100).map(|n| SecretName::from_stored(format!("{}{n}", "A".repeat(120)))).collect();
        let status = to_status(&Error::RequiredSecretsMissing(names));
        assert!(status.details().len() < 6000);
        assert!(status.get_details_error_info().unwrap().metadata.contains_key("omitted"));
    }

    #[test]
    fn a_fault_is_said_the_same_way_on_both_sides() {
        let error = Error::invalid(Fault::over("A", crate::domain::FaultCode::TooLong, 7));
        let status = to_status(&error);
        let request = status.get_details_bad_request().unwrap();
        let violation = &request.field_violations[0];
        assert_eq!((violation.field.as_str(), violation.reason.as_str()), ("A", "TOO_LONG"));
        assert_eq!(violation.description, "is too long (limit 7)");
        assert_eq!(json(&error), r#"{"errors":[{"key":"A","code":"too_long","limit":7}]}"#);
    }

    #[test]
    fn rest_tells_a_thousand_faults_and_counts_the_rest() {
        let many = |count| Error::Invalid(vec![Fault::new("A", crate::domain::FaultCode::InvalidKey); count]);
        let told = |error| json(&error).matches("invalid_key").count();
        assert_eq!((told(many(1000)), json(&many(1000)).contains("omitted")), (1000, false));
        assert_eq!(told(many(1002)), 1000);
        assert!(json(&many(1002)).ends_with(r#"}],"omitted":2}"#));
        assert_eq!(json(&Error::TimedOut), "{}");
    }

    fn json(error: &Error) -> String {
        serde_json::to_string(&details(error)).unwrap()
    }
}
