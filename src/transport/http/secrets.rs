//! `/v1/agents/{agent_id}/secrets`.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Context,
    extract::{Caller, Conditions, JsonBody, PathOf, Query},
    json::SetBody,
    openapi::{ConditionalErrors, ReadErrors, SecretsList, SecretsWrite},
};
use crate::{
    domain::{Fault, FaultCode, Limits, SecretMetadata, SecretName, SecretValue},
    service::{DeleteSecret, Error, RawEntry, SetSecrets, Written},
    transport::{
        error::{to_conditional_response, to_response},
        timestamp::to_rfc3339,
    },
};

/// What to set. Read by hand, so that all faults are told; this is for the document.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SetSecrets, example = json!({"secrets": {"ANTHROPIC_API_KEY": "sk-ant-…"}}))]
struct SetSecretsBody {
    /// Key to value. A key matches `^[A-Za-z_][A-Za-z0-9_]{0,127}$`; a value is 1 to 65,536 bytes of
    /// UTF-8 without NUL. Values are write-only: no answer ever shows one.
    secrets: BTreeMap<String, String>,
}

/// The keys that are set.
#[derive(Serialize, ToSchema)]
#[schema(as = Keys, example = json!({"keys": ["ANTHROPIC_API_KEY", "DATABASE_URL"], "warnings": [{"key": "DATABASE_URL", "code": "surrounding_whitespace"}]}))]
struct KeysBody {
    /// All keys now set, sorted by byte value.
    keys: Vec<String>,
    /// What was accepted but looks like a mistake; only when there is something.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<WarningBody>,
}

/// Something about a value that is probably a mistake.
#[derive(Serialize, ToSchema)]
#[schema(as = Warning)]
struct WarningBody {
    /// The key whose value it is about.
    key: String,
    /// `surrounding_whitespace`, `smart_quotes`, `zero_width`, `placeholder` or `quoted`, of the value;
    /// `previous_dropped` where a value before was still given out, which the new one has ended.
    code: String,
}

/// The keys that are set and, with `view=full`, what may be told of them.
#[derive(Serialize, ToSchema)]
#[schema(as = SecretList, example = json!({"keys": ["ANTHROPIC_API_KEY"], "revision": 7, "secrets": [{"key": "ANTHROPIC_API_KEY", "version": 7, "fingerprint": "3413a038ed43", "created_at": "2026-11-26T17:21:34.623693Z", "updated_at": "2026-11-26T17:21:34.623693Z", "updated_by": "tok_59i6m6dbMXhUvf1ilQ2CEQ"}]}))]
struct ListBody {
    /// All keys now set, sorted by byte value.
    keys: Vec<String>,
    /// The agent's revision; only with `view=full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    /// The metadata of each key; only with `view=full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<Vec<MetadataBody>>,
}

/// What may be told of a secret.
#[derive(Serialize, ToSchema)]
#[schema(as = SecretMetadata)]
struct MetadataBody {
    /// The key.
    key: String,
    /// The agent's revision at which this value was set.
    version: i64,
    /// Twelve hex digits of a keyed HMAC of the value.
    fingerprint: String,
    /// When the key was first set.
    #[schema(format = DateTime)]
    created_at: String,
    /// When this version was set.
    #[schema(format = DateTime)]
    updated_at: String,
    /// The id of the token that set this version; without one `ISSUER#SUBJECT`, or a SPIFFE id.
    updated_by: String,
    /// Until when the value before is given out as `KEY_PREVIOUS`; only when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    previous_until: Option<String>,
}

/// Sets or replaces these keys and leaves the others. All or nothing, and durable before the answer.
#[utoipa::path(
    patch, path = "/v1/agents/{agent_id}/secrets", operation_id = "SetSecrets", tag = "secrets",
    params(
        ("agent_id" = String, Path, description = "The agent's id, `agt_…`.", example = "agt_6mxcCu18IdZoSnKVWcpqaX"),
        ("If-Match" = Option<String>, Header, pattern = r#"^(\*|(W/)?"[!#-+\x2d-~]*")$"#, description = "Go on only at this revision (the `ETag` of an answer), or `*` for any. One tag, with its quotes: a list is refused."),
        ("Idempotency-Key" = Option<String>, Header, description = "A name for this attempt: a repeat within 24 hours gets the first answer."),
    ),
    request_body = inline(SetSecretsBody),
    responses((status = 200, description = "All keys now set.", body = KeysBody, headers(("ETag" = String, description = "The agent's revision."))), ConditionalErrors<SecretsWrite>),
)]
pub(super) async fn set(
    State(context): State<Context>,
    Caller(call): Caller,
    PathOf(agent): PathOf<String>,
    Conditions { expected_revision, idempotency_key }: Conditions,
    JsonBody(json): JsonBody,
) -> Response {
    let SetBody { entries, faults } = SetBody::read(json);
    let request = SetSecrets {
        agent,
        entries,
        faults,
        expected_revision,
        idempotency_key,
        validate_only: false,
        prune: false,
        previous_for: None,
    };
    match context.service.set_secrets(&call, request).await {
        Ok(answer) => {
            let warnings = answer.warnings.into_iter().map(|(key, code)| WarningBody { key, code }).collect();
            let Written { keys, revision } = answer.written;
            tagged(revision, Json(KeysBody { keys, warnings }))
        }
        Err(error) => to_conditional_response(&error),
    }
}

/// For `benches/`: what a body goes through on its way to the service, and the names on their way back.
#[doc(hidden)]
#[must_use]
pub fn set_without_service(body: &[u8]) -> Option<String> {
    let SetBody { entries, faults: _ } = SetBody::read(super::json::Json::parse(body).ok()?);
    let (limits, mut keys) = (Limits::default(), Vec::new());
    for RawEntry { key, mut value } in entries {
        keys.push(SecretName::new(&key, &limits).ok()?.to_string());
        SecretValue::new(std::mem::take(&mut *value), &limits).ok()?;
    }
    serde_json::to_string(&KeysBody { keys, warnings: Vec::new() }).ok()
}

/// Lists the keys that are set, and never a value.
#[utoipa::path(
    get, path = "/v1/agents/{agent_id}/secrets", operation_id = "ListSecrets", tag = "secrets",
    params(
        ("agent_id" = String, Path, description = "The agent's id, `agt_…`.", example = "agt_6mxcCu18IdZoSnKVWcpqaX"),
        ("view" = Option<String>, Query, pattern = "^(full|keys)?$", description = "`full` adds the revision and the metadata of each key."),
    ),
    responses((status = 200, description = "The keys.", body = ListBody, headers(("ETag" = String, description = "The agent's revision."))), ReadErrors<SecretsList>),
)]
pub(super) async fn list(
    State(context): State<Context>,
    Caller(call): Caller,
    PathOf(agent): PathOf<String>,
    query: Query,
) -> Response {
    let full = match query.get("view") {
        "" | "keys" => false,
        "full" => true,
        _ => return to_response(&Error::invalid(Fault::new("view", FaultCode::OutOfRange))),
    };
    match context.service.list_secrets(&call, &agent).await {
        Ok(listing) => {
            let revision = listing.revision.0;
            let keys = listing.secrets.iter().map(|secret| secret.name.to_string()).collect();
            let secrets = full.then(|| listing.secrets.into_iter().map(metadata).collect());
            tagged(revision, Json(ListBody { keys, revision: full.then_some(revision), secrets }))
        }
        Err(error) => to_response(&error),
    }
}

/// Deletes one key.
#[utoipa::path(
    delete, path = "/v1/agents/{agent_id}/secrets/{key}", operation_id = "DeleteSecret", tag = "secrets",
    params(
        ("agent_id" = String, Path, description = "The agent's id, `agt_…`.", example = "agt_6mxcCu18IdZoSnKVWcpqaX"),
        ("key" = String, Path, description = "The key, URL-encoded.", example = "ANTHROPIC_API_KEY"),
        ("If-Match" = Option<String>, Header, pattern = r#"^(\*|(W/)?"[!#-+\x2d-~]*")$"#, description = "Go on only at this revision (the `ETag` of an answer), or `*` for any. One tag, with its quotes: a list is refused."),
        ("Idempotency-Key" = Option<String>, Header, description = "A name for this attempt: a repeat within 24 hours gets the first answer."),
    ),
    responses((status = 200, description = "The remaining keys.", body = KeysBody, headers(("ETag" = String, description = "The agent's revision."))), ConditionalErrors<SecretsWrite>),
)]
pub(super) async fn delete(
    State(context): State<Context>,
    Caller(call): Caller,
    PathOf((agent, key)): PathOf<(String, String)>,
    Conditions { expected_revision, idempotency_key }: Conditions,
) -> Response {
    let request = DeleteSecret { agent, key, expected_revision, idempotency_key };
    match context.service.delete_secret(&call, request).await {
        Ok(Written { keys, revision }) => tagged(revision, Json(KeysBody { keys, warnings: Vec::new() })),
        Err(error) => to_conditional_response(&error),
    }
}

fn metadata(secret: SecretMetadata) -> MetadataBody {
    let SecretMetadata { name, version, fingerprint, created_at, updated_at, updated_by, previous_until } =
        secret;
    MetadataBody {
        key: name.to_string(),
        version: version.0,
        fingerprint,
        created_at: to_rfc3339(created_at),
        updated_at: to_rfc3339(updated_at),
        updated_by,
        previous_until: previous_until.map(to_rfc3339),
    }
}

fn tagged(revision: i64, body: Json<impl Serialize>) -> Response {
    let mut response = body.into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
