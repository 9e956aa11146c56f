//! The OpenAPI document: what is not said at the routes themselves.

use std::{collections::BTreeMap, marker::PhantomData};

use axum::{
    Extension,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::header;
use serde::Serialize;
use utoipa::{
    IntoResponses, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder,
        example::ExampleBuilder,
        response::Response as DocumentedResponse,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::examples::{self, ErrorExample};
use crate::{domain::Scope, transport::listener::KeptAnyway};

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

/// The errors of a call that only reads, and needs this scope.
pub(super) struct ReadErrors<N>(PhantomData<N>);

/// The errors of a call that writes, and needs this scope.
pub(super) struct WriteErrors<N>(PhantomData<N>);

/// The errors of a call that writes, on a condition, and needs this scope.
pub(super) struct ConditionalErrors<N>(PhantomData<N>);

/// The scope that a call needs. A test holds each to what the service refuses.
pub(super) trait Needs {
    const SCOPE: Scope;
}

pub(super) enum AgentsRead {}
pub(super) enum AgentsWrite {}
pub(super) enum SecretsList {}
pub(super) enum SecretsWrite {}
/// None for one's own tenant, this one for another.
pub(super) enum TenantsAll {}

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
    (Extension(KeptAnyway), [(header::CONTENT_TYPE, "application/json")], document).into_response()
}

impl Needs for AgentsRead {
    const SCOPE: Scope = Scope::AgentsRead;
}

impl Needs for AgentsWrite {
    const SCOPE: Scope = Scope::AgentsWrite;
}

impl Needs for SecretsList {
    const SCOPE: Scope = Scope::SecretsList;
}

impl Needs for SecretsWrite {
    const SCOPE: Scope = Scope::SecretsWrite;
}

impl Needs for TenantsAll {
    const SCOPE: Scope = Scope::TenantsAll;
}

impl<N: Needs> IntoResponses for ReadErrors<N> {
    fn responses() -> BTreeMap<String, RefOr<DocumentedResponse>> {
        documented(examples::of_reads(N::SCOPE))
    }
}

impl<N: Needs> IntoResponses for WriteErrors<N> {
    fn responses() -> BTreeMap<String, RefOr<DocumentedResponse>> {
        documented(examples::of_writes(N::SCOPE))
    }
}

impl<N: Needs> IntoResponses for ConditionalErrors<N> {
    fn responses() -> BTreeMap<String, RefOr<DocumentedResponse>> {
        documented(examples::of_conditional_writes(N::SCOPE))
    }
}

/// One answer for each status, with all that it may look like.
fn documented(examples: Vec<ErrorExample>) -> BTreeMap<String, RefOr<DocumentedResponse>> {
    let mut by_status = BTreeMap::<String, Vec<ErrorExample>>::new();
    for example in examples {
        by_status.entry(example.status.as_u16().to_string()).or_default().push(example);
    }
    by_status.into_iter().map(|(status, examples)| (status, response(examples))).collect()
}

fn response(examples: Vec<ErrorExample>) -> RefOr<DocumentedResponse> {
    let mut details: Vec<_> = examples.iter().map(|example| example.detail).collect();
    details.dedup();
    let response = ResponseBuilder::new().description(details.join(", or "));
    let shown = examples.into_iter().map(|ErrorExample { status: _, detail: _, name, body }| {
        (name, ExampleBuilder::new().value(Some(body)).build())
    });
    let content =
        ContentBuilder::new().schema(Some(Ref::from_schema_name("Error"))).examples_from_iter(shown);
    RefOr::T(response.content("application/json", content.build()).build())
}
