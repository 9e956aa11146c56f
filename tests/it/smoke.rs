//! The shortest walk through everything: the server as a process, its three kinds of client, both databases.

use std::time::Duration;

use serde_json::json;
use superserve::proto::v1::{
    ListAgentsRequest, ListAuditEventsRequest, ListSecretsRequest, ResolveSecretsRequest, WhoAmIRequest,
    secrets_service_client::SecretsServiceClient,
};
use tonic::Code;

use crate::harness::{Database, eventually, on_each_database, postgres, server::Server};

on_each_database!(
    a_secret_goes_in_and_comes_out,
    an_acknowledged_write_survives_kill9,
    nobody_else_gets_in,
    any_bytes_get_an_answer
);

async fn a_secret_goes_in_and_comes_out(database: Database) {
    let server = Server::start(database);
    let secrets = deploy(&server).await;
    let set = server.rest().patch(&secrets).header("idempotency-key", "1");
    let set = set.json(&json!({"secrets": {"B": "b-value", "A": "a-value"}})).send().await;
    assert_eq!(set.json(), json!({"keys": ["A", "B"]}));
    assert_eq!(set.header("content-type"), "application/json");

    let agent_id = secrets.split('/').nth(3).unwrap().to_owned();
    let mut grpc = server.grpc().await;
    let list = ListSecretsRequest { agent_id: agent_id.clone() };
    assert_eq!(grpc.secrets.list_secrets(list).await.unwrap().into_inner().keys, ["A", "B"]);
    let resolve = ResolveSecretsRequest { agent_id: agent_id.clone(), ..Default::default() };
    let mut runner = grpc.token(&server.token(&["secrets:resolve"], &[&agent_id]).await);
    assert_eq!(runner.runtime.resolve_secrets(resolve).await.unwrap().into_inner().env["A"], "a-value");
    let agents = grpc.agents.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner().agents;
    assert_eq!(agents.len(), 1);
    let events = ListAuditEventsRequest { agent_id, ..Default::default() };
    assert!(!grpc.audit.list_audit_events(events).await.unwrap().into_inner().events.is_empty());
    grpc.tokens.who_am_i(WhoAmIRequest::default()).await.unwrap();
    let left = server.rest().delete(&format!("{secrets}/A")).send().await;
    assert_eq!(left.json(), json!({"keys": ["B"]}));
    assert!(!server.log().contains("-value"));
}

async fn an_acknowledged_write_survives_kill9(database: Database) {
    let mut server = Server::start(database);
    let secrets = deploy(&server).await;
    let set = server.rest().patch(&secrets).json(&json!({"secrets": {"A": "a-value"}}));
    assert_eq!(set.send().await.status, 200);
    server.kill9();
    server.restart();
    assert_eq!(server.rest().get(&secrets).send().await.json(), json!({"keys": ["A"]}));
    assert!(server.terminate().success());
    if let Database::Sqlite = server.database() {
        assert!(server.data_dir().join("secrets.db").exists());
    }
}

async fn nobody_else_gets_in(database: Database) {
    let server = Server::start(database);
    let secrets = deploy(&server).await;
    let refused = server.rest().anonymous().get(&secrets).send().await;
    assert_eq!(refused.status, 401, "{}", refused.text());
    assert_eq!(refused.json()["detail"], "Not authenticated");
    let grpc = server.grpc().await;
    let list = || ListSecretsRequest { agent_id: "agt_0000000000000000000000".to_owned() };
    let refused = grpc.token("wrong").secrets.list_secrets(list()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = SecretsServiceClient::new(grpc.channel()).list_secrets(list()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

async fn any_bytes_get_an_answer(database: Database) {
    let server = Server::with(database).env("SUPERSERVE_LOG_LEVEL", "debug").arg("--log-level=info").start();
    assert_ne!(server.address(), server.ops_address());
    let answer = server.rest().raw(b"\0\xff no HTTP\r\n\r\n", Duration::from_secs(1)).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{}", answer.escape_ascii());
    let ready = async || (server.ops().get("/readyz").send().await.status == 200).then_some(());
    eventually("readiness", ready).await;
}

#[tokio::test]
async fn two_replicas_agree_on_postgres() {
    let Some(database) = postgres::Database::create().await else { return };
    let first = Server::start(Database::Postgres(database));
    let second = first.replica().start();
    let secrets = deploy(&first).await;
    let set = second.rest().patch(&secrets).json(&json!({"secrets": {"A": "a-value"}})).send().await;
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(first.rest().get(&secrets).send().await.json(), json!({"keys": ["A"]}));
}

/// Deploys the agent `demo` and gives the path of its secrets.
async fn deploy(server: &Server) -> String {
    let agent = server.rest().post("/v1/agents").json(&json!({"name": "demo", "required_secrets": []}));
    let agent = agent.send().await;
    assert_eq!(agent.status, 201, "{}", agent.text());
    format!("/v1/agents/{}/secrets", agent.json()["id"].as_str().unwrap())
}
