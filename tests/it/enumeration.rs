//! Whether time tells what an answer does not: what is another tenant's from what is not there, and a token that was
//! revoked from one that never was.
//!
//! What is compared are the medians of calls that take turns, so that whatever else the machine does meets both alike. The
//! bound finds what is done for one of them only and takes a tenth of a millisecond and a quarter of the call more: an audit
//! record with its flush, a call of a key provider. It does not find what is told by some microseconds, as that an agent
//! was read lately and comes from memory. Ids of agents have 131 bits of randomness and tokens 256, so that there is
//! nothing to try out.

use std::time::{Duration, Instant};

use serde_json::json;
use superserve::{
    domain::TokenText,
    proto::v1::{
        CheckRequiredSecretsRequest, CreateTokenRequest, ListSecretsRequest, ResolveSecretsRequest,
        RevokeTokenRequest, WhoAmIRequest,
    },
};
use tonic::Code;

use crate::harness::{Database, fixtures::ALL_SCOPES, on_each_database, server::Server};

on_each_database!(time_does_not_tell_whose_an_agent_is, time_does_not_tell_which_tokens_there_were);

/// Calls of each kind.
const CALLS: usize = 400;

/// The largest difference that may be chance, beside a quarter of the time that a call takes.
const CHANCE: Duration = Duration::from_micros(100);

/// Makes two kinds of call in turn and compares how long they take.
#[expect(clippy::print_stderr, reason = "the figures are for who measures")]
async fn compare(what: &str, call: impl AsyncFn(usize)) {
    for n in 0..CALLS / 4 {
        call(n % 2).await;
    }
    let mut times = [Vec::with_capacity(CALLS), Vec::with_capacity(CALLS)];
    for n in 0..2 * CALLS {
        // Each goes first as often as the other
        let kind = (n + n / 2) % 2;
        let began = Instant::now();
        call(kind).await;
        times[kind].push(began.elapsed());
    }
    let [one, other] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    eprintln!("{what}: {one:?} and {other:?} in the median");
    assert!(one.abs_diff(other) < CHANCE + one.min(other) / 4, "{what}: {one:?} and {other:?}");
}

async fn time_does_not_tell_whose_an_agent_is(database: Database) {
    let server = Server::start(database);
    let made = server.setup().run(&["tenants", "create", "other", "--json"]).done();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let rest = server.rest().token(made["text"].as_str().unwrap());
    let agent = rest.post("/v1/agents").json(&json!({"name": "demo"})).send().await.json();
    let theirs = agent["id"].as_str().unwrap().to_owned();
    let set = rest.patch(&format!("/v1/agents/{theirs}/secrets"));
    assert_eq!(set.json(&json!({"secrets": {"A": "x", "B": "y"}})).send().await.status, 200);

    let grpc = server.grpc().await.token(&server.token(&ALL_SCOPES, &[]).await);
    let agents = [theirs, "agt_0000000000000000000000".to_owned()];
    let not_found = |code| assert_eq!(code, Code::NotFound);
    compare("list", async |kind| {
        let request = ListSecretsRequest { agent_id: agents[kind].clone() };
        not_found(grpc.secrets.clone().list_secrets(request).await.unwrap_err().code());
    })
    .await;
    compare("check", async |kind| {
        let request = CheckRequiredSecretsRequest { agent_id: agents[kind].clone() };
        not_found(grpc.runtime.clone().check_required_secrets(request).await.unwrap_err().code());
    })
    .await;
    compare("resolve", async |kind| {
        let request = ResolveSecretsRequest { agent_id: agents[kind].clone(), ..Default::default() };
        not_found(grpc.runtime.clone().resolve_secrets(request).await.unwrap_err().code());
    })
    .await;
}

async fn time_does_not_tell_which_tokens_there_were(database: Database) {
    let server = Server::with(database).arg("--max-failed-auth=0").start();
    let mut grpc = server.grpc().await;
    let create = CreateTokenRequest { name: "revoked".to_owned(), ..Default::default() };
    let revoked = grpc.tokens.create_token(create).await.unwrap().into_inner();
    let token_id = revoked.token.unwrap().id;
    grpc.tokens.revoke_token(RevokeTokenRequest { token_id }).await.unwrap();
    let unknown = TokenText::from_random(&[7; 32]);
    let callers = [revoked.text.as_str(), unknown.expose()].map(|text| grpc.token(text));
    compare("tokens", async |kind| {
        let refused = callers[kind].tokens.clone().who_am_i(WhoAmIRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    })
    .await;
}
