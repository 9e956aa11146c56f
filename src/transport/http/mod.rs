//! REST: one file a resource. The routes and the OpenAPI document are the same statements.

mod agents;
mod auth;
mod examples;
mod extract;
mod json;
mod openapi;
mod secrets;

use axum::{Router, middleware, response::Response};
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{access, error::refusal};
use crate::service::Service;

#[doc(hidden)]
pub use secrets::set_without_service;

/// The OpenAPI document of the REST surface, as JSON.
#[must_use]
pub fn openapi() -> String {
    let (_router, document) = routes().split_for_parts();
    openapi::render(&document)
}

/// What the handlers work with.
#[derive(Clone)]
struct Context {
    service: Service,
    request_bytes: usize,
}

/// All REST routes. Bodies longer than `request_bytes` are refused.
pub(super) fn router(service: &Service, request_bytes: usize) -> Router {
    let (router, document) = routes().split_for_parts();
    let document = bytes::Bytes::from(openapi::render(&document));
    router
        .route(
            "/openapi.json",
            axum::routing::get(move || std::future::ready(openapi::serve(document.clone()))),
        )
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(middleware::from_fn(access::tell_route))
        .with_state(Context { service: service.clone(), request_bytes })
}

fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(agents::deploy, agents::list))
        .routes(routes!(agents::get, agents::delete))
        .routes(routes!(secrets::set, secrets::list))
        .routes(routes!(secrets::delete))
        .routes(routes!(auth::validate))
}

async fn not_found() -> Response {
    refusal(StatusCode::NOT_FOUND, "Not found")
}

async fn method_not_allowed() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}
