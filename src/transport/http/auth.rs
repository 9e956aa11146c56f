//! `/v1/auth/validate`.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    extract::Caller,
    openapi::{ReadErrors, TenantsAll},
};

/// Who calls.
#[derive(Serialize, ToSchema)]
#[schema(as = Validation, example = json!({"valid": true, "user": {"id": "tok_59i6m6dbMXhUvf1ilQ2CEQ", "email": "ops@example.com"}}))]
struct ValidationBody {
    /// Always true: a token that is not valid gets 401.
    valid: bool,
    /// The owner of the token.
    user: UserBody,
}

/// The owner of a token.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
struct UserBody {
    /// The token's id, `tok_…`; without one `ISSUER#SUBJECT`, or a SPIFFE id.
    id: String,
    /// The address given when the token was made; may be empty.
    email: String,
}

/// Says whose token this is.
#[utoipa::path(
    get, path = "/v1/auth/validate", operation_id = "WhoAmI", tag = "auth",
    responses((status = 200, description = "The token is valid.", body = ValidationBody), ReadErrors<TenantsAll>),
)]
pub(super) async fn validate(Caller(call): Caller) -> Response {
    let token = call.principal.token;
    let user = UserBody { id: token.id.to_string(), email: token.grant.email.clone() };
    Json(ValidationBody { valid: true, user }).into_response()
}
