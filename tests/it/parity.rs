//! REST and gRPC are two ways to say the same: each case is sent through both, to two agents in the same state,
//! and must come to the same kind, the same reason, and the same state afterwards.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};
use superserve::proto::v1::{
    DeleteAgentRequest, DeleteSecretRequest, DeployAgentRequest, GetAgentRequest, ListAgentsRequest,
    ListSecretsRequest, RequiredSecret, SetSecretsRequest, WhoAmIRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Database,
    fixtures::secrets_of,
    grpc::Grpc,
    on_each_database,
    rest::{Answer, Rest},
    server::Server,
};

on_each_database!(both_protocols_do_the_same);

/// What is asked for, of an agent.
#[derive(Clone, Copy, Debug)]
enum Ask<'a> {
    Set { secrets: &'a [(&'a str, &'a str)], revision: Option<i64>, attempt: &'a str },
    List,
    Delete { key: &'a str, revision: Option<i64>, attempt: &'a str },
    Get,
    Drop,
    Deploy { name: &'a str, required: &'a [&'a str] },
    ListAgents { page_token: &'a str },
    WhoAmI,
}

/// What it came to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Done(Value),
    Refused {
        kind: (StatusCode, Code),
        detail: String,
        faults: Vec<(String, String)>,
        facts: BTreeMap<String, String>,
    },
}

/// The table of the contract: what REST says, and what gRPC says for it.
const KINDS: [(u16, Code, &str); 8] = [
    (401, Code::Unauthenticated, "UNAUTHENTICATED"),
    (403, Code::PermissionDenied, "PERMISSION_DENIED"),
    (404, Code::NotFound, "AGENT_NOT_FOUND"),
    (404, Code::NotFound, "SECRET_NOT_FOUND"),
    (422, Code::InvalidArgument, "INVALID_FORMAT"),
    (412, Code::Aborted, "REVISION_MISMATCH"),
    (500, Code::Internal, "INTERNAL"),
    (503, Code::Unavailable, "UNAVAILABLE"),
];

async fn both_protocols_do_the_same(database: Database) {
    let server = Server::start(database);
    let lists_only = server.token(&["secrets:list"], &[]).await;
    let (by_rest, by_grpc) = (server.deploy("by-rest").await, server.deploy("by-grpc").await);
    let grpc = server.grpc().await;
    let set = |secrets| Ask::Set { secrets, revision: None, attempt: "" };
    let delete = |key| Ask::Delete { key, revision: None, attempt: "" };
    let long = "v".repeat(65_537);
    let too_long = [("A", long.as_str()), ("B", "")];
    let admin = server.admin_token();
    let cases = [
        (admin, Ask::List),
        (admin, set(&[("A", "1"), ("B", " changeme")])),
        (admin, set(&[("A", "1")])),
        (admin, set(&[("A", "2"), ("C", "3")])),
        (admin, Ask::List),
        (admin, set(&[])),
        (admin, set(&[("1", "x"), ("", ""), ("PATH", "x"), ("OK", "x"), ("N", "\0"), ("É", "x")])),
        (admin, set(&too_long)),
        (admin, Ask::Set { secrets: &[("D", "x")], revision: Some(2), attempt: "" }),
        (admin, Ask::Set { secrets: &[("D", "x")], revision: Some(2), attempt: "" }),
        (admin, Ask::Set { secrets: &[("E", "x")], revision: None, attempt: "one" }),
        (admin, Ask::Set { secrets: &[("E", "x")], revision: None, attempt: "one" }),
        (admin, Ask::Set { secrets: &[("E", "y")], revision: None, attempt: "one" }),
        (admin, Ask::Delete { key: "E", revision: None, attempt: "one" }),
        (admin, Ask::Delete { key: "E", revision: Some(1), attempt: "" }),
        (admin, Ask::Delete { key: "E", revision: Some(4), attempt: "two" }),
        (admin, Ask::Delete { key: "E", revision: Some(4), attempt: "two" }),
        (admin, delete("E")),
        (admin, delete("e=/ ")),
        (admin, Ask::Get),
        (admin, Ask::ListAgents { page_token: "x" }),
        (admin, Ask::Deploy { name: " ", required: &["A", "A", "PATH"] }),
        (admin, Ask::Deploy { name: "", required: &[] }),
        (admin, Ask::WhoAmI),
        (&lists_only, Ask::List),
        (&lists_only, set(&[("A", "x")])),
        (&lists_only, set(&[])),
        (&lists_only, delete("A")),
        (&lists_only, Ask::Get),
        (&lists_only, Ask::Drop),
        (&lists_only, Ask::Deploy { name: "by-nobody", required: &[] }),
        (&lists_only, Ask::ListAgents { page_token: "" }),
        ("nobody", Ask::WhoAmI),
        ("nobody", set(&[])),
        (admin, Ask::Drop),
        (admin, Ask::Drop),
        (admin, Ask::Get),
        (admin, Ask::List),
        (admin, set(&[("A", "x")])),
        (admin, delete("A")),
    ];
    for (number, (token, ask)) in cases.into_iter().enumerate() {
        let rest = ask.rest(&server.rest().token(token), &by_rest).await;
        let grpc = ask.grpc(&mut grpc.token(token), &by_grpc).await;
        assert_eq!(rest, grpc, "case {number}: {ask:?}");
        let states = [state(&server, &by_rest).await, state(&server, &by_grpc).await];
        assert_eq!(states[0], states[1], "after case {number}: {ask:?}");
    }
}

/// What can be seen of an agent afterwards, but for times and what is the agent's own.
async fn state(server: &Server, agent: &str) -> Value {
    let list = server.rest().get(&format!("{}?view=full", secrets_of(agent))).send().await;
    let mut list = list.json();
    for secret in list.get_mut("secrets").and_then(Value::as_array_mut).into_iter().flatten() {
        *secret = json!([secret["key"], secret["version"], secret["updated_by"]]);
    }
    list
}

impl Ask<'_> {
    async fn rest(self, rest: &Rest, agent: &str) -> Outcome {
        let (path, secrets) = (format!("/v1/agents/{agent}"), secrets_of(agent));
        let mut call = match self {
            Self::Set { secrets: values, .. } => {
                let values: BTreeMap<_, _> = values.iter().copied().collect();
                rest.patch(&secrets).json(&json!({"secrets": values}))
            }
            Self::List => rest.get(&secrets),
            Self::Delete { key, .. } => {
                let key = key.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
                rest.delete(&format!("{secrets}/{key}"))
            }
            Self::Get => rest.get(&path),
            Self::Drop => rest.delete(&path),
            Self::Deploy { name, required } => {
                rest.post("/v1/agents").json(&json!({"name": name, "required_secrets": required}))
            }
            Self::ListAgents { page_token } => rest.get(&format!("/v1/agents?page_token={page_token}")),
            Self::WhoAmI => rest.get("/v1/auth/validate"),
        };
        if let Self::Set { revision, attempt, .. } | Self::Delete { revision, attempt, .. } = self {
            if let Some(revision) = revision {
                call = call.header("if-match", &format!("\"{revision}\""));
            }
            if !attempt.is_empty() {
                call = call.header("idempotency-key", attempt);
            }
        }
        of_rest(&call.send().await)
    }

    async fn grpc(self, grpc: &mut Grpc, agent: &str) -> Outcome {
        let agent_id = agent.to_owned();
        let outcome = match self {
            Self::Set { secrets, revision: expected_revision, attempt } => {
                let secrets =
                    secrets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
                let idempotency_key = attempt.to_owned();
                let request = SetSecretsRequest {
                    agent_id,
                    secrets,
                    expected_revision,
                    idempotency_key,
                    ..Default::default()
                };
                grpc.secrets.set_secrets(request).await.map(|answer| {
                    let answer = answer.into_inner();
                    let warnings: Vec<_> =
                        answer.warnings.iter().map(|it| json!([it.key, it.code])).collect();
                    json!([answer.keys, answer.revision, warnings])
                })
            }
            Self::List => grpc.secrets.list_secrets(ListSecretsRequest { agent_id }).await.map(|answer| {
                let answer = answer.into_inner();
                json!([answer.keys, answer.revision, []])
            }),
            Self::Delete { key, revision: expected_revision, attempt } => {
                let (key, idempotency_key) = (key.to_owned(), attempt.to_owned());
                let request = DeleteSecretRequest { agent_id, key, expected_revision, idempotency_key };
                grpc.secrets.delete_secret(request).await.map(|answer| {
                    let answer = answer.into_inner();
                    json!([answer.keys, answer.revision, []])
                })
            }
            Self::Get => grpc
                .agents
                .get_agent(GetAgentRequest { agent_id })
                .await
                .map(|answer| json!(answer.into_inner().agent.unwrap().environment_keys)),
            Self::Drop => {
                grpc.agents.delete_agent(DeleteAgentRequest { agent_id }).await.map(|_| Value::Null)
            }
            Self::Deploy { name, required } => {
                let typed = |name: &&str| RequiredSecret { name: (*name).to_owned(), ..Default::default() };
                let required_secrets = required.iter().map(typed).collect();
                let request =
                    DeployAgentRequest { name: name.to_owned(), required_secrets, ..Default::default() };
                grpc.agents.deploy_agent(request).await.map(|_| Value::Null)
            }
            Self::ListAgents { page_token } => {
                let request = ListAgentsRequest { page_token: page_token.to_owned(), ..Default::default() };
                grpc.agents.list_agents(request).await.map(|answer| json!(answer.into_inner().agents.len()))
            }
            Self::WhoAmI => grpc
                .tokens
                .who_am_i(WhoAmIRequest {})
                .await
                .map(|answer| json!(answer.into_inner().token.unwrap().id)),
        };
        outcome.map_or_else(|status| of_grpc(&status), Outcome::Done)
    }
}

fn of_rest(answer: &Answer) -> Outcome {
    if answer.status.is_success() {
        let body = if answer.body.is_empty() { Value::Null } else { answer.json() };
        if let Some(keys) = body.get("keys") {
            let warnings = body["warnings"].as_array().into_iter().flatten();
            let warnings: Vec<_> = warnings.map(|it| json!([it["key"], it["code"]])).collect();
            let revision: i64 = answer.header("etag").trim_matches('"').parse().unwrap();
            return Outcome::Done(json!([keys, revision, warnings]));
        }
        let told = body.get("environment_keys").or_else(|| body.pointer("/user/id"));
        return Outcome::Done(told.cloned().unwrap_or(Value::Null));
    }
    let (detail, details) = answer.refusal();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let faults = details["errors"].as_array().into_iter().flatten();
    let faults: Vec<_> = faults.map(|it| (text(&it["key"]), text(&it["code"]))).collect();
    let facts =
        details.as_object().unwrap().iter().filter(|(name, _)| !["errors", "code"].contains(&name.as_str()));
    let facts = facts.map(|(name, value)| (name.clone(), text(value))).collect();
    let code = details["code"].as_str().map(str::to_uppercase);
    let row = KINDS.iter().find(|(status, _, reason)| {
        *status == answer.status.as_u16() && code.as_ref().is_none_or(|code| code == reason)
    });
    let (_, code, _) = row.unwrap_or_else(|| panic!("{}", answer.text()));
    Outcome::Refused { kind: (answer.status, *code), detail, faults, facts }
}

fn of_grpc(status: &Status) -> Outcome {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "secrets.superserve.ai");
    let row = KINDS.iter().find(|(_, _, reason)| *reason == info.reason);
    let (http, code, _) = row.unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(status.code(), *code);
    let violations = status.get_details_bad_request().map(|it| it.field_violations).unwrap_or_default();
    let faults = violations.into_iter().map(|it| (it.field, it.reason.to_lowercase())).collect();
    Outcome::Refused {
        kind: (StatusCode::from_u16(*http).unwrap(), status.code()),
        detail: status.message().to_owned(),
        faults,
        facts: info.metadata.into_iter().collect(),
    }
}
