//! Promise: where a key provider is slow, busy or refuses, callers are told so in time, and it is asked no more than needed.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Database, eventually, server::Server, transit::Transit};

/// Longer than one answer is waited for, shorter than two.
const IN_TIME: Duration = Duration::from_secs(9);

/// The status with which an agent of this name is deployed.
async fn deploy(server: &Server, name: &str) -> u16 {
    server.rest().post("/v1/agents").json(&json!({"name": name})).send().await.status.as_u16()
}

#[tokio::test]
async fn while_logins_hang_all_are_told_in_time() {
    let transit = Transit::small().await;
    let server = transit.settings_of_a_pod(Server::with(Database::Sqlite)).start();
    server.deploy("before").await;
    let logins = {
        let mut engine = transit.small_engine();
        engine.end_tokens();
        engine.holds_logins = true;
        engine.logins
    };
    let began = Instant::now();
    let names: Vec<_> = (0..8).map(|n| format!("agent {n}")).collect();
    assert_eq!(join_all(names.iter().map(|name| deploy(&server, name))).await, [503; 8]);
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    assert_eq!(transit.small_engine().logins - logins, 1, "one login is for all");
    transit.small_engine().holds_logins = false;
    let again = async || (deploy(&server, "after").await == 201).then_some(());
    eventually("the engine to let it in", again).await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_had_anew_for_every_call() {
    let transit = Transit::small().await;
    let server = transit.settings_of_a_pod(Server::with(Database::Sqlite)).start();
    server.deploy("before").await;
    let (logins, began) = (transit.small_engine().logins, Instant::now());
    transit.small_engine().forbids = true;
    for n in 0..20 {
        assert_eq!(deploy(&server, &format!("agent {n}")).await, 503);
    }
    // Ten seconds later it may be tried again, also where a slow machine makes them pass here
    let allowed = 1 + began.elapsed().as_secs() / 10;
    let made = transit.small_engine().logins - logins;
    assert!(made as u64 <= allowed, "each login is a lease: {made}");
    transit.small_engine().forbids = false;
    server.deploy("after").await;
}
