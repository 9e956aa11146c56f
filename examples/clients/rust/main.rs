//! Deploys an agent that requires a secret, sets it, and resolves it as a run does. Prints what happened, and never a
//! value.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program of its own")]

use std::{env, error::Error};

use superserve::{
    client::{Client, Server, Token},
    proto::v1::{
        Agent, CreateTokenRequest, CreateTokenResponse, DeleteAgentRequest, DeleteSecretRequest,
        DeployAgentRequest, ListSecretsRequest, RequiredSecret, ResolveSecretsRequest, RevokeTokenRequest,
        SetSecretsRequest,
    },
};

const KEY: &str = "ANTHROPIC_API_KEY";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("SUPERSERVE_API_URL").unwrap_or_else(|_unset| "http://127.0.0.1:8080".to_owned());
    let server = Server::parse(&url)?;
    let client = Client::connect(&server, &Token::parse(&env::var("SUPERSERVE_TOKEN")?)?).await?;

    let deploy = DeployAgentRequest {
        name: format!("client-{}", std::process::id()),
        required_secrets: vec![RequiredSecret { name: KEY.to_owned(), ..RequiredSecret::default() }],
        command: None,
    };
    let deployed = client.repeatable(async || client.agents().deploy_agent(deploy.clone()).await).await?;
    let agent = deployed.agent.unwrap_or_default();
    println!("deployed");
    let used = use_agent(&server, &client, &agent).await;
    let delete = DeleteAgentRequest { agent_id: agent.id };
    client.repeatable(async || client.agents().delete_agent(delete.clone()).await).await?;
    println!("deleted");
    used
}

async fn use_agent(server: &Server, client: &Client, agent: &Agent) -> Result<(), Box<dyn Error>> {
    // A run's token may resolve, and reaches this agent alone
    let grant = CreateTokenRequest {
        name: "run".to_owned(),
        scopes: vec!["secrets:resolve".to_owned()],
        agent_ids: vec![agent.id.clone()],
        ..CreateTokenRequest::default()
    };
    let created = client.repeatable(async || client.tokens().create_token(grant.clone()).await).await?;
    let CreateTokenResponse { token, text } = created;
    let run = Client::connect(server, &Token::parse(&text)?).await?;
    let resolve = ResolveSecretsRequest {
        agent_id: agent.id.clone(),
        run_id: Some("example".to_owned()),
        ..ResolveSecretsRequest::default()
    };

    match run.resolve(resolve.clone()).await {
        Err(error) if error.reason() == "REQUIRED_SECRETS_MISSING" => {
            println!("missing: {}", error.missing().join(", "));
        }
        other => return Err(format!("a secret is missing: {other:?}").into()),
    }

    // With a name of its own a set is done once, however often it is sent
    let value = env::var(KEY).unwrap_or_else(|_unset| "sk-ant-example".to_owned());
    let set = SetSecretsRequest {
        agent_id: agent.id.clone(),
        secrets: [(KEY.to_owned(), value)].into(),
        idempotency_key: agent.id.clone(),
        ..SetSecretsRequest::default()
    };
    client.repeatable(async || client.secrets().set_secrets(set.clone()).await).await?;
    let list = ListSecretsRequest { agent_id: agent.id.clone() };
    let listed = client.repeatable(async || client.secrets().list_secrets(list.clone()).await).await?;
    println!("set: {}", listed.keys.join(", "));

    let delete = DeleteSecretRequest {
        agent_id: agent.id.clone(),
        key: "OTHER".to_owned(),
        ..DeleteSecretRequest::default()
    };
    match client.repeatable(async || client.secrets().delete_secret(delete.clone()).await).await {
        Err(error) if error.reason() == "SECRET_NOT_FOUND" => println!("not set: OTHER"),
        other => return Err(format!("it is not set: {other:?}").into()),
    }

    let resolved = run.resolve(resolve).await?;
    println!("resolved: {}", resolved.values.into_keys().collect::<Vec<_>>().join(", "));
    let revoke = RevokeTokenRequest { token_id: token.unwrap_or_default().id };
    client.repeatable(async || client.tokens().revoke_token(revoke.clone()).await).await?;
    Ok(())
}
