//! Why a call failed, for programs: read from the details that gRPC errors carry, never from the sentence.

use std::{collections::HashMap, error::Error as StdError, time::Duration};

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{FieldViolation, StatusExt as _};

use crate::proto::ERROR_DOMAIN;

/// Why a call failed. Neither it nor its sources hold a value or a token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings cannot be used, and nothing was sent: the CAs cannot be read.
    #[error("cannot speak to {server}")]
    Unusable {
        /// The server's address.
        server: String,
        /// What is wrong.
        source: tonic::transport::Error,
    },
    /// There is no connection, and nothing was sent.
    #[error("cannot reach the server at {server}")]
    Unreachable {
        /// The server's address.
        server: String,
        /// What stands in the way.
        source: tonic::transport::Error,
    },
    /// The connection broke before the answer: the call may have been done.
    #[error("the connection to {server} broke")]
    Broken {
        /// The server's address.
        server: String,
        /// How it broke.
        source: Box<Status>,
    },
    /// The server refused or failed, or did not answer in time.
    #[error("{server}: {}", answer.sentence())]
    Answered {
        /// The server's address.
        server: String,
        /// What it said.
        answer: Box<Answer>,
    },
}

/// What a server answers to a call that it refuses or that fails.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub code: Code,
    /// A sentence for people.
    pub message: String,
    /// The stable word for it, such as `AGENT_NOT_FOUND`; empty when it did not come from the service itself.
    pub reason: String,
    /// What else there is to know, such as `required_scope` or `revision`.
    pub metadata: HashMap<String, String>,
    /// Each fault of the request: its field or key, and a reason such as `INVALID_KEY`.
    pub violations: Vec<FieldViolation>,
    /// The required keys that are not set.
    pub missing: Vec<String>,
    /// How long the server asks to wait before the next attempt.
    pub retry_after: Option<Duration>,
}

// === impl Error ===

impl Error {
    /// What a status from this server means.
    pub(super) fn of(server: &str, status: Status) -> Self {
        let server = server.to_owned();
        if is_broken_connection(&status) {
            return Self::Broken { server, source: Box::new(status) };
        }
        Self::Answered { server, answer: Box::new(Answer::of(&status)) }
    }

    /// The stable word for it, such as `SECRET_NOT_FOUND`; empty when the service did not say one.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.answer().map(|answer| answer.reason.as_str()).unwrap_or_default()
    }

    /// The required keys that are not set, of reason `REQUIRED_SECRETS_MISSING`.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        self.answer().map(|answer| answer.missing.as_slice()).unwrap_or_default()
    }

    /// How long the server asks to wait before the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.answer().and_then(|answer| answer.retry_after)
    }

    /// Whether the same call may succeed later: there is no connection, or the server says so. A call that was not
    /// answered may have been done all the same.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.may_pass_by_itself() || self.retry_after().is_some()
    }

    /// Whether it may pass at any moment, and not only after the time that the server says.
    pub(super) fn may_pass_by_itself(&self) -> bool {
        match self {
            Self::Unusable { .. } => false,
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Answered { answer, .. } => answer.code == Code::Unavailable,
        }
    }

    fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Unusable { .. } | Self::Unreachable { .. } | Self::Broken { .. } => None,
            Self::Answered { answer, .. } => Some(answer),
        }
    }
}

/// Whether there was no answer because the connection broke: what a server answers has no cause on this side,
/// and a call that took too long has another.
fn is_broken_connection(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(cause) = next {
        if cause.is::<TimeoutExpired>() {
            return false;
        }
        next = cause.source();
    }
    status.source().is_some()
}

// === impl Answer ===

impl Answer {
    fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        let unmet = details.precondition_failure().map(|unmet| unmet.violations.as_slice());
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            violations: violations.to_vec(),
            missing: unmet.unwrap_or_default().iter().map(|violation| violation.subject.clone()).collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    fn sentence(&self) -> &str {
        if self.message.is_empty() { self.code.description() } else { &self.message }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, PreconditionViolation};

    use super::*;

    fn of(status: Status) -> Error {
        Error::of("http://a", status)
    }

    #[test]
    fn the_reason_is_read_from_the_details_of_our_domain() {
        let told = |domain: &str| {
            let mut details =
                ErrorDetails::with_error_info("REQUIRED_SECRETS_MISSING", domain, HashMap::new());
            let violations = ["A", "B"].map(|key| PreconditionViolation::new("REQUIRED_SECRET", key, ""));
            details.set_precondition_failure(violations.to_vec());
            of(Status::with_error_details(Code::FailedPrecondition, "sentence", details))
        };
        let error = told(ERROR_DOMAIN);
        assert_eq!(
            (error.reason(), error.missing()),
            ("REQUIRED_SECRETS_MISSING", &["A".to_owned(), "B".to_owned()][..])
        );
        assert_eq!(error.to_string(), "http://a: sentence");
        assert!(!error.is_retryable());
        assert_eq!(told("another.example").reason(), "");
    }

    #[test]
    fn only_what_may_pass_is_retryable() {
        let limited = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let limited = of(Status::with_error_details(Code::ResourceExhausted, "x", limited));
        assert_eq!((limited.is_retryable(), limited.retry_after()), (true, Some(Duration::from_secs(3))));
        assert!(of(Status::unavailable("x")).is_retryable());
        let broken = of(Status::from_error("the connection broke".into()));
        assert!(broken.is_retryable() && matches!(broken, Error::Broken { .. }));
        for status in [Status::unknown("x"), Status::internal("x"), Status::resource_exhausted("x")] {
            assert!(!of(status).is_retryable());
        }
    }
}
