//! Promise: values that take long to be held to their patterns keep nobody else waiting, and no server from ending.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};
use serde_json::{Value, json};
use tokio::join;

use crate::harness::{
    Database, eventually, fixtures::secrets_of, on_each_database, rest::Answer, server::Server,
};

/// A pattern that takes long on a text of one letter: each place of it may be anywhere.
const SLOW: &str = "(?:a?){500}[^ab]";

on_each_database!(others_go_on_meanwhile, what_is_declared_meanwhile_counts);

async fn others_go_on_meanwhile(database: Database) {
    let server = Server::with(database).arg("--request-timeout=600").start();
    let slow = deploy(&server, &[("V", SLOW)]).await;
    let others = server.deploy("others").await;
    let (began, mut longest, mut count) = (Instant::now(), Duration::ZERO, 0);
    let mut setting = Box::pin(set_slow(&server, &slow, &["V"], 5000));
    let refused = loop {
        let (began, secrets) = (Instant::now(), json!({"N": format!("{count}")}));
        let other = pin!(server.set(&others, &secrets));
        let ended = select(setting, other).await;
        longest = longest.max(began.elapsed());
        match ended {
            Either::Left((refused, _)) => break refused,
            Either::Right((_, still)) => setting = still,
        }
        count += 1;
    };
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("pattern_mismatch"), "{}", refused.text());
    let took = began.elapsed();
    assert!(longest < took / 2, "another write took {longest:?} of {took:?}");
}

async fn what_is_declared_meanwhile_counts(database: Database) {
    let server = Server::with(database).arg("--request-timeout=600").start();
    let agent = deploy(&server, &[("V", SLOW)]).await;
    // While the value is held to the one, which it does not match, another is declared
    let (set, _) = join!(set_slow(&server, &agent, &["V"], 5000), deploy(&server, &[("V", "^a*$")]));
    assert_eq!(set.status, 200, "{}", set.text());
}

#[tokio::test]
async fn a_server_ends_nevertheless() {
    let mut server = Server::with(Database::Sqlite).arg("--shutdown-timeout=1").start();
    let names: Vec<_> = (0..16).map(|n| format!("V{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let agent = deploy(&server, &names.iter().map(|name| (*name, SLOW)).collect::<Vec<_>>()).await;
    let body = values(&names, 60_000);
    let set = server.rest().patch(&secrets_of(&agent)).json(&body);
    let idle = server.processor_time();
    let ended = async {
        let busy = async || (server.processor_time() > idle + Duration::from_millis(500)).then_some(());
        eventually("the patterns to be tried", busy).await;
        let began = Instant::now();
        server.stop().await;
        began.elapsed()
    };
    let (answer, took) = join!(set.try_send(), ended);
    assert!(!answer.is_ok_and(|answer| answer.status == 200));
    // The drain, what runs beside the calls, and a little
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Deploys an agent that declares these names with these patterns, and gives its id.
async fn deploy(server: &Server, declared: &[(&str, &str)]) -> String {
    let required: Vec<_> =
        declared.iter().map(|(name, pattern)| json!({"name": name, "pattern": pattern})).collect();
    let body = json!({"name": "slow", "required_secrets": required});
    let agent = server.rest().post("/v1/agents").json(&body).send().await;
    assert!(agent.status.is_success(), "{}", agent.text());
    agent.json()["id"].as_str().unwrap().to_owned()
}

async fn set_slow(server: &Server, agent: &str, names: &[&str], bytes: usize) -> Answer {
    server.rest().patch(&secrets_of(agent)).json(&values(names, bytes)).send().await
}

fn values(names: &[&str], bytes: usize) -> Value {
    let values = names.iter().map(|name| ((*name).to_owned(), json!("a".repeat(bytes))));
    json!({"secrets": values.collect::<serde_json::Map<_, _>>()})
}
