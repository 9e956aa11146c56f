//! What a case looks at: the values of an agent, the audit trail, rows behind the server's back.

use std::collections::HashMap;

use sea_orm::{ConnectOptions, ConnectionTrait, DatabaseConnection, QueryResult, Statement, Value};
use superserve::proto::v1::{
    AuditEvent, CreateTokenRequest, ListAuditEventsRequest, ResolveSecretsRequest, Token,
};
use tonic::Status;

use super::{Database, grpc::Grpc, server::Server};

/// What a token needs to set, list and resolve.
pub(crate) const RUNTIME_SCOPES: [&str; 3] = ["secrets:list", "secrets:resolve", "secrets:write"];

/// A connection to a server's database, past the server.
#[derive(Debug)]
pub(crate) struct Sql(DatabaseConnection);

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

// === impl Sql ===

impl Sql {
    /// Connects to the database that a server was given.
    pub(crate) async fn connect(server: &Server) -> Self {
        let url = match server.database() {
            Database::Sqlite => {
                format!("sqlite://{}?mode=rw", server.data_dir().join("secrets.db").display())
            }
            Database::Postgres(database) => database.url().to_owned(),
        };
        Self::open(&url).await
    }

    /// Connects to a database.
    pub(crate) async fn open(url: &str) -> Self {
        // One connection, so that BEGIN and COMMIT meet
        let options = ConnectOptions::new(url).max_connections(1).sqlx_logging(false).to_owned();
        Self(sea_orm::Database::connect(options).await.expect("the database answers"))
    }

    /// Runs statements as they are.
    pub(crate) async fn run(&self, statements: &str) {
        self.0.execute_unprepared(statements).await.expect("the database obeys");
    }

    /// Runs one statement with parameters `$1`, `$2`, … and says how many rows it changed.
    pub(crate) async fn change(&self, statement: &str, values: impl IntoIterator<Item = Value>) -> u64 {
        let statement = Statement::from_sql_and_values(self.0.get_database_backend(), statement, values);
        self.0.execute_raw(statement).await.expect("the database obeys").rows_affected()
    }

    /// The one row of a query.
    pub(crate) async fn row(&self, query: &str, values: impl IntoIterator<Item = Value>) -> QueryResult {
        let statement = Statement::from_sql_and_values(self.0.get_database_backend(), query, values);
        self.0.query_one_raw(statement).await.expect("the database answers").expect("a row")
    }
}
