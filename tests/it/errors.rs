//! What a caller did wrong outside the body: each row of the error table, provoked.
//!
//! What is no call at all is in `http`, the faults of a body in `faults`, the server's own failures in `failures`.

use std::time::Duration;

use serde_json::json;
use superserve::{
    domain::TokenText,
    proto::v1::{
        CreateTokenRequest, DeleteSecretRequest, GetAgentRequest, ListSecretsRequest, RevokeTokenRequest,
        RotateTokenRequest, SetSecretsRequest, WhoAmIRequest,
    },
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    Database, eventually,
    fixtures::{ALL_SCOPES, secrets_of},
    on_each_database,
    rest::Rest,
    server::Server,
};

on_each_database!(
    only_a_valid_token_gets_in,
    each_call_needs_its_scope,
    what_is_not_there_is_not_found,
    a_stale_revision_is_refused,
);

async fn only_a_valid_token_gets_in(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let mut grpc = server.grpc().await;
    let revoked = grpc.tokens.create_token(CreateTokenRequest { name: "a".to_owned(), ..Default::default() });
    let revoked = revoked.await.unwrap().into_inner();
    let token_id = revoked.token.unwrap().id;
    assert_eq!(server.rest().token(&revoked.text).get("/v1/auth/validate").send().await.status, 200);
    grpc.tokens.revoke_token(RevokeTokenRequest { token_id }).await.unwrap();
    let expired = expired_token(&server).await;
    let unknown = TokenText::from_random(&[7; 32]);
    let mistyped = unknown.expose().replace("ss_", "sS_");

    let admin = format!("Bearer {}", server.admin_token());
    let headers = [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some(format!("Basic {}", server.admin_token())),
        Some(server.admin_token().to_owned()),
        Some(format!("Bearer {mistyped}")),
        Some(format!("Bearer {}", unknown.expose())),
        Some(format!("Bearer {expired}")),
        Some(format!("Bearer {}", revoked.text)),
        Some(format!("{admin}x")),
    ];
    let nobody = server.rest().anonymous();
    for header in &headers {
        let call = nobody.get(&secrets_of(&agent));
        let call = if let Some(header) = header { call.header("authorization", header) } else { call };
        let refused = call.send().await;
        assert_eq!(refused.status, 401, "{header:?}");
        assert_eq!(refused.refusal(), ("Not authenticated".to_owned(), json!({})));
        assert_eq!(refused.header("www-authenticate"), "Bearer");
    }
    let twice = nobody.get("/v1/agents").header("authorization", &admin).header("authorization", &admin);
    assert_eq!(twice.send().await.status, 401);
    for token in [mistyped.as_str(), unknown.expose(), &expired, &revoked.text] {
        let refused = grpc.token(token).tokens.who_am_i(WhoAmIRequest {}).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "Not authenticated"));
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(
            (info.domain.as_str(), info.reason.as_str()),
            ("secrets.superserve.ai", "UNAUTHENTICATED")
        );
    }
    comes_before_everything_else(&nobody, &agent).await;
}

/// Nothing else is said to who shows no token: not even which paths there are.
async fn comes_before_everything_else(nobody: &Rest, agent: &str) {
    let calls = [
        nobody.get("/nowhere"),
        nobody.call(http::Method::PUT, "/v1/agents"),
        nobody.patch(&secrets_of(agent)).json(&json!({"secrets": {}})),
        nobody.patch(&secrets_of(agent)).body("{"),
        nobody.patch(&secrets_of(agent)).header("if-match", "\"9\"").json(&json!({"secrets": {"A": "x"}})),
        nobody.get("/v1/agents/agt_unknown"),
        nobody.get("/v1/agents?limit=x"),
    ];
    for call in calls {
        assert_eq!(call.send().await.status, 401);
    }
    let large = format!("PATCH {} HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\n", secrets_of(agent));
    let answer = nobody.raw(large.as_bytes(), Duration::from_secs(1)).await;
    assert!(answer.starts_with(b"HTTP/1.1 401 "), "{}", answer.escape_ascii());
}

/// A token that was valid and has ended.
async fn expired_token(server: &Server) -> String {
    let soon = prost_types::Timestamp::from(
        std::time::UNIX_EPOCH
            .elapsed()
            .map(|now| std::time::UNIX_EPOCH + now + Duration::from_millis(1500))
            .unwrap(),
    );
    let request = CreateTokenRequest { name: "b".to_owned(), expires_at: Some(soon), ..Default::default() };
    let token = server.grpc().await.tokens.create_token(request).await.unwrap().into_inner().text;
    let rest = server.rest().token(&token);
    let ended = async || (rest.get("/v1/auth/validate").send().await.status == 401).then_some(());
    eventually("the token to end", ended).await;
    token
}

async fn each_call_needs_its_scope(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let (secrets, path) = (secrets_of(&agent), format!("/v1/agents/{agent}"));
    let all_but = async |scope: &str| {
        let scopes: Vec<_> = ALL_SCOPES.into_iter().filter(|other| *other != scope).collect();
        server.token(&scopes, &[]).await
    };
    let (agents_read, agents_write) = (all_but("agents:read").await, all_but("agents:write").await);
    let (secrets_list, secrets_write) = (all_but("secrets:list").await, all_but("secrets:write").await);
    let with = |token: &str| server.rest().token(token);
    let calls = [
        ("agents:read", with(&agents_read).get("/v1/agents")),
        ("agents:read", with(&agents_read).get(&path)),
        ("agents:write", with(&agents_write).post("/v1/agents").json(&json!({"name": "demo"}))),
        ("agents:write", with(&agents_write).delete(&path)),
        ("secrets:list", with(&secrets_list).get(&secrets)),
        ("secrets:write", with(&secrets_write).patch(&secrets).json(&json!({"secrets": {"A": "x"}}))),
        ("secrets:write", with(&secrets_write).delete(&format!("{secrets}/A"))),
        // The scope is asked for before the input is looked at, and before it is said what exists
        ("secrets:write", with(&secrets_write).patch(&secrets_of("agt_none")).json(&json!({"secrets": {}}))),
    ];
    for (scope, call) in calls {
        let refused = call.send().await;
        assert_eq!(refused.status, 403, "{scope}: {}", refused.text());
        assert_eq!(refused.refusal(), ("Permission denied".to_owned(), json!({"required_scope": scope})));
    }
    assert_eq!(server.keys(&agent).await, json!([]));
    // The scopes of gRPC's own calls are in `tenants`
    let set = SetSecretsRequest { agent_id: agent, ..Default::default() };
    let refused = server.grpc().await.token(&secrets_write).secrets.set_secrets(set).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "Permission denied"));
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.metadata["required_scope"].as_str()),
        ("PERMISSION_DENIED", "secrets:write")
    );
}

async fn what_is_not_there_is_not_found(database: Database) {
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    let rest = server.rest();
    server.set(&agent, &json!({"A": "x"})).await;
    let no_agent = ("Agent not found".to_owned(), json!({"code": "agent_not_found"}));
    for id in
        ["agt_0000000000000000000000", "agt_", "demo", "agt_%2f", "%ff", "%00", "..%2F..", &"a".repeat(5000)]
    {
        let (path, secrets) = (format!("/v1/agents/{id}"), secrets_of(id));
        for call in [
            rest.get(&path),
            rest.delete(&path),
            rest.get(&secrets),
            rest.patch(&secrets).json(&json!({"secrets": {"A": "x"}})),
            rest.delete(&format!("{secrets}/A")),
        ] {
            let refused = call.send().await;
            assert_eq!((refused.status.as_u16(), refused.refusal()), (404, no_agent.clone()), "{id}");
        }
    }
    let no_secret = ("Secret not found".to_owned(), json!({"code": "secret_not_found"}));
    for key in ["B", "a", "A%00", "%20A", "PATH", "%E2%82%AC", "A%2FB", &"A".repeat(5000)] {
        let refused = rest.delete(&format!("{}/{key}", secrets_of(&agent))).send().await;
        assert_eq!((refused.status.as_u16(), refused.refusal()), (404, no_secret.clone()), "{key}");
    }
    assert_eq!(server.keys(&agent).await, json!(["A"]));

    let mut grpc = server.grpc().await;
    let get = GetAgentRequest { agent_id: "agt_none".to_owned() };
    let delete = DeleteSecretRequest { agent_id: agent, key: "B".to_owned(), ..Default::default() };
    let revoke = RevokeTokenRequest { token_id: "tok_none".to_owned() };
    let rotate = |id: &str| RotateTokenRequest { token_id: id.to_owned(), overlap: None };
    let refused = [
        (grpc.agents.get_agent(get).await.unwrap_err(), "AGENT_NOT_FOUND", "Agent not found"),
        (grpc.secrets.delete_secret(delete).await.unwrap_err(), "SECRET_NOT_FOUND", "Secret not found"),
        (grpc.tokens.revoke_token(revoke).await.unwrap_err(), "TOKEN_NOT_FOUND", "Token not found"),
        (
            grpc.tokens.rotate_token(rotate("tok_none")).await.unwrap_err(),
            "TOKEN_NOT_FOUND",
            "Token not found",
        ),
        (
            grpc.tokens.rotate_token(rotate("ss_none")).await.unwrap_err(),
            "TOKEN_NOT_FOUND",
            "Token not found",
        ),
    ];
    for (status, reason, detail) in refused {
        assert_eq!((status.code(), status.message()), (Code::NotFound, detail));
        assert_eq!(status.get_details_error_info().unwrap().reason, reason);
    }
}

async fn a_stale_revision_is_refused(database: Database) {
    let server = Server::start(database);
    let agent_id = server.deploy("demo").await;
    server.set(&agent_id, &json!({"A": "x"})).await;
    let secrets = [("B".to_owned(), "x".to_owned())].into();
    let set = SetSecretsRequest {
        agent_id: agent_id.clone(),
        secrets,
        expected_revision: Some(0),
        ..Default::default()
    };
    let mut grpc = server.grpc().await;
    let refused = grpc.secrets.set_secrets(set).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Aborted, "Revision mismatch"));
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["revision"].as_str()), ("REVISION_MISMATCH", "1"));
    assert_eq!(server.keys(&agent_id).await, json!(["A"]));
    let list = grpc.secrets.list_secrets(ListSecretsRequest { agent_id }).await.unwrap().into_inner();
    assert_eq!(list.revision, 1);
}
