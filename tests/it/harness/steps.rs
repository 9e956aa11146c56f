//! What a case looks at: the values of an agent, the audit trail.

use std::collections::HashMap;

use superserve::proto::v1::{
    AuditEvent, CreateTokenRequest, ListAuditEventsRequest, ResolveSecretsRequest, Token,
};
use tonic::Status;

use super::{grpc::Grpc, server::Server};

/// What a token needs to set, list and resolve.
pub(crate) const RUNTIME_SCOPES: [&str; 3] = ["secrets:list", "secrets:resolve", "secrets:write"];

/// Makes a token with these scopes: its record and its text.
pub(crate) async fn create_token(grpc: &Grpc, scopes: &[&str]) -> (Token, String) {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let request = CreateTokenRequest { name: "test".to_owned(), scopes, ..Default::default() };
    let created = grpc.clone().tokens.create_token(request).await.expect("a token is made").into_inner();
    (created.token.expect("a token"), created.text)
}

/// Clients that may resolve, which the admin's may not.
pub(crate) async fn resolver(server: &Server) -> Grpc {
    let admin = server.grpc().await;
    let (_, text) = create_token(&admin, &RUNTIME_SCOPES).await;
    admin.token(&text)
}

/// All values of an agent.
pub(crate) async fn resolve(grpc: &Grpc, agent: &str) -> Result<HashMap<String, String>, Status> {
    let request = ResolveSecretsRequest { agent_id: agent.to_owned(), ..Default::default() };
    Ok(grpc.clone().runtime.resolve_secrets(request).await?.into_inner().env)
}

/// The whole audit trail, or one agent's.
pub(crate) async fn audit(grpc: &Grpc, agent: &str) -> Vec<AuditEvent> {
    let mut events = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListAuditEventsRequest { agent_id: agent.to_owned(), page_size: 100, page_token };
        let page = grpc.clone().audit.list_audit_events(request).await.expect("the trail").into_inner();
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return events;
        }
    }
}
