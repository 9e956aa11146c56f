//! What a case begins with: agents and tokens.

use serde_json::{Value, json};
use superserve::proto::v1::CreateTokenRequest;

use super::{cli::Cli, server::Server};

/// Every scope there is.
pub(crate) const ALL_SCOPES: [&str; 7] = [
    "agents:read",
    "agents:write",
    "audit:read",
    "secrets:list",
    "secrets:resolve",
    "secrets:write",
    "tokens:admin",
];

// === impl Server ===

impl Server {
    /// Deploys an agent that requires nothing and gives its id.
    pub(crate) async fn deploy(&self, name: &str) -> String {
        let agent = self.rest().post("/v1/agents").json(&json!({"name": name})).send().await;
        assert_eq!(agent.status, 201, "{}", agent.text());
        agent.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Makes a token of these scopes, limited to these agents (none: to no agents in particular).
    pub(crate) async fn token(&self, scopes: &[&str], agents: &[&str]) -> String {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let request = CreateTokenRequest {
            name: "test".to_owned(),
            scopes: owned(scopes),
            agent_ids: owned(agents),
            ..Default::default()
        };
        let token = self.grpc().await.tokens.create_token(request).await;
        token.expect("an admin makes tokens").into_inner().text
    }

    /// The command line with a token that may read and run this agent, and nothing else.
    pub(crate) fn runner(&self, agent: &str) -> Cli {
        let scopes = "secrets:resolve,agents:read";
        let create = ["tokens", "create", "--name", "runner", "--scope", scopes, "--agent", agent];
        let token = self.cli().run(&create).done();
        Cli::new(self.address()).env("SUPERSERVE_TOKEN", token.trim_end())
    }

    /// Sets secrets over REST and gives the answer's body.
    pub(crate) async fn set(&self, agent: &str, secrets: &Value) -> Value {
        let set = self.rest().patch(&secrets_of(agent)).json(&json!({"secrets": secrets})).send().await;
        assert_eq!(set.status, 200, "{}", set.text());
        set.json()
    }

    /// Lists the keys of an agent over REST.
    pub(crate) async fn keys(&self, agent: &str) -> Value {
        let list = self.rest().get(&secrets_of(agent)).send().await;
        assert_eq!(list.status, 200, "{}", list.text());
        list.json()["keys"].take()
    }
}

/// The path of an agent's secrets.
pub(crate) fn secrets_of(agent: &str) -> String {
    format!("/v1/agents/{agent}/secrets")
}
