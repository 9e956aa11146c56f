//! A token that is limited to agents: everything else is as if it were not there.
//!
//! To add an RPC that takes an agent: a line in [`attempts`], which names the scope it needs.

use serde_json::json;
use superserve::proto::v1::{
    CheckRequiredSecretsRequest, CreateTokenRequest, DeleteAgentRequest, DeleteSecretRequest,
    DeployAgentRequest, GetAgentRequest, ListAgentsRequest, ListAuditEventsRequest, ListRunsRequest,
    ListSecretsRequest, ListTokensRequest, ResolveSecretsRequest, RevokeTokenRequest, RotateTokenRequest,
    SetSecretsRequest, WatchSecretsRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Database,
    fixtures::{ALL_SCOPES, secrets_of},
    grpc::Grpc,
    on_each_database,
    server::Server,
};

on_each_database!(a_limited_token_sees_nothing_else, each_rpc_needs_its_scope);

async fn a_limited_token_sees_nothing_else(database: Database) {
    let server = Server::start(database);
    let (own, foreign) = (server.deploy("own").await, server.deploy("foreign").await);
    for agent in [&own, &foreign] {
        server.set(agent, &json!({"A": "x"})).await;
    }
    let token = server.token(&ALL_SCOPES, &[&own]).await;
    let limited = server.grpc().await.token(&token);
    let unknown = "agt_0000000000000000000000";
    // What it may not see cannot be told from what is not there
    let seen = [attempts(&limited, &foreign).await, attempts(&limited, unknown).await];
    for ((rpc, _, of_foreign), (_, _, of_unknown)) in seen[0].iter().zip(&seen[1]) {
        let (of_foreign, of_unknown) = (refusal(of_foreign), refusal(of_unknown));
        assert_eq!(of_foreign, of_unknown, "{rpc}");
        // Granting reaches beyond itself whatever is there; everything else is about what is not there
        let expected = if *rpc == "CreateToken" { "PERMISSION_DENIED" } else { "AGENT_NOT_FOUND" };
        assert_eq!(of_foreign.1, expected, "{rpc}");
    }
    let rest = server.rest().token(&token);
    for agent in [foreign.as_str(), unknown] {
        let (path, secrets) = (format!("/v1/agents/{agent}"), secrets_of(agent));
        let calls = [
            rest.get(&path),
            rest.delete(&path),
            rest.get(&secrets),
            rest.patch(&secrets).json(&json!({"secrets": {"B": "x"}})),
            rest.delete(&format!("{secrets}/A")),
        ];
        for call in calls {
            let refused = call.send().await;
            assert_eq!(refused.status, 404);
            assert_eq!(refused.refusal(), ("Agent not found".to_owned(), json!({"code": "agent_not_found"})));
        }
    }
    reaches_no_further(&server, &token, &own, &foreign).await;
    assert_eq!(server.keys(&foreign).await, json!(["A"]), "nothing happened to it");
    for (rpc, _, outcome) in attempts(&limited, &own).await {
        assert!(outcome.is_ok(), "{rpc}: {outcome:?}");
    }
}

/// Lists show only its own, and what reaches the whole tenant is refused.
async fn reaches_no_further(server: &Server, token: &str, own: &str, foreign: &str) {
    let mut grpc = server.grpc().await.token(token);
    let agents = grpc.agents.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner().agents;
    assert_eq!(agents.iter().map(|agent| agent.id.as_str()).collect::<Vec<_>>(), [own]);
    let by_name = ListAgentsRequest { name: "foreign".to_owned(), ..Default::default() };
    assert!(grpc.agents.list_agents(by_name).await.unwrap().into_inner().agents.is_empty());
    let listed = server.rest().token(token).get("/v1/agents").send().await.json();
    assert_eq!(listed["agents"].as_array().unwrap().len(), 1);

    let deploy = |name: &str| DeployAgentRequest { name: name.to_owned(), ..Default::default() };
    let grant = |agents: &[&str]| CreateTokenRequest {
        name: "more".to_owned(),
        agent_ids: agents.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let refused = [
        grpc.agents.deploy_agent(deploy("foreign")).await.map(drop),
        grpc.agents.deploy_agent(deploy("new")).await.map(drop),
        grpc.audit.list_audit_events(ListAuditEventsRequest::default()).await.map(drop),
        grpc.tokens.list_tokens(ListTokensRequest::default()).await.map(drop),
        grpc.tokens.revoke_token(RevokeTokenRequest { token_id: "tok_x".to_owned() }).await.map(drop),
        grpc.tokens
            .rotate_token(RotateTokenRequest { token_id: "tok_x".to_owned(), overlap: None })
            .await
            .map(drop),
        grpc.tokens.create_token(grant(&[])).await.map(drop),
        grpc.tokens.create_token(grant(&[foreign])).await.map(drop),
        grpc.tokens.create_token(grant(&[own, foreign])).await.map(drop),
    ];
    for (number, outcome) in refused.iter().enumerate() {
        assert_eq!(refusal(outcome).0, Code::PermissionDenied, "{number}");
    }
    assert!(grpc.tokens.create_token(grant(&[own])).await.is_ok());
    let all = server.rest().get("/v1/agents").send().await.json();
    assert_eq!(all["agents"].as_array().unwrap().len(), 2, "no agent was made");
}

async fn each_rpc_needs_its_scope(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let grpc = server.grpc().await;
    let mut refused = Vec::new();
    for without in ALL_SCOPES {
        let scopes: Vec<_> = ALL_SCOPES.into_iter().filter(|scope| *scope != without).collect();
        let token = server.token(&scopes, &[]).await;
        for (rpc, scope, outcome) in attempts(&grpc.token(&token), "agt_none").await {
            let denied = outcome.err().filter(|status| status.code() == Code::PermissionDenied);
            assert_eq!(denied.is_some(), scope == without, "{rpc} without {without}");
            if let Some(status) = denied {
                let info = status.get_details_error_info().unwrap();
                assert_eq!(info.metadata["required_scope"], without, "{rpc}");
                refused.push(rpc);
            }
        }
    }
    assert_eq!(refused.len(), 11, "each is refused once: {refused:?}");
    // And the admin, who has every other scope, gets no value
    let resolve = ResolveSecretsRequest { agent_id: agent, ..Default::default() };
    assert_eq!(
        grpc.clone().runtime.resolve_secrets(resolve).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

type Outcome = Result<(), Status>;

/// Calls every RPC that takes an agent, the gentle ones first.
async fn attempts(grpc: &Grpc, agent: &str) -> Vec<(&'static str, &'static str, Outcome)> {
    let agent_id = || agent.to_owned();
    let mut grpc = grpc.clone();
    let set = SetSecretsRequest {
        agent_id: agent_id(),
        secrets: [("B".to_owned(), "x".to_owned())].into(),
        ..Default::default()
    };
    let delete = DeleteSecretRequest { agent_id: agent_id(), key: "A".to_owned(), ..Default::default() };
    let events = ListAuditEventsRequest { agent_id: agent_id(), ..Default::default() };
    let runs = ListRunsRequest { agent_id: agent_id(), ..Default::default() };
    let grant =
        CreateTokenRequest { name: "t".to_owned(), agent_ids: vec![agent_id()], ..Default::default() };
    vec![
        (
            "GetAgent",
            "agents:read",
            grpc.agents.get_agent(GetAgentRequest { agent_id: agent_id() }).await.map(drop),
        ),
        (
            "ListSecrets",
            "secrets:list",
            grpc.secrets.list_secrets(ListSecretsRequest { agent_id: agent_id() }).await.map(drop),
        ),
        (
            "Check",
            "secrets:list",
            grpc.runtime
                .check_required_secrets(CheckRequiredSecretsRequest { agent_id: agent_id() })
                .await
                .map(drop),
        ),
        (
            "Resolve",
            "secrets:resolve",
            grpc.runtime
                .resolve_secrets(ResolveSecretsRequest { agent_id: agent_id(), ..Default::default() })
                .await
                .map(drop),
        ),
        (
            "Watch",
            "secrets:list",
            grpc.runtime.watch_secrets(WatchSecretsRequest { agent_id: agent_id() }).await.map(drop),
        ),
        ("ListAuditEvents", "audit:read", grpc.audit.list_audit_events(events).await.map(drop)),
        ("ListRuns", "audit:read", grpc.audit.list_runs(runs).await.map(drop)),
        ("SetSecrets", "secrets:write", grpc.secrets.set_secrets(set).await.map(drop)),
        ("DeleteSecret", "secrets:write", grpc.secrets.delete_secret(delete).await.map(drop)),
        ("CreateToken", "tokens:admin", grpc.tokens.create_token(grant).await.map(drop)),
        (
            "DeleteAgent",
            "agents:write",
            grpc.agents.delete_agent(DeleteAgentRequest { agent_id: agent_id() }).await.map(drop),
        ),
    ]
}

/// The code, the reason and the sentence of a refusal.
fn refusal(outcome: &Outcome) -> (Code, String, String) {
    let status = outcome.as_ref().expect_err("a refusal");
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    (status.code(), reason, status.message().to_owned())
}
