//! The OpenAPI document: what is not said at the routes themselves.

use std::collections::BTreeMap;

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::{
    IntoResponses, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder,
        response::Response as DocumentedResponse,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{service::Kind, transport::error::row};

/// The answer to every call that was refused or failed.
#[derive(Serialize, ToSchema)]
#[schema(as = Error, example = json!({"status": 404, "detail": "Agent not found", "details": {"code": "agent_not_found"}}))]
struct ErrorBody {
    /// The HTTP status.
    status: u16,
    /// One sentence.
    detail: String,
    /// What a program needs to know. Of a 422, `errors` holds at most 1,000 faults, and `omitted` says how
    /// many there are beyond them.
    #[schema(value_type = Object)]
    details: serde_json::Value,
}

/// The errors of a call that only reads.
pub(super) struct ReadErrors;

/// The errors of a call that writes.
pub(super) struct WriteErrors;

#[derive(OpenApi)]
#[openapi(
    info(title = "Secrets API", description = "Set once, encrypted, never read back.\n\nEvery answer has the shapes below but two: a request that is no HTTP gets 400, and headers over 16 KiB get 431, without a body.", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    components(schemas(ErrorBody)),
    security(("token" = [])),
    tags(
        (name = "secrets", description = "The secrets of an agent."),
        (name = "agents", description = "What owns secrets and declares which it requires."),
        (name = "auth", description = "Who calls."),
    ),
)]
struct Head;

/// The document without its paths.
pub(super) fn head() -> Document {
    let mut document = Head::openapi();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API token, `ss_…`."));
    document
        .components
        .get_or_insert_with(Default::default)
        .add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    document
}

/// The document as JSON.
pub(super) fn render(document: &Document) -> String {
    // It is made of plain maps and texts, which can always be written
    document.to_pretty_json().unwrap_or_default()
}

/// Answers with the document.
pub(super) fn serve(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

impl IntoResponses for ReadErrors {
    fn responses() -> BTreeMap<String, RefOr<DocumentedResponse>> {
        let kinds = [
            Kind::Unauthenticated,
            Kind::PermissionDenied,
            Kind::AgentNotFound,
            Kind::Invalid,
            Kind::RateLimited,
            Kind::Unavailable,
            Kind::TimedOut,
            Kind::Internal,
        ];
        kinds.into_iter().map(|kind| (row(kind).status, row(kind).detail)).map(documented).collect()
    }
}

impl IntoResponses for WriteErrors {
    fn responses() -> BTreeMap<String, RefOr<DocumentedResponse>> {
        let more = [
            (StatusCode::PRECONDITION_FAILED, row(Kind::RevisionMismatch).detail),
            (StatusCode::PAYLOAD_TOO_LARGE, "Request too large"),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"),
        ];
        ReadErrors::responses().into_iter().chain(more.into_iter().map(documented)).collect()
    }
}

fn documented((status, detail): (StatusCode, &'static str)) -> (String, RefOr<DocumentedResponse>) {
    let schema = Ref::from_schema_name("Error");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description(detail).content("application/json", content).build();
    (status.as_u16().to_string(), RefOr::T(response))
}
