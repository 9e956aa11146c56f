//! What is told is what the database has, whoever changed it and however much is kept in memory.

use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

use crate::harness::{
    Database, eventually, on_each_database,
    server::Server,
    steps::{create_token, resolve, resolver},
};

on_each_database!(who_has_set_a_value_is_given_it, what_others_write_counts_at_once);

/// Agents, each with a client of its own.
const AGENTS: usize = 12;

/// Sets of each.
const SETS: usize = 25;

async fn who_has_set_a_value_is_given_it(database: Database) {
    let server = Server::start(database);
    let grpc = resolver(&server).await;
    let clients = (0..AGENTS).map(|n| {
        let (server, grpc) = (&server, &grpc);
        async move {
            let agent = server.deploy(&format!("agent-{n}")).await;
            for set in 0..SETS {
                let value = set.to_string();
                server.set(&agent, &json!({"A": value, format!("B{set}"): "b"})).await;
                // The record of each resolve is a commit too
                let (first, keys, second) =
                    tokio::join!(resolve(grpc, &agent), server.keys(&agent), resolve(grpc, &agent));
                for env in [first.unwrap(), second.unwrap()] {
                    assert_eq!((env["A"].as_str(), env.len()), (value.as_str(), set + 2));
                }
                assert_eq!(keys.as_array().unwrap().len(), set + 2);
            }
        }
    });
    join_all(clients).await;
}

async fn what_others_write_counts_at_once(database: Database) {
    let is_sqlite = matches!(database, Database::Sqlite);
    let server = Server::start(database);
    let agent = server.deploy("demo").await;
    server.set(&agent, &json!({"A": "a", "B": "b"})).await;
    let admin = server.grpc().await;
    let (token, text) = create_token(&admin, &["secrets:list", "secrets:resolve"]).await;
    let grpc = admin.token(&text);
    let backdoor = server.backdoor().await;
    for _ in 0..3 {
        assert_eq!(resolve(&grpc, &agent).await.unwrap().len(), 2);
        assert_eq!(server.keys(&agent).await, json!(["A", "B"]));
    }
    backdoor.run("DELETE FROM secrets WHERE name = 'B'").await;
    if !is_sqlite {
        // What is done to secrets past all servers, and not to their agent, PostgreSQL tells of later
        eventually("the secret is gone", async || (server.keys(&agent).await == json!(["A"])).then_some(()))
            .await;
    }
    assert_eq!(resolve(&grpc, &agent).await.unwrap().len(), 1);
    assert_eq!(server.keys(&agent).await, json!(["A"]));
    backdoor.run("UPDATE agents SET tenant_id = 'another'").await;
    assert_eq!(resolve(&grpc, &agent).await.unwrap_err().code(), Code::NotFound);
    backdoor.run(&format!("UPDATE tokens SET revoked_at = 1 WHERE id = '{}'", token.id)).await;
    assert_eq!(resolve(&grpc, &agent).await.unwrap_err().code(), Code::Unauthenticated);
}
