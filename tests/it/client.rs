//! The crate's own client, as a program uses it.

use std::time::Duration;

use serde_json::json;
use superserve::{
    client::{Client, Error, Server as Address, Token},
    proto::v1::{ResolveSecretsRequest, WatchSecretsRequest, WhoAmIRequest},
};

use crate::harness::{Database, pki::Authority, server::Server};

/// A connection to a server without TLS.
async fn connect(server: &Server, token: &str) -> Client {
    let address = Address::parse(&format!("http://{}", server.address())).unwrap();
    Client::connect(&address, &Token::parse(token).unwrap()).await.unwrap()
}

#[tokio::test]
async fn it_trusts_the_authority_that_it_is_given_and_no_other() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.serve(&[]);
    let url = format!("https://localhost:{}", server.address().port());
    let token = Token::parse(server.admin_token()).unwrap();
    let address = |ca: &Authority| Address::parse(&url).unwrap().trusting(ca.pem().into_bytes());
    let client = Client::connect(&address(&authority), &token).await.unwrap();
    let me = client.once(client.tokens().who_am_i(WhoAmIRequest {})).await.unwrap();
    assert_eq!(me.tenant, "ten_default");
    let refused = Client::connect(&address(&stranger), &token).await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_run_is_told_what_is_missing_and_its_values_do_not_print() {
    let mut server = Server::start(Database::Sqlite);
    let required = json!({"name": "demo", "required_secrets": ["A", "B"]});
    let made = server.rest().post("/v1/agents").json(&required).send().await;
    let agent_id = made.json()["id"].as_str().unwrap().to_owned();
    let token = server.token(&["secrets:resolve", "secrets:list"], &[&agent_id]).await;
    let run = connect(&server, &token).await;
    let request = ResolveSecretsRequest { agent_id: agent_id.clone(), ..ResolveSecretsRequest::default() };
    let missing = run.resolve(request.clone()).await.unwrap_err();
    assert_eq!(
        (missing.reason(), missing.missing()),
        ("REQUIRED_SECRETS_MISSING", &["A", "B"].map(str::to_owned)[..])
    );
    assert!(!missing.is_retryable());

    server.set(&agent_id, &json!({"A": "sentinel-a", "B": "sentinel-b"})).await;
    let resolved = run.resolve(request.clone()).await.unwrap();
    assert!(!format!("{resolved:?}{run:?}").contains("sentinel") && !format!("{run:?}").contains(&token));
    let values: Vec<_> = resolved.values.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    assert_eq!(values, [("A", "sentinel-a"), ("B", "sentinel-b")]);
    let again = ResolveSecretsRequest { if_revision_not: Some(resolved.revision), ..request.clone() };
    assert!(run.resolve(again).await.unwrap().not_modified);
    let denied = connect(&server, server.admin_token()).await.resolve(request).await.unwrap_err();
    assert_eq!(denied.reason(), "PERMISSION_DENIED");

    // A stream ends with an error of the same kind, and so does a call that nobody answers
    let watch = WatchSecretsRequest { agent_id };
    let mut revisions = run.once(run.runtime().watch_secrets(watch)).await.unwrap();
    assert_eq!(revisions.message().await.unwrap().unwrap().revision, resolved.revision);
    server.kill9();
    let ended = run.error(revisions.message().await.unwrap_err());
    assert!(matches!(ended, Error::Broken { .. }) && ended.is_retryable(), "{ended:?}");
    let unanswered = run.once(run.tokens().who_am_i(WhoAmIRequest {})).await.unwrap_err();
    assert!(matches!(unanswered, Error::Broken { .. }), "{unanswered:?}");
    assert!(!format!("{ended:?}{unanswered:?}").contains(&token));
}

#[tokio::test]
async fn a_limit_is_waited_for_where_a_repeat_does_no_harm() {
    let server = Server::with(Database::Sqlite).arg("--rate-limit=1").start();
    let client = connect(&server, server.admin_token()).await;
    let refused = loop {
        if let Err(error) = client.once(client.tokens().who_am_i(WhoAmIRequest {})).await {
            break error;
        }
    };
    assert_eq!((refused.reason(), refused.is_retryable()), ("RATE_LIMITED", true));
    assert!(refused.retry_after().unwrap() <= Duration::from_secs(1));
    for _ in 0..2 {
        client.repeatable(async || client.tokens().who_am_i(WhoAmIRequest {}).await).await.unwrap();
    }
}
