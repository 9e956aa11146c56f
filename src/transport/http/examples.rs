//! What the OpenAPI document shows of each error, made by what answers with them.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::extract::HOW_IF_MATCH_IS_WRITTEN;
use crate::{
    domain::{AgentId, Fault, FaultCode, KekId, Revision, Scope},
    service::Error,
    transport::error::{Details, Envelope, details, row},
};

/// An answer to a call that was refused or failed.
pub(super) struct ErrorExample {
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// The sentence.
    pub(super) detail: &'static str,
    /// What tells it from the others of this status.
    pub(super) name: &'static str,
    /// The body.
    pub(super) body: Value,
}

/// The errors of a call that only reads, and needs this scope.
pub(super) fn of_reads(scope: Scope) -> Vec<ErrorExample> {
    let agent = AgentId::from_stored("agt_6mxcCu18IdZoSnKVWcpqaX".to_owned());
    let kek = KekId::from_stored("kek_3caBQuuJPRsdbVMHCusXar".to_owned());
    [
        Error::Unauthenticated,
        Error::PermissionDenied { required: scope },
        Error::AgentNotFound,
        Error::TenantNotFound,
        Error::invalid(Fault::new("limit", FaultCode::OutOfRange)),
        Error::RateLimited { retry_after: Duration::from_secs(1) },
        Error::Bug("never shown"),
        Error::DataLoss { agent: agent.clone(), key: String::new() },
        Error::Overloaded,
        Error::KeyUnavailable { agent, kek },
        Error::TimedOut,
    ]
    .iter()
    .map(of)
    .collect()
}

/// The errors of a call that writes, and needs this scope.
pub(super) fn of_writes(scope: Scope) -> Vec<ErrorExample> {
    let faults =
        vec![Fault::new("1ST_KEY", FaultCode::InvalidKey), Fault::over("NOTES", FaultCode::TooLong, 65_536)];
    let mut examples = of_reads(scope);
    examples.retain(|example| example.name != "INVALID_FORMAT");
    examples.extend([Error::Invalid(faults)].iter().map(of));
    for (status, detail) in [
        (StatusCode::PAYLOAD_TOO_LARGE, "Request too large"),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"),
    ] {
        examples.push(shown(status, detail, "REFUSED", &Details::Nothing {}));
    }
    examples
}

/// The errors of a call that writes to an agent's secrets, on a condition, and needs this scope.
pub(super) fn of_conditional_writes(scope: Scope) -> Vec<ErrorExample> {
    let mismatch = Error::RevisionMismatch { current: Revision(7) };
    let mut examples = of_writes(scope);
    examples.push(of(&Error::SecretNotFound));
    let status = StatusCode::PRECONDITION_FAILED;
    examples.push(shown(status, row(mismatch.kind()).detail, mismatch.reason(), &details(&mismatch)));
    examples.push(shown(StatusCode::BAD_REQUEST, HOW_IF_MATCH_IS_WRITTEN, "REFUSED", &Details::Nothing {}));
    examples
}

fn of(error: &Error) -> ErrorExample {
    let row = row(error.kind());
    shown(row.status, row.detail, error.reason(), &details(error))
}

fn shown(
    status: StatusCode,
    detail: &'static str,
    name: &'static str,
    details: &Details<'_>,
) -> ErrorExample {
    let body = json!(Envelope { status: status.as_u16(), detail, details });
    ErrorExample { status, detail, name, body }
}
