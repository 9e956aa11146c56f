//! Promise: a page fits into what a client accepts, whatever the rows hold, and no row is lost between two pages.

use prost::Message as _;
use serde_json::json;
use superserve::proto::v1::{DeployAgentRequest, ListAgentsRequest, RequiredSecret};

use crate::harness::{Database, on_each_database, server::Server};

/// What gRPC clients accept unless told otherwise.
const CLIENT_LIMIT: usize = 4 * 1024 * 1024;

on_each_database!(heavy_agents_come_in_short_pages);

async fn heavy_agents_come_in_short_pages(database: Database) {
    let server = Server::start(database);
    let mut grpc = server.grpc().await;
    let heavy: Vec<_> = (0..100)
        .map(|n| RequiredSecret {
            name: format!("{:K<120}{n:03}", ""),
            description: "d".repeat(1024),
            pattern: "p".repeat(512),
            ..Default::default()
        })
        .collect();
    let names: Vec<_> = (0..30).map(|n| format!("agent {n:02}")).collect();
    for name in &names {
        let required_secrets = heavy.clone();
        let request = DeployAgentRequest { name: name.clone(), required_secrets, ..Default::default() };
        grpc.agents.deploy_agent(request).await.unwrap();
    }
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListAgentsRequest { page_token, ..Default::default() };
        let page = grpc.agents.list_agents(request).await.unwrap().into_inner();
        assert!(page.encoded_len() < CLIENT_LIMIT, "{}", page.encoded_len());
        assert!(!page.agents.is_empty());
        listed.extend(page.agents.into_iter().map(|agent| agent.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, names);

    let first = server.rest().get("/v1/agents?limit=100").send().await;
    assert!(first.text().len() < CLIENT_LIMIT, "{}", first.text().len());
    assert_ne!(first.json()["next_page_token"], json!(""));
}
