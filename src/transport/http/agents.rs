//! `/v1/agents`.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Context,
    extract::{Caller, JsonBody, PathOf, Query},
    json::read_agent,
    openapi::{AgentsRead, AgentsWrite, ReadErrors, WriteErrors},
};
use crate::{
    domain::{Agent, RequiredSecret},
    service::PageOf,
    transport::{error::to_response, timestamp::to_rfc3339},
};

/// What to deploy. Read by hand, so that all faults are told; this is for the document.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeployAgent, example = json!({"name": "my-agent", "command": "python3 agent.py", "required_secrets": ["ANTHROPIC_API_KEY", {"name": "DATABASE_URL", "description": "where its rows are", "pattern": "^postgres://"}]}))]
struct DeployBody {
    /// Unique within the tenant; the same name again updates the agent.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// The command that runs it.
    #[schema(max_length = 4096, pattern = "^[^\\x00]*$")]
    command: Option<String>,
    /// What a run requires.
    #[schema(max_items = 100)]
    required_secrets: Option<Vec<RequiredBody>>,
}

/// An agent.
#[derive(Serialize, ToSchema)]
#[schema(as = Agent, example = json!({"id": "agt_6mxcCu18IdZoSnKVWcpqaX", "name": "my-agent", "command": "python3 agent.py", "environment_keys": ["ANTHROPIC_API_KEY"], "required_secrets": ["ANTHROPIC_API_KEY", {"name": "DATABASE_URL", "description": "where its rows are", "pattern": "^postgres://"}], "missing_secrets": ["DATABASE_URL"], "deps_status": "none", "deps_error": null, "created_at": "2026-11-26T17:21:34.497490Z", "updated_at": "2026-11-26T17:21:34.497490Z"}))]
struct AgentBody {
    /// `agt_` and 22 base62 characters.
    id: String,
    /// Unique within the tenant.
    name: String,
    /// The command that runs it.
    command: Option<String>,
    /// The keys that are set, sorted by byte value.
    environment_keys: Vec<String>,
    /// What a run requires.
    required_secrets: Vec<RequiredBody>,
    /// The required keys that are not set.
    missing_secrets: Vec<String>,
    /// Always `none`.
    deps_status: &'static str,
    /// Always null.
    deps_error: Option<String>,
    /// When it was first deployed.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last deployed.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// A declared secret: a name, or a name with rules.
#[derive(Serialize, ToSchema)]
#[schema(as = RequiredSecret)]
#[serde(untagged)]
enum RequiredBody {
    /// The key.
    Name(String),
    /// The key and what a value of it must satisfy.
    Typed(TypedRequired),
}

/// A declared secret with rules.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TypedRequiredSecret)]
struct TypedRequired {
    /// The key.
    #[schema(pattern = "^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
    name: String,
    /// What it is for and where to get one.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, max_length = 1024, value_type = Option<String>)]
    description: String,
    /// A regular expression (RE2 syntax) that a value must match somewhere.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, max_length = 512, value_type = Option<String>)]
    pattern: String,
    /// The least number of characters of a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_length: Option<u32>,
    /// A run may start without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false, value_type = Option<bool>)]
    optional: bool,
}

/// A page of agents.
#[derive(Serialize, ToSchema)]
#[schema(as = AgentPage, example = json!({"agents": [{"id": "agt_6mxcCu18IdZoSnKVWcpqaX", "name": "my-agent", "command": "python3 agent.py", "environment_keys": ["ANTHROPIC_API_KEY"], "required_secrets": ["ANTHROPIC_API_KEY", {"name": "DATABASE_URL", "description": "where its rows are", "pattern": "^postgres://"}], "missing_secrets": ["DATABASE_URL"], "deps_status": "none", "deps_error": null, "created_at": "2026-11-26T17:21:34.497490Z", "updated_at": "2026-11-26T17:21:34.497490Z"}], "next_page_token": ""}))]
struct PageBody {
    /// The agents, sorted by name.
    agents: Vec<AgentBody>,
    /// Empty on the last page.
    next_page_token: String,
}

/// Creates an agent; the same name again updates it and keeps its id and its secrets.
#[utoipa::path(
    post, path = "/v1/agents", operation_id = "DeployAgent", tag = "agents",
    request_body = inline(DeployBody),
    responses(
        (status = 201, description = "The new agent.", body = AgentBody),
        (status = 200, description = "The updated agent.", body = AgentBody),
        WriteErrors<AgentsWrite>,
    ),
)]
pub(super) async fn deploy(
    State(context): State<Context>,
    Caller(call): Caller,
    JsonBody(json): JsonBody,
) -> Response {
    match context.service.deploy_agent(&call, read_agent(json)).await {
        Ok(deployed) => {
            let status = if deployed.created { StatusCode::CREATED } else { StatusCode::OK };
            (status, Json(body(deployed.agent))).into_response()
        }
        Err(error) => to_response(&error),
    }
}

/// Lists agents by name.
#[utoipa::path(
    get, path = "/v1/agents", operation_id = "ListAgents", tag = "agents",
    params(
        ("limit" = Option<u64>, Query, description = "How many at most; 100 if not given, and never more.", minimum = 1),
        ("page_token" = Option<String>, Query, description = "The `next_page_token` of the page before."),
        ("name" = Option<String>, Query, description = "Only the agent of exactly this name."),
    ),
    responses((status = 200, description = "A page of agents.", body = PageBody), ReadErrors<AgentsRead>),
)]
pub(super) async fn list(State(context): State<Context>, Caller(call): Caller, query: Query) -> Response {
    let limit = match query.limit() {
        Ok(limit) => limit,
        Err(error) => return to_response(&error),
    };
    match context.service.list_agents(&call, query.get("name"), limit, query.get("page_token")).await {
        Ok(PageOf { rows, next_page_token }) => {
            Json(PageBody { agents: rows.into_iter().map(body).collect(), next_page_token }).into_response()
        }
        Err(error) => to_response(&error),
    }
}

/// Reads one agent.
#[utoipa::path(
    get, path = "/v1/agents/{agent_id}", operation_id = "GetAgent", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's id, `agt_…`.", example = "agt_6mxcCu18IdZoSnKVWcpqaX")),
    responses((status = 200, description = "The agent.", body = AgentBody), ReadErrors<AgentsRead>),
)]
pub(super) async fn get(
    State(context): State<Context>,
    Caller(call): Caller,
    PathOf(agent): PathOf<String>,
) -> Response {
    match context.service.get_agent(&call, &agent).await {
        Ok(agent) => Json(body(agent)).into_response(),
        Err(error) => to_response(&error),
    }
}

/// Deletes an agent with its secrets and destroys its data key.
#[utoipa::path(
    delete, path = "/v1/agents/{agent_id}", operation_id = "DeleteAgent", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's id, `agt_…`.", example = "agt_6mxcCu18IdZoSnKVWcpqaX")),
    responses((status = 204, description = "It is gone."), ReadErrors<AgentsWrite>),
)]
pub(super) async fn delete(
    State(context): State<Context>,
    Caller(call): Caller,
    PathOf(agent): PathOf<String>,
) -> Response {
    match context.service.delete_agent(&call, &agent).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => to_response(&error),
    }
}

fn body(agent: Agent) -> AgentBody {
    let missing_secrets = agent.missing_secrets().iter().map(ToString::to_string).collect();
    let Agent { id, tenant: _, name, command, required_secrets, keys, revision: _, created_at, updated_at } =
        agent;
    AgentBody {
        id: id.to_string(),
        name: name.as_str().to_owned(),
        command: command.map(|command| command.as_str().to_owned()),
        environment_keys: keys.iter().map(ToString::to_string).collect(),
        required_secrets: required_secrets.into_iter().map(required).collect(),
        missing_secrets,
        deps_status: "none",
        deps_error: None,
        created_at: to_rfc3339(created_at),
        updated_at: to_rfc3339(updated_at),
    }
}

/// A secret declared by its name alone is told as it was declared.
fn required(secret: RequiredSecret) -> RequiredBody {
    let RequiredSecret { name, description, pattern, min_length, optional } = secret;
    if description.is_empty() && pattern.is_empty() && min_length == 0 && !optional {
        return RequiredBody::Name(name);
    }
    let min_length = Some(min_length).filter(|length| *length > 0);
    RequiredBody::Typed(TypedRequired { name, description, pattern, min_length, optional })
}
