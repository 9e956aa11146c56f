//! What the server answers, in words for a person: a sentence, a line for each fault, what to do next.
//!
//! All is read from the details that gRPC errors carry, never from the sentence.

use std::{
    error::Error as StdError,
    io::{self, ErrorKind},
};

use tonic::Code;

use crate::client::{Answer, Error};

use super::{
    failure::{Exit, Failure},
    faults,
};

/// Reason of a failure: nobody is known by the token.
pub(crate) const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
/// Reason of a failure: the token does not allow it.
pub(crate) const PERMISSION_DENIED: &str = "PERMISSION_DENIED";
/// Reason of a failure, of this side's own: there is no connection.
pub(crate) const UNREACHABLE: &str = "UNREACHABLE";
/// TLS with the server did not come about.
pub(crate) const NOT_TRUSTED: &str = "NOT_TRUSTED";
/// Reason of a failure: the server answers that it cannot answer now.
pub(crate) const UNAVAILABLE: &str = "UNAVAILABLE";
/// Reason of a failure, of this side's own: no answer came in time.
pub(crate) const TIMED_OUT: &str = "TIMED_OUT";
/// Reason of a failure: the key is not set.
pub(crate) const SECRET_NOT_FOUND: &str = "SECRET_NOT_FOUND";

/// What to do when no answer came.
const UNKNOWN: &str = "It is not known whether it did what was asked: look before you try again.";

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Unusable { server, source } => {
                Failure::local(format!("Cannot speak to {server}: {}.", chain(source)))
            }
            Error::Unreachable { server, source } => unreachable(server, source),
            Error::Broken { server, source } => match source.source() {
                Some(cause) => unreachable(server, cause).hint(UNKNOWN),
                None => unreachable(server, source.as_ref()).hint(UNKNOWN),
            },
            Error::Answered { server, answer } => answered(answer, server),
        }
    }
}

/// The failure that the answer of the server at `url` means.
fn answered(answer: &Answer, url: &str) -> Failure {
    match answer.code {
        Code::Unauthenticated => unauthenticated(),
        Code::PermissionDenied => permission_denied(answer),
        Code::NotFound => not_found(answer),
        Code::InvalidArgument if finds_the_whole_too_long(answer) => {
            Failure::new(Exit::Server, "The request is larger than the server takes; nothing was changed.")
                .hint("Set fewer or smaller values at a time.")
        }
        Code::InvalidArgument | Code::OutOfRange => invalid(answer),
        Code::Aborted if answer.reason == "REVISION_MISMATCH" => conflict(answer),
        Code::FailedPrecondition if !answer.missing.is_empty() => missing(answer),
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => refused(answer),
        Code::ResourceExhausted => Failure::new(Exit::Server, "Too many requests.").hint(later(answer)),
        Code::Unavailable => {
            Failure::new(Exit::Server, format!("The service at {url} is not available."))
                .because(UNAVAILABLE)
                .hint(later(answer))
        }
        Code::DeadlineExceeded | Code::Cancelled => {
            Failure::new(Exit::Server, format!("The server at {url} did not answer in time."))
                .because(TIMED_OUT)
                .hint(UNKNOWN)
        }
        Code::Unimplemented => Failure::new(Exit::Server, format!("The server at {url} does not know this call."))
            .hint("Is it a superserve server of this version? Check --api-url or SUPERSERVE_API_URL."),
        Code::DataLoss => Failure::new(Exit::Server, "A stored value could not be opened.")
            .lines(answer.metadata.get("key").cloned())
            .hint("Tell the operator: the record was damaged, or the server has another key than it was sealed with."),
        Code::Internal | Code::Unknown | Code::Ok => {
            Failure::new(Exit::Server, "The server failed.").hint("Its log says more.")
        }
    }
}

/// No connection.
fn unreachable(url: &str, cause: &(dyn StdError + 'static)) -> Failure {
    // Who refuses is there, and nobody serves
    let is_refused = causes(cause).any(|cause| {
        cause.downcast_ref().is_some_and(|error: &io::Error| error.kind() == ErrorKind::ConnectionRefused)
    });
    // Who is there is not one that is trusted, or does not speak TLS: that does not pass by itself
    let is_stranger = causes(cause).any(|cause| {
        let wrapped =
            cause.downcast_ref().and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref());
        matches!(
            cause.downcast_ref().or(wrapped),
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::InvalidMessage(_))
        )
    });
    Failure::new(Exit::Server, format!("Cannot reach the server at {url}: {}.", chain(cause)))
        .because(if is_stranger { NOT_TRUSTED } else { UNREACHABLE })
        .hint(if is_refused {
            "Start one with `superserve serve`, or point to it with --api-url or SUPERSERVE_API_URL."
        } else if is_stranger {
            "Check the address (--api-url or SUPERSERVE_API_URL), and whose certificates are trusted (--ca-cert or SUPERSERVE_CA_CERT)."
        } else {
            "Check the way there, and the address: --api-url or SUPERSERVE_API_URL."
        })
}

/// An error with its causes: the outermost alone says "transport error".
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<_> = causes(error).map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// No token to send.
pub(crate) fn not_logged_in() -> Failure {
    Failure::new(Exit::Server, "Not authenticated: there is no token.")
        .hint("Log in with `superserve login`, or set SUPERSERVE_TOKEN.")
}

/// Which token it is, and what to do about it, is the connection's to say.
fn unauthenticated() -> Failure {
    Failure::new(Exit::Server, "Not authenticated: the token is unknown, expired or revoked.")
        .because(UNAUTHENTICATED)
}

fn permission_denied(answer: &Answer) -> Failure {
    let failure = Failure::new(Exit::Server, "Permission denied.").because(PERMISSION_DENIED);
    match answer.metadata.get("required_scope") {
        Some(scope) => failure.hint(format!(
            "The token lacks the scope '{scope}', or does not reach this agent: ask for one that has it."
        )),
        None => failure.hint("The token does not allow this: ask for one that does."),
    }
}

fn not_found(answer: &Answer) -> Failure {
    let (what, hint) = match answer.reason.as_str() {
        "AGENT_NOT_FOUND" => ("Agent not found.", "See `superserve agents list`."),
        SECRET_NOT_FOUND => ("Secret not found.", "See `superserve secrets list AGENT`."),
        "TENANT_NOT_FOUND" => ("Tenant not found.", "See `superserve tenants list`."),
        "TOKEN_NOT_FOUND" => ("Token not found.", "See `superserve tokens list`."),
        "" => ("Not found.", "Check --api-url or SUPERSERVE_API_URL."),
        reason => return Failure::new(Exit::Server, format!("Not found: {reason}.")).because(reason),
    };
    Failure::new(Exit::Server, what).hint(hint).because(answer.reason.as_str())
}

fn invalid(answer: &Answer) -> Failure {
    let more = omitted(answer);
    let lines = answer.violations.iter().map(|it| faults::describe(&it.field, &it.reason, &it.description));
    Failure::new(Exit::Server, "The server refused the input; nothing was changed.").lines(lines).lines(more)
}

fn conflict(answer: &Answer) -> Failure {
    let sentence = match answer.metadata.get("revision") {
        Some(revision) => {
            format!("Revision mismatch: the agent is at revision {revision}; nothing was changed.")
        }
        None => "Revision mismatch: the agent has changed; nothing was changed.".to_owned(),
    };
    Failure::new(Exit::Conflict, sentence)
        .hint("`superserve secrets list AGENT --json` shows what is there now, with its revision.")
}

fn missing(answer: &Answer) -> Failure {
    Failure::new(Exit::Missing, "Required secrets are missing.")
        .lines(answer.missing.clone())
        .lines(omitted(answer))
        .hint("Set them with `superserve secrets set AGENT`.")
}

fn refused(answer: &Answer) -> Failure {
    let sentence = if answer.reason.is_empty() { &answer.message } else { &answer.reason };
    Failure::new(Exit::Server, format!("The server refused: {sentence}."))
}

fn later(answer: &Answer) -> String {
    match answer.retry_after {
        Some(after) => format!("Try again in {} s.", after.as_secs().max(1)),
        None => "Try again a little later.".to_owned(),
    }
}

/// Whether it is the request itself that is too long, and none of its fields.
fn finds_the_whole_too_long(answer: &Answer) -> bool {
    answer.violations.iter().any(|it| it.field.is_empty() && it.reason == "TOO_LONG")
}

/// A line about what the server left out, because there are very many.
fn omitted(answer: &Answer) -> Option<String> {
    answer.metadata.get("omitted").map(|count| format!("and {count} more"))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tonic::{Status, TimeoutExpired};
    use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt as _};

    use super::*;
    use crate::client::{DOMAIN, Server};

    fn from_status(status: Status) -> Failure {
        Server::parse("http://a").unwrap().error(status).into()
    }

    fn told(code: Code, details: ErrorDetails) -> (u8, String) {
        let failure = from_status(Status::with_error_details(code, "sentence", details));
        (failure.exit.code(), failure.to_string())
    }

    fn info(reason: &str, metadata: &[(&str, &str)]) -> ErrorDetails {
        let metadata: HashMap<_, _> =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        ErrorDetails::with_error_info(reason, DOMAIN, metadata)
    }

    fn violation(field: &str, reason: &str, description: &str) -> FieldViolation {
        FieldViolation { reason: reason.to_owned(), ..FieldViolation::new(field, description) }
    }

    #[test]
    fn every_fault_has_its_line() {
        let mut details = info("INVALID_FORMAT", &[("omitted", "7")]);
        details.set_bad_request(vec![
            violation("A", "TOO_LONG", "is too long (limit 65536)"),
            violation("B", "NEW_WORD", ""),
        ]);
        let (code, text) = told(Code::InvalidArgument, details);
        assert_eq!(code, 2);
        let lines: Vec<_> = text.lines().collect();
        let expected = [
            "error: The server refused the input; nothing was changed.",
            "  - A: is too long (limit 65536) [too_long]",
            "  - B: new word [new_word]",
            "  - and 7 more",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_conflict_and_missing_secrets_have_codes_of_their_own() {
        let (code, text) = told(Code::Aborted, info("REVISION_MISMATCH", &[("revision", "7")]));
        assert_eq!(code, 4);
        assert!(text.contains("is at revision 7"), "{text}");
        let violations = ["A", "B"].map(|key| PreconditionViolation::new("REQUIRED_SECRET", key, ""));
        let mut details = ErrorDetails::with_precondition_failure(violations.to_vec());
        details.set_error_info("REQUIRED_SECRETS_MISSING", DOMAIN, HashMap::new());
        let (code, text) = told(Code::FailedPrecondition, details);
        assert_eq!(code, 3);
        assert!(text.contains("missing.\n  - A\n  - B\n"), "{text}");
    }

    #[test]
    fn says_what_to_do_next() {
        let denied = info("PERMISSION_DENIED", &[("required_scope", "secrets:write")]);
        let retry = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let too_long =
            ErrorDetails::with_bad_request(vec![violation("", "TOO_LONG", "is too long (limit 9)")]);
        for (code, details, hint) in [
            (Code::Unauthenticated, ErrorDetails::new(), "the token is unknown, expired or revoked"),
            (Code::PermissionDenied, denied, "'secrets:write'"),
            (Code::NotFound, info("AGENT_NOT_FOUND", &[]), "`superserve agents list`"),
            (Code::ResourceExhausted, retry, "Try again in 3 s."),
            (Code::Unavailable, ErrorDetails::new(), "http://a is not available"),
            (Code::InvalidArgument, too_long, "fewer or smaller values"),
            (Code::Unimplemented, ErrorDetails::new(), "--api-url"),
            (Code::DataLoss, ErrorDetails::new(), "operator"),
            (Code::Internal, ErrorDetails::new(), "log"),
        ] {
            let (exit, text) = told(code, details);
            assert_eq!(exit, 2, "{text}");
            assert!(text.contains(hint), "{text}");
        }
    }

    #[test]
    fn a_reason_of_another_domain_is_not_ours() {
        let details = ErrorDetails::with_error_info("REVISION_MISMATCH", "example.com", HashMap::new());
        assert_eq!(told(Code::Aborted, details).0, 2);
    }

    #[test]
    fn a_broken_connection_names_the_server() {
        let failure = from_status(Status::from_error("reset".into()));
        assert!(failure.to_string().contains("Cannot reach the server at http://a"), "{failure}");
        let late = Status::from_error(Box::new(TimeoutExpired(())));
        let text = from_status(late).to_string();
        assert!(text.contains("http://a did not answer in time.\nIt is not known"), "{text}");
    }

    #[test]
    fn only_where_nobody_serves_a_start_is_advised() {
        let hint = |kind: ErrorKind| unreachable("http://a", &io::Error::from(kind)).to_string();
        assert!(hint(ErrorKind::ConnectionRefused).contains("superserve serve"));
        assert!(!hint(ErrorKind::TimedOut).contains("superserve serve"));
        assert!(!told(Code::Unavailable, ErrorDetails::new()).1.contains("superserve serve"));
    }

    #[test]
    fn what_a_newer_server_does_not_find_is_told_in_its_words() {
        let (code, text) = told(Code::NotFound, info("NEW_WORD", &[]));
        assert_eq!((code, text.as_str()), (2, "error: Not found: NEW_WORD."));
    }
}
